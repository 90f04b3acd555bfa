// SPDX-License-Identifier: Apache-2.0
// What a service is built from: what is free in the maps, which is all that no live service uses.
import { Arena } from '../core/arena.ts'
import { Refusal } from '../core/refusal.ts'
import { scanBackends } from './backend-records.ts'
import { type FilterSpace, freeFilterSpace } from './filters.ts'
import { Backend as BackendRecord, RingLimit, ServiceFlag, Service as ServiceRecord } from './layout.gen.ts'
import { countersPerCpu, type PlaneMemory } from './memory.ts'
import { isPersistent, type Persistences, persistSlotCount } from './persistence.ts'
import type { LiveService, LiveState } from './reader.ts'
import { linesFor } from './views.ts'

/** What is free in the maps, given what is live. */
export interface Space {
  records: Arena
  backends: Arena
  lines: Arena
  ids: Arena
  /** Read from the maps when they are first asked for: a change of weights alone need not look at every backend. */
  counters: () => Arena
  /** Likewise. */
  filters: () => FilterSpace
}

/** What a build needs beside the service itself. */
export interface BuildContext {
  memory: PlaneMemory
  space: Space
  /** Age now, in the packet path's units. */
  age: number
  nowMs: number
  /** 64 random bits at each call. */
  random: () => bigint
  /** Slots of hashed services of which the flow table deviates, by service id. */
  deviating: ReadonlyMap<number, ReadonlySet<number>>
  persistences: Persistences
}

export const freeSpace = (memory: PlaneMemory, live: LiveState): Space => {
  const space: Space = {
    records: new Arena(memory.size('services') / ServiceRecord.size),
    backends: new Arena(memory.size('backends') / BackendRecord.size),
    lines: new Arena(memory.size('rings') / (RingLimit.SLOTS_PER_LINE * 2)),
    ids: new Arena(65536),
    ...readLater(memory, live),
  }
  for (const found of live.services.values()) {
    const { record, service } = found
    space.records.use(record, 1)
    space.ids.use(service.id, 1)
    space.backends.use(service.backendBase, service.backendCount)
    for (const [line, lines] of linesOf(found)) space.lines.use(line, lines)
  }
  return space
}

const readLater = (memory: PlaneMemory, live: LiveState): Pick<Space, 'counters' | 'filters'> => ({
  counters: once(() => freeCounters(memory, live)),
  filters: once(() =>
    freeFilterSpace(memory, [live.filter, ...[...live.services.values()].map(({ filter }) => filter)]),
  ),
})

/** Of live states whose free space was not read from the maps, but followed from what was free before. */
const followed = new WeakMap<LiveState, Space>()

/** Was it made of the state before by whoever has made the last commit? */
export const isFollowed = (live: LiveState): boolean => followed.has(live)

/** What is free, given what is live; whoever takes of it must commit, or ask for it no more. */
export const takeSpace = (memory: PlaneMemory, live: LiveState): Space => {
  const space = followed.get(live) ?? freeSpace(memory, live)
  followed.delete(live)
  return space
}

/** The lines of `rings` that a service has. */
const linesOf = (found: LiveService): [line: number, lines: number][] => {
  const { service } = found
  return [
    [service.ringLine, linesFor(service.ringSize)],
    [service.scheduleLine, linesFor(service.scheduleSize)],
    ...(service.flags & ServiceFlag.SERVICE_MARKED
      ? [[service.beforeLine, linesFor(service.beforeSize)] satisfies [number, number]]
      : []),
    ...(isPersistent(found)
      ? [[found.policy.persistLine, linesFor(persistSlotCount(found))] satisfies [number, number]]
      : []),
  ]
}

/**
 * After a commit that gave one service another record, and left it its backends and its filter: what is free now, without looking at all
 * other services. Packets may still be in what is given back; waitForPrograms comes before it is taken.
 */
export const followSpace = (
  memory: PlaneMemory,
  space: Space,
  { before, after, live }: { before: LiveService; after: LiveService; live: LiveState },
): void => {
  const kept = new Set(linesOf(after).map(([line]) => line))
  for (const [line, lines] of linesOf(before)) if (!kept.has(line)) space.lines.release(line, lines)
  space.records.release(before.record, 1)
  space.backends.release(before.service.backendBase, before.service.backendCount)
  // By the records that there are now: those that were live before may be others' by the time that these are read.
  followed.set(live, { ...space, ...readLater(memory, live) })
}

const freeCounters = (memory: PlaneMemory, live: LiveState): Arena => {
  const counters = new Arena(countersPerCpu(memory))
  // Nobody's: records of backends that are not there lead to it.
  counters.use(0, 1)
  scanBackends(memory, live, ({ counter }) => counters.use(counter, 1))
  return counters
}

const once = <T>(make: () => T): (() => T) => {
  let made: T | undefined
  return () => {
    made ??= make()
    return made
  }
}

export const take = (arena: Arena, length: number, what: string, option: string): number => {
  const start = arena.take(length)
  if (start < 0) {
    throw new Refusal(
      `the table of ${what} is full: ${length} more are needed in a row, ${arena.free} of ${arena.capacity} are free`,
      `nothing was changed; save, detach, and attach again with a larger ${option}`,
    )
  }
  return start
}
