// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { apportion, smoothSchedule } from '../../src/core/schedule.ts'

/** nginx's ngx_http_upstream_get_peer as it stands, over all backends. */
function nginx(weights: readonly number[], turns: number): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const current = weights.map(() => 0)
  return Array.from({ length: turns }, () => {
    let best = -1
    for (const [index, weight] of weights.entries()) {
      if (weight === 0) continue
      current[index] = (current[index] ?? 0) + weight
      if (best < 0 || (current[index] ?? 0) > (current[best] ?? 0)) best = index
    }
    current[best] = (current[best] ?? 0) - sum
    return best
  })
}

function turnsOf(schedule: Uint16Array, index: number): number {
  return schedule.reduce((count, backend) => (backend === index ? count + 1 : count), 0)
}

test('one heavy backend among light ones is taken as nginx takes it: a a b a c a a', (t) => {
  t.deepEqual([...smoothSchedule([5, 1, 1], 100)], [0, 0, 1, 0, 2, 0, 0])
})

test('a cycle that fits is the order of nginx over sum / gcd turns', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 12 }), (weights) => {
      const schedule = smoothSchedule(weights, 1000)
      const expected = nginx(weights, schedule.length)
      return schedule.every((backend, turn) => backend === expected[turn])
    }),
    { numRuns: 1000 },
  )
  t.is(smoothSchedule([4, 6, 2], 1000).length, 6)
  t.is(smoothSchedule([65535, 65535], 2).length, 2)
})

test('each backend has weight / gcd turns in a cycle', (t) => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1, max: 1000 }),
      (weights, factor) => {
        const plain = smoothSchedule([...weights, 1], 1000) // with a 1 the gcd is 1
        const scaled = smoothSchedule(
          [...weights, 1].map((weight) => weight * factor),
          1000,
        )
        return (
          weights.every((weight, index) => turnsOf(plain, index) === weight) &&
          plain.length === scaled.length &&
          plain.every((backend, turn) => backend === scaled[turn])
        )
      },
    ),
  )
  t.is(turnsOf(smoothSchedule([10, 30], 100), 1), 3)
})

test('equal weights are taken in plain index order, and those of weight 0 are left out', (t) => {
  t.deepEqual([...smoothSchedule([7, 7, 7, 7], 100)], [0, 1, 2, 3])
  t.deepEqual([...smoothSchedule([0, 3, 0, 3], 100)], [1, 3])
  t.deepEqual([...smoothSchedule([0, 0], 100)], [])
  t.deepEqual([...smoothSchedule([], 100)], [])
  const many = smoothSchedule(new Array<number>(4000).fill(1), 65536)
  t.deepEqual(
    many,
    Uint16Array.from({ length: 4000 }, (_, index) => index),
  )
})

test('a cycle that is too long is scaled: nobody loses the last turn, others stay within a turn of their share', (t) => {
  const big = fc.array(fc.integer({ min: 1, max: 65535 }), { minLength: 2, maxLength: 20 })
  fc.assert(
    fc.property(big, fc.integer({ min: 20, max: 200 }), (weights, maxLength) => {
      const schedule = smoothSchedule([...weights, 1], maxLength) // with a 1 the gcd is 1
      const turns = [...weights, 1].map((_, index) => turnsOf(schedule, index))
      const unscaled = weights.reduce((total, weight) => total + weight, 1) <= maxLength
      return unscaled || (schedule.length <= maxLength && turns.every((count) => count >= 1))
    }),
  )
  const schedule = smoothSchedule([65535, 32767, 1], 100)
  t.is(schedule.length, 100)
  t.deepEqual(
    [0, 1, 2].map((index) => turnsOf(schedule, index)),
    [66, 33, 1], // 99 turns for 65535:32767 after the one for the lightest
  )
  t.deepEqual([...smoothSchedule([30000, 30001], 40)], [0, 1])
})

test('no more backends than turns are accepted, and only whole weights from 0', (t) => {
  t.deepEqual([...smoothSchedule([9, 1, 5], 3)], [0, 1, 2])
  t.throws(() => smoothSchedule([1, 1, 1, 1], 3), { instanceOf: RangeError, message: /4 backends.*3 turns/ })
  t.throws(() => smoothSchedule([1, -2], 3), { instanceOf: RangeError, message: /weights\[1\]/ })
  t.throws(() => smoothSchedule([1.5], 3), { instanceOf: RangeError, message: /weights\[0\]/ })
  t.throws(() => smoothSchedule([1], 0), { instanceOf: RangeError, message: /maxLength/ })
})

test('apportion gives out every place, each share less than one from the ideal, ties to the lower index', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 65535 }), { minLength: 1, maxLength: 50 }).filter((w) => w.some((x) => x > 0)),
      fc.integer({ min: 0, max: 524287 }),
      (weights, places) => {
        const sum = weights.reduce((total, weight) => total + weight, 0)
        const shares = apportion(weights, places)
        return (
          shares.reduce((total, share) => total + share, 0) === places &&
          shares.every((share, index) => Math.abs(share - (places * (weights[index] ?? 0)) / sum) < 1) &&
          shares.every((share, index) => weights[index] !== 0 || share === 0)
        )
      },
    ),
  )
  t.deepEqual(apportion([1, 1, 1], 8), [3, 3, 2])
  t.deepEqual(apportion([1, 2, 3], 4), [1, 1, 2]) // ideal 0.67, 1.33, 2
})
