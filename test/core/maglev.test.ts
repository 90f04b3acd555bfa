// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { expandSeed, hashMix, hashSlot } from '../../src/core/hash.ts'
import { defaultRingSize, isPrime, maglevRing, RING_SIZES, type RingBackend, turnOrder } from '../../src/core/maglev.ts'

const NONE = 0x0fff
const SEEDS = [0n, 1n, 0x0123456789abcdefn, 0xfedcba9876543210n, 2n ** 64n - 1n]

/** 192.0.2.1, .2, ... port 80, as the caller packs them: address in network order below, port above. */
function backendsOf(weights: readonly number[]): RingBackend[] {
  return weights.map((weight, index) => ({
    identity: (0x5000n << 32n) | BigInt(0x0002_00c0 + (index + 1) * 0x0100_0000),
    weight,
  }))
}

function equalBackends(count: number): RingBackend[] {
  return backendsOf(new Array<number>(count).fill(1))
}

function slotsOf(ring: Uint16Array, index: number): number {
  return ring.reduce((count, slot) => (slot === index ? count + 1 : count), 0)
}

/** The ring by identity, so that it can be compared with one of another order. */
function identities(ring: Uint16Array, backends: readonly RingBackend[]): (bigint | undefined)[] {
  return [...ring].map((slot) => backends[slot]?.identity)
}

/** The paper's pseudocode for equal weights, one look at a time, over BigInt: `permutation[k]` is the k-th slot. */
function plainMaglev(backends: readonly RingBackend[], slots: number, seed: bigint): number[] {
  const secret = expandSeed(seed)
  const modulus = BigInt(slots)
  const inverse = Array.from({ length: slots }, (_, i) => {
    for (let j = 0; j < slots; j++) if ((i * j) % slots === 1 % slots) return j
    return 0
  })
  const permutationOf = ({ identity }: RingBackend): number[] => {
    const hash = hashMix(identity, secret)
    const second = hashMix(hash, secret) >> 32n
    const third = hashMix((second << 32n) | (hash >> 32n), secret)
    const offset = BigInt(hashSlot(hash, slots))
    const skip = BigInt(1 + hashSlot(second << 32n, slots - 1))
    const shift = hashSlot(third, slots)
    return Array.from(
      { length: slots },
      (_, k) => ((inverse[Number((offset + BigInt(k) * skip) % modulus)] ?? 0) + shift) % slots,
    )
  }
  const order = [...backends.keys()].sort((a, b) =>
    Number((backends[a]?.identity ?? 0n) - (backends[b]?.identity ?? 0n)),
  )
  const permutations = backends.map(permutationOf)
  const ring = new Array<number>(slots).fill(NONE)
  for (let turn = 0; turn < slots; turn++) {
    const taker = order[turn % order.length] ?? 0
    const slot = permutations[taker]?.find((candidate) => ring[candidate] === NONE) ?? 0
    ring[slot] = taker
  }
  return ring
}

const weight = fc.oneof(fc.integer({ min: 0, max: 10 }), fc.integer({ min: 0, max: 65535 }))
const set = fc
  .uniqueArray(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 1, maxLength: 30 })
  .chain((ids) => fc.tuple(...ids.map((identity) => weight.map((w): RingBackend => ({ identity, weight: w })))))
  .filter((backends) => backends.some((backend) => backend.weight > 0))
const size = fc.constantFrom(1, 2, 3, 5, 7, 31, 251, 257, 1021, 2039)
const seed = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })

test('every slot has a backend, and each backend less than one slot more or less than its ideal share', (t) => {
  fc.assert(
    fc.property(set, size, seed, (backends, slots, secret) => {
      const ring = maglevRing(backends, slots, secret, NONE)
      const sum = backends.reduce((total, backend) => total + backend.weight, 0)
      const counts = backends.map((_, index) => slotsOf(ring, index))
      return (
        ring.length === slots &&
        counts.reduce((total, count) => total + count, 0) === slots &&
        backends.every((b, index) => Math.abs((counts[index] ?? 0) - (slots * b.weight) / sum) < 1)
      )
    }),
  )
  t.deepEqual([...maglevRing(backendsOf([7]), 3, 1n, NONE)], [0, 0, 0])
})

test('in turns by identity, each takes the next free slot of its permutation', (t) => {
  for (const secret of SEEDS) {
    for (const slots of [2, 3, 31, 251, 257]) {
      const backends = equalBackends(7).toReversed()
      t.deepEqual([...maglevRing(backends, slots, secret, NONE)], plainMaglev(backends, slots, secret))
    }
  }
})

test('a backend whose share is 100 slots or more is within 1 % of it', (t) => {
  for (const secret of SEEDS) {
    for (const count of [1, 3, 10, 40, 100]) {
      const slots = defaultRingSize(count)
      const ring = maglevRing(equalBackends(count), slots, secret, NONE)
      const ideal = slots / count
      for (let index = 0; index < count; index++) {
        t.true(Math.abs(slotsOf(ring, index) - ideal) / ideal < 0.01)
      }
    }
    const weights = [1, 2, 3, 5, 10, 100]
    const ring = maglevRing(backendsOf(weights), 16381, secret, NONE)
    for (const [index, w] of weights.entries()) {
      const ideal = (16381 * w) / 121
      t.true(Math.abs(slotsOf(ring, index) - ideal) / ideal < 0.01)
    }
  }
})

test('of 100 backends of weights 1 to 10, at the default size, each has its share, give or take less than one slot', (t) => {
  const weights = Array.from({ length: 100 }, (_, i) => 1 + (i % 10))
  const sum = weights.reduce((total, w) => total + w, 0)
  const slots = defaultRingSize(weights.length)
  for (const secret of SEEDS) {
    const ring = maglevRing(backendsOf(weights), slots, secret, NONE)
    const off = weights.map((w, index) => Math.abs(slotsOf(ring, index) - (slots * w) / sum))
    t.true(Math.max(...off) < 1, `seed ${secret}: ${Math.max(...off)} slots`)
  }
})

test('when one of 10 equal backends leaves 65,537 slots, below 0.5 % of the slots of the others change', (t) => {
  const backends = equalBackends(10)
  for (const secret of SEEDS) {
    const before = maglevRing(backends, 65537, secret, NONE)
    for (let gone = 0; gone < 10; gone++) {
      const rest = backends.map((backend, index) => (index === gone ? { ...backend, weight: 0 } : backend))
      const after = maglevRing(rest, 65537, secret, NONE)
      const others = before.reduce((count, slot) => (slot === gone ? count : count + 1), 0)
      const changed = before.reduce(
        (count, slot, place) => (slot !== gone && after[place] !== slot ? count + 1 : count),
        0,
      )
      t.true(changed / others < 0.005, `seed ${secret}, backend ${gone}: ${(100 * changed) / others} %`)
    }
  }
})

test('a change of one weight moves little beyond what the weights ask for', (t) => {
  const weights = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
  for (const secret of SEEDS) {
    const before = maglevRing(backendsOf(weights), 65537, secret, NONE)
    const after = maglevRing(backendsOf([2, ...weights.slice(1)]), 65537, secret, NONE)
    const due = slotsOf(before, 0) - slotsOf(after, 0)
    const changed = before.reduce((count, slot, place) => (after[place] !== slot ? count + 1 : count), 0)
    t.true(due > 3000)
    t.true(changed - due < 0.02 * 65537, `seed ${secret}: ${changed - due} slots beyond ${due}`)
  }
})

test('a backend of weight 0 is as good as absent', (t) => {
  const without = backendsOf([3, 1, 2])
  const idle = { identity: 42n, weight: 0 }
  for (const secret of SEEDS) {
    const expected = maglevRing(without, 1021, secret, NONE)
    t.deepEqual(maglevRing([...without, idle], 1021, secret, NONE), expected)
    t.deepEqual(
      maglevRing([idle, ...without], 1021, secret, NONE),
      expected.map((slot) => slot + 1),
    )
  }
})

test('where no backend has a weight every slot holds the value for none', (t) => {
  t.deepEqual(maglevRing([], 5, 1n, NONE), new Uint16Array(5).fill(NONE))
  t.deepEqual(maglevRing(backendsOf([0, 0]), 5, 1n, NONE), new Uint16Array(5).fill(NONE))
})

test('the order of the backends does not change who has which slot', (t) => {
  fc.assert(
    fc.property(
      set.chain((s) => fc.tuple(fc.constant(s), fc.shuffledSubarray(s, { minLength: s.length, maxLength: s.length }))),
      size,
      seed,
      ([backends, shuffled], slots, secret) => {
        const one = identities(maglevRing(backends, slots, secret, NONE), backends)
        const other = identities(maglevRing(shuffled, slots, secret, NONE), shuffled)
        return one.every((identity, slot) => identity === other[slot])
      },
    ),
  )
  const backends = equalBackends(7)
  const reversed = backends.toReversed()
  t.deepEqual(
    identities(maglevRing(reversed, 1021, 5n, NONE), reversed),
    identities(maglevRing(backends, 1021, 5n, NONE), backends),
  )
})

test('the same seed gives the same ring, another seed one that agrees by chance only', (t) => {
  const backends = equalBackends(10)
  const ring = maglevRing(backends, 4093, 1n, NONE)
  t.deepEqual(maglevRing(backends, 4093, 1n, NONE), ring)
  for (const other of [0n, 2n, 1n << 32n, 2n ** 63n]) {
    const second = maglevRing(backends, 4093, other, NONE)
    const equal = ring.reduce((count, slot, place) => (second[place] === slot ? count + 1 : count), 0)
    t.true(equal < 0.15 * 4093, `seed ${other}: ${equal} slots agree, 409 by chance`)
  }
})

test('turns are taken in proportion to weight: at any moment each has had its share, give or take one a backend', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 65535 }), { minLength: 1, maxLength: 20 }),
      fc.constantFrom(31, 257, 1021, 2039),
      (weights, slots) => {
        const sum = weights.reduce((total, w) => total + w, 0)
        const had = weights.map(() => 0)
        return turnOrder(weights, slots).every((taker, turn) => {
          had[taker] = (had[taker] ?? 0) + 1
          return weights.every((w, i) => Math.abs((had[i] ?? 0) - ((turn + 1) * w) / sum) <= weights.length)
        })
      },
    ),
  )
  t.deepEqual([...turnOrder([1, 1, 1], 7)], [0, 1, 2, 0, 1, 2, 0])
  t.deepEqual([...turnOrder([4, 2], 6)], [0, 1, 0, 0, 1, 0])
})

test("slots hold the backends' own indices where these are given, and are otherwise the same", (t) => {
  fc.assert(
    fc.property(set, size, seed, (backends, slots, secret) => {
      const indexOf = (position: number) => 3 * position + 1
      const named = backends.map((backend, position) => ({ ...backend, index: indexOf(position) }))
      assert.deepEqual(
        maglevRing(named, slots, secret, NONE),
        maglevRing(backends, slots, secret, NONE).map((position) => (position === NONE ? NONE : indexOf(position))),
      )
    }),
  )
  t.pass()
})

test('a size that is no prime below 2^21 is refused, and so are equal identities, bad weights and too many', (t) => {
  for (const bad of [0, -1, 4, 1000, 65536, 1.5, Number.NaN, 2097169]) {
    t.throws(() => maglevRing(equalBackends(2), bad, 1n, NONE), { instanceOf: RangeError, message: /prime/ })
  }
  const [one] = equalBackends(1)
  const twice = one === undefined ? [] : [one, one]
  t.throws(() => maglevRing(twice, 7, 1n, NONE), { instanceOf: RangeError, message: /\[0\] and \[1\]/ })
  t.throws(() => maglevRing(backendsOf([1, -1]), 7, 1n, NONE), { instanceOf: RangeError, message: /weights\[1\]/ })
  t.throws(() => maglevRing(backendsOf([0.5]), 7, 1n, NONE), { instanceOf: RangeError, message: /weights\[0\]/ })
  t.throws(() => maglevRing(equalBackends(4), 7, 1n, 3), { instanceOf: RangeError, message: /exceed 3/ })
})

test('a removed backend of weight 0 may have the identity of a living one', (t) => {
  const [one] = equalBackends(1)
  const backends = one === undefined ? [] : [{ ...one, weight: 0 }, one]
  t.deepEqual([...maglevRing(backends, 3, 1n, NONE)], [1, 1, 1])
})

test('isPrime knows primes from other numbers', (t) => {
  const sieve = new Uint8Array(10_000).fill(1, 2)
  for (let i = 2; i < 100; i++) for (let j = i * i; j < 10_000; j += i) sieve[j] = 0
  for (const [number, prime] of sieve.entries()) t.is(isPrime(number), prime === 1, `${number}`)
  for (const bad of [-7, 2.5, Number.NaN, Number.POSITIVE_INFINITY]) t.false(isPrime(bad))
})

test('the listed ring sizes are ascending primes, and the default is the first with 100 slots for each backend', (t) => {
  t.true(RING_SIZES.every((listed, index) => isPrime(listed) && listed > (RING_SIZES[index - 1] ?? 0)))
  t.is(defaultRingSize(0), 1021)
  t.is(defaultRingSize(10), 1021)
  t.is(defaultRingSize(11), 2039)
  t.is(defaultRingSize(25), 4093)
  t.is(defaultRingSize(4095), 524287)
  t.throws(() => defaultRingSize(5243), { instanceOf: RangeError })
})
