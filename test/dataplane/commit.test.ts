// SPDX-License-Identifier: Apache-2.0
// One aligned write commits a change: before it nothing that packets can reach has changed, after it everything has.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import type { DesiredState } from '../../src/core/desired.ts'
import { Refusal } from '../../src/core/refusal.ts'
import type { MappedName, PlaneMemory } from '../../src/dataplane/memory.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { desiredState } from '../core/states.ts'
import { COMMITTING, type Extent } from './directory.ts'
import { findOverlap, ownedExtents, reachableExtents } from './extents.ts'
import { apply, MAPS, makePlane, type Plane, photograph, picture, runs, turn } from './plane.ts'
import { busyVerbs, carryOut, naiveOf, type Verb, verbs } from './verbs.ts'

test.afterEach.always(turn)

const RUNS = runs(30)
const ROOM = { services: 12, backends: 120, flows: 64, flows6: 64 }

class Crash extends Error {}

const crash = (): void => {
  throw new Crash()
}

type Change = (have: DesiredState) => DesiredState

/** Does nothing where the change is refused. @returns whether it was committed */
const applyIfPossible = (plane: Plane, change: Change, beforeCommit?: () => void): boolean => {
  try {
    apply(plane, change, beforeCommit)
    return true
  } catch (error) {
    if (error instanceof Refusal || error instanceof Crash) return false
    throw error
  }
}

/** How often something has come up, in how many runs: a busy machine may stop a property before its last run. */
class Tally {
  runs = 0
  count = 0

  /** More than once in a run, so that the property says something. */
  get isEnough(): boolean {
    return this.count > this.runs && this.runs > 0
  }

  toString(): string {
    return `${this.count} in ${this.runs} runs`
  }
}

/** Calls `each` with every verb's change, and makes it afterwards where `each` did not. */
const through = (
  tally: Tally,
  steps: readonly Verb[],
  each: (plane: Plane, change: Change, verb: Verb) => void,
): void => {
  tally.runs++
  const plane = makePlane(ROOM)
  for (const verb of steps) {
    plane.nowMs += 1000
    if (verb.verb === 'wait') plane.age += verb.ages
    const change: Change = (have) => carryOut(have, verb)
    each(plane, change, verb)
    // A restore is done once: again it would be no change.
    applyIfPossible(plane, change)
  }
}

/** The first octet of the extents that differs from the photograph. */
const firstChange = (
  memory: PlaneMemory,
  before: ReadonlyMap<MappedName, Uint8Array>,
  extents: readonly Extent[],
): string | undefined => {
  for (const { map, start, end, owner } of extents) {
    const now = new Uint8Array(memory.buffer(map))
    const then = before.get(map)
    for (let at = start; at < end; at++) if (now[at] !== then?.[at]) return `${owner}: ${map} at ${at}`
  }
  return undefined
}

test.serial('until the commit no octet changes that a packet or a reader can reach', (t) => {
  const commits = new Tally()
  fc.assert(
    fc.property(verbs(12), (steps) =>
      through(commits, steps, (plane, change) => {
        const extents = reachableExtents(plane.memory)
        const before = photograph(plane.memory)
        const committed = applyIfPossible(plane, change, () => {
          commits.count++
          assert.equal(firstChange(plane.memory, before, extents), undefined)
        })
        if (!committed) assert.equal(firstChange(plane.memory, before, extents), undefined)
      }),
    ),
    { ...RUNS, examples: [[busyVerbs()]] },
  )
  t.true(commits.isEnough, `commits: only ${commits}`)
})

/** The 64-bit words of all maps that differ from the photograph: `root 0`. */
const changedWords = (memory: PlaneMemory, before: ReadonlyMap<MappedName, Uint8Array>): string[] =>
  MAPS.flatMap((map) => {
    const now = new BigUint64Array(memory.buffer(map), 0, memory.buffer(map).byteLength >> 3)
    const then = before.get(map)
    if (then === undefined) return [map]
    if (Buffer.from(then.buffer).equals(new Uint8Array(memory.buffer(map)))) return []
    const words = new BigUint64Array(then.buffer, 0, now.length)
    return [...now.keys()].filter((i) => now[i] !== words[i]).map((i) => `${map} ${i}`)
  })

test.serial(
  'the commit is one store within an aligned word of 64 bits: nothing is written with it or after it',
  (t) => {
    const commits = new Tally()
    fc.assert(
      fc.property(verbs(10), (steps) =>
        through(commits, steps, (plane, change) => {
          let before: Map<MappedName, Uint8Array> | undefined
          applyIfPossible(plane, change, () => {
            before = photograph(plane.memory)
          })
          if (before === undefined) return
          commits.count++
          const words = changedWords(plane.memory, before)
          assert.equal(words.length, 1, words.join(', '))
          assert(COMMITTING.some((map) => words[0]?.startsWith(`${map} `)))
        }),
      ),
      { ...runs(20), examples: [[busyVerbs()]] },
    )
    t.true(commits.isEnough, `commits: only ${commits}`)
  },
)

test.serial('a command that is killed at the commit has changed nothing, and the next one makes its change', (t) => {
  const crashes = new Tally()
  fc.assert(
    fc.property(verbs(10), fc.array(desiredState, { minLength: 1, maxLength: 3 }), (steps, victims) =>
      through(crashes, steps, (plane, change) => {
        const before = picture(plane.memory)
        for (const victim of [
          ...victims.map(
            (state): Change =>
              () =>
                state,
          ),
          change,
        ]) {
          applyIfPossible(plane, victim, () => {
            crashes.count++
            crash()
          })
          assert.deepEqual(picture(plane.memory), before)
        }
        let expected = naiveOf(readLive(plane.memory).desired)
        const remembered: Change = (have) => {
          const want = change(have)
          expected = naiveOf(want)
          return want
        }
        if (!applyIfPossible(plane, remembered)) return assert.deepEqual(picture(plane.memory), before)
        assert.deepEqual(naiveOf(readLive(plane.memory).desired), expected)
        assert.equal(findOverlap(plane.memory, ownedExtents(plane.memory)), undefined)
      }),
    ),
    RUNS,
  )
  t.true(crashes.isEnough, `crashes: only ${crashes}`)
})

/** What is owned, and where. */
const places = ({ memory }: Plane): string[] =>
  ownedExtents(memory)
    .map(({ owner, end }) => `${owner} to ${end}`)
    .toSorted()

test.serial('what killed commands leave behind takes no room: a change that fits once fits after any of them', (t) => {
  fc.assert(
    fc.property(desiredState, desiredState, fc.array(desiredState, { maxLength: 6 }), (first, second, victims) => {
      const crashed = makePlane(ROOM)
      const calm = makePlane(ROOM)
      for (const plane of [crashed, calm]) apply(plane, first)
      for (const victim of victims) applyIfPossible(crashed, () => victim, crash)
      assert.equal(
        applyIfPossible(crashed, () => second),
        applyIfPossible(calm, () => second),
      )
      assert.deepEqual(places(crashed), places(calm))
    }),
    RUNS,
  )
  t.pass()
})

test.serial('nothing is written before the programs have ended that may still see what was retired earlier', (t) => {
  const commits = new Tally()
  fc.assert(
    fc.property(verbs(10), (steps) =>
      through(commits, steps, (plane, change) => {
        const { memory } = plane
        const before = photograph(memory)
        let waited = false
        const waitForPrograms = () => {
          waited = true
          assert.deepEqual(changedWords(memory, before), [])
        }
        applyIfPossible({ ...plane, memory: { ...memory, waitForPrograms } }, change, () => {
          commits.count++
          assert(waited)
        })
      }),
    ),
    { ...runs(20), examples: [[busyVerbs()]] },
  )
  t.true(commits.isEnough, `commits: only ${commits}`)
})

test.serial('a plan of nothing writes nothing and commits nothing', (t) => {
  const plane = makePlane(ROOM)
  const before = photograph(plane.memory)
  apply(plane, new Map(), () => t.fail('committed'))
  t.deepEqual(photograph(plane.memory), before)
})
