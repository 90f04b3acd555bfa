// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import type { Check } from '../../src/core/check.ts'
import type { Backend } from '../../src/core/desired.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { changedPolicies, holdMs, slowStartMs } from '../../src/core/return-policy.ts'
import { AT_ONCE, standing } from '../../src/core/standing.ts'
import {
  decisive,
  followed,
  inputsOf,
  isSteady,
  type Report,
  type ReportOptions,
  reported,
  reportOf,
  reportText,
  settled,
  type Told,
} from '../../src/core/told.ts'
import { event, policies, START } from './story.ts'

const LINK = { kind: 'link', mac: 1n, interfaceSlot: 0 } as const
const SILENT = { kind: 'unresolved', why: 'does not answer ARP' } as const
const backend: Backend = { address: '192.0.2.21', port: 80, weight: 10, admin: 'up', path: LINK }

test('a report says one thing of a backend, and a share only of an agent that is up', (t) => {
  const refused: [ReportOptions, RegExp, RegExp][] = [
    [{}, /says nothing/, /--check up\|down\|unknown/],
    [{ text: 'why' }, /says nothing/, /--forget/],
    [{ check: 'up', agent: 'up' }, /more than one thing/, /give one of/],
    [{ check: 'up', forget: true }, /more than one thing/, /give one of/],
    [{ check: 'up', percent: 50 }, /--percent/, /add --agent up/],
    [{ agent: 'drain', percent: 50 }, /--percent/, /add --agent up/],
    [{ agent: 'up', percent: 101 }, /--percent 101: is not within 0 to 100/, /give 0 to 100/],
    [{ agent: 'up', percent: -1 }, /--percent -1/, /give 0 to 100/],
    [{ forget: true, text: 'why' }, /--text/, /leave it out/],
  ]
  for (const [options, what, mend] of refused) {
    const error = t.throws(() => reportOf(options), { instanceOf: Refusal })
    t.regex(error.message, what)
    t.regex(error.mend, mend)
    t.true(error.usage)
  }
  t.deepEqual(reportOf({ agent: 'up' }), { kind: 'agent', state: 'up', percent: 100 })
  t.deepEqual(reportOf({ check: 'down', forget: false, text: ' a\n\u001b[31mb\t' }), {
    kind: 'check',
    state: 'down',
    text: 'a [31mb',
  })
  const long = reportOf({ check: 'down', text: 'x'.repeat(5000) })
  t.is(long.kind === 'check' ? long.text?.length : 0, 200)
})

test('a report that says the same again keeps its time, and tells its newest text', (t) => {
  const report = (state: 'up' | 'down', text: string): Report => ({ kind: 'check', state, text })
  let told = reported(undefined, report('down', 'a'), 1000)
  t.deepEqual(told, { check: { state: 'down', sinceMs: 1000, text: 'a' } })
  told = reported(told, report('down', 'b'), 2000)
  t.deepEqual(told, { check: { state: 'down', sinceMs: 1000, text: 'b' } })
  told = reported(told, { kind: 'check', state: 'up' }, 3000)
  t.deepEqual(told, { check: { state: 'up', before: 'down', sinceMs: 3000 } })
  t.deepEqual(reported(told, { kind: 'check', state: 'up' }, 4000), told, 'what was before stays')
  t.is(reported(told, { kind: 'forget' }, 5000), undefined)
})

test('what a backend came back from is kept; one that comes for the first time came back from nowhere', (t) => {
  const maint: Backend = { ...backend, admin: 'maint' }
  const silent: Backend = { ...backend, path: SILENT }
  t.is(followed(undefined, undefined, silent, 1), undefined)
  t.is(followed(undefined, silent, backend, 2), undefined, 'it never was there before')
  const lost = followed(undefined, backend, silent, 3)
  t.deepEqual(lost, { neighbour: { state: 'unresolved', before: 'resolved', sinceMs: 3 } })
  t.deepEqual(followed(lost, silent, silent, 4), lost)
  const back = followed(lost, silent, backend, 5)
  t.deepEqual(back, { neighbour: { state: 'resolved', before: 'unresolved', sinceMs: 5 } })
  const up = followed(back, maint, backend, 6)
  t.deepEqual(up, { ...back, admin: { state: 'up', before: 'maint', sinceMs: 6 } })
  t.deepEqual(followed(up, backend, { ...backend, weight: 3 }, 7), up)
  t.deepEqual(followed(up, backend, { ...backend, admin: 'drain' }, 8), back)
  t.is(followed(undefined, { ...backend, admin: 'drain' }, backend, 9), undefined)
})

test('of one that was removed nothing is known any more, also where it is added again for its flows are left', (t) => {
  const told: Told = { check: { state: 'down', sinceMs: 1 } }
  const leaving: Backend = { ...backend, admin: 'leaving' }
  t.is(followed(told, backend, leaving, 2), undefined)
  t.is(followed(told, leaving, backend, 2), undefined)
  t.deepEqual(followed(told, undefined, backend, 2), told, 'as after a restart of the host')
})

test('the worst that is said of it is told, in words', (t) => {
  const text = (told: Told, nowMs = START) =>
    decisive(
      standing(inputsOf(backend, told, { ...AT_ONCE, holdMs: 5000, slowStartMs: 20_000 }, { sinceMs: 0 }), nowMs),
    )?.text
  t.is(text({}), undefined)
  t.is(text({ check: { state: 'up', sinceMs: START } }), undefined)
  const agent = { state: 'up', percent: 30, sinceMs: START } as const
  t.is(text({ agent }), 'agent up, 30 %')
  t.is(text({ agent, check: { state: 'down', sinceMs: START, text: 'refused' } }), 'check down: refused')
  const back: Told = { check: { state: 'up', before: 'down', sinceMs: START } }
  t.is(text(back), 'held out for 5 s more')
  t.is(text(back, START + 5000), 'slow start 10 %, all of it in 20 s')
  t.is(reportText({ kind: 'agent', state: 'up', percent: 30, text: 'busy' }), 'agent up, 30 %: busy')
})

test('what has settled has no effect any more, and what has not is kept', (t) => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 15 }), policies, fc.nat(90_000), (events, policy, laterMs) => {
      let nowMs = START
      let told: Told | undefined
      let now = backend
      const check = () => {
        const after = settled(told, policy, nowMs)
        const stands = (each: Told | undefined) => {
          const { weight, alive, nextChangeMs } = standing(inputsOf(now, each ?? {}, policy, { sinceMs: 0 }), nowMs)
          return { weight, alive, nextChangeMs }
        }
        assert.deepEqual(stands(after), stands(told))
        if (after !== undefined) assert.notDeepEqual(after, {})
        if (isSteady(told ?? {}, policy, nowMs)) assert.equal(stands(told).nextChangeMs, undefined)
      }
      for (const happened of events) {
        const before = now
        if (happened.kind === 'wait') nowMs += happened.ms
        else if (happened.kind === 'check') told = reported(told, { kind: 'check', state: happened.state }, nowMs)
        else if (happened.kind === 'agent') told = reported(told, { ...happened, kind: 'agent' }, nowMs)
        else if (happened.kind === 'admin') now = { ...now, admin: happened.state }
        else if (happened.kind === 'neighbour') now = { ...now, path: happened.state === 'resolved' ? LINK : SILENT }
        told = followed(told, before, now, nowMs)
        check()
      }
      nowMs += laterMs
      check()
    }),
    { numRuns: 800 },
  )
  t.pass()
})

test('how long a backend is held out, and its share grows, is at most an hour', (t) => {
  t.is(holdMs('90s'), 90_000)
  t.is(slowStartMs('1h'), 3_600_000)
  t.throws(() => holdMs('1h1s'), { instanceOf: Refusal, message: /rejoin-hold of 1h1s exceeds 1h/ })
  t.throws(() => slowStartMs('soon'), { instanceOf: Refusal, message: /slow-start 'soon': is not a span of time/ })
  const one = new Map([['a', { ...AT_ONCE, holdMs: 1000 }]])
  t.deepEqual(changedPolicies(one, new Map()), ['a'])
  t.deepEqual(
    changedPolicies(
      one,
      new Map([
        ['a', { ...AT_ONCE, holdMs: 1000 }],
        ['b', AT_ONCE],
      ]),
    ),
    [],
  )
})

test('of a service whose check says anything else, the configuration says something else', (t) => {
  const check: Check = { name: 'app', expiresMs: 1000, rise: 2, fall: 3, initially: 'up' }
  const { expiresMs: _, ...holding } = check
  const of = (each: Check | undefined) =>
    new Map([['a', { ...AT_ONCE, ...(each === undefined ? {} : { check: each }) }]])
  t.deepEqual(changedPolicies(of(check), of({ ...check })), [])
  for (const other of [
    undefined,
    holding,
    { ...check, name: 'web' },
    { ...check, expiresMs: 2000 },
    { ...check, rise: 1 },
    { ...check, fall: 1 },
    { ...check, initially: 'down' as const },
  ]) {
    t.deepEqual(changedPolicies(of(check), of(other)), ['a'], JSON.stringify(other))
  }
})
