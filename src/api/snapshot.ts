// SPDX-License-Identifier: Apache-2.0
// What one scrape tells, read from the maps in one go, under the lock of the session that reads it.
import { readFileSync } from 'node:fs'
import type { BackendReason } from '../core/backend-words.ts'
import type { CheckState } from '../core/told.ts'
import { countClients } from '../dataplane/clients.ts'
import { readReasons } from '../dataplane/counters.ts'
import { countDestinations } from '../dataplane/destinations.ts'
import { countFlows } from '../dataplane/flows.ts'
import { Contract, Reason } from '../dataplane/layout.gen.ts'
import { remembers } from '../dataplane/least.ts'
import { capacityOf } from '../dataplane/memory.ts'
import { isPersistent } from '../dataplane/persistence.ts'
import { readSamples, type Samples, type ServiceSample } from '../dataplane/samples.ts'
import { ownProgram } from '../shell/own-programs.ts'
import type { Session } from '../shell/session.ts'
import type { ServiceTotals, Totals } from './service-totals.ts'

export interface ProgramRuns {
  interface: string
  runs: number
  seconds: number
}

export interface TableSample {
  table: string
  entries: number
  limit: number
}

/** How a reload of the configuration went. */
export interface ReloadSample {
  succeeded: boolean
  /** Unix time of the last that did; 0: none has. */
  lastSuccessMs: number
  /** That the last one took. */
  lastDurationMs: number
}

/** What of a backend only the daemon knows. */
export interface Found {
  /** Which of check, hold, agent and slow start lets it have less than its weight, and since when; absent: none. */
  reason?: BackendReason
  sinceMs?: number
  /** What was reported last, and since when it is so; absent: nothing. */
  check?: CheckState
  checkedMs?: number
}

/** Of a director that is attached. */
export interface PlaneSnapshot {
  samples: Samples
  totals: ReadonlyMap<string, Totals>
  /** Services whose backends are told one by one, in the order of names. */
  detailed: ServiceSample[]
  /** Backends of all others. */
  omitted: number
  /** By enum reason. */
  reasons: number[]
  tables: TableSample[]
  interfaces: { name: string; mode: string; attached: boolean }[]
  egress: { name: string; present: boolean }[]
  /** Does the kernel count programs' runs? Undefined: it does not say. */
  runsCounted: boolean | undefined
  /** Of an interface that an earlier build attached there are none, until `xlb upgrade`. */
  runs: ProgramRuns[]
  readSeconds: number
}

export interface Snapshot {
  version: string
  contract: number
  backendLimit: number
  plane: PlaneSnapshot | undefined
  reload: ReloadSample | undefined
  foundOf: ((service: string, backend: string) => Found | undefined) | undefined
}

/** The switch of kernel.bpf_stats_enabled. */
export const STATS_FILE = '/proc/sys/kernel/bpf_stats_enabled'

const runsCounted = (statsFile: string): boolean | undefined => {
  try {
    return readFileSync(statsFile, 'utf8').trim() !== '0'
  } catch {
    return undefined // no such kernel, or /proc is hidden
  }
}

/** What xlb's programs have done; while a capture has taken one's place, nothing is told of that interface. */
const readRuns = ({ native, paths, interfaces }: Session): ProgramRuns[] => {
  const runs: ProgramRuns[] = []
  for (const { name, ifindex, attached } of interfaces) {
    const info = attached ? ownProgram(native, paths.pins, ifindex) : undefined
    if (info === undefined) continue
    runs.push({ interface: name, runs: Number(info.runCount), seconds: Number(info.runTimeNs) / 1e9 })
  }
  return runs
}

const byName = (a: ServiceSample, b: ServiceSample): number => (a.service < b.service ? -1 : 1)

/** As many whole services as have room, by name, so that a scrape's choice is that of the one before. */
export const detailedOf = ({ services }: Pick<Samples, 'services'>, limit: number): ServiceSample[] => {
  const detailed: ServiceSample[] = []
  let left = limit
  for (const service of [...services].sort(byName)) {
    const backends = service.end - service.first
    if (backends > left) continue
    left -= backends
    detailed.push(service)
  }
  return detailed
}

export interface ReadOptions {
  backendLimit: number
  /** These two remember the scrapes before. */
  totals: ServiceTotals
  lastForwarded: number
  statsFile: string
}

/** Reads everything. */
export const readPlane = (
  session: Session,
  { backendLimit, totals, lastForwarded, statsFile }: ReadOptions,
): PlaneSnapshot => {
  const start = performance.now()
  const { plane, live, interfaces, egress } = session
  const now = plane.age()
  const flows = countFlows(plane, now)
  const samples = readSamples(plane, live, flows)
  const services = [...live.services.values()]
  const clients = services.some(isPersistent) ? countClients(plane, now).used : 0
  const destinations = services.some(({ service }) => remembers(service)) ? countDestinations(plane, now).used : 0
  const capacity = capacityOf(plane)
  const detailed = detailedOf(samples, backendLimit)
  const told = detailed.reduce((sum, { first, end }) => sum + end - first, 0)
  const counted = runsCounted(statsFile)
  return {
    samples,
    totals: totals.update(samples),
    detailed,
    omitted: samples.backends.address.length - told,
    reasons: reasonsOf(session, lastForwarded),
    tables: [
      { table: 'services', entries: services.length, limit: capacity.services },
      { table: 'backends', entries: samples.backends.address.length, limit: capacity.backends },
      { table: 'flows', entries: flows.tables.ipv4.used, limit: flows.tables.ipv4.capacity },
      { table: 'flows6', entries: flows.tables.ipv6.used, limit: flows.tables.ipv6.capacity },
      { table: 'prefix_flows6', entries: flows.tables.prefix6.used, limit: flows.tables.prefix6.capacity },
      { table: 'clients', entries: clients, limit: capacity.clients },
      { table: 'destinations', entries: destinations, limit: capacity.destinations },
    ],
    interfaces: interfaces.map(({ name, mode, attached }) => ({ name, mode, attached })),
    egress: egress.map(({ name, fault }) => ({ name, present: fault === undefined })),
    runsCounted: counted,
    runs: counted === true ? readRuns(session) : [],
    readSeconds: (performance.now() - start) / 1000,
  }
}

/**
 * Packets by reason. TX_FORWARDED is a difference of counters that are read one after the other, and may come out a little less
 * than the time before: to Prometheus that would be a counter that has begun anew.
 */
const reasonsOf = ({ plane }: Session, lastForwarded: number): number[] => {
  const reasons = readReasons(plane).map(Number)
  const forwarded = reasons[Reason.TX_FORWARDED] ?? 0
  const isAnew = forwarded < lastForwarded / 2
  if (!isAnew) reasons[Reason.TX_FORWARDED] = Math.max(forwarded, lastForwarded)
  return reasons
}

export const CONTRACT = Contract.CONTRACT_VERSION
