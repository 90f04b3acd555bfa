// SPDX-License-Identifier: Apache-2.0
// One flow in the flow table: where it may stand, what stands there, whether it would find room. bpf/flow.h, for the
// controller; flows.ts scans the table as a whole.
import { type HashedSource, hashAddress6, hashAddresses6, hashMix } from '../core/hash.ts'
import type { Address6 } from '../core/ip.ts'
import { bucketSize, FLOW_TABLES, type FlowTable } from './flow-tables.ts'
import { FlowKey, FlowState, FlowValue, PrefixFlow, type Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'

/** Where a flow may stand, and what makes an entry its own. */
export interface FlowPlace {
  table: FlowTable
  /** What stands in an entry before its key: the source of IPv6, and the destination too of its prefixes; both of an IPv4 prefix. */
  addresses: readonly Address6[]
  key: bigint
  /** Check bits and destination port, as they stand in a value. */
  match: bigint
  /** The two candidate buckets, in the order in which packets look. */
  buckets: readonly [number, number]
}

/** An entry at one moment of the packet path's clock. */
export interface FlowEntry {
  bucket: number
  /** Within the bucket. */
  place: number
  /** Index of the backend within its service. */
  backend: number
  /** enum flow_state */
  state: number
  /** Units of age since it was last used, and after how many of them it expires. */
  idle: number
  timeout: number
  expired: boolean
}

const CHECK_SHIFT = BigInt(FlowValue.FLOW_CHECK_SHIFT)
const MATCH_MASK = (((1n << (64n - CHECK_SHIFT)) - 1n) << CHECK_SHIFT) | 0xffffn
/** flow_locate's: what the second bucket's index differs by. */
const SECOND_MULTIPLIER = 0x9e3779b1
const SECOND_SHIFT = 7

/**
 * Reads an entry as packets do: key, value, key (bpf/flow.h).
 *
 * @param table the table as 64-bit words
 * @param at the entry's first word
 * @param entry gets its words: the source where that is not in the key, the key, the value
 * @returns false: it changed hands while it was read
 */
export const readEntry = (table: BigUint64Array, at: number, entry: BigUint64Array): boolean => {
  const valueAt = entry.length - 1
  for (let i = 0; i <= valueAt; i++) entry[i] = Atomics.load(table, at + i)
  for (let i = 0; i < valueAt; i++) if (Atomics.load(table, at + i) !== entry[i]) return false
  return true
}

/** prefix_flow of bpf/parse.h. */
const prefixFlow = ({ word, destination = 0n }: HashedSource): Address6 => ({
  high: (destination << BigInt(PrefixFlow.PREFIX_FLOW_SHIFT)) | BigInt(PrefixFlow.PREFIX_FLOW),
  low: word & 0xffffffffn,
})

const addressesOf = (source: HashedSource, ofPrefix: boolean): Address6[] => {
  const { address6, destination6 } = source
  if (address6 === undefined) return ofPrefix ? [prefixFlow(source)] : []
  return ofPrefix && destination6 !== undefined ? [address6, destination6] : [address6]
}

/** By which flow_locate finds buckets and check bits. */
const hashOf = ([source, destination]: readonly Address6[], key: bigint, seed: bigint): bigint => {
  if (source === undefined) return hashMix(key, seed)
  const first = hashAddress6(source, seed)
  if (destination === undefined) return hashMix(BigInt.asUintN(64, first + key), seed)
  return hashAddresses6(first, hashAddress6(destination, seed), key, seed)
}

/**
 * flow_locate.
 *
 * @param portBe destination port, in network order as a little-endian machine loads it
 */
export const locateFlow = (
  memory: Pick<PlaneMemory, 'size'>,
  settings: Pick<Settings, 'flowSeed'>,
  { source, portBe, service, ofPrefix }: { source: HashedSource; portBe: number; service: number; ofPrefix: boolean },
): FlowPlace => {
  const addresses = addressesOf(source, ofPrefix)
  const [source6, destination6] = addresses
  const table = FLOW_TABLES[destination6 !== undefined ? 'prefix6' : source6 !== undefined ? 'ipv6' : 'ipv4']
  const own = source6 === undefined ? source.word : source.word & ~0xffffffffn
  const key = own | (BigInt(service) << BigInt(FlowKey.FLOW_SERVICE_SHIFT))
  const seed = BigInt.asUintN(64, settings.flowSeed + (BigInt(portBe) << 1n))
  const hash = hashOf(addresses, key, seed)
  const mask = memory.size(table.name) / bucketSize(table) - 1
  const first = Number(hash >> 32n)
  const second = first ^ (Math.imul(Number(hash & 0xffffffffn), SECOND_MULTIPLIER) >>> SECOND_SHIFT)
  return {
    table,
    addresses,
    key,
    match: BigInt.asUintN(64, hash << CHECK_SHIFT) | BigInt(portBe),
    buckets: [first & mask, second & mask],
  }
}

const entryOf = (
  value: bigint,
  settings: Pick<Settings, 'timeout'>,
  now: number,
): Omit<FlowEntry, 'bucket' | 'place'> => {
  const low = Number(value & 0xffffffffn)
  const state = (low >>> FlowValue.FLOW_STATE_SHIFT) & FlowValue.FLOW_STATE_MASK
  const idle = (now - Number(value >> BigInt(FlowValue.FLOW_AGE_SHIFT))) & FlowValue.FLOW_AGE_MASK
  const timeout = settings.timeout[state] ?? 0
  const backend = (low >>> FlowValue.FLOW_BACKEND_SHIFT) & FlowValue.FLOW_BACKEND_MASK
  return { backend, state, idle, timeout, expired: idle > timeout }
}

/**
 * A flow's own entries in both its buckets, in the order in which packets find them. There is one at most, unless two CPUs
 * recorded the flow at the same time.
 */
export const entriesOf = (
  memory: Pick<PlaneMemory, 'buffer'>,
  settings: Pick<Settings, 'timeout'>,
  { table, addresses, key, match, buckets }: FlowPlace,
  now: number,
): FlowEntry[] => {
  const words = new BigUint64Array(memory.buffer(table.name))
  const wanted = [...addresses.flatMap(({ high, low }) => [high, low]), key]
  return [...new Set(buckets)].flatMap((bucket) =>
    Array.from({ length: table.perBucket }, (_, place) => place).flatMap((place) => {
      const found = new BigUint64Array(table.words / 2)
      if (!readEntry(words, (bucket * table.perBucket + place) * found.length, found)) return []
      const value = found.at(-1) ?? 0n
      if (wanted.some((word, i) => word !== found[i]) || ((value ^ match) & MATCH_MASK) !== 0n) return []
      const entry = entryOf(value, settings, now)
      return entry.state > FlowState.FLOW_CLAIMED ? [{ bucket, place, ...entry }] : []
    }),
  )
}

/** Established entries that have not expired, and such as a packet is just writing, never give way to a new flow. */
const givesWay = ({ state, expired }: Pick<FlowEntry, 'state' | 'expired'>): boolean => {
  if (state === FlowState.FLOW_FREE) return true
  if (state === FlowState.FLOW_CLAIMED) return false
  return expired || (state !== FlowState.FLOW_ESTABLISHED && state !== FlowState.FLOW_UDP)
}

/** Would flow_insert find a place for a new flow? */
export const hasRoom = (
  memory: Pick<PlaneMemory, 'buffer'>,
  settings: Pick<Settings, 'timeout'>,
  { table, buckets }: FlowPlace,
  now: number,
): boolean => {
  const words = new BigUint64Array(memory.buffer(table.name))
  return buckets.some((bucket) =>
    Array.from({ length: table.perBucket }, (_, place) => place).some((place) => {
      const next = ((bucket * table.perBucket + place + 1) * table.words) / 2
      return givesWay(entryOf(Atomics.load(words, next - 1), settings, now))
    }),
  )
}
