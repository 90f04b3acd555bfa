// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { Arena } from '../../src/core/arena.ts'

type Step = { use: [start: number, length: number] } | { take: number } | { release: number }

const CAPACITY = 24

const step: fc.Arbitrary<Step> = fc.oneof(
  fc
    .tuple(fc.integer({ min: 0, max: CAPACITY }), fc.integer({ min: 0, max: 6 }))
    .filter(([start, length]) => start + length <= CAPACITY)
    .map((use): Step => ({ use })),
  fc.integer({ min: 1, max: 9 }).map((take): Step => ({ take })),
  fc.nat(9).map((release): Step => ({ release })),
)

/** Is there a run of `length` free places? */
const hasRun = (used: readonly boolean[], length: number): boolean =>
  used.some((_, start) => start + length <= used.length && used.slice(start, start + length).every((place) => !place))

test('a run is taken from places that were free, wherever one of that length is, and none else', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const arena = new Arena(CAPACITY)
      const used = new Array<boolean>(CAPACITY).fill(false)
      let taken: [start: number, length: number][] = []
      for (const each of steps) {
        if ('release' in each) {
          const [run] = taken.splice(each.release, 1)
          if (run === undefined) continue
          arena.release(...run)
          used.fill(false, run[0], run[0] + run[1])
        } else if ('use' in each) {
          // What has a second owner is not to be given back.
          const [from, length] = each.use
          taken = taken.filter(([start, count]) => start + count <= from || start >= from + length)
          arena.use(...each.use)
          used.fill(true, each.use[0], each.use[0] + each.use[1])
        } else {
          const possible = hasRun(used, each.take)
          const start = arena.take(each.take)
          assert.equal(start >= 0, possible)
          if (start >= 0) {
            assert.deepEqual(used.slice(start, start + each.take), new Array(each.take).fill(false))
            used.fill(true, start, start + each.take)
            taken.push([start, each.take])
          } else assert.equal(start, -1)
        }
        assert.equal(arena.free, used.filter((place) => !place).length)
      }
    }),
    { numRuns: 500 },
  )
  t.pass()
})

test('an arena can be taken to its last place, and then has none', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 40 }), (capacity) => {
      const arena = new Arena(capacity)
      const taken = Array.from({ length: capacity }, () => arena.take(1))
      assert.deepEqual(
        taken.toSorted((a, b) => a - b),
        [...taken.keys()],
      )
      assert.equal(arena.take(1), -1)
      assert.equal(arena.free, 0)
    }),
  )
  t.pass()
})

test('a place may be used by several owners', (t) => {
  const arena = new Arena(8)
  arena.use(2, 3)
  arena.use(4, 2)
  t.is(arena.free, 4)
  t.is(arena.take(3), -1)
  t.is(arena.take(2), 0)
})

test('places before the last taken run are found again when those behind it are used up', (t) => {
  const arena = new Arena(8)
  arena.use(0, 1)
  arena.use(3, 1)
  t.is(arena.take(3), 4)
  t.is(arena.take(2), 1)
  t.is(arena.take(1), 7)
  t.is(arena.take(1), -1)
})
