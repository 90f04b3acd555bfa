// SPDX-License-Identifier: Apache-2.0
// Applies a plan: writes everything new where no packet looks, then commits by one aligned store. Killed before that store
// a command has changed nothing; after it, everything. What it leaves behind is free again for the next one, because free is
// whatever the live state does not use.
import { swap16, vipOf } from '../core/address.ts'
import { type Globals, isTracked, type Service } from '../core/desired.ts'
import { expandSeed } from '../core/hash.ts'
import { type Change, sameGlobals } from '../core/plan.ts'
import { prefixLengths } from '../core/prefix.ts'
import { prefixCount, sameFilter } from '../core/prefixes.ts'
import { Refusal } from '../core/refusal.ts'
import { sameRate } from '../core/source-rate.ts'
import { scanBackends } from './backend-records.ts'
import { type Built, buildService } from './builder.ts'
import { forgetClients } from './clients.ts'
import { clearCounts } from './counters.ts'
import { forgetDestinations } from './destinations.ts'
import { type Entry, liveWord, writeDirectory } from './directory.ts'
import { type Asked, prefixesOf, writeFilter } from './filters.ts'
import { deviatingSlots, sweepFlows } from './flows.ts'
import {
  type Directory,
  HashedBits,
  type Interface,
  InterfaceLimit,
  Root,
  ServiceFlag,
  ServiceKey,
  Service as ServiceRecord,
  Target,
} from './layout.gen.ts'
import { bucketsPerDirectory } from './live-directory.ts'
import { capacityOf, type PlaneMemory } from './memory.ts'
import { Persistences } from './persistence.ts'
import type { LiveService, LiveState } from './reader.ts'
import { mayDeviate } from './rings.ts'
import { clearConnections, forgetFull, mendRuns, readService, storeSwept, writeRuns } from './runs.ts'
import { HASHED_DESTINATION } from './service-key.ts'
import { type BuildContext, isFollowed, type Space, takeSpace } from './space.ts'
import { countTotals, isSwept, type Totals, totalsOf } from './totals.ts'
import { slotsAt, viewOf } from './views.ts'

export interface ApplyOptions {
  /** Unix time now, milliseconds. */
  nowMs: number
  /** 64 random bits at each call. */
  random: () => bigint
  /** What shall hold for all services; left out: what does. */
  globals?: Globals
  /** Called just before the one write that commits: a test stops here. */
  beforeCommit?: () => void
}

/** A service of which nothing but its record is another: its directory, and all other services, are as they were. */
export interface Replaced {
  name: string
  record: number
  /** What was free before, less what it took; absent: to be read from the maps. */
  space?: Space
}

const store32 = (buffer: ArrayBuffer, offset: number, value: number): void => {
  Atomics.store(new Uint32Array(buffer), offset / 4, value)
}

/** Hashed services with marks that are past, among those that change: these marks last while flows deviate. */
const findDeviating = (memory: PlaneMemory, changed: readonly LiveService[], age: number) => {
  const asked = changed.filter((live) => !isTracked(live.want) && mayDeviate(memory, live, age))
  if (asked.length === 0) return new Map<number, Set<number>>()
  return deviatingSlots(
    memory,
    asked.map(({ service, want }) => ({
      id: service.id,
      ring: slotsAt(memory, service.ringLine, service.ringSize),
      seed: expandSeed(want.seed),
      hash: want.hash,
    })),
    age,
  )
}

/** Is all that the change retired told by the service's two records? Counters and filters have owners of their own. */
const followable = (built: Built | undefined, change: Change, space: Space): Pick<Replaced, 'space'> => {
  if (built === undefined || change.kind !== 'change' || built.newCounters.length > 0) return {}
  const { have, want } = change
  const same = have.backends.length === want.backends.length && sameFilter(have.filter, want.filter)
  return same && sameRate(have.sourceRate, want.sourceRate) ? { space } : {}
}

const buildAll = (changes: readonly Change[], live: LiveState, context: BuildContext): Map<string, Built> => {
  const built = new Map<string, Built>()
  for (const change of changes) {
    if (change.kind === 'remove') continue
    built.set(change.name, buildService(change.want, live.services.get(change.name), context))
  }
  return built
}

/** struct target's hash_mask. */
const hashMask = ({ hash }: Service): bigint => {
  switch (hash) {
    case 'source':
      return (1n << BigInt(HashedBits.HASHED_SOURCE)) - 1n
    case 'source-port':
      return (1n << BigInt(HashedBits.HASHED_SOURCE_PORT)) - 1n
    case 'destination':
      return HASHED_DESTINATION
  }
}

const entriesAfter = (
  memory: PlaneMemory,
  changes: readonly Change[],
  live: LiveState,
  built: ReadonlyMap<string, Built>,
): Entry[] => {
  const after = new Map<string, Entry>()
  for (const { name, target, record } of live.services.values()) {
    const { key, lastPort, ringSeed, hashMask } = Target.read(viewOf(memory, target.table), target.at)
    const protocol = Number((key >> BigInt(ServiceKey.KEY_PROTOCOL_SHIFT)) & 0xffn) === 6 ? 'tcp' : 'udp'
    const port = swap16(Number((key >> BigInt(ServiceKey.KEY_PORT_SHIFT)) & 0xffffn))
    after.set(name, { protocol, vip: vipOf(name), port, lastPort, record, seed: ringSeed, mask: hashMask })
  }
  for (const change of changes) {
    const record = built.get(change.name)?.record
    if (change.kind === 'remove' || record === undefined) {
      after.delete(change.name)
      continue
    }
    const hashed = { seed: expandSeed(change.want.seed), mask: hashMask(change.want) }
    const { protocol, vip, port, lastPort } = change.want
    after.set(change.name, { protocol, vip, port, lastPort, record, ...hashed })
  }
  return [...after.values()]
}

/** All that is changed at once. */
interface Whole {
  changes: readonly Change[]
  /** Services that change, as they are. */
  changed: readonly LiveService[]
  globals: Globals | undefined
  totals: Totals
}

/** How many backends a change adds to a service, or takes from it. */
const backendsAdded = (change: Change): number =>
  (change.kind === 'remove' ? 0 : change.want.backends.length) -
  (change.kind === 'add' ? 0 : change.have.backends.length)

const servicesAdded = ({ kind }: Change): number => (kind === 'add' ? 1 : kind === 'remove' ? -1 : 0)

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)

const countBackends = (memory: PlaneMemory, live: LiveState): number => {
  let count = 0
  scanBackends(memory, live, () => {
    count++
  })
  return count
}

/** Prefixes of all filters, as they shall be. @param changed the services that change, as they are */
const prefixesAfter = (memory: PlaneMemory, live: LiveState, { changes, changed, globals, totals }: Whole): number => {
  const own = changes.map((change) => (change.kind === 'remove' ? undefined : change.want.filter))
  return (
    totals.prefixes -
    (globals === undefined ? 0 : prefixesOf(memory, live.filter)) -
    countTotals(memory, changed).prefixes +
    sum([...own, globals?.filter].map((filter) => (filter === undefined ? 0 : prefixCount(filter.prefixes))))
  )
}

const checkCapacity = (memory: PlaneMemory, live: LiveState, whole: Whole): void => {
  const { changes } = whole
  const capacity = capacityOf(memory)
  const added = sum(changes.map(backendsAdded))
  const wanted = {
    services: live.services.size + sum(changes.map(servicesAdded)),
    // Those that were there fit: they need counting only where more come.
    backends: added > 0 ? countBackends(memory, live) + added : 0,
    prefixes: prefixesAfter(memory, live, whole),
  }
  for (const table of ['services', 'backends', 'prefixes'] as const) {
    if (wanted[table] <= capacity[table]) continue
    throw new Refusal(
      `the table of ${table} is full: ${wanted[table]} are wanted, and it holds ${capacity[table]}`,
      `nothing was changed; save, detach, and attach again with a larger --${table}`,
    )
  }
}

/** What shall hold for all services; undefined: what does. */
const changedGlobals = (live: LiveState, wanted: Globals | undefined): Globals | undefined =>
  wanted === undefined || sameGlobals(live.globals, wanted) ? undefined : wanted

const askedOf = ({ filter }: Globals): Asked => (filter === undefined ? {} : { filter })

/**
 * Makes the maps hold what the plan wants, whole or not at all.
 *
 * @param live what readLive answered; nobody else may change the maps in between (the instance's lock)
 * @returns where that was all: the one service that has another record now
 * @throws Refusal where a table is full; nothing is changed then
 */
export const applyChanges = (
  memory: PlaneMemory,
  live: LiveState,
  changes: readonly Change[],
  options: ApplyOptions,
): Replaced | undefined => {
  const globals = changedGlobals(live, options.globals)
  if (changes.length === 0 && globals === undefined) return undefined
  // Whatever an earlier command retired may still be under the eyes of a packet that came before its commit.
  memory.waitForPrograms()
  // Whoever made the last change, and was not killed at it, has left nothing to mend.
  if (!isFollowed(live)) mendRuns(memory, live)
  const age = memory.age()
  const changed = changes.flatMap(({ name }) => live.services.get(name) ?? [])
  const context: BuildContext = {
    memory,
    space: takeSpace(memory, live),
    age,
    nowMs: options.nowMs,
    random: options.random,
    deviating: findDeviating(memory, changed, age),
    persistences: new Persistences(memory, live),
  }
  const whole = { changes, changed, globals, totals: totalsOf(memory, live) }
  checkCapacity(memory, live, whole)
  const built = buildAll(changes, live, context)
  forgetFlows(memory, [...built.values()])
  followCounts(memory, whole, [...built.values()])
  forgetClients(memory, context.persistences.forgotten)

  const [only] = changes
  // What is hashed, and by which seed, stands in the target too: a change of these takes a new directory.
  const rehashed = only?.kind === 'change' && (only.have.seed !== only.want.seed || only.have.hash !== only.want.hash)
  if (changes.length === 1 && only?.kind === 'change' && !rehashed && globals === undefined) {
    const target = live.services.get(only.name)
    const record = built.get(only.name)?.record
    if (target === undefined || record === undefined) throw new Error(`${only.name} is not in the maps`)
    markFiltered(memory, [record], live.filter !== 0)
    options.beforeCommit?.()
    store32(memory.buffer(target.target.table), target.target.at + Target.offset.service, record)
    memory.retired()
    return { name: only.name, record, ...followable(built.get(only.name), only, context.space) }
  }
  const entries = entriesAfter(memory, changes, live, built)
  const records = entries.map(({ record }) => record)
  const filter =
    globals === undefined
      ? live.filter
      : writeFilter(
          memory,
          context.space.filters,
          askedOf(globals),
          { record: live.filter, asked: askedOf(live.globals) },
          options.random,
        )
  const { newFlows } = globals ?? live.globals
  const next = writeDirectory(memory, live, entries, { filter, newFlows }, options.random)
  if (filter !== 0) markFiltered(memory, [...records, ...[...live.services.values()].map(({ record }) => record)], true)
  options.beforeCommit?.()
  Atomics.store(new BigUint64Array(memory.buffer('root'), 0, Root.size / 8), Root.offset.live / 8, next)
  // A removed service's ports may be another's now, of a range or of every port: notes of before the commit end here.
  if (changes.some(({ kind }) => kind === 'remove')) forgetFragments(memory)
  if (filter === 0) markFiltered(memory, records, false)
  memory.retired()
  return undefined
}

/** Before the commit: has entries of flows lead to the counts of the backends that there will be. */
const followCounts = (memory: PlaneMemory, { changed, totals }: Whole, built: readonly Built[]): void => {
  const fresh = built.map(({ record }) => readService(memory, record))
  const staying = totals.swept - countTotals(memory, changed).swept
  // No less than before: should this command be killed, that is still so. The next one sees to what is too much.
  storeSwept(memory, Math.max(totals.swept, staying + fresh.filter(isSwept).length))
  writeRuns(memory, fresh)
  forgetFull(
    memory,
    built.flatMap(({ relimited }) => relimited),
  )
}

/**
 * Sends the packets of services the long way, or lets them go the short one again. Written into records that packets see: there
 * it decides nothing but the way, on which the live directory tells what is asked.
 */
const markFiltered = (memory: PlaneMemory, records: readonly number[], on: boolean): void => {
  const flags = new Uint16Array(memory.buffer('services'))
  for (const record of records) {
    const at = (record * ServiceRecord.size + ServiceRecord.offset.flags) / 2
    const now = flags[at] ?? 0
    const then = on ? now | ServiceFlag.SERVICE_FILTERED : now & ~ServiceFlag.SERVICE_FILTERED
    if (then !== now) Atomics.store(flags, at, then)
  }
}

/** Datagrams under way are few, and notes of their first fragments do not name the service: all go. */
const forgetFragments = (memory: PlaneMemory): void => {
  new BigUint64Array(memory.buffer('fragments')).fill(0n)
}

/** Ids, indices and counters that are given out anew carry nothing of whoever had them before. */
const forgetFlows = (memory: PlaneMemory, built: readonly Built[]): void => {
  const services = new Set(built.filter(({ newId }) => newId).map(({ id }) => id))
  const backends = new Map(
    built
      .filter(({ newId, newIndices }) => !newId && newIndices.size > 0)
      .map(({ id, newIndices }) => [id, newIndices]),
  )
  if (services.size > 0 || backends.size > 0) {
    sweepFlows(memory, { services, backends })
    forgetFragments(memory)
  }
  const rescheduled = built.filter((each) => each.rescheduled).map(({ id }) => id)
  forgetDestinations(memory, { services: new Set([...services, ...rescheduled]), backends })
  const cursors = new BigUint64Array(memory.buffer('cursors'))
  for (const id of services) cursors[id] = 0n
  const counters = built.flatMap(({ newCounters }) => newCounters)
  clearCounts(memory, counters)
  clearConnections(memory, counters)
}

const NO_INTERFACE: Interface = { macHigh: 0n, ifindex: 0, generic: 0, role: 0, multiBuffer: 0, name: '' }

/** An empty data plane: two empty directories, the first of them live. For freshly made maps. */
export const formatRoot = (memory: Pick<PlaneMemory, 'buffer'>, contract: number, newFlows: number): void => {
  const capacity = bucketsPerDirectory(memory)
  const directory = (half: number): Directory => ({
    vip6: liveWord(0n, { live: half === 0 ? 0 : 1, half: capacity, shift: 63 }),
    serviceMultiplier: 1n,
    serviceBase: half * capacity,
    serviceShift: 63,
    filter: 0,
    newFlows,
    ...prefixLengths([]),
  })
  Root.write(viewOf(memory, 'root'), 0, {
    live: liveWord(0n, { live: 0, half: capacity, shift: 63 }),
    neighboursMs: 0n,
    forwardedBefore: 0n,
    swept: 0,
    interface: Array.from({ length: InterfaceLimit.INTERFACES_MAX }, () => NO_INTERFACE),
    contract,
    directory: [directory(0), directory(1)],
  })
}
