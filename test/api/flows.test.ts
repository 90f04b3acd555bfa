// SPDX-License-Identifier: Apache-2.0
// The flow table by the API: the first so many connections, and what would become of a packet.
import test, { type ExecutionContext } from 'ava'
import { fillFlows } from '../../src/bench/fill-flows.ts'
import type { Session } from '../../src/shell/session.ts'
import { failure, JSON_TYPE, SERVICE, serve, TOKEN } from './asked.ts'
import { backend, fakeSession, service } from './plane.ts'

const FLOWS = 30

interface Listed {
  result: {
    connections: { protocol: string; state: string; source: string; virtual: string; destination: string }[]
    count: number
    leftOver: number
  }
  text: string
}

const filled = async (t: ExecutionContext) => {
  const fake = fakeSession()
  fake.set(service(10, 'rr', [backend(1), backend(2), backend(3)]))
  fillFlows(fake.plane.memory, SERVICE, FLOWS)
  const { memory } = fake.plane
  const clock = () => ({ age: BigInt(memory.age()), jiffies: 0n })
  return serve(t, { live: () => ({ ...fake.session(), plane: Object.assign(memory, { clock }) as Session['plane'] }) })
}

test('of many connections the first are told, and how many there are', async (t) => {
  const { post } = await filled(t)
  const { result, text } = (await post('connections', { limit: 7 })).json<Listed>()
  t.is(result.connections.length, 7)
  t.is(result.count, FLOWS)
  t.is(result.leftOver, 0)
  for (const { protocol, state, source, virtual, destination } of result.connections) {
    t.deepEqual([protocol, state, virtual], ['tcp', 'established', '192.0.2.10:80'])
    t.regex(source, /^100\.64\.0\.\d+:\d+$/)
    t.regex(destination, /^198\.51\.100\.[123]:80$/)
  }
  t.is(text.split('\n').length, 8)
  t.is((await post('connections', {})).json<Listed>().result.connections.length, FLOWS)
})

test('connections are chosen by service, backend, source and state', async (t) => {
  const { post } = await filled(t)
  const count = async (wanted: object) => (await post('connections', wanted)).json<Listed>().result.count
  t.is(await count({ service: SERVICE, backend: '198.51.100.2' }), FLOWS / 3)
  t.is(await count({ source: '100.64.0.0' }), 16)
  t.is(await count({ state: 'closing' }), 0)
})

test('what is wrong with a question about flows is said', async (t) => {
  const { post } = await filled(t)
  const cases: [verb: string, body: object, what: RegExp][] = [
    ['connections', { limit: 0 }, /^limit: /],
    ['connections', { limit: 10_001 }, /^limit: /],
    ['connections', { state: 'open' }, /^state: /],
    ['connections', { source: 'nowhere' }, /nowhere/],
    ['trace', { protocol: 'tcp', source: '203.0.113.5:1' }, /^destination: /],
    ['trace', { protocol: 'icmp', source: '203.0.113.5:1', destination: '192.0.2.10:80' }, /^protocol: /],
  ]
  for (const [verb, body, what] of cases) t.regex(failure(t, await post(verb, body), 400).what, what)
  t.regex(failure(t, await post('connections', { service: 'tcp://192.0.2.99:80' }), 409).what, /does not exist/)
})

test('a packet is traced', async (t) => {
  const { post } = await filled(t)
  const packet = { protocol: 'tcp', source: '100.64.0.0:1024', destination: '192.0.2.10:80' }
  const response = await post('trace', packet)
  t.is(response.statusCode, 200, response.body)
  const { result } = response.json<{ result: { choice: { by: string }; verdict: string } }>()
  t.is(result.choice.by, 'entry')
  t.is(result.verdict, 'XDP_TX')
})

test("over TCP clients' addresses need the token; a trace does not", async (t) => {
  const { ask } = await serve(t, { access: { kind: 'tcp', token: TOKEN } })
  failure(t, await ask('POST', '/v1/connections'), 401)
  const headers = { ...JSON_TYPE, authorization: `Bearer ${TOKEN}` }
  failure(t, await ask('POST', '/v1/connections', { headers, payload: '{}' }), 409)
  const packet = { protocol: 'tcp', source: '100.64.0.0:1024', destination: '192.0.2.10:80' }
  failure(t, await ask('POST', '/v1/trace', { headers: JSON_TYPE, payload: JSON.stringify(packet) }), 409)
})
