// SPDX-License-Identifier: Apache-2.0
// Backends of a service with a check whose results are reported: with a time of the test's own, what the maps hold of them after reports, the
// lack of reports, other configurations, and a daemon that is killed.
import test from 'ava'
import type { Check } from '../../src/core/check.ts'
import { effectiveWeight, isAlive } from '../../src/core/desired.ts'
import { AT_ONCE, type ReturnPolicy } from '../../src/core/standing.ts'
import type { CheckState, Report } from '../../src/core/told.ts'
import { START } from '../core/story.ts'
import { backend, Maps, NAME } from './maps.ts'

const APP: Check = { name: 'app', expiresMs: 30_000, rise: 1, fall: 1, initially: 'up' }
const policyOf = (more: Partial<Check> = {}, policy: Partial<ReturnPolicy> = {}): ReturnPolicy => ({
  ...AT_ONCE,
  ...policy,
  check: { ...APP, ...more },
})

const check = (state: CheckState, text?: string): Report => ({
  kind: 'check',
  state,
  ...(text === undefined ? {} : { text }),
})

const make = (policy: ReturnPolicy, lasts = [21]): Maps => {
  const maps = new Maps(
    policy,
    lasts.map((last) => backend(last)),
  )
  maps.follow([NAME])
  return maps
}

/** What it has of its weight of 10, and whether it is alive. */
const of = (maps: Maps, last = 21): string => {
  const found = maps.of(last) ?? backend(last)
  return `${effectiveWeight({ scheduler: 'wrr' }, found)}${isAlive(found) ? '' : ' out'}`
}

/** Reports it, and has the answer. */
const answer = (maps: Maps, report: Report, last = 21): string => {
  const pending = maps.report(last, report)
  return maps.room.known.answerTo(NAME, `192.0.2.${last}`, report, pending)
}

test('a backend that is not reported again in time is out, to the millisecond; a report brings it back, held as after any other fault', (t) => {
  const maps = make(policyOf({}, { holdMs: 5000 }), [21, 22])
  maps.wait(10_000)
  t.is(answer(maps, check('up', 'fine')), 'check up: fine')
  maps.wait(19_999)
  t.deepEqual([of(maps), of(maps, 22)], ['10', '10'])
  maps.wait(1)
  t.deepEqual([of(maps), of(maps, 22)], ['10', '0 out'], 'the other one was never reported')
  maps.wait(9_999)
  t.is(of(maps), '10')
  maps.wait(1)
  t.is(of(maps), '0 out')
  t.is(maps.room.decisive(NAME, '192.0.2.21')?.sinceMs, START + 40_000)
  t.is(maps.dueMs, undefined, 'there is nothing more to wait for')
  maps.wait(100_000)
  t.is(answer(maps, check('up')), 'check up; held out for 5 s more')
  maps.wait(5000)
  t.deepEqual([of(maps), of(maps, 22)], ['10', '0 out'])
  t.deepEqual(
    maps.events.map(({ backend, from, to, reason }) => `${backend?.slice(-2)} ${from} -> ${to}: ${reason}`),
    [
      '21 up 10 -> up 10: check app up: fine',
      '22 up 10 -> down 10: check app down: not reported for 30 s',
      '21 up 10 -> down 10: check app down: not reported for 30 s',
      '21 down 10 -> down 10: check app up; held out for 5 s more',
      '21 down 10 -> up 10: asked',
    ],
  )
})

test('a report that renews another writes nothing, neither into maps nor into the journal, and is waited on anew', (t) => {
  const maps = make(policyOf())
  maps.report(21, check('up', 'fine'))
  const { commits } = maps
  const lines = maps.journal.length
  for (let i = 0; i < 20; i++) {
    maps.wait(29_999)
    maps.report(21, check('up', 'fine'))
  }
  t.is(maps.commits, commits)
  t.is(maps.journal.length, lines)
  t.is(maps.events.length, 1)
  t.is(of(maps), '10')
  maps.wait(29_999)
  t.is(of(maps), '10')
  maps.wait(1)
  t.is(of(maps), '0 out')
})

test('so many reports, one after another, make it up or down; how many there are the answers say, and nothing else', (t) => {
  const maps = make(policyOf({ rise: 2, fall: 3 }))
  maps.report(21, check('up'))
  t.is(answer(maps, check('up')), 'check up')
  const events = maps.events.length
  t.is(answer(maps, check('down', 'refused')), 'check down (1 of 3): refused')
  t.is(answer(maps, check('down', 'refused')), 'check down (2 of 3): refused')
  t.is(answer(maps, check('up')), 'check up')
  t.is(answer(maps, check('down')), 'check down (1 of 3)', 'one between them begins anew')
  t.is(answer(maps, check('down')), 'check down (2 of 3)')
  t.is(maps.events.length, events)
  t.is(of(maps), '10')
  t.is(answer(maps, check('down', 'refused')), 'check down: refused')
  t.is(of(maps), '0 out')
  t.is(answer(maps, check('up')), 'check up (1 of 2); check app down: refused')
  t.is(of(maps), '0 out')
  t.is(answer(maps, check('unknown')), 'check unknown')
  t.is(of(maps), '10', 'unknown takes effect at once, and counts as what it counts initially')
  t.is(answer(maps, check('down')), 'check down (1 of 3)')
})

test('one that is out for lack of reports comes back when as many came as it takes, and not sooner', (t) => {
  const maps = make(policyOf({ rise: 3 }))
  maps.wait(30_000)
  t.is(answer(maps, check('up')), 'check up (1 of 3); check app down: not reported for 30 s')
  maps.restart()
  maps.report(21, check('up'))
  maps.report(21, check('up'))
  t.is(of(maps), '0 out', 'what was counted is not of the next daemon')
  maps.report(21, check('up'))
  t.is(of(maps), '10')
  maps.nowMs += 30_000
  t.is(answer(maps, check('up')), 'check up (1 of 3); check app down: not reported for 30 s', 'the alarm is late')
  maps.follow()
  t.is(of(maps), '0 out')
})

test('what was not reported yet, or is unknown, gets new flows or not; its flows stay with it', (t) => {
  const maps = make(policyOf({ initially: 'down', rise: 2 }))
  t.is(of(maps), '0')
  t.is(maps.room.decisive(NAME, '192.0.2.21')?.text, 'check app unknown: not reported yet')
  t.is(answer(maps, check('up')), 'check up (1 of 2); check app unknown: not reported yet')
  t.is(answer(maps, check('up')), 'check up')
  t.is(of(maps), '10')
  t.is(answer(maps, check('unknown')), 'check unknown')
  t.is(of(maps), '0')
  maps.change(22, {})
  t.is(of(maps, 22), '0', 'also one that comes later')
  maps.wait(30_000)
  t.deepEqual([of(maps), of(maps, 22)], ['0 out', '0 out'])
  maps.report(21, { kind: 'forget' })
  t.is(of(maps), '0', 'and one of which all is forgotten')
})

test('to name a check in a running service takes no backend out, and their reports count from then on', (t) => {
  const maps = make(AT_ONCE, [21, 22])
  maps.report(21, check('up'))
  maps.wait(1_000_000)
  maps.policy = policyOf()
  maps.follow([NAME])
  t.is(maps.commits, 0)
  maps.wait(29_999)
  t.deepEqual([of(maps), of(maps, 22)], ['10', '10'])
  maps.wait(1)
  t.deepEqual([of(maps), of(maps, 22)], ['0 out', '0 out'])
})

test('who has no check any more, another one, or a longer time, comes back by itself', (t) => {
  for (const [name, policy] of [
    ['no check', AT_ONCE],
    ['another check', policyOf({ name: 'web' })],
    ['a longer time', policyOf({ expiresMs: 31_000 })],
    ['all the time', { ...AT_ONCE, check: { name: 'app', rise: 1, fall: 1, initially: 'up' } }],
  ] as const) {
    const maps = make(policyOf(), [21, 22])
    maps.report(21, check('up'))
    maps.wait(30_000)
    t.deepEqual([of(maps), of(maps, 22)], ['0 out', '0 out'])
    maps.restart()
    maps.policy = policy
    maps.follow([NAME])
    t.deepEqual([of(maps), of(maps, 22)], ['10', '10'], name)
    maps.policy = policyOf()
    maps.follow([NAME])
    const isOut = name === 'a longer time' || name === 'all the time'
    t.is(of(maps), isOut ? '0 out' : '10', `${name}: the old one again`)
  }
})

test('a shorter time takes out at once who was not reported for that long', (t) => {
  const maps = make(policyOf())
  maps.report(21, check('up'))
  maps.wait(10_000)
  maps.policy = policyOf({ expiresMs: 10_000 })
  maps.follow([NAME])
  t.is(of(maps), '0 out')
  t.is(maps.room.decisive(NAME, '192.0.2.21')?.text, 'check app down: not reported for 10 s')
})

test('past kill -9 nothing is forgotten: who is down stays so, whether reported or not, and what holds holds from the start on', (t) => {
  const maps = make(policyOf(), [21, 22, 23, 24])
  maps.report(21, check('up'))
  maps.report(22, check('down', 'refused'))
  maps.wait(30_000)
  const { commits } = maps
  maps.report(23, check('up'))
  maps.report(22, check('down', 'refused'))
  t.deepEqual([of(maps, 23), of(maps, 22)], ['10', '0 out'])
  maps.nowMs += 1_000_000
  maps.restart()
  t.deepEqual(
    [21, 22, 23, 24].map((last) => of(maps, last)),
    ['0 out', '0 out', '10', '0 out'],
  )
  t.is(maps.commits, commits + 1, 'the one is that 23 was back')
  t.is(maps.room.decisive(NAME, '192.0.2.21')?.sinceMs, START + 30_000)
  maps.wait(29_999)
  t.is(of(maps, 23), '10')
  t.is(maps.room.decisive(NAME, '192.0.2.22')?.text, 'check app down: refused')
  maps.wait(1)
  t.is(of(maps, 23), '0 out')
  t.is(maps.room.decisive(NAME, '192.0.2.22')?.text, 'check app down: not reported for 30 s')
  maps.report(21, check('up'))
  t.is(of(maps, 21), '10')
})

test('an agent says what it says for good, and renews no check', (t) => {
  const maps = make(policyOf())
  maps.report(21, check('up'))
  maps.wait(20_000)
  t.is(answer(maps, { kind: 'agent', state: 'up', percent: 50 }), 'agent up, 50 %')
  t.is(of(maps), '5')
  maps.wait(10_000)
  t.is(of(maps), '0 out')
  maps.report(21, check('up'))
  t.is(of(maps), '5')
})

test('what expires behind another fault is told, though packets go by the same', (t) => {
  const maps = make(policyOf())
  maps.report(21, { kind: 'agent', state: 'down', percent: 100 })
  const { commits } = maps
  maps.wait(30_000)
  t.is(maps.commits, commits)
  t.is(maps.events.at(-1)?.reason, 'check app down: not reported for 30 s')
  maps.report(21, check('up'))
  t.is(maps.events.at(-1)?.reason, 'check app up; agent down')
  t.is(maps.events.length, 3)
})

test('a report whose commit fails is not taken, nor does it renew or count', (t) => {
  const maps = make(policyOf({ rise: 2 }))
  maps.wait(30_000)
  maps.report(21, check('up'))
  maps.failing = true
  t.throws(() => maps.report(21, check('up')), { message: 'no room' })
  t.is(of(maps), '0 out')
  t.is(answer(maps, check('up')), 'check up')
  t.is(of(maps), '10')
})

test('who is removed is not waited for, and who is there again begins anew', (t) => {
  const maps = make(policyOf(), [21, 22])
  maps.wait(30_000)
  maps.change(21, undefined)
  maps.change(21, {})
  t.deepEqual([of(maps), of(maps, 22)], ['10', '0 out'])
  maps.wait(30_000)
  t.is(of(maps), '0 out')
  maps.commit(new Map())
  t.is(maps.dueMs, undefined)
  t.deepEqual(maps.room.services, [])
})

test('where the clock is set, forth or back, a report holds as long as it would, and who is out stays so', (t) => {
  for (const setMs of [3_600_000, -3_600_000]) {
    const maps = make(policyOf(), [21, 22])
    maps.wait(30_000)
    maps.report(21, check('up'))
    maps.wait(10_000)
    maps.nowMs += setMs
    maps.setMs += setMs
    maps.follow()
    const { commits } = maps
    maps.report(21, { kind: 'agent', state: 'up', percent: 100 })
    t.deepEqual([of(maps), of(maps, 22)], ['10', '0 out'], `${setMs}`)
    t.is(maps.commits, commits)
    maps.wait(19_999)
    t.deepEqual([of(maps), of(maps, 22)], ['10', '0 out'], `${setMs}`)
    maps.wait(1)
    t.deepEqual([of(maps), of(maps, 22)], ['0 out', '0 out'], `${setMs}`)
  }
})
