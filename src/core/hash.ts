// SPDX-License-Identifier: Apache-2.0
// The one hash of bpf/hash.h, twice: over BigInt for single words, over 32-bit halves for whole tables.
import type { Address6 } from './ip.ts'

/** The odd multiplier of hash_mix in bpf/hash.h: 2^32 / golden ratio, sign-extended as an instruction's constant is. */
const MULTIPLIER = 0xffffffff9e3779b1n
const MULTIPLIER_LOW = 0x9e3779b1
const MULTIPLIER_HIGH = 0xffffffff

const TWO_TO_32 = 0x1_0000_0000

/**
 * hash_mix of bpf/hash.h: mixes a 64-bit word under a secret 64-bit seed. For one seed it is a bijection.
 *
 * @param word unsigned 64 bits; what is above them is cut off, as in C
 * @param seed unsigned 64 bits, likewise; odd, or it is no bijection
 * @returns unsigned 64 bits, of which the upper half is the better one
 */
export function hashMix(word: bigint, seed: bigint): bigint {
  const secret = BigInt.asUintN(64, seed)
  const mixed = BigInt.asUintN(64, (word + secret) * secret)
  return BigInt.asUintN(64, (mixed ^ (mixed >> 32n)) * MULTIPLIER)
}

/** hash_address6 of bpf/hash.h: both halves of an IPv6 address in one word. */
export function hashAddress6({ high, low }: Address6, seed: bigint): bigint {
  return BigInt.asUintN(64, hashMix(low, seed) + high)
}

/** hash_addresses6 of bpf/hash.h: two addresses, each as hashAddress6 has it, and a word more. */
export function hashAddresses6(source: bigint, destination: bigint, more: bigint, seed: bigint): bigint {
  return hashMix(BigInt.asUintN(64, hashMix(BigInt.asUintN(64, source + more), seed) + destination), seed)
}

/** hash_source6 of bpf/hash.h: an IPv6 address, and a word more. */
function hashSource6({ high, low }: Address6, more: bigint, seed: bigint): bigint {
  const word = BigInt.asUintN(64, (low + seed) * ((high + seed) | 1n) + more * seed)
  return BigInt.asUintN(64, (word ^ (word >> 32n)) * MULTIPLIER)
}

/** Whom a packet comes from: its IPv6 address if it has one; and in `word` the IPv4 address in bits 0-31, the port in 32-47. */
export interface HashedSource {
  address6: Address6 | undefined
  word: bigint
  /** What is hashed where the mask is HASHED_DESTINATION: of IPv4, in network order as a little-endian machine loads it; */
  destination?: bigint
  /** of IPv6. */
  destination6?: Address6
}

/** The hash by which a ring is asked (packet_hash of bpf/ring.h). @param mask struct target's hash_mask */
export function hashSource(source: HashedSource, mask: bigint, seed: bigint): bigint {
  const { address6, word, destination, destination6 } = source
  if (mask >> 63n !== 0n) {
    return destination6 === undefined ? hashMix(destination ?? 0n, seed) : hashSource6(destination6, 0n, seed)
  }
  if (address6 === undefined) return hashMix(word & mask, seed)
  return hashSource6(address6, word & mask & ~0xffffffffn, seed)
}

/**
 * A configured seed as rings use it. hash_mix multiplies by its seed, and a person's seed may be a small number: so each
 * bit of it is spread over the word, which is then made odd (the finalizer of Steele, Lea and Flood's SplitMix64).
 *
 * @param seed unsigned 64 bits
 * @returns unsigned 64 bits, odd
 */
export function expandSeed(seed: bigint): bigint {
  const step = (word: bigint, shift: bigint, factor: bigint) => BigInt.asUintN(64, (word ^ (word >> shift)) * factor)
  const first = step(BigInt.asUintN(64, seed + 0x9e3779b97f4a7c15n), 30n, 0xbf58476d1ce4e5b9n)
  const second = step(first, 27n, 0x94d049bb133111ebn)
  return (second ^ (second >> 31n)) | 1n
}

/**
 * hash_slot of bpf/hash.h: spreads the upper half of a hash evenly over `size` places.
 *
 * @param hash unsigned 64 bits
 * @param size places, 1 to 2^32 - 1
 * @returns a place, 0 to size - 1
 */
export function hashSlot(hash: bigint, size: number): number {
  return Number(((hash >> 32n) * BigInt(size)) >> 32n)
}

/**
 * The upper 32 bits of hashMix(high << 32 | low, seedHigh << 32 | seedLow), without BigInt: for scans of whole tables.
 * All arguments are 32-bit halves, read modulo 2^32 (so signed ones will do).
 *
 * @returns unsigned 32 bits
 */
export function hashMixHigh(low: number, high: number, seedLow: number, seedHigh: number): number {
  const sumLow = (low >>> 0) + (seedLow >>> 0)
  const carry = sumLow >= TWO_TO_32 ? 1 : 0
  const sumHigh = (high + (seedHigh | 0) + carry) | 0
  const firstHigh = multiplyHigh(sumLow | 0, sumHigh, seedLow, seedHigh)
  const firstLow = Math.imul(sumLow | 0, seedLow) ^ firstHigh
  return multiplyHigh(firstLow, firstHigh, MULTIPLIER_LOW, MULTIPLIER_HIGH)
}

/**
 * The lower 32 bits of hashMix, likewise: flow entries have the lowest 20 as their check.
 *
 * @returns unsigned 32 bits
 */
export function hashMixLow(low: number, high: number, seedLow: number, seedHigh: number): number {
  const sumLow = (low >>> 0) + (seedLow >>> 0)
  const carry = sumLow >= TWO_TO_32 ? 1 : 0
  const sumHigh = (high + (seedHigh | 0) + carry) | 0
  const firstHigh = multiplyHigh(sumLow | 0, sumHigh, seedLow, seedHigh)
  return Math.imul(Math.imul(sumLow | 0, seedLow) ^ firstHigh, MULTIPLIER_LOW) >>> 0
}

/** A 64-bit word as two halves; read modulo 2^32. */
export interface HalfSeed {
  low: number
  high: number
}

export const halvesOf = (word: bigint): HalfSeed => ({ low: Number(word & 0xffffffffn), high: Number(word >> 32n) })

/** A 64-bit sum, of halves. */
const added = (low: number, high: number, seed: HalfSeed): HalfSeed => {
  const sum = (low >>> 0) + (seed.low >>> 0)
  return { low: sum | 0, high: (high + seed.high + (sum >= TWO_TO_32 ? 1 : 0)) | 0 }
}

/** hash_address6 of bpf/hash.h plus a word, without BigInt. @param at where the address starts in `words`: four of them */
const addedTo6 = (words: Uint32Array, at: number, seed: HalfSeed, added: HalfSeed): HalfSeed => {
  const [highLow = 0, highHigh = 0, lowLow = 0, lowHigh = 0] = words.subarray(at, at + 4)
  const low = hashMixLow(lowLow, lowHigh, seed.low, seed.high) + highLow + (added.low >>> 0)
  const high = hashMixHigh(lowLow, lowHigh, seed.low, seed.high) + highHigh + added.high + Math.floor(low / TWO_TO_32)
  return { low: low | 0, high: high | 0 }
}

/**
 * The upper 32 bits of hashSource for an IPv6 source, without BigInt.
 *
 * @param at where the source's address starts in `words`: four of them
 * @param port the source port as it stands in a flow's key, 0 where the service does not hash it
 */
export function hashSource6High(words: Uint32Array, at: number, port: number, seed: HalfSeed): number {
  const [highLow = 0, highHigh = 0, lowLow = 0, lowHigh = 0] = words.subarray(at, at + 4)
  const one = added(lowLow, lowHigh, seed)
  const other = added(highLow, highHigh, seed)
  const upper = multiplyHigh(one.low, one.high, other.low | 1, other.high) + Math.imul(port, seed.low) // a port is in the upper half
  const lower = Math.imul(one.low, other.low | 1)
  return multiplyHigh(lower ^ upper, upper | 0, MULTIPLIER_LOW, MULTIPLIER_HIGH)
}

/** The lower 32 bits of an IPv6 flow's hash (flow_locate6 of bpf/flow.h). @param key of the entry */
export function hashFlow6Low(words: Uint32Array, at: number, key: HalfSeed, seed: HalfSeed): number {
  const sum = addedTo6(words, at, seed, key)
  return hashMixLow(sum.low, sum.high, seed.low, seed.high)
}

/** As hashFlow6Low, of an IPv6 prefix's flow (flow_locate_prefix6): the destination stands behind the source. */
export function hashPrefixFlow6Low(words: Uint32Array, at: number, key: HalfSeed, seed: HalfSeed): number {
  const { low, high } = addedTo6(words, at, seed, key)
  const source = {
    low: hashMixLow(low, high, seed.low, seed.high),
    high: hashMixHigh(low, high, seed.low, seed.high),
  }
  const sum = addedTo6(words, at + 4, seed, source)
  return hashMixLow(sum.low, sum.high, seed.low, seed.high)
}

/**
 * hashSlot for a hash of which only the upper half is known.
 *
 * @param high32 unsigned 32 bits
 * @param size places, 1 to 2^21: up to there the product is exact in a double
 * @returns a place, 0 to size - 1
 */
export function slotOfHigh(high32: number, size: number): number {
  return Math.floor((high32 * size) / TWO_TO_32)
}

/**
 * The upper 32 bits of a 64-bit product modulo 2^64: of (high << 32 | low) * (multiplierHigh << 32 | multiplierLow).
 * Schoolbook multiplication of the low halves in 16-bit limbs (no partial sum exceeds 32 bits); the cross products
 * reach the upper half only with their own lower halves, which Math.imul gives.
 *
 * @returns unsigned 32 bits
 */
export function multiplyHigh(low: number, high: number, multiplierLow: number, multiplierHigh: number): number {
  const a0 = low & 0xffff
  const a1 = low >>> 16
  const b0 = multiplierLow & 0xffff
  const b1 = multiplierLow >>> 16
  const lower = (Math.imul(a1, b0) + (Math.imul(a0, b0) >>> 16)) >>> 0
  const middle = (Math.imul(a0, b1) + (lower & 0xffff)) >>> 0
  const carried = Math.imul(a1, b1) + (lower >>> 16) + (middle >>> 16)
  return (carried + Math.imul(low, multiplierHigh) + Math.imul(high, multiplierLow)) >>> 0
}
