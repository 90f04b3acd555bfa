// SPDX-License-Identifier: Apache-2.0
// The room of standings with a time of the test's own: what the maps hold of a backend after reports, verbs, the kernel's news, time, and
// a daemon that is killed.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { effectiveWeight, isAlive } from '../../src/core/desired.ts'
import { AT_ONCE, type ReturnPolicy } from '../../src/core/standing.ts'
import type { Report } from '../../src/core/told.ts'
import { type Event, event, policies, START, Story } from '../core/story.ts'
import { backend, LINK, Maps, NAME, SILENT, service } from './maps.ts'

const POLICY: ReturnPolicy = { holdMs: 2000, slowStartMs: 3000, slowStartPercent: 10 }
const check = (state: 'up' | 'down' | 'unknown', text?: string): Report => ({
  kind: 'check',
  state,
  ...(text === undefined ? {} : { text }),
})

const weights = (maps: Maps): number[] =>
  (maps.state.get(NAME)?.backends ?? []).map((each) => effectiveWeight({ scheduler: 'wrr' }, each))

test('a backend whose check is down is out, then held out, then grows into its weight; the other is left alone', (t) => {
  const maps = new Maps(POLICY, [backend(21), backend(22)])
  maps.report(21, check('down', 'refused'))
  t.deepEqual(weights(maps), [0, 10])
  t.false(isAlive(maps.of(21) ?? backend(21)))
  maps.wait(60_000)
  t.is(maps.commits, 1)
  maps.report(21, check('up'))
  t.deepEqual(weights(maps), [0, 10])
  t.is(maps.dueMs, maps.nowMs + 2000)
  maps.wait(1999)
  t.deepEqual(weights(maps), [0, 10])
  const seen: (number | undefined)[] = []
  for (let i = 0; i < 5; i++) {
    maps.wait(i === 0 ? 1 : 1000)
    seen.push(weights(maps)[0])
  }
  t.deepEqual(seen, [1, 4, 7, 10, 10])
  t.is(maps.commits, 5)
  t.is(maps.dueMs, undefined)
  t.deepEqual(
    maps.events.map(({ from, to, reason }) => `${from} -> ${to}: ${reason}`),
    [
      'up 10 -> down 10: check down: refused',
      'down 10 -> down 10: check up; held out for 2 s more',
      'down 10 -> 10% 10: slow start 10 %, all of it in 3 s',
      '70% 10 -> up 10: asked',
    ],
    'steps between the first and the last are not told',
  )
})

test('a report that says the same again writes nothing, neither into maps nor into the journal', (t) => {
  const maps = new Maps(POLICY, [backend(21)])
  maps.report(21, check('up', 'fine'))
  t.is(maps.commits, 0)
  const lines = maps.journal.length
  for (let i = 0; i < 5; i++) {
    maps.wait(1000)
    maps.report(21, check('up', 'fine'))
  }
  t.is(maps.commits, 0)
  t.is(maps.journal.length, lines)
  t.is(maps.events.length, 1)
})

test('a report whose commit fails is not taken', (t) => {
  const maps = new Maps(POLICY, [backend(21)])
  maps.report(21, check('up'))
  maps.failing = true
  t.throws(() => maps.report(21, check('down')), { message: 'no room' })
  t.like(maps.room.told(NAME, '192.0.2.21'), { check: { state: 'up' } })
  maps.restart()
  t.deepEqual(weights(maps), [10], 'nor by the next daemon')
})

test('the commit that ends maintenance, or finds a MAC again, begins the slow start: no packet sees all of the weight', (t) => {
  const maps = new Maps({ ...POLICY, holdMs: 0 }, [backend(21), backend(22)])
  maps.change(21, { admin: 'maint' })
  maps.change(21, { admin: 'up' })
  t.is(maps.commits, 2)
  t.like(maps.of(21), { health: { alive: true, percent: 10 } })
  t.is(maps.events.at(-1)?.reason, 'asked; slow start 10 %, all of it in 3 s')
  maps.wait(5000)
  t.is(maps.of(21)?.health, undefined)
  maps.change(22, { path: SILENT })
  const before = maps.commits
  maps.change(22, { path: LINK })
  t.is(maps.commits, before + 1)
  t.like(maps.of(22), { health: { alive: true, percent: 10 } })
  maps.wait(5000)
  t.is(maps.of(22)?.health, undefined)
  t.is(maps.room.told(NAME, '192.0.2.22'), undefined, 'what is over is let go')
})

test('a new backend, and one whose MAC is found for the first time, has its weight at once', (t) => {
  const maps = new Maps(POLICY, [])
  maps.change(21, { path: SILENT })
  maps.change(21, { path: LINK })
  t.deepEqual(weights(maps), [10])
  t.is(maps.of(21)?.health, undefined)
})

test('a killed daemon is followed by one that holds out and grows on from where it was, and writes nothing', (t) => {
  const maps = new Maps(POLICY, [backend(21), backend(22)])
  maps.report(21, check('down'))
  maps.report(22, check('down'))
  maps.report(22, check('up'))
  maps.wait(3000)
  maps.report(21, check('up'))
  const [was, commits] = [weights(maps), maps.commits]
  t.deepEqual(was, [0, 4])
  maps.restart()
  t.deepEqual(weights(maps), was)
  t.is(maps.commits, commits)
  t.is(maps.dueMs, START + 4000, 'the next step of the one; the hold of the other ends later')
  maps.nowMs += 2500
  maps.restart()
  t.deepEqual(weights(maps), [1, 10], 'time that passed while none ran has passed')
})

test('what was removed is forgotten, and so is what a daemon finds to be gone', (t) => {
  const maps = new Maps(POLICY, [backend(21), backend(22)])
  maps.report(21, check('down'))
  maps.report(22, check('down'))
  maps.change(21, undefined)
  maps.change(21, {})
  t.is(maps.room.told(NAME, '192.0.2.21'), undefined)
  t.deepEqual(weights(maps), [0, 10])
  maps.state = new Map([[NAME, service([backend(21)])]])
  maps.room.forgetAbsent(maps.state)
  t.deepEqual(maps.room.services, [])
  maps.report(21, check('down'))
  maps.commit(new Map())
  t.deepEqual(maps.room.services, [])
})

test('after a restart of the host what comes into the maps anew is down from the first commit on', (t) => {
  const maps = new Maps(POLICY, [backend(21), backend(22)])
  maps.report(21, check('down'))
  const { state } = maps
  maps.state = new Map()
  maps.restart()
  const commits = maps.commits
  maps.commit(new Map([[NAME, service([backend(21), backend(22)])]]))
  t.is(maps.commits, commits + 1)
  t.deepEqual(weights(maps), [0, 10])
  t.like(maps.state.get(NAME)?.backends[0]?.health, { alive: false }, JSON.stringify([...state.keys()]))
})

test('what was reported is forgotten when somebody says so: it is in at once', (t) => {
  const maps = new Maps(POLICY, [backend(21)])
  maps.report(21, { kind: 'agent', state: 'drain', percent: 100, text: 'backup' })
  t.deepEqual(weights(maps), [0])
  t.true(isAlive(maps.of(21) ?? backend(21)), 'a drain leaves it its flows')
  maps.report(21, check('down'))
  maps.report(21, { kind: 'forget' })
  t.deepEqual(weights(maps), [10])
  t.is(maps.of(21)?.health, undefined)
})

test('health in the maps that nobody knows the reason of is taken away', (t) => {
  const maps = new Maps(POLICY, [backend(21, { health: { alive: false, percent: 0, sinceMs: 0 } })])
  maps.follow([NAME])
  t.deepEqual(weights(maps), [10])
})

test('a longer policy holds out whoever is held already; a commit beside it keeps what is known', (t) => {
  const maps = new Maps(POLICY, [backend(21)])
  maps.report(21, check('down'))
  maps.report(21, check('up'))
  maps.policy = { ...POLICY, holdMs: 10_000 }
  maps.follow([NAME])
  maps.change(21, { weight: 20 })
  maps.wait(9999)
  t.deepEqual(weights(maps), [0])
  maps.wait(1)
  t.deepEqual(weights(maps), [2])
  maps.policy = AT_ONCE
  maps.follow([NAME])
  t.deepEqual(weights(maps), [20])
})

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('event' as const), event, last: fc.constantFrom(21, 22) }) },
  fc.record({
    kind: fc.constantFrom('restart', 'forget', 'fail', 'remove') as fc.Arbitrary<'restart'>,
    last: fc.constantFrom(21, 22),
  }),
)

test('whatever comes, and whenever the daemon is killed, the maps hold what a naive account of it says', (t) => {
  let kills = 0
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30, size: 'max' }), policies, (steps, policy) => {
      const maps = new Maps(policy, [backend(21), backend(22)])
      const stories = new Map([21, 22].map((last) => [last, new Story(policy)]))
      for (const { kind, last, ...rest } of steps) {
        const story = stories.get(last)
        assert(story !== undefined)
        const word: string = kind
        if (word === 'restart') {
          kills++
          maps.restart()
        } else if (word === 'forget') {
          maps.report(last, { kind: 'forget' })
          story.forget()
        } else if (word === 'fail') {
          maps.failing = true
          try {
            maps.report(last, { kind: 'check', state: story.check === 'down' ? 'unknown' : 'down' })
            story.tell({ kind: 'check', state: story.check === 'down' ? 'unknown' : 'down' })
          } catch {
            // Not taken.
          }
          maps.failing = false
        } else if (word === 'remove') {
          maps.change(last, undefined)
          const fresh = new Story(policy)
          fresh.nowMs = story.nowMs
          stories.set(last, fresh)
          maps.change(last, { weight: 10, admin: 'up', path: LINK })
        } else {
          const happened = (rest as { event: Event }).event
          if (happened.kind === 'wait') {
            maps.wait(happened.ms)
            for (const each of stories.values()) each.tell(happened)
          } else {
            story.tell(happened)
            if (happened.kind === 'weight') maps.change(last, { weight: happened.weight })
            if (happened.kind === 'admin') maps.change(last, { admin: happened.state })
            if (happened.kind === 'neighbour')
              maps.change(last, { path: happened.state === 'resolved' ? LINK : SILENT })
            if (happened.kind === 'check') maps.report(last, { kind: 'check', state: happened.state })
            if (happened.kind === 'agent') maps.report(last, { ...happened, kind: 'agent' })
          }
        }
        for (const [each, { effective, alive }] of stories) {
          const now = maps.of(each)
          assert(now !== undefined)
          const is = { effective: effectiveWeight({ scheduler: 'wrr' }, now), alive: isAlive(now) }
          assert.deepEqual(is, { effective, alive }, `${each} after ${JSON.stringify({ kind, last, ...rest })}`)
        }
        const commits = maps.commits
        maps.look()
        maps.follow([NAME])
        assert.equal(maps.commits, commits, 'looking again changes nothing')
      }
    }),
    { numRuns: 600 },
  )
  t.true(kills > 100)
})
