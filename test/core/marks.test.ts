// SPDX-License-Identifier: Apache-2.0
// Rings of a few slots through random changes, against what bpf/schedule.h makes of them: see ring-history.ts.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { changeRing, hasFreshMarks, markShift, type RingChange } from '../../src/core/marks.ts'
import { hash, history, keepPromise, NONE, ruleAt } from './ring-history.ts'

test.afterEach.always(() => new Promise((done) => setImmediate(done))) // so that ava hears of each test in time

const MARKED = 0x8000
const SAME_SIZE = history({ sizes: 6, resized: false, deviations: true })
const UNDISTURBED = history({ sizes: 6, resized: false, deviations: false })
const RESIZED = history({ sizes: 6, resized: true, deviations: true })
const RUNS = { numRuns: 600, interruptAfterTimeLimit: 7000 }

test.serial(
  'TCP: where an unmarked slot led a flow, it is led until the timeout has passed since the slot changed',
  (t) => {
    fc.assert(
      fc.property(SAME_SIZE, hash, (past, hash) => keepPromise(past, hash, false, (rule) => !rule.marked)),
      RUNS,
    )
    t.pass()
  },
)

test.serial(
  'UDP: where a slot led a flow, unmarked or its mark past, it is led until the timeout has passed since then',
  (t) => {
    fc.assert(
      fc.property(SAME_SIZE, hash, (past, hash) => keepPromise(past, hash, true, (rule) => !rule.fresh)),
      RUNS,
    )
    t.pass()
  },
)

test.serial('a mark that is within its timeout remembers the oldest backend, whatever the ring says since', (t) => {
  fc.assert(
    fc.property(SAME_SIZE, hash, (past, hash) => {
      for (const [i, era] of past.eras.entries()) {
        const next = past.eras[i + 1]
        if (next === undefined) continue
        const before = ruleAt(past, era, hash, next.from, true)
        const after = ruleAt(past, next, hash, next.from, true)
        if (!before.fresh || before.before === NONE || next.removed.includes(before.before)) continue
        assert(after.marked)
        assert.equal(after.before, before.before)
      }
    }),
    RUNS,
  )
  t.pass()
})

test.serial('whatever the marks, new flows go where the fresh ring says', (t) => {
  fc.assert(
    fc.property(RESIZED, ({ eras }) => {
      for (const { ring, seen } of eras) {
        assert.deepEqual(
          [...seen.ring].map((slot) => slot & ~MARKED),
          ring,
        )
      }
    }),
    RUNS,
  )
  t.pass()
})

test.serial('a ring before comes with marks, and none without', (t) => {
  fc.assert(
    fc.property(RESIZED, ({ eras }) => {
      for (const { seen } of eras) {
        assert.equal(
          seen.before !== undefined,
          seen.ring.some((slot) => (slot & MARKED) !== 0),
        )
      }
    }),
    RUNS,
  )
  t.pass()
})

test.serial('a slot is unmarked only if it named no other backend while it was unmarked, for a whole timeout', (t) => {
  fc.assert(
    fc.property(RESIZED, hash, (past, hash) => {
      for (const [i, era] of past.eras.entries()) {
        const rule = ruleAt(past, era, hash, era.from, false)
        if (rule.marked) continue
        for (const [j, older] of past.eras.slice(0, i).entries()) {
          const gone = past.eras[j + 1]?.from ?? era.from
          const then = ruleAt(past, older, hash, older.from, false)
          // A backend that had the slot until `gone` may have flows of which a packet is yet to come.
          if (then.marked || then.now === NONE || era.from > gone + past.timeout) continue
          assert.equal(rule.now, then.now, `the ring of ${older.from}, seen from ${era.from}`)
        }
      }
    }),
    RUNS,
  )
  t.pass()
})

test.serial('no mark leads to a removed backend', (t) => {
  fc.assert(
    fc.property(RESIZED, ({ eras }) => {
      for (const { seen, removed } of eras) {
        for (const slot of seen.before ?? []) assert(!removed.includes(slot & 0xfff))
      }
    }),
    RUNS,
  )
  t.pass()
})

test.serial(
  'a mark ends with the first change after its timeout, give or take one of six parts, while its slot stays',
  (t) => {
    fc.assert(
      fc.property(UNDISTURBED, (past) => {
        for (const [i, era] of past.eras.entries()) {
          for (const [slot, backend] of era.ring.entries()) {
            // The era since which the slot has named this backend, and none was removed: a mark of one that is gone stands for
            // the present one from the next change on.
            const eras = past.eras.slice(0, i + 1)
            const others = eras.findLastIndex((older) => older.ring[slot] !== backend) + 1
            const removal = eras.findLastIndex(({ removed }) => removed.length > 0)
            const since = others === 0 && removal < 0 ? 0 : Math.max(others, removal) + 1
            const age = era.from - (eras[since]?.from ?? era.from)
            if (since > 0 && age < 7 * 2 ** past.shift) continue
            assert.equal((era.seen.ring[slot] ?? 0) & MARKED, 0)
          }
        }
      }),
      RUNS,
    )
    t.pass()
  },
)

/** Two slots, both changed at age 100; the next change comes at age `now` and gives them the same backends once more. */
const later = (now: number, more: Partial<RingChange> = {}): RingChange => {
  const timeout = 60
  const first = {
    current: { ring: Uint16Array.of(0, 1) },
    fresh: Uint16Array.of(1, 0),
    now: 100,
    written: 0,
    timeout,
    markShift: markShift(timeout),
    deviating: new Set<number>(),
    removed: new Set<number>(),
    markAll: false,
    rehashed: false,
    foreignBefore: false,
  }
  return { ...first, current: changeRing(first), now, written: 100, ...more }
}

test.serial('marks last for the timeout exactly where nothing has changed since', (t) => {
  t.true(hasFreshMarks(later(160)))
  t.not(changeRing(later(160)).before, undefined)
  t.false(hasFreshMarks(later(161)))
  t.deepEqual(changeRing(later(161)).ring, Uint16Array.of(1, 0))
  t.false(hasFreshMarks({ ...later(101), current: { ring: Uint16Array.of(1, 0) } }))
})

test.serial(
  'a mark that the flow table still deviates from stays past its timeout, with the backend that the ring says now',
  (t) => {
    const stays = changeRing(later(1000, { deviating: new Set([1]) }))
    t.deepEqual(stays.ring, Uint16Array.of(1, MARKED))
    t.is((stays.before?.[1] ?? NONE) & 0xfff, 0)
  },
)

test.serial('a ring in which nobody had a slot leaves no mark', (t) => {
  const empty = { current: { ring: Uint16Array.of(NONE, NONE) } }
  t.deepEqual(changeRing(later(1000, empty)).ring, Uint16Array.of(1, 0))
})

test.serial('a deviating slot is marked whatever its backend', (t) => {
  fc.assert(
    fc.property(SAME_SIZE, ({ eras }) => {
      for (const { deviating, seen } of eras.slice(1)) {
        for (const slot of deviating) assert.notEqual((seen.ring[slot] ?? 0) & MARKED, 0)
      }
    }),
    RUNS,
  )
  t.pass()
})

test.serial(
  'a service that went by the flow table is marked in every slot, each with the backend that its ring had',
  (t) => {
    for (const fresh of [Uint16Array.of(1, 0), Uint16Array.of(2, 2, 2)]) {
      const marked = changeRing(later(1000, { markAll: true, fresh }))
      t.deepEqual(
        marked.ring,
        fresh.map((slot) => slot | MARKED),
      )
      t.deepEqual(
        marked.before?.map((slot) => slot & 0xfff),
        Uint16Array.of(1, 0),
      )
    }
  },
)

test.serial('a ring of another hash is marked in every slot, and the ring before is the one that was', (t) => {
  fc.assert(
    fc.property(
      UNDISTURBED,
      fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 9 }),
      (past, fresh) => {
        const [first] = past.eras
        if (first === undefined) return
        const change = later(1000, { current: { ring: Uint16Array.from(first.ring) }, fresh: Uint16Array.from(fresh) })
        const marked = changeRing({ ...change, rehashed: true })
        assert(marked.ring.every((slot) => (slot & MARKED) !== 0))
        assert.deepEqual(
          [...(marked.before ?? [])].map((slot) => slot & 0xfff),
          first.ring,
        )
      },
    ),
  )
  t.pass()
})

test.serial('six epochs are the timeout or more, and the shift is the smallest of which that is so', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (timeout) => {
      const shift = markShift(timeout)
      return shift >= 0 && 6 * 2 ** shift >= timeout && (shift === 0 || 6 * 2 ** (shift - 1) < timeout)
    }),
  )
  t.deepEqual([0, 6, 7, 12, 13, 300, 900].map(markShift), [0, 0, 1, 1, 2, 6, 8])
})
