// SPDX-License-Identifier: Apache-2.0
// Filters in the maps (struct filter in bpf/xlb.h). A changed one is written where no packet looks; what leads to it - a
// service's policy, or the live directory - is committed with all else.
import { Arena } from '../core/arena.ts'
import { changesOf } from '../core/bounds.ts'
import type { Service } from '../core/desired.ts'
import { AF } from '../core/ip.ts'
import {
  type FamilyNumber,
  type Filter,
  NO_PREFIXES,
  type Prefixes,
  prefixCount,
  sameFilter,
  WORDS_PER_PREFIX,
} from '../core/prefixes.ts'
import { Refusal } from '../core/refusal.ts'
import { type SourceRate, sameRate } from '../core/source-rate.ts'
import { FilterBound, FilterLimit, FilterPrefix, Filter as FilterRecord, Settings } from './layout.gen.ts'
import type { Extent, PlaneMemory } from './memory.ts'

/** What a service, or all of them, ask of sources. */
export type Asked = Pick<Service, 'filter' | 'sourceRate'>

const BOUNDS_PER_ELEMENT = { [AF.ipv4]: 4, [AF.ipv6]: 1 } as const

const elements = (family: FamilyNumber, bounds: number): number => Math.ceil(bounds / BOUNDS_PER_ELEMENT[family])

const recordAt = (memory: PlaneMemory, record: number): FilterRecord => {
  const { buffer, byteOffset } = memory.part('filters', record * FilterRecord.size, FilterRecord.size)
  return FilterRecord.read(new DataView(buffer), byteOffset)
}

/** Which elements are free, given what is live. */
export interface FilterSpace {
  records: Arena
  bounds: Arena
  prefixes: Arena
}

/** @param live the records that packets are led to */
export const freeFilterSpace = (memory: PlaneMemory, live: Iterable<number>): FilterSpace => {
  const space = {
    records: new Arena(memory.size('filters') / FilterRecord.size),
    bounds: new Arena(memory.size('filter_bounds') / FilterBound.size),
    prefixes: new Arena(memory.size('filter_prefixes') / FilterPrefix.size),
  }
  space.records.use(0, 1)
  for (const record of live) {
    if (record === 0) continue
    space.records.use(record, 1)
    const { first4, count4, first6, count6, prefixes, prefixCount } = recordAt(memory, record)
    space.bounds.use(first4, elements(AF.ipv4, count4))
    space.bounds.use(first6, elements(AF.ipv6, count6))
    space.prefixes.use(prefixes, prefixCount)
  }
  return space
}

/** A record of `filters` and what it leads to. */
export const filterExtents = (memory: PlaneMemory, record: number): Extent[] => {
  if (record === 0) return []
  const { first4, count4, first6, count6, prefixes, prefixCount } = recordAt(memory, record)
  return [
    { map: 'filters', first: record, count: 1 },
    { map: 'filter_bounds', first: first4, count: elements(AF.ipv4, count4) },
    { map: 'filter_bounds', first: first6, count: elements(AF.ipv6, count6) },
    { map: 'filter_prefixes', first: prefixes, count: prefixCount },
  ]
}

const prefixWords = (memory: PlaneMemory, first: number, count: number): Prefixes => {
  if (count === 0) return NO_PREFIXES
  const { buffer, byteOffset } = memory.part('filter_prefixes', first * FilterPrefix.size, count * FilterPrefix.size)
  return new Uint32Array(buffer, byteOffset, count * WORDS_PER_PREFIX)
}

/** How many prefixes a filter has, without reading them. */
export const prefixesOf = (memory: PlaneMemory, record: number): number =>
  record === 0 ? 0 : recordAt(memory, record).prefixCount

/** What a person said, of a record; 0 is none. */
export const readFilter = (memory: PlaneMemory, record: number): Asked => {
  if (record === 0) return {}
  const { prefixes, prefixCount, denies, rate, burst, rateBits } = recordAt(memory, record)
  const isOpen = prefixCount === 0 && denies === 0
  return {
    ...(isOpen
      ? {}
      : {
          filter: {
            fallback: denies === 0 ? ('allow' as const) : ('deny' as const),
            // A copy: what is read is looked at after a commit, too.
            prefixes: prefixWords(memory, prefixes, prefixCount).slice(),
          },
        }),
    ...(rate === 0 ? {} : { sourceRate: { rate, burst, bits: rateBits } }),
  }
}

const take = (arena: Arena, length: number, what: string): number => {
  if (length === 0) return 0
  const start = arena.take(length)
  if (start >= 0) return start
  throw new Refusal(
    `the table of ${what} is full: ${length} more are needed in a row, ${arena.free} of ${arena.capacity} are free`,
    'nothing was changed; save, detach, and attach again with larger --prefixes',
  )
}

/** Writes where the answer changes for addresses of one family. */
const writeBounds = (memory: PlaneMemory, space: FilterSpace, filter: Filter, family: FamilyNumber) => {
  const bounds = changesOf(filter.prefixes, family, filter.fallback)
  const count = bounds.length
  const length = elements(family, count)
  const first = take(space.bounds, length, 'filter bounds')
  if (length === 0) return { first, count }
  const { buffer, byteOffset } = memory.part('filter_bounds', first * FilterBound.size, length * FilterBound.size)
  const words = new Uint32Array(buffer, byteOffset, (length * FilterBound.size) / 4)
  if (family === AF.ipv4) words.set(Uint32Array.from(bounds, Number))
  else {
    for (const [i, bound] of bounds.entries()) {
      for (let word = 0; word < 4; word++) words[4 * i + word] = Number((bound >> BigInt(96 - 32 * word)) & 0xffffffffn)
    }
  }
  return { first, count }
}

type ListFields = Pick<FilterRecord, 'first4' | 'count4' | 'first6' | 'count6' | 'prefixes' | 'prefixCount' | 'denies'>

const writeList = (memory: PlaneMemory, space: FilterSpace, filter: Filter): ListFields => {
  const count = prefixCount(filter.prefixes)
  const prefixes = take(space.prefixes, count, 'prefixes')
  prefixWords(memory, prefixes, count).set(filter.prefixes)
  const ipv4 = writeBounds(memory, space, filter, AF.ipv4)
  const ipv6 = writeBounds(memory, space, filter, AF.ipv6)
  return {
    first4: ipv4.first,
    count4: ipv4.count,
    first6: ipv6.first,
    count6: ipv6.count,
    prefixes,
    prefixCount: count,
    denies: filter.fallback === 'deny' ? 1 : 0,
  }
}

const NO_LIST: ListFields = { first4: 0, count4: 0, first6: 0, count6: 0, prefixes: 0, prefixCount: 0, denies: 0 }

const rateFields = (memory: PlaneMemory, sourceRate: SourceRate | undefined) => {
  if (sourceRate === undefined) return { interval: 0n, tolerance: 0n, rate: 0, burst: 0, rateBits: 32, rateSalt: 0n }
  const { rate, burst, bits } = sourceRate
  const { buffer, byteOffset } = memory.part('settings', 0, Settings.size)
  const { jiffiesPerSecond } = Settings.read(new DataView(buffer), byteOffset)
  const interval = (BigInt(jiffiesPerSecond) << BigInt(FilterLimit.RATE_SHIFT)) / BigInt(rate)
  return { interval, tolerance: interval * BigInt(burst - 1), rate, burst, rateBits: bits }
}

/**
 * Writes what is asked of sources into free places; what stays as it was is shared with the record that packets are led to.
 * @param random 64 random bits: by them a rate that is new knows nothing of one that was there before
 * @returns the record; 0: nothing is asked
 * @throws Refusal where a table is full
 */
export const writeFilter = (
  memory: PlaneMemory,
  space: () => FilterSpace,
  want: Asked,
  have: { record: number; asked: Asked },
  random: () => bigint,
): number => {
  if (want.filter === undefined && want.sourceRate === undefined) return 0
  const sameList = have.record !== 0 && sameFilter(want.filter, have.asked.filter)
  if (sameList && sameRate(want.sourceRate, have.asked.sourceRate)) return have.record
  const free = space()
  const record = take(free.records, 1, 'filters')
  const list = sameList
    ? recordAt(memory, have.record)
    : want.filter === undefined
      ? NO_LIST
      : writeList(memory, free, want.filter)
  const { buffer, byteOffset } = memory.part('filters', record * FilterRecord.size, FilterRecord.size)
  const hadRate = have.record !== 0 && have.asked.sourceRate !== undefined
  FilterRecord.write(new DataView(buffer), byteOffset, {
    ...list,
    rateSalt: hadRate ? recordAt(memory, have.record).rateSalt : random(),
    ...rateFields(memory, want.sourceRate),
  })
  return record
}
