// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { type DirectoryPlan, planDirectory } from '../../src/core/directory.ts'

const WORD_MAX = 2n ** 64n - 1n

/** SplitMix64 (Steele et al. 2014): 64 random bits, the same in every run. */
function generator(seed: bigint): () => bigint {
  let state = seed
  return () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n)
    let mixed = BigInt.asUintN(64, (state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n)
    mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn)
    return mixed ^ (mixed >> 31n)
  }
}

/** tcp://10.0.x.y:80, as service keys are packed. */
function services(count: number): bigint[] {
  return Array.from({ length: count }, (_, index) => {
    const vip = 0x0an | (BigInt(index >> 8) << 16n) | (BigInt(index & 0xff) << 24n)
    return (6n << 48n) | (0x5000n << 32n) | vip
  })
}

function fits(plan: DirectoryPlan, keys: readonly bigint[], perBucket: number): boolean {
  const used = new Map<number, number>()
  for (const bucket of plan.bucketOf) used.set(bucket, (used.get(bucket) ?? 0) + 1)
  return (
    plan.multiplier % 2n === 1n &&
    plan.multiplier <= WORD_MAX &&
    plan.buckets >= 2 &&
    2 ** (64 - plan.shift) === plan.buckets &&
    plan.bucketOf.length === keys.length &&
    keys.every(
      (key, i) => plan.bucketOf[i] === Number(BigInt.asUintN(64, key * plan.multiplier) >> BigInt(plan.shift)),
    ) &&
    [...used.values()].every((count) => count <= perBucket)
  )
}

test('every key stands in bucket (key * multiplier) >> shift, and no bucket overflows', (t) => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.bigInt({ min: 1n, max: WORD_MAX }), { maxLength: 300 }),
      fc.integer({ min: 1, max: 4 }),
      fc.bigInt({ min: 0n, max: WORD_MAX }),
      (keys, perBucket, seed) => fits(planDirectory(keys, perBucket, 2 ** 21, generator(seed)), keys, perBucket),
    ),
  )
  t.true(fits(planDirectory([1n, WORD_MAX], 4, 2, generator(1n)), [1n, WORD_MAX], 4))
})

test('4,096 services or addresses take 16,384 buckets and a few tries', (t) => {
  for (const keys of [services(4096), services(4096).map((key) => BigInt.asUintN(32, key))]) {
    for (let seed = 0n; seed < 20n; seed++) {
      const random = generator(seed)
      let tries = 0
      const plan = planDirectory(keys, 4, 2 ** 20, () => {
        tries++
        return random()
      })
      t.is(plan.buckets, 16384)
      t.true(tries <= 8, `${tries} tries`)
      t.true(fits(plan, keys, 4))
    }
  }
})

test('a directory has two buckets at least, as shift must stay below 64', (t) => {
  const plan = planDirectory([], 4, 2 ** 20, generator(1n))
  t.is(plan.buckets, 2)
  t.is(plan.shift, 63)
  t.is(plan.bucketOf.length, 0)
})

test('buckets are doubled when the first number of them will not do', (t) => {
  // With one place in a bucket, 64 keys among 256 buckets collide almost surely (birthday paradox).
  const keys = Array.from({ length: 64 }, generator(9n))
  const plan = planDirectory(keys, 1, 2 ** 16, generator(7n))
  t.true(fits(plan, keys, 1))
  t.true(plan.buckets > 256)
})

test('a map that is smaller than the first choice is used as far as it goes', (t) => {
  const keys = services(1000)
  const plan = planDirectory(keys, 4, 1500, generator(3n)) // 1024 is the greatest power of two in it
  t.is(plan.buckets, 1024)
  t.true(fits(plan, keys, 4))
})

test('an even random number is made odd', (t) => {
  t.is(planDirectory([5n], 4, 2, () => 0x1234n).multiplier, 0x1235n)
  t.is(planDirectory([5n], 4, 2, () => 2n ** 64n).multiplier, 1n)
})

test('keys that cannot fit are refused with what is full', (t) => {
  t.throws(() => planDirectory(services(17), 4, 4, generator(1n)), {
    instanceOf: Error,
    message: /17 keys do not fit 4 buckets of 4 places/,
  })
})

test('a key that stands twice, is 0 or has more than 64 bits is refused', (t) => {
  t.throws(() => planDirectory([7n, 8n, 7n], 4, 64, generator(1n)), { message: /keys\[2\].*twice/ })
  t.throws(() => planDirectory([7n, 0n], 4, 64, generator(1n)), { instanceOf: RangeError, message: /keys\[1\]/ })
  t.throws(() => planDirectory([WORD_MAX + 1n], 4, 64, generator(1n)), { message: /keys\[0\]/ })
  t.throws(() => planDirectory([-1n], 4, 64, generator(1n)), { message: /keys\[0\]/ })
  t.throws(() => planDirectory([1n], 4, 1, generator(1n)), { message: /maxBuckets/ })
})
