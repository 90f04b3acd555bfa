// SPDX-License-Identifier: Apache-2.0
// What status says of backends that checks, agents or time have something against.
import test from 'ava'
import type { Health } from '../../src/core/health.ts'
import { AT_ONCE, type ReturnPolicy, standing } from '../../src/core/standing.ts'
import { problemsOf } from '../../src/core/status.ts'
import { decisive, inputsOf, type Told } from '../../src/core/told.ts'
import { backend, service } from '../daemon/maps.ts'
import { START } from './story.ts'

const SERVICE = 'tcp://192.0.2.10:80'

/** Of 192.0.2.21, beside another one that is well. */
const told = (of: Told, policy: Partial<ReturnPolicy> = {}, more: { admin?: 'drain' } = {}) => {
  const plain = backend(21, more)
  const now = standing(inputsOf(plain, of, { ...AT_ONCE, ...policy }, { sinceMs: 0 }), START)
  const health: { health?: Health } = now.health === undefined ? {} : { health: now.health }
  const facts = { sinceMs: START - 9, full: false, unreached: null }
  return problemsOf({
    interfaces: [{ name: 'eth0', attached: true, fault: null }],
    egress: [],
    tables: [],
    services: [
      {
        service: service([{ ...plain, ...health }, backend(22)]),
        backends: [
          { ...facts, address: '192.0.2.21', found: decisive(now) },
          { ...facts, address: '192.0.2.22', found: undefined },
        ],
      },
    ],
    daemon: null,
  }).map(({ severity, what, sinceMs, mend }) => [severity, what, sinceMs, mend])
}

test('a check that is down, and a hold after it, is told with since when and how to mend it', (t) => {
  const down: Told = { check: { state: 'down', sinceMs: START - 5000, text: 'refused' } }
  t.deepEqual(told(down), [
    [
      'degraded',
      `192.0.2.21 of ${SERVICE} is out: check down: refused`,
      START - 5000,
      `see to the backend; to take it in whatever its check says: xlb backend report ${SERVICE} 192.0.2.21 --forget`,
    ],
  ])
  t.deepEqual(told(down, {}, { admin: 'drain' }).length, 1, 'out is worse than drained')
  const up: Told = { check: { state: 'up', before: 'down', sinceMs: START - 1000 } }
  t.deepEqual(told(up, { holdMs: 10_000 }), [
    [
      'degraded',
      `192.0.2.21 of ${SERVICE} is out: held out for 9 s more`,
      START - 1000,
      'it comes back by itself; how long it is held out says rejoin-hold',
    ],
  ])
  t.deepEqual(told(up), [])
})

test('who is not reported in time is told with its check, and that whoever reports it is to be seen to', (t) => {
  const check = { name: 'app', expiresMs: 30_000, rise: 1, fall: 1, initially: 'up' } as const
  const silent: Told = { check: { state: 'up', sinceMs: 0 }, silent: { check: 'app', sinceMs: START - 40_000 } }
  t.deepEqual(told(silent, { check }), [
    [
      'degraded',
      `192.0.2.21 of ${SERVICE} is out: check app down: not reported for 30 s`,
      START - 10_000,
      `see to whoever reports its check; to report it yourself: xlb backend report ${SERVICE} 192.0.2.21 --check up`,
    ],
  ])
  t.deepEqual(told(silent), [], 'of a check that it does not have any more nothing is said')
  t.deepEqual(told({}, { check: { ...check, initially: 'down' } })[0]?.slice(0, 2), [
    'degraded',
    `192.0.2.21 of ${SERVICE} gets no new flow: check app unknown: not reported yet`,
  ])
})

test('what somebody meant so, and what comes by itself, is a notice', (t) => {
  const up: Told = { check: { state: 'up', before: 'down', sinceMs: START - 1000 } }
  const of = (...args: Parameters<typeof told>) => told(...args).map(([severity, what]) => `${severity}: ${what}`)
  const name = `192.0.2.21 of ${SERVICE}`
  t.deepEqual(of(up, { slowStartMs: 10_000 }), [
    `notice: ${name} has a part of its weight: slow start 19 %, all of it in 9 s`,
  ])
  const agent = (state: 'up' | 'drain' | 'maint' | 'down', percent = 100): Told => ({
    agent: { state, percent, sinceMs: START, text: 'backup' },
  })
  t.deepEqual(of(agent('drain')), [`notice: ${name} gets no new flow: agent drain: backup`])
  t.deepEqual(of(agent('maint')), [`notice: ${name} is out: agent maint: backup`])
  t.deepEqual(of(agent('up', 30)), [`notice: ${name} has a part of its weight: agent up, 30 %: backup`])
  t.deepEqual(of(agent('up', 0)), [`notice: ${name} gets no new flow: agent up, 0 %: backup`])
  t.deepEqual(of(agent('down')), [`degraded: ${name} is out: agent down: backup`])
  t.deepEqual(of(agent('up')), [])
})
