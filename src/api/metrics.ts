// SPDX-License-Identifier: Apache-2.0
// `/metrics`: what the data plane counts, in Prometheus's text format.
import { setImmediate } from 'node:timers/promises'
import { type Metric, Registry } from 'prom-client'
import { Reason } from '../dataplane/layout.gen.ts'
import type { Session } from '../shell/session.ts'
import { FAMILIES } from './metric-families.ts'
import type { Family, Row } from './metric-family.ts'
import { ServiceTotals } from './service-totals.ts'
import { CONTRACT, type Found, type ReloadSample, readPlane, type Snapshot, STATS_FILE } from './snapshot.ts'

export const CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE

/** Some 32,000 series, and 2.5 MB at each scrape. */
export const DEFAULT_BACKEND_LIMIT = 4000

export interface ExporterOptions {
  /** Of xlb. */
  version: string
  /**
   * Backends that get series of their own, eight each. Of the services, in the order of their names, each that has room gets
   * them whole; all services have xlb_service_* in any case.
   */
  backendLimit?: number
  /** Where the kernel says whether it counts runs of programs; absent: in /proc. */
  statsFile?: string
}

/** What only the daemon knows. */
export interface DaemonFacts {
  reload?: ReloadSample
  /** What was told of a backend; undefined: nothing. */
  foundOf?: (service: string, backend: string) => Found | undefined
  /** Registries of the daemon's own, whose metrics are appended: Node's, checks'. */
  more?: readonly Registry[]
}

/** Remembers from scrape to scrape what counters had that are gone: one for the whole life of the process. */
export class MetricsExporter {
  readonly #version: string
  readonly #backendLimit: number
  readonly #statsFile: string
  readonly #totals = new ServiceTotals()
  #lastForwarded = 0

  constructor({ version, backendLimit = DEFAULT_BACKEND_LIMIT, statsFile = STATS_FILE }: ExporterOptions) {
    this.#version = version
    this.#backendLimit = backendLimit
    this.#statsFile = statsFile
  }

  /**
   * Reads all at once, before it returns, so that the session may end then; makes the text after that, some milliseconds in
   * each turn of Node's loop.
   *
   * @param session undefined where the instance is attached to no interface
   */
  export(session: Session | undefined, facts: DaemonFacts = {}): Promise<string> {
    const snapshot = this.#read(session, facts)
    return render(snapshot, facts.more ?? [])
  }

  #read(session: Session | undefined, { reload, foundOf }: DaemonFacts): Snapshot {
    const backendLimit = this.#backendLimit
    const plane =
      session === undefined
        ? undefined
        : readPlane(session, {
            backendLimit,
            totals: this.#totals,
            lastForwarded: this.#lastForwarded,
            statsFile: this.#statsFile,
          })
    this.#lastForwarded = plane?.reasons[Reason.TX_FORWARDED] ?? this.#lastForwarded
    return {
      version: this.#version,
      contract: CONTRACT,
      backendLimit,
      plane,
      reload,
      foundOf,
    }
  }
}

/** Rows that are made into text at a time: some milliseconds of work. */
const ROWS_AT_A_TIME = 1000

/**
 * The text of some rows, as a registry of prom-client makes it; the lines of help and type only where they are the first. It gets
 * the rows as they are: to fill a Gauge or a Counter of prom-client with them takes five times as long.
 */
const textOf = async ({ name, type, help }: Family, values: readonly Row[], first: boolean): Promise<string> => {
  const registry = new Registry()
  registry.registerMetric({ name, get: async () => ({ name, type, help, values }) } as unknown as Metric)
  const text = await registry.metrics()
  return first ? text : text.slice(text.indexOf('\n', text.indexOf('\n') + 1) + 1)
}

/** A metric without values is left out. */
async function* familyText(family: Family, snapshot: Snapshot): AsyncGenerator<string> {
  let rows: Row[] = []
  let first = true
  for (const row of family.rows(snapshot)) {
    rows.push(row)
    if (rows.length < ROWS_AT_A_TIME) continue
    yield await textOf(family, rows, first)
    await setImmediate()
    rows = []
    first = false
  }
  if (rows.length > 0) yield await textOf(family, rows, first)
}

const render = async (snapshot: Snapshot, more: readonly Registry[]): Promise<string> => {
  const parts: string[] = []
  for (const family of FAMILIES) {
    for await (const text of familyText(family, snapshot)) parts.push(text)
  }
  for (const registry of more) parts.push(await registry.metrics())
  return parts.join('')
}
