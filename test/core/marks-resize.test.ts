// SPDX-License-Identifier: Apache-2.0
// Marks where a ring changes its size and changes again while they are in force, the smallest case first.
import test from 'ava'
import fc from 'fast-check'
import { eraAt, type History, hash, history, historyOf, keepPromise, NONE, ruleAt, type Step } from './ring-history.ts'

test.afterEach.always(() => new Promise((done) => setImmediate(done))) // so that ava hears of each test in time

const RESIZED = history({ sizes: 6, resized: true, deviations: false })
const RUNS = { numRuns: 3000, includeErrorInReport: true }

const change = (wait: number, ring: readonly number[], more: Partial<Step> = {}): Step => ({
  wait,
  ring,
  removed: [],
  deviating: [],
  markAll: false,
  ...more,
})

// Slot 3 of five, unmarked at 7, is marked at 14 with the epoch of its neighbour's mark, which ends at 14, not 25.
const THERE_AND_BACK = historyOf(7, 11, [
  change(0, [1, 0]),
  change(0, [0, 0, 0, 0, 0]),
  change(7, [2, 2]),
  change(6, [2, 2]),
])

// At 5025 the last of five slots, unmarked and of backend 0, is changed; the last of six in the ring before shares it with a
// marked one, whose epoch is past: what it remembers has to be 0 all the same.
const SHARED_WITH_PAST = historyOf(4998, 23, [
  change(0, [0, 0, 0, 0, 1, 0]),
  change(1, [0, 0, 0, 0, 0, 1]),
  change(12, new Array<number>(6).fill(NONE)),
  change(13, new Array<number>(5).fill(NONE)),
  change(0, [0, 0, 0, 0, 0]),
  change(1, new Array<number>(5).fill(NONE)),
])

test.serial(
  'TCP: a flow of an unmarked slot keeps its backend where the ring changes its size and changes again',
  (t) => {
    fc.assert(
      fc.property(RESIZED, hash, (past, hash) => keepPromise(past, hash, false, (rule) => !rule.marked)),
      {
        ...RUNS,
        examples: [
          ...[0.81, 0.9].map((at): [History, number] => [SHARED_WITH_PAST, at * 2 ** 32]),
          [THERE_AND_BACK, 0.6 * 2 ** 32],
        ],
      },
    )
    t.pass()
  },
)

test.serial(
  'UDP: a mark that is past does not come back after 16 epochs, however often a resized ring changes',
  (t) => {
    const past = historyOf(0, 24, [change(0, [0]), ...Array.from({ length: 4 }, () => change(20, [1, 1]))])
    const led = Array.from({ length: 85 }, (_, i) => {
      const era = eraAt(past, 20 + i)
      return era && ruleAt(past, era, 0, 20 + i, true).backend
    })
    // From age 48 on the flow goes to backend 1; at 84 the mark's four bits of epoch say 20 again, and it goes to backend 0.
    t.deepEqual(led, led.toSorted())
  },
)

test.serial(
  'UDP: a flow that was led past a removed backend keeps the one it then got when the ring changes again',
  (t) => {
    const removal = historyOf(0, 24, [change(0, [0]), change(10, [1], { removed: [0] }), change(10, [2])])
    fc.assert(
      fc.property(history({ sizes: 6, resized: false, deviations: true }), hash, (past, hash) =>
        keepPromise(past, hash, true, (rule) => !rule.fresh || rule.before === NONE),
      ),
      { ...RUNS, examples: [[removal, 0]] },
    )
    t.pass()
  },
)
