// SPDX-License-Identifier: Apache-2.0
// Reports of backends by the API: what comes to the daemon, and what is refused before.
import test from 'ava'
import type { Report } from '../../src/core/told.ts'
import { ownVerbs } from '../../src/daemon/own-verbs.ts'
import { failure, JSON_TYPE, SERVICE, serve, TOKEN } from './asked.ts'

const taking = () => {
  const taken: [service: string, backend: string, report: Report][] = []
  const own = ownVerbs({
    file: '/etc/xlb/xlb.yaml',
    reload: () => ({ services: [], globals: false, policies: [SERVICE], pending: [] }),
    report: ({ vip }, { address }, report) => {
      taken.push([vip, address, report])
      return 'as it says'
    },
  })
  return { own, taken }
}

test('a report comes to the daemon as it was meant', async (t) => {
  const { own, taken } = taking()
  const { post } = await serve(t, { own })
  const of = { service: SERVICE, address: '192.0.2.21:80' }
  const response = await post('backend/report', { ...of, check: 'down', text: 'refused' })
  t.deepEqual(response.json(), { result: { now: 'as it says' }, text: 'as it says', notes: [] })
  await post('backend/report', { ...of, agent: 'up', percent: 30 })
  await post('backend/report', { ...of, forget: true })
  t.deepEqual(taken, [
    ['192.0.2.10', '192.0.2.21', { kind: 'check', state: 'down', text: 'refused' }],
    ['192.0.2.10', '192.0.2.21', { kind: 'agent', state: 'up', percent: 30 }],
    ['192.0.2.10', '192.0.2.21', { kind: 'forget' }],
  ])
})

test('a report that is wrong is refused with what it takes, and does not come to the daemon', async (t) => {
  const { own, taken } = taking()
  const { post } = await serve(t, { own })
  const of = { service: SERVICE, address: '192.0.2.21' }
  const cases: [body: object, what: RegExp][] = [
    [of, /says nothing/],
    [{ ...of, check: 'up', agent: 'up' }, /more than one thing/],
    [{ ...of, check: 'ill' }, /^check: /],
    [{ ...of, agent: 'up', percent: 101 }, /--percent 101/],
    [{ ...of, agent: 'up', percent: -1 }, /--percent -1/],
    [{ ...of, agent: 'up', percent: 1.5 }, /^percent: /],
    [{ ...of, agent: 'up', percent: '5' }, /^percent: /],
    [{ ...of, check: 'up', text: 'x'.repeat(10_001) }, /^text: /],
    [{ ...of, check: 'up', more: 1 }, /"more"/],
    [{ service: SERVICE, check: 'up' }, /^address: /],
    [{ ...of, address: '192.0.2.21:81', check: 'up' }, /port 81 differs/],
    [{ ...of, service: 'tcp://nonsense:80', check: 'up' }, /nonsense/],
  ]
  for (const [body, what] of cases) t.regex(failure(t, await post('backend/report', body), 400).what, what)
  t.deepEqual(taken, [])
})

test('over TCP a report needs the token', async (t) => {
  const { own, taken } = taking()
  const { ask } = await serve(t, { own, access: { kind: 'tcp', token: TOKEN } })
  const payload = JSON.stringify({ service: SERVICE, address: '192.0.2.21', check: 'up' })
  failure(t, await ask('POST', '/v1/backend/report', { payload, headers: JSON_TYPE }), 401)
  t.deepEqual(taken, [])
  const headers = { ...JSON_TYPE, authorization: `Bearer ${TOKEN}` }
  t.is((await ask('POST', '/v1/backend/report', { payload, headers })).statusCode, 200)
})

test('a reload that changes nothing but how backends come back says so', async (t) => {
  const { own } = taking()
  const { post } = await serve(t, { own })
  t.is(
    (await post('reload', {})).json<{ text: string }>().text,
    'reloaded /etc/xlb/xlb.yaml: 0 services changed; how backends come back: of 1 service',
  )
})
