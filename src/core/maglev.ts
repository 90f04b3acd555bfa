// SPDX-License-Identifier: Apache-2.0
// Weighted Maglev hashing: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
// section 3.4. Every backend has its own permutation of the slots; in turns, each takes the next free slot of its own.

import { expandSeed, hashMix, hashMixHigh, slotOfHigh } from './hash.ts'
import { apportion, checkWeights } from './schedule.ts'

/** One backend of a ring. */
export interface RingBackend {
  /** 64 bits that name it wherever the ring is built (its address and port), unique among those with a weight. */
  readonly identity: bigint
  /** Its share of slots is weight / sum of weights; a whole number, 0: it gets none. */
  readonly weight: number
  /** What its slots hold, below `none`; its position in the array where it is left out. */
  readonly index?: number
}

/** Ring sizes to choose from: the largest prime below each power of two, and 65,537 of the Maglev paper. */
export const RING_SIZES: readonly number[] = [1021, 2039, 4093, 8191, 16381, 32749, 65537, 131071, 262139, 524287]

/** Slots for each backend by default: even to 1 % (Maglev paper, section 3.4: M > 100 x N). */
const SLOTS_PER_BACKEND = 100

/** The last SEARCH_RATIO * sqrt(size) slots are searched, not walked to: about where the two cost the same. */
const SEARCH_RATIO = 0.5

/** Up to here slotOfHigh is exact. */
const RING_SIZE_LIMIT = 2 ** 21

/**
 * The look-up ring of a service: who takes each slot. It is a function of the set of (identity, weight), size and seed
 * alone: order and indices of `backends` change what stands in it, never whom that means. Each backend has exactly its quota of
 * slots, its ideal share by largest remainder: less than one slot from size * weight / sum of weights.
 *
 * @param size slots; a prime below 2^21, or 1
 * @param seed secret 64 bits, equal on directors that share a VIP
 * @param none what to write where no backend has a weight: SLOT_NONE of bpf/xlb.h; above every index
 * @returns `size` indices of `backends`
 * @throws RangeError for a size that is no such prime, too many backends, a bad weight, two equal identities
 */
export function maglevRing(backends: readonly RingBackend[], size: number, seed: bigint, none: number): Uint16Array {
  if (size !== 1 && (size >= RING_SIZE_LIMIT || !isPrime(size))) {
    throw new RangeError(`ring size: ${size} is no prime below 2097152; choose one of ${RING_SIZES.join(', ')}`)
  }
  if (backends.length > none) throw new RangeError(`backends: ${backends.length} exceed ${none} in one ring`)
  checkWeights(backends.map((backend) => backend.weight))
  const ring = new Uint16Array(size).fill(none)
  const takers = takersByIdentity(backends)
  if (takers.length === 0) return ring

  const weights = takers.map((taker) => taker.weight)
  fill(ring, none, rememberedOrder(weights, size), permutations(takers, size, seed))
  return ring
}

/**
 * The size for a service that configures none: the first listed prime of at least 100 slots for each backend.
 *
 * @throws RangeError beyond 5,242 backends, where no listed size is large enough
 */
export function defaultRingSize(backendCount: number): number {
  const size = RING_SIZES.find((candidate) => candidate >= SLOTS_PER_BACKEND * backendCount)
  if (size === undefined) throw new RangeError(`backends: no ring is listed for ${backendCount}; split the service`)
  return size
}

/** Whether a number is prime, by trial division: for sizes of rings, some microseconds. */
export function isPrime(candidate: number): boolean {
  if (!Number.isSafeInteger(candidate) || candidate < 2) return false
  if (candidate % 2 === 0) return candidate === 2
  for (let divisor = 3; divisor * divisor <= candidate; divisor += 2) {
    if (candidate % divisor === 0) return false
  }
  return true
}

interface Taker extends Required<RingBackend> {
  readonly position: number
}

/** Those with a weight, lowest identity first: from here on nothing depends on the caller's order. */
function takersByIdentity(backends: readonly RingBackend[]): Taker[] {
  const takers: Taker[] = []
  for (const [position, { identity, weight, index = position }] of backends.entries()) {
    if (weight > 0) takers.push({ position, identity: BigInt.asUintN(64, identity), weight, index })
  }
  takers.sort((a, b) => (a.identity < b.identity ? -1 : 1))
  for (const [i, taker] of takers.entries()) {
    const next = takers[i + 1]
    if (next?.identity === taker.identity) {
      throw new RangeError(
        `backends[${taker.position}] and [${next.position}]: equal identities; give each address and port once`,
      )
    }
  }
  return takers
}

/** The last order of turns: services that are restored together often have the same weights, and it takes a third of the time. */
let lastOrder: { weights: readonly number[]; size: number; order: Uint16Array } | undefined

function rememberedOrder(weights: readonly number[], size: number): Uint16Array {
  const known = lastOrder
  const same =
    known !== undefined &&
    known.size === size &&
    known.weights.length === weights.length &&
    known.weights.every((weight, i) => weight === weights[i])
  if (same) return known.order
  const order = turnOrder(weights, size)
  lastOrder = { weights: [...weights], size, order }
  return order
}

/**
 * Who has each of `size` turns: the k-th turn of a backend falls due at (k + 1/2) * sum / weight, so that after any
 * number of turns each has had about its share; those due in the same unit of time go by identity, which for equal
 * weights means in rounds, as in the paper. A counting sort by due time.
 */
export function turnOrder(weights: readonly number[], size: number): Uint16Array {
  const first = weights[0] ?? 0
  if (weights.every((weight) => weight === first)) return rounds(weights.length, size)
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const quotas = apportion(weights, size)
  const dues = new Uint32Array(size)
  const places = new Uint32Array(size + 1) // by due time, at first counted one further on: where its turns begin
  let turn = 0
  for (const [taker, quota] of quotas.entries()) {
    const divisor = 2 * (weights[taker] ?? 1)
    for (let k = 0; k < quota; k++) {
      // The last turn of a quota that was rounded up is due after the end.
      const due = Math.min(Math.floor(((2 * k + 1) * sum) / divisor), size - 1)
      dues[turn++] = due
      places[due + 1] = (places[due + 1] as number) + 1
    }
  }
  for (let due = 0; due < size; due++) places[due + 1] = (places[due + 1] as number) + (places[due] as number)
  const order = new Uint16Array(size)
  turn = 0
  for (const [taker, quota] of quotas.entries()) {
    for (let k = 0; k < quota; k++) {
      const due = dues[turn++] as number
      const place = places[due] as number
      places[due] = place + 1
      order[place] = taker
    }
  }
  return order
}

/** turnOrder for equal weights: 0, 1, ... count - 1, and again; the last round may be cut off, as quotas are. */
function rounds(count: number, size: number): Uint16Array {
  const order = new Uint16Array(size)
  for (let turn = 0, taker = 0; turn < size; turn++) {
    order[turn] = taker
    taker = taker + 1 === count ? 0 : taker + 1
  }
  return order
}

/**
 * Each taker's permutation: its k-th slot is (shift + inverse(offset + k * skip)) modulo size. The paper's has offset
 * and skip alone; then two backends whose skips stand in a simple ratio keep meeting, and some rings change far more
 * than others: of 65,537 slots with 10 backends, when one left, 0.26 % of the others' slots changed on average, but up
 * to 0.84 %, and over 0.5 % in one case of a hundred. With the inverses between (no sum of them is a pattern) it was
 * 0.31 % on average and 0.47 % at most in 1,000 cases, for a third more time.
 */
interface Permutations {
  readonly size: number
  /** What a slot of each taker holds. */
  readonly indices: Uint16Array
  readonly offsets: Int32Array
  /** 1 to size - 1: coprime to a prime size. */
  readonly skips: Int32Array
  readonly shifts: Int32Array
  readonly inverses: Int32Array
}

function permutations(takers: readonly Taker[], size: number, seed: bigint): Permutations {
  const secret = expandSeed(seed)
  const seedLow = Number(BigInt.asUintN(32, secret))
  const seedHigh = Number(secret >> 32n)
  const indices = new Uint16Array(takers.length)
  const offsets = new Int32Array(takers.length)
  const skips = new Int32Array(takers.length)
  const shifts = new Int32Array(takers.length)
  for (const [taker, { identity, index }] of takers.entries()) {
    const hash = hashMix(identity, secret)
    const low = Number(BigInt.asUintN(32, hash))
    const high = Number(hash >> 32n)
    const second = hashMixHigh(low, high, seedLow, seedHigh)
    const third = hashMixHigh(high, second, seedLow, seedHigh)
    indices[taker] = index
    offsets[taker] = slotOfHigh(high, size)
    skips[taker] = 1 + slotOfHigh(second, size - 1)
    shifts[taker] = slotOfHigh(third, size)
  }
  return { size, indices, offsets, skips, shifts, inverses: inversesModulo(size) }
}

/** The paper's loop: in the order of turns, each taker walks on along its permutation to the next free slot. */
function fill(ring: Uint16Array, none: number, order: Uint16Array, ways: Permutations): void {
  const { size, indices, skips, shifts, inverses } = ways
  const cursors = ways.offsets.slice() // offset + k * skip modulo size, for the k to try next
  const turnsOfSearch = Math.floor(Math.sqrt(size) * SEARCH_RATIO)
  const turnsOfWalk = size - turnsOfSearch
  for (let turn = 0; turn < turnsOfWalk; turn++) {
    const taker = order[turn] as number
    const skip = (skips[taker] as number) - size
    const shift = (shifts[taker] as number) - size
    let cursor = cursors[taker] as number
    let slot: number
    do {
      // Sums modulo size: what is below 0 has not gone round yet. Without branches, as nobody could predict them.
      slot = (inverses[cursor] as number) + shift
      slot += (slot >> 31) & size
      cursor += skip
      cursor += (cursor >> 31) & size
    } while (ring[slot] !== none)
    ring[slot] = indices[taker] as number
    cursors[taker] = cursor
  }
  fillLast(ring, none, order.subarray(turnsOfWalk), ways)
}

/**
 * The last turns of fill, with the same result: where few slots are free, walking to one takes size / free steps, so
 * each is asked instead which k of the taker's permutation it is. The least k wins: those walked past are not free.
 */
function fillLast(ring: Uint16Array, none: number, order: Uint16Array, ways: Permutations): void {
  const { size, indices, offsets, skips, shifts, inverses } = ways
  const free = new Int32Array(order.length)
  for (let slot = ring.indexOf(none), found = 0; slot >= 0; slot = ring.indexOf(none, slot + 1)) free[found++] = slot
  let left = free.length
  for (const taker of order) {
    const offset = offsets[taker] as number
    const perSkip = inverses[skips[taker] as number] as number
    const shift = shifts[taker] as number
    let best = 0
    let least = size
    for (let i = 0; i < left; i++) {
      let unshifted = (free[i] as number) - shift
      unshifted += (unshifted >> 31) & size
      let distance = (inverses[unshifted] as number) - offset // the inverse of the inverse is the number itself
      distance += (distance >> 31) & size
      const product = distance * perSkip // below 2^42, so that the division's floor is exact
      const k = product - Math.floor(product / size) * size
      if (k < least) {
        least = k
        best = i
      }
    }
    ring[free[best] as number] = indices[taker] as number
    free[best] = free[--left] as number
  }
}

/** Tables for the listed sizes, made when first needed: 4 MB for all. They depend on nothing but the size. */
const inversesOfListed = new Map<number, Int32Array>()

/** table[i] * i = 1 modulo a prime size, and table[0] = 0: a permutation of 0 to size - 1. */
function inversesModulo(size: number): Int32Array {
  const known = inversesOfListed.get(size)
  if (known !== undefined) return known
  const table = new Int32Array(size)
  if (size > 1) table[1] = 1
  for (let i = 2; i < size; i++) {
    table[i] = ((size - Math.floor(size / i)) * (table[size % i] as number)) % size
  }
  if (RING_SIZES.includes(size)) inversesOfListed.set(size, table)
  return table
}
