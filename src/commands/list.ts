// SPDX-License-Identifier: Apache-2.0
import { formatMac, formatService, parseService } from '../core/address.ts'
import { backendState } from '../core/backend-state.ts'
import { effectiveWeight, isLeaving, type Service } from '../core/desired.ts'
import { formatDuration } from '../core/duration.ts'
import { formatMaxConns } from '../core/max-conns.ts'
import { formatPersistence, type Persistence } from '../core/persistence.ts'
import { countVerdicts, type Filter, type Verdict } from '../core/prefixes.ts'
import { Refusal } from '../core/refusal.ts'
import type { SourceRate } from '../core/source-rate.ts'
import { changedTimeouts, DEFAULT_TIMEOUTS, type Timeouts } from '../core/timeouts.ts'
import type { LiveBackend } from '../dataplane/backend-records.ts'
import { countClients } from '../dataplane/clients.ts'
import { type Counts, readCounts, readReasons } from '../dataplane/counters.ts'
import { countDestinations } from '../dataplane/destinations.ts'
import { countFlows, type TableUse } from '../dataplane/flows.ts'
import { Reason, ServiceFlag } from '../dataplane/layout.gen.ts'
import { isFullNow, remembers } from '../dataplane/least.ts'
import { isPersistent } from '../dataplane/persistence.ts'
import type { LiveService } from '../dataplane/reader.ts'
import { isNeeded } from '../dataplane/remaining.ts'
import { hasPrefixes6 } from '../dataplane/service-key.ts'
import { readTimeouts } from '../dataplane/timeouts.ts'
import { Neighbours } from '../shell/neighbours.ts'
import { reachedBy, type Session } from '../shell/session.ts'
import { type Context, formatSeed, type GlobalOptions } from './context.ts'
import { newFlowsNow } from './limits.ts'
import { asIpvsadm } from './list-ipvsadm.ts'
import { standingNow } from './standing-now.ts'
import { duration, grouped, table } from './text.ts'

export interface ListOptions extends GlobalOptions {
  stats?: boolean
  rate?: boolean
  format?: 'ipvsadm'
}

interface BackendRow {
  address: string
  weight: number
  effectiveWeight: number
  state: string
  since: string
  /** All that its effective weight is made of, and since when, where that is known. */
  reasons: { name: string; effect: string; text: string; since: string | null }[]
  /** What a daemon found out of it; null: nobody has. */
  health: { alive: boolean; percent: number; since: string } | null
  mac: string | null
  interface: string | null
  /** Of the tag that its frames get; null: none. */
  vlan: number | null
  active: number | null
  inactive: number | null
  /** null: it takes any number of connections. */
  maxConns: { upper: number; lower: number } | null
  counts: Counts
}

/** How many prefixes are allowed and denied, and what becomes of sources that none covers. */
interface FilterRow {
  allow: number
  deny: number
  default: Verdict
}

export interface ServiceRow {
  service: string
  name: string | null
  scheduler: string
  forward: string
  hash: string
  ringSize: number
  seed: string
  ops: boolean
  persistence: (Omit<Persistence, 'group'> & { group: string | null }) | null
  /** Which sources it hears; null: all. */
  filter: FilterRow | null
  sourceRate: SourceRate | null
  changed: string
  backends: BackendRow[]
}

export interface Listing {
  instance: string
  interfaces: { name: string; mode: string; attached: boolean; fault: string | null }[]
  /** Not attached, but leading to backends. */
  egress: { name: string; fault: string | null }[]
  neighboursReadSecondsAgo: number | null
  staleMacs: string[]
  flows: TableUse
  flows6: TableUse
  /** Of prefixes of IPv6; null where there is none. */
  prefixFlows6: TableUse | null
  /** Notes of persistence; null where no service has it. */
  clients: TableUse | null
  /** What lblc and lblcr remember; null where no service has them. */
  destinations: TableUse | null
  /** That one CPU may record in a second. */
  newFlows: number
  /** Of all services; null: none. */
  filter: FilterRow | null
  /** Seconds. */
  timeouts: Timeouts
  /** Does a daemon follow the backends' MACs? */
  followed: boolean
  services: ServiceRow[]
  reasons: Record<string, number>
  /** --rate: over how many seconds the counts were taken; they are then per second. */
  seconds?: number
}

const filterRow = (filter: Filter | undefined): FilterRow | null =>
  filter === undefined ? null : { ...countVerdicts(filter.prefixes), default: filter.fallback }

const stateOf = ({ want }: LiveBackend, full: boolean): string => {
  const state = backendState(want)
  return full && (state === 'up' || state === 'local' || state.endsWith('%')) ? 'full' : state
}

const healthRow = ({ health }: LiveBackend['want']): BackendRow['health'] =>
  health === undefined
    ? null
    : { alive: health.alive, percent: health.percent, since: new Date(health.sinceMs).toISOString() }

const reasonNames = Object.keys(Reason).filter((name) => name !== 'REASONS')

const reasonsOf = (session: Session): Record<string, number> => {
  const counts = readReasons(session.plane)
  return Object.fromEntries(reasonNames.map((name, i) => [name.toLowerCase(), Number(counts[i] ?? 0n)]))
}

const persistenceOf = ({ persistence }: Service): ServiceRow['persistence'] =>
  persistence === undefined ? null : { ...persistence, group: persistence.group ?? null }

/** Of one that leaves nobody asks why it gets nothing. */
const reasonRows = (
  service: string,
  backend: LiveBackend,
  daemon: Context['daemon'],
  nowMs: number,
): BackendRow['reasons'] => {
  if (isLeaving(backend.want)) return []
  return standingNow(service, backend, daemon, nowMs).reasons.map(({ sinceMs: since, ...reason }) => ({
    ...reason,
    since: since === undefined || Number.isNaN(since) ? null : new Date(since).toISOString(),
  }))
}

const listing = (session: Session, only: string | undefined, nowMs: number, daemon: Context['daemon']): Listing => {
  const { plane, live, interfaces, egress, native } = session
  const flows = countFlows(plane, plane.age())
  const slotNames = new Map([...interfaces, ...egress].map(({ slot, name }) => [slot, name]))
  const backendRow = (service: LiveService, backend: LiveBackend): BackendRow => {
    const { path } = backend.want
    const { SERVICE_TRACKED, SERVICE_OPS } = ServiceFlag
    const tracked = (service.service.flags & (SERVICE_TRACKED | SERVICE_OPS)) === SERVICE_TRACKED
    const count = flows.of(service.service.id, backend.index)
    return {
      address: backend.want.address,
      weight: backend.want.weight,
      effectiveWeight: effectiveWeight(service.want, backend.want),
      state: stateOf(backend, isFullNow(plane, service.service, backend.index)),
      since: new Date(backend.sinceMs).toISOString(),
      reasons: reasonRows(service.name, backend, daemon, nowMs),
      health: healthRow(backend.want),
      mac: path.kind === 'link' ? formatMac(path.mac) : null,
      interface: path.kind === 'link' ? (slotNames.get(path.interfaceSlot) ?? null) : null,
      vlan: path.kind === 'link' ? (path.vlan ?? null) : null,
      // A hashed service, and one of one-packet scheduling, keeps no flows, but for those that a change of its ring would have moved.
      active: tracked || isLeaving(backend.want) ? count.active : null,
      inactive: tracked || isLeaving(backend.want) ? count.inactive : null,
      maxConns: backend.want.maxConns ?? null,
      counts: readCounts(plane, backend.counter),
    }
  }
  const chosen = [...live.services.values()].filter(({ name }) => only === undefined || name === only)
  return {
    instance: session.paths.name,
    interfaces: interfaces.map(({ name, mode, attached, fault }) => ({ name, mode, attached, fault: fault ?? null })),
    egress: egress.map(({ name, fault }) => ({ name, fault: fault ?? null })),
    neighboursReadSecondsAgo: live.neighboursMs === 0 ? null : (nowMs - live.neighboursMs) / 1000,
    staleMacs: new Neighbours(native, reachedBy(session)).changedSince(plane, live),
    flows: flows.tables.ipv4,
    flows6: flows.tables.ipv6,
    prefixFlows6: hasPrefixes6(live.services.keys()) ? flows.tables.prefix6 : null,
    clients: [...live.services.values()].some(isPersistent) ? countClients(plane, plane.age()) : null,
    destinations: [...live.services.values()].some(({ service }) => remembers(service))
      ? countDestinations(plane, plane.age())
      : null,
    newFlows: newFlowsNow(session),
    filter: filterRow(live.globals.filter),
    timeouts: readTimeouts(plane),
    followed: daemon !== undefined,
    services: chosen
      .map((service) => ({
        service: service.name,
        name: service.want.label ?? null,
        scheduler: service.want.scheduler,
        forward: service.want.forward,
        hash: service.want.hash,
        ringSize: service.service.ringSize,
        seed: formatSeed(service.want.seed),
        ops: service.want.ops,
        persistence: persistenceOf(service.want),
        filter: filterRow(service.want.filter),
        sourceRate: service.want.sourceRate ?? null,
        changed: new Date(service.changedMs).toISOString(),
        // One that was removed, and has no flows any more, is gone but for its record, which the next change takes.
        backends: service.backends
          .filter(({ want, index }) => !isLeaving(want) || isNeeded(plane, flows, service, index))
          .map((backend) => backendRow(service, backend)),
      }))
      .sort((a, b) => (a.service < b.service ? -1 : 1)),
    reasons: reasonsOf(session),
  }
}

const filterText = (row: FilterRow): string =>
  `${grouped(row.allow)} allowed, ${grouped(row.deny)} denied, default ${row.default}`

/** What a service asks of sources. */
const askedText = ({ filter, sourceRate }: ServiceRow): string => {
  const rate = sourceRate === null ? '' : `, ${sourceRate.rate}/s (burst ${sourceRate.burst}) of a /${sourceRate.bits}`
  return `${filter === null ? '' : `, filter: ${filterText(filter)}`}${rate}`
}

const header = (list: Listing): string[] => {
  const lines = list.interfaces.map(({ name, mode, attached, fault }) =>
    attached
      ? `${name}: attached, ${mode} mode`
      : `${name}: NOT ATTACHED: ${fault}; no packet is balanced there. ${list.followed ? 'The daemon attaches it as soon as it can: xlb status' : `Mend: xlb attach ${name}`}`,
  )
  const useOf = ({ used, capacity }: TableUse): string => `${grouped(used)} of ${grouped(capacity)}`
  for (const { name, fault } of list.egress) {
    lines.push(
      fault === null
        ? `${name}: not attached, leads to backends`
        : `${name}: GONE: ${fault}; packets for backends behind it are dropped. Mend: make it${list.followed ? '' : ', then any verb that changes something'}`,
    )
  }
  const ofPrefixes = list.prefixFlows6 === null ? '' : `; of IPv6 prefixes: ${useOf(list.prefixFlows6)}`
  lines.push(`flows: ${useOf(list.flows)}; of IPv6: ${useOf(list.flows6)}${ofPrefixes}`)
  if (list.clients !== null) lines.push(`persistent clients: ${useOf(list.clients)}`)
  if (list.destinations !== null) lines.push(`destinations of lblc and lblcr: ${useOf(list.destinations)}`)
  lines.push(`new flows: at most ${grouped(list.newFlows)} a second on each CPU`)
  if (list.filter !== null) lines.push(`filter of all services: ${filterText(list.filter)}`)
  const set = changedTimeouts(DEFAULT_TIMEOUTS, list.timeouts)
  if (set.length > 0) {
    lines.push(`timeouts: ${set.map((state) => `${state} ${formatDuration(list.timeouts[state])}`).join(', ')}`)
  }
  if (list.followed) lines.push('MACs: followed by the daemon')
  else if (list.neighboursReadSecondsAgo !== null) {
    lines.push(`MACs: as read ${duration(list.neighboursReadSecondsAgo)} ago, when a verb last changed something`)
  }
  if (list.staleMacs.length > 0) {
    lines.push(
      `MACs CHANGED since: ${list.staleMacs.join(', ')}; packets still go to the old ones. Mend: xlb backend set SERVICE ${list.staleMacs[0]}`,
    )
  }
  return lines
}

const columnsFor = (list: Listing, options: ListOptions): { names: string[]; of: (row: BackendRow) => string[] } => {
  if (options.stats === true || options.rate === true) {
    const unit = options.rate === true ? '/s' : ''
    return {
      names: [`FLOWS${unit}`, `PACKETS${unit}`, `BYTES${unit}`],
      of: ({ counts }) => [grouped(counts.flows), grouped(counts.packets), grouped(counts.bytes)],
    }
  }
  const limited = list.services.some(({ backends }) => backends.some(({ maxConns }) => maxConns !== null))
  const number = (value: number | null) => (value === null ? '-' : grouped(value))
  return {
    names: ['MAC', 'ACTIVE', 'INACTIVE', ...(limited ? ['MAX-CONNS'] : [])],
    of: (row) => [
      `${row.mac ?? '-'}${row.vlan === null ? '' : ` vlan ${row.vlan}`}`,
      number(row.active),
      number(row.inactive),
      ...(limited ? [row.maxConns === null ? '-' : formatMaxConns(row.maxConns)] : []),
    ],
  }
}

const persistText = ({ persistence }: ServiceRow): string =>
  persistence === null ? '' : ` persist ${formatPersistence({ ...persistence, group: persistence.group ?? undefined })}`

const render = (list: Listing, options: ListOptions): string => {
  const columns = columnsFor(list, options)
  const rows = [['SERVICE', 'BACKEND', 'WEIGHT', 'STATE', ...columns.names]]
  for (const service of list.services) {
    rows.push([
      `${service.service}${service.name === null ? '' : ` (${service.name})`} ${service.scheduler} ${service.forward}${service.ops ? ' ops' : ''}${persistText(service)}${askedText(service)}`,
      '',
      '',
      '',
      ...columns.names.map(() => ''),
    ])
    for (const backend of service.backends) {
      rows.push(['', backend.address, String(backend.weight), backend.state, ...columns.of(backend)])
    }
  }
  const lines = [...header(list), '', ...(list.services.length > 0 ? table(rows) : ['no services'])]
  if (options.stats === true || options.rate === true) {
    const counted = Object.entries(list.reasons).filter(([, count]) => count > 0)
    lines.push(
      '',
      ...table([
        ['REASON', options.rate === true ? 'PACKETS/s' : 'PACKETS'],
        ...counted.map(([name, count]) => [name, grouped(count)]),
      ]),
    )
  }
  return lines.join('\n')
}

const perSecond = (before: Listing, after: Listing, seconds: number): Listing => {
  const rate = (now: bigint, then: bigint) => BigInt(Math.round(Number(now - then) / seconds))
  const old = new Map(
    before.services.flatMap(({ service, backends }) =>
      backends.map((row) => [`${service} ${row.address}`, row.counts]),
    ),
  )
  return {
    ...after,
    seconds,
    services: after.services.map((service) => ({
      ...service,
      backends: service.backends.map((row) => {
        const then = old.get(`${service.service} ${row.address}`) ?? row.counts
        return {
          ...row,
          counts: {
            packets: rate(row.counts.packets, then.packets),
            bytes: rate(row.counts.bytes, then.bytes),
            flows: rate(row.counts.flows, then.flows),
          },
        }
      }),
    })),
    reasons: Object.fromEntries(
      Object.entries(after.reasons).map(([name, count]) => [
        name,
        Math.round((count - (before.reasons[name] ?? 0)) / seconds),
      ]),
    ),
  }
}

const takeListing = (context: Context, only: string | undefined): { list: Listing; at: number } =>
  context.session((session) => {
    if (only !== undefined && !session.live.services.has(only)) {
      throw new Refusal(`service ${only} does not exist`, '`xlb list` shows the services that do')
    }
    const at = Date.now()
    return { list: listing(session, only, at, context.daemon), at }
  })

export const runList = async (
  context: Context,
  serviceText: string | undefined,
  options: ListOptions,
): Promise<void> => {
  if (options.stats === true && options.rate === true) {
    throw new Refusal('list: --stats and --rate exclude each other', 'choose one', { usage: true })
  }
  const only = serviceText === undefined ? undefined : formatService(parseService(serviceText))
  let { list, at } = takeListing(context, only)
  if (options.rate === true) {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    const later = takeListing(context, only)
    list = perSecond(list, later.list, (later.at - at) / 1000)
    at = later.at
  }
  context.answer(list, options.format === 'ipvsadm' ? asIpvsadm(list, options) : render(list, options))
}
