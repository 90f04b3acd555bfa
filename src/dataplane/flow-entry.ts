// SPDX-License-Identifier: Apache-2.0
// One flow in the flow table: where it may stand, what stands there, whether it would find room. bpf/flow.h, for the
// controller; flows.ts scans the table as a whole.
import { hashMix } from '../core/hash.ts'
import { Flow, FlowBucket, FlowKey, FlowLimit, FlowState, FlowValue, type Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'

/** Where a flow may stand, and what makes an entry its own. */
export interface FlowPlace {
  key: bigint
  /** Check bits and destination port, as they stand in a value. */
  match: bigint
  /** The two candidate buckets, in the order in which packets look. */
  buckets: readonly [number, number]
}

/** An entry at one moment of the packet path's clock. */
export interface FlowEntry {
  bucket: number
  /** 0 to 3. */
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
 * The key and the value of an entry that did not change hands while it was read: key, value, key, as bpf/flow.h says it.
 *
 * @param words the table as 64-bit words
 * @param entry its number in the table
 */
export const readEntry = (words: BigUint64Array, entry: number): { key: bigint; value: bigint } | undefined => {
  const key = Atomics.load(words, 2 * entry)
  const value = Atomics.load(words, 2 * entry + 1)
  return Atomics.load(words, 2 * entry) === key ? { key, value } : undefined
}

/**
 * flow_locate.
 *
 * @param source address in bits 0-31, port in 32-47, both in network order as a little-endian machine loads them
 * @param portBe destination port, likewise
 */
export const locateFlow = (
  memory: Pick<PlaneMemory, 'buffer'>,
  settings: Pick<Settings, 'flowSeed'>,
  { source, portBe, service }: { source: bigint; portBe: number; service: number },
): FlowPlace => {
  const key = source | (BigInt(service) << BigInt(FlowKey.FLOW_SERVICE_SHIFT))
  const hash = hashMix(key, settings.flowSeed + (BigInt(portBe) << 1n))
  const mask = memory.buffer('flows').byteLength / FlowBucket.size - 1
  const first = Number(hash >> 32n)
  const second = first ^ (Math.imul(Number(hash & 0xffffffffn), SECOND_MULTIPLIER) >>> SECOND_SHIFT)
  return {
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
  { key, match, buckets }: FlowPlace,
  now: number,
): FlowEntry[] => {
  const words = new BigUint64Array(memory.buffer('flows'))
  return [...new Set(buckets)].flatMap((bucket) =>
    Array.from({ length: FlowLimit.FLOWS_PER_BUCKET }, (_, place) => place).flatMap((place) => {
      const found = readEntry(words, bucket * FlowLimit.FLOWS_PER_BUCKET + place)
      if (found?.key !== key || ((found.value ^ match) & MATCH_MASK) !== 0n) return []
      const entry = entryOf(found.value, settings, now)
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
  { buckets }: FlowPlace,
  now: number,
): boolean => {
  const words = new BigUint64Array(memory.buffer('flows'))
  const wordsPerEntry = Flow.size / 8
  return buckets.some((bucket) =>
    Array.from({ length: FlowLimit.FLOWS_PER_BUCKET }, (_, place) => place).some((place) => {
      const at = (bucket * FlowLimit.FLOWS_PER_BUCKET + place) * wordsPerEntry + 1
      return givesWay(entryOf(Atomics.load(words, at), settings, now))
    }),
  )
}
