// SPDX-License-Identifier: Apache-2.0
// The notes of lblc and lblcr (struct destination in bpf/xlb.h): which backends an address of a prefix was given. Whole scans, and
// one address's note. bpf/destination.h writes them.
import { swap32 } from '../core/address.ts'
import { hashAddress6, hashMix } from '../core/hash.ts'
import { address6, familyOf, parseIpv4 } from '../core/ip.ts'
import type { Sweep, TableUse } from './flows.ts'
import {
  DestinationBucket,
  DestinationLimit,
  DestinationName as DestinationNames,
  Destination as DestinationRecord,
  DestinationState,
  DestinationValue,
  RingSlot,
  Settings,
} from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { viewOf } from './views.ts'

const WORDS = DestinationRecord.size / 8
const { DESTINATIONS_PER_BUCKET, DESTINATION_KEPT_SECONDS } = DestinationLimit
const { DESTINATION_FREE, DESTINATION_CLAIMED, DESTINATION_ONCE } = DestinationState
const { DESTINATION_AGE_MASK, DESTINATION_STATE_MASK, DESTINATION_COUNT_MASK } = DestinationValue

/** Offsets of a note's words, in 64-bit words. */
const AT = {
  name: DestinationRecord.offset.name / 8,
  value: DestinationRecord.offset.value / 8,
  backend: DestinationRecord.offset.backend / 8,
} as const

/** An address of a service's prefix. */
export interface DestinationName {
  /** The service's id. */
  service: number
  address: string
}

/** A note at one moment of the packet path's clock. */
export interface DestinationNote {
  /** struct destination's. It has the address of IPv4; of IPv6 it does not tell it. */
  name: bigint
  /** Indices within the service, the one that was added last first; SLOT_NONE in the place of one that was removed. */
  backends: readonly number[]
  /** enum destination_state */
  state: number
  /** Units of age since its last flow, and since its backends changed. */
  idle: number
  unchanged: number
}

type Memory = Pick<PlaneMemory, 'buffer'>

const field = (value: bigint, shift: number, mask: number): number => Number((value >> BigInt(shift)) & BigInt(mask))

const stateOf = (value: bigint): number => field(value, 0, DESTINATION_STATE_MASK)

const ageOf = (value: bigint, shift: number, now: number): number =>
  (now - field(value, shift, DESTINATION_AGE_MASK)) & DESTINATION_AGE_MASK

const idleOf = (value: bigint, now: number): number => ageOf(value, DestinationValue.DESTINATION_USED_SHIFT, now)

/** destination_address: what of a name says the address. */
const addressBits = (address: string, seed: bigint): bigint => {
  if (familyOf(address) === 'ipv4') return BigInt(swap32(parseIpv4(address) ?? 0))
  const hash = hashMix(hashAddress6(address6(address), seed), seed)
  return ((hash >> 48n) << 48n) | ((hash >> 16n) & 0xffffffffn)
}

const nameOf = ({ service, address }: DestinationName, seed: bigint): bigint =>
  addressBits(address, seed) | (BigInt(service) << BigInt(DestinationNames.DESTINATION_SERVICE_SHIFT))

/** The id of the service that a note is of. */
const serviceOf = (name: bigint): number =>
  Number((name >> BigInt(DestinationNames.DESTINATION_SERVICE_SHIFT)) & 0xffffn)

interface Entry {
  name: bigint
  value: bigint
  backends: number[]
}

/** A note that did not change while it was read: value, the rest, value, as bpf/destination.h says it. */
const readEntry = (words: BigUint64Array, at: number): Entry | undefined => {
  const value = Atomics.load(words, at + AT.value)
  const name = Atomics.load(words, at + AT.name)
  const pair = [Atomics.load(words, at + AT.backend), Atomics.load(words, at + AT.backend + 1)]
  if (Atomics.load(words, at + AT.value) !== value || stateOf(value) <= DESTINATION_CLAIMED) return undefined
  const count = field(value, DestinationValue.DESTINATION_COUNT_SHIFT, DESTINATION_COUNT_MASK)
  const backends = Array.from({ length: count }, (_, i) =>
    Number(((pair[i >> 2] ?? 0n) >> BigInt(16 * (i & 3))) & 0xffffn),
  )
  return { name, value, backends }
}

const noteOf = ({ name, value, backends }: Entry, now: number): DestinationNote => ({
  name,
  backends,
  state: stateOf(value),
  idle: idleOf(value, now),
  unchanged: ageOf(value, DestinationValue.DESTINATION_CHANGED_SHIFT, now),
})

const settingsOf = (memory: Memory): Settings => Settings.read(viewOf(memory, 'settings'), 0)

/** Every note that has not ended. */
export function* readDestinations(memory: Memory, now: number): Generator<DestinationNote> {
  const words = new BigUint64Array(memory.buffer('destinations'))
  const { destinationTimeout } = settingsOf(memory)
  for (let at = 0; at < words.length; at += WORDS) {
    const entry = readEntry(words, at)
    if (entry !== undefined && idleOf(entry.value, now) <= destinationTimeout) yield noteOf(entry, now)
  }
}

/** How full the table is. */
export const countDestinations = (memory: Memory, now: number): TableUse => {
  let used = 0
  for (const _ of readDestinations(memory, now)) used++
  return { used, capacity: memory.buffer('destinations').byteLength / DestinationRecord.size }
}

/** A packet may be at work on a note, for some instructions. */
const TRIES = 1000

/**
 * Frees every note of these services, and puts nobody in the places of these backends in others. Packets go on meanwhile: what one
 * of them writes anew while it is looked at is looked at again.
 */
export const forgetDestinations = (memory: Memory, { services, backends }: Sweep): void => {
  if (services.size === 0 && backends.size === 0) return
  const words = new BigUint64Array(memory.buffer('destinations'))
  for (let at = 0; at < words.length; at += WORDS) {
    for (let left = TRIES; left > 0 && words[at + AT.value] !== 0n; left--) {
      const entry = readEntry(words, at)
      if (entry === undefined) continue
      const id = serviceOf(entry.name)
      const after = services.has(id) ? 0n : withoutBackends(words, at, entry, backends.get(id))
      if (after === entry.value || Atomics.compareExchange(words, at + AT.value, entry.value, after) === entry.value)
        break
    }
  }
}

/**
 * Puts nobody in the places of some backends of a note. Answers the value that it has to have from then on: with one change more, so
 * that a packet that has read the backends before does not write them back.
 */
const withoutBackends = (
  words: BigUint64Array,
  at: number,
  { value, backends }: Entry,
  gone: ReadonlySet<number> | undefined,
): bigint => {
  const places = backends.flatMap((backend, place) => (gone?.has(backend) === true ? [place] : []))
  if (places.length === 0) return value
  for (const place of places) {
    const nobody = BigInt(RingSlot.SLOT_NONE) << BigInt(16 * (place & 3))
    const mask = 0xffffn << BigInt(16 * (place & 3))
    const word = at + AT.backend + (place >> 2)
    const seen = Atomics.load(words, word)
    Atomics.compareExchange(words, word, seen, (seen & ~mask) | nobody)
  }
  const shift = BigInt(DestinationValue.DESTINATION_CHANGES_SHIFT)
  const mask = BigInt(DestinationValue.DESTINATION_CHANGES_MASK) << shift
  return (value & ~mask) | ((value + (1n << shift)) & mask)
}

/** destination_bucket: what the second bucket's index differs by. */
const SECOND_MULTIPLIER = 0x9e3779b1
const SECOND_SHIFT = 7

/** Offsets of the places where a note may stand, in 64-bit words, in the order in which packets look. */
const placesOf = (memory: Memory, { flowSeed }: Settings, name: DestinationName): number[] => {
  const hash = hashMix(nameOf(name, flowSeed), flowSeed)
  const first = Number(hash >> 32n)
  const second = first ^ (Math.imul(Number(hash & 0xffffffffn), SECOND_MULTIPLIER) >>> SECOND_SHIFT)
  const mask = memory.buffer('destinations').byteLength / DestinationBucket.size - 1
  return [first, second].flatMap((bucket) =>
    Array.from({ length: DESTINATIONS_PER_BUCKET }, (_, i) => ((bucket & mask) * DESTINATIONS_PER_BUCKET + i) * WORDS),
  )
}

/** find_destination: an address's note, unless it has ended. */
export const findDestination = (memory: Memory, name: DestinationName, now: number): DestinationNote | undefined => {
  const words = new BigUint64Array(memory.buffer('destinations'))
  const settings = settingsOf(memory)
  const wanted = nameOf(name, settings.flowSeed)
  for (const at of placesOf(memory, settings, name)) {
    const entry = readEntry(words, at)
    if (entry?.name !== wanted) continue
    return idleOf(entry.value, now) <= settings.destinationTimeout ? noteOf(entry, now) : undefined
  }
  return undefined
}

/** Would an address's note find a place, or is it there already, ended? */
export const hasDestinationRoom = (memory: Memory, name: DestinationName, now: number): boolean => {
  const words = new BigUint64Array(memory.buffer('destinations'))
  const settings = settingsOf(memory)
  const { destinationTimeout, jiffiesPerSecond, ageShift } = settings
  const kept = Math.floor((DESTINATION_KEPT_SECONDS * jiffiesPerSecond) / 2 ** ageShift)
  return placesOf(memory, settings, name).some((at) => {
    const value = Atomics.load(words, at + AT.value)
    const state = stateOf(value)
    if (state === DESTINATION_FREE) return true
    if (state === DESTINATION_CLAIMED) return false
    return state === DESTINATION_ONCE || idleOf(value, now) > Math.min(kept, destinationTimeout)
  })
}
