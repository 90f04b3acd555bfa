// SPDX-License-Identifier: Apache-2.0
// What filters say of a packet's source: bpf/filter.h, walked from the maps alone. No connection is counted.
import { swap32 } from '../core/address.ts'
import { hashAddress6, hashMix } from '../core/hash.ts'
import {
  type Address,
  formatPrefix,
  longestMatch,
  OPEN,
  parseAddress,
  prefixAt,
  type Verdict,
  wordMask,
} from '../core/prefixes.ts'
import { readFilter } from './filters.ts'
import { FilterLimit, Filter as FilterRecord, type Reason, ServicePolicy, SourceRate } from './layout.gen.ts'
import { liveDirectory } from './live-directory.ts'
import type { PlaneMemory } from './memory.ts'
import { viewOf } from './views.ts'
import type { Way } from './way.ts'

/** What a list says of a source. */
export interface ListLook {
  verdict: Verdict
  /** The longest prefix that covers it; undefined: none does, and the default holds. */
  prefix: string | undefined
}

/** The bound on new connections of the packet's source. */
export interface RateLook {
  rate: number
  burst: number
  /** May it open this one? Undefined: the packet opens none, or the time is not known. */
  allows: boolean | undefined
}

export interface SourceLook {
  /** Undefined: there is no filter of all services. */
  all: ListLook | undefined
  /** Undefined: its service has none. */
  own: ListLook | undefined
  rate: RateLook | undefined
  /** Undefined: it is heard. */
  refused: keyof typeof Reason | undefined
}

const listLook = (memory: PlaneMemory, record: number, address: Address): ListLook | undefined => {
  if (record === 0) return undefined
  const { fallback, prefixes } = readFilter(memory, record).filter ?? OPEN
  const match = longestMatch(prefixes, address)
  if (match < 0) return { verdict: fallback, prefix: undefined }
  const prefix = prefixAt(prefixes, match)
  return { verdict: prefix.verdict, prefix: formatPrefix(prefix) }
}

/** rate_key. */
const rateKey = (
  way: Way,
  { words }: Address,
  { rateBits, rateSalt }: Pick<FilterRecord, 'rateBits' | 'rateSalt'>,
): bigint => {
  const isIpv6 = way.source.address6 !== undefined
  const leading = words.map((word, i) => BigInt(swap32((word & wordMask(rateBits, i)) >>> 0)))
  const half = (i: number): bigint => (leading[i] ?? 0n) | ((leading[i + 1] ?? 0n) << 32n)
  const source = isIpv6 ? hashAddress6({ high: half(0), low: half(2) }, way.settings.flowSeed) : half(0)
  return BigInt.asUintN(64, source + rateSalt)
}

/** rate_allows, counting nothing. */
const rateAllows = (
  way: Way,
  address: Address,
  { interval, tolerance, ...own }: FilterRecord,
  jiffies: bigint,
): boolean => {
  const key = rateKey(way, address, own)
  const one = hashMix(key, way.settings.flowSeed ^ 0x3c6ef372fe94f82an)
  const other = hashMix(key, way.settings.flowSeed ^ 0xa54ff53a5f1d36f0n)
  const table = viewOf(way.memory, 'source_rates')
  const rows = BigInt(table.byteLength / SourceRate.size)
  const latest = (jiffies << BigInt(FilterLimit.RATE_SHIFT)) + tolerance
  const isDue = (hash: bigint, row: number): boolean =>
    table.getBigUint64(Number(hash & (rows - 1n)) * SourceRate.size + 8 * row, true) <= latest
  return interval === 0n || [one >> 40n, one >> 16n, other >> 40n, other >> 16n].some(isDue)
}

const ownRecord = ({ memory, target }: Way): number =>
  ServicePolicy.read(viewOf(memory, 'service_policies'), target.service * ServicePolicy.size).filter

/**
 * ask_filters.
 *
 * @param opens does the packet count as a new connection of its source?
 * @returns undefined where nothing is asked
 */
export const lookAtSource = (way: Way, opens: () => boolean): SourceLook | undefined => {
  if (!way.is('SERVICE_POLICY') && !way.is('SERVICE_FILTERED')) return undefined
  const { memory, at } = way
  const address = parseAddress(way.packet.source)
  if (address === undefined) throw new Error(`unreachable: ${way.packet.source} is an address`)
  const record = ownRecord(way)
  const all = listLook(memory, liveDirectory(memory).filter, address)
  const own = listLook(memory, record, address)
  const asked = FilterRecord.read(viewOf(memory, 'filters'), record * FilterRecord.size)
  const rate: RateLook | undefined =
    record === 0 || asked.rate === 0
      ? undefined
      : {
          rate: asked.rate,
          burst: asked.burst,
          allows: at.jiffies === undefined || !opens() ? undefined : rateAllows(way, address, asked, at.jiffies),
        }
  if (all === undefined && own === undefined) return undefined
  const refused =
    all?.verdict === 'deny'
      ? 'DROP_DENIED_GLOBAL'
      : own?.verdict === 'deny'
        ? 'DROP_DENIED'
        : rate?.allows === false
          ? 'DROP_RATE_LIMITED'
          : undefined
  return { all, own, rate, refused }
}
