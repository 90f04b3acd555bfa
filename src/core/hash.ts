// SPDX-License-Identifier: Apache-2.0
// The one hash of bpf/hash.h, twice: over BigInt for single words, over 32-bit halves for whole tables.

/** Odd multipliers of hash_mix in bpf/hash.h: the first is 2^64 / golden ratio, both are its constants word for word. */
const FIRST = 0x9e3779b97f4a7c15n
const FIRST_LOW = 0x7f4a7c15
const FIRST_HIGH = 0x9e3779b9
const SECOND = 0xd6e8feb86659fd93n
const SECOND_LOW = 0x6659fd93
const SECOND_HIGH = 0xd6e8feb8

const TWO_TO_32 = 0x1_0000_0000

/**
 * hash_mix of bpf/hash.h: mixes a 64-bit word under a secret 64-bit seed. For one seed it is a bijection.
 *
 * @param word unsigned 64 bits; what is above them is cut off, as in C
 * @param seed unsigned 64 bits, likewise
 * @returns unsigned 64 bits, of which the upper half is the better one
 */
export function hashMix(word: bigint, seed: bigint): bigint {
  const secret = BigInt.asUintN(64, seed)
  const swapped = BigInt.asUintN(64, secret << 32n) | (secret >> 32n)
  let mixed = BigInt.asUintN(64, (BigInt.asUintN(64, word) ^ secret) * FIRST)
  mixed ^= mixed >> 32n
  mixed = BigInt.asUintN(64, (mixed + swapped) * SECOND)
  return mixed ^ (mixed >> 29n)
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
  const wordLow = low ^ seedLow
  const firstHigh = multiplyHigh(wordLow, high ^ seedHigh, FIRST_LOW, FIRST_HIGH)
  const firstLow = (Math.imul(wordLow, FIRST_LOW) ^ firstHigh) >>> 0
  const sumLow = firstLow + (seedHigh >>> 0) // the seed's halves change places
  const carry = sumLow >= TWO_TO_32 ? 1 : 0
  const secondHigh = multiplyHigh(sumLow | 0, (firstHigh + (seedLow | 0) + carry) | 0, SECOND_LOW, SECOND_HIGH)
  return (secondHigh ^ (secondHigh >>> 29)) >>> 0
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
