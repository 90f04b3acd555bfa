// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import {
  expandSeed,
  hashMix,
  hashMixHigh,
  hashMixLow,
  hashSlot,
  multiplyHigh,
  slotOfHigh,
} from '../../src/core/hash.ts'

const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const low = (value: bigint) => Number(BigInt.asUintN(32, value))
const high = (value: bigint) => Number(value >> 32n)

// Printed by a C program that includes bpf/hash.h: word, seed, hash_mix, size, hash_slot.
const VECTORS: readonly (readonly [bigint, bigint, bigint, number, number])[] = [
  [0x0n, 0x0n, 0x0n, 1, 0],
  [0xffffffffffffffffn, 0xffffffffffffffffn, 0xffffffff3c6ef362n, 2, 1],
  [0x6c576fac43fd007cn, 0x0n, 0x0n, 4093, 0],
  [0x826886b3864a1b1bn, 0xa5fae1992097aa0en, 0x4497f76f466d964an, 65537, 17560],
  [0x620355cd119357c5n, 0xcba276b4b881a9f0n, 0xb82001fbb5c44bc9n, 524287, 377087],
  [0x802181e6e230707fn, 0x8dceb534efa548a2n, 0x3c5027e1e802609bn, 1021, 240],
  [0x10bf51ed74c7a3c9n, 0xd6f84a5288bd02a4n, 0x85abef4dc39aa268n, 2039, 1064],
  [0x32ccf775fe645423n, 0xbeea83f6d126a876n, 0xa8248c12988076adn, 4294967295, 2820967441],
]

test('hashMix and hashSlot answer what hash_mix and hash_slot of bpf/hash.h do', (t) => {
  for (const [value, seed, mixed, size, slot] of VECTORS) {
    t.is(hashMix(value, seed), mixed)
    t.is(hashSlot(mixed, size), slot)
  }
})

test('hashMixHigh is the upper half of hashMix for every word and seed', (t) => {
  fc.assert(
    fc.property(word, word, (value, seed) => {
      return hashMixHigh(low(value), high(value), low(seed), high(seed)) === high(hashMix(value, seed))
    }),
    { numRuns: 5000 },
  )
  for (const [value, seed, mixed] of VECTORS) {
    t.is(hashMixHigh(low(value), high(value), low(seed), high(seed)), high(mixed))
  }
})

test('hashMixLow is the lower half of hashMix for every word and seed', (t) => {
  fc.assert(
    fc.property(word, word, (value, seed) => {
      return hashMixLow(low(value), high(value), low(seed), high(seed)) === low(hashMix(value, seed))
    }),
    { numRuns: 5000 },
  )
  for (const [value, seed, mixed] of VECTORS) {
    t.is(hashMixLow(low(value) | 0, high(value) | 0, low(seed) | 0, high(seed) | 0), low(mixed))
  }
})

test('hashMixHigh reads signed halves as the unsigned ones of the same bits', (t) => {
  for (const [value, seed, mixed] of VECTORS) {
    t.is(hashMixHigh(low(value) | 0, high(value) | 0, low(seed) | 0, high(seed) | 0), high(mixed))
  }
})

test('expandSeed is the first output of SplitMix64 for that seed, made odd', (t) => {
  t.is(expandSeed(0n), 0xe220a8397b1dcdafn)
  t.is(expandSeed(1n), 0x910a2dec89025cc1n)
  t.is(expandSeed(2n ** 64n - 1n), 0xe4d971771b652c21n)
})

test('multiplyHigh is the upper half of the product modulo 2^64', (t) => {
  const edges = fc.constantFrom(0n, 1n, 2n ** 16n - 1n, 2n ** 16n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n)
  fc.assert(
    fc.property(fc.oneof(word, edges), fc.oneof(word, edges), (a, b) => {
      return multiplyHigh(low(a), high(a), low(b), high(b)) === high(BigInt.asUintN(64, a * b))
    }),
    { numRuns: 5000 },
  )
  t.is(multiplyHigh(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff), 0)
})

test('slotOfHigh agrees with hashSlot for every size up to 2^21', (t) => {
  fc.assert(
    fc.property(word, fc.integer({ min: 1, max: 2 ** 21 }), (hash, size) => {
      return slotOfHigh(high(hash), size) === hashSlot(hash, size)
    }),
    { numRuns: 5000 },
  )
  t.is(slotOfHigh(0xffffffff, 2 ** 21), 2 ** 21 - 1)
  t.is(slotOfHigh(0, 2 ** 21), 0)
})
