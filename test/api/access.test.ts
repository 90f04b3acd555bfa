// SPDX-License-Identifier: Apache-2.0
// Who may ask for what: over TCP changes and secrets are for whoever has the token.
import test from 'ava'
import { z } from 'zod'
import type { ServerOptions } from '../../src/api/server.ts'
import { API_VERBS, type ApiVerb } from '../../src/api/verbs.ts'
import { CLEAR, failure, JSON_TYPE, own, SERVICE, serve, TOKEN } from './asked.ts'

const tcp = (token: string | undefined) => ({ access: { kind: 'tcp', token } as const })
const bearing = (authorization: string) => ({ headers: { authorization } })

test('over TCP nothing is changed while no token is configured, whatever is sent', async (t) => {
  const { ask, changes } = await serve(t, tcp(undefined))
  for (const options of [{}, bearing('Bearer undefined'), bearing('Bearer '), bearing(`Bearer ${TOKEN}`)]) {
    t.regex(failure(t, await ask('POST', CLEAR, options), 403).mend, /api\.token/)
  }
  t.is(changes(), 0)
})

test('over TCP a change needs the token, and this is asked before anything else of it', async (t) => {
  const { ask, changes } = await serve(t, tcp(TOKEN))
  for (const options of [
    {},
    bearing(''),
    bearing('Bearer'),
    bearing('Bearer '),
    bearing(TOKEN),
    bearing(`Basic ${TOKEN}`),
    bearing(`Bearer ${TOKEN}x`),
    bearing(`Bearer ${TOKEN.slice(1)}`),
    bearing(`Bearer ${TOKEN.toUpperCase()}`),
  ]) {
    const response = await ask('POST', CLEAR, options)
    t.is(response.headers['www-authenticate'], 'Bearer')
    t.notRegex(failure(t, response, 401).what, /correct-horse/)
  }
  failure(t, await ask('POST', CLEAR, { payload: '{', headers: JSON_TYPE }), 401)
  failure(t, await ask('POST', CLEAR, { payload: '{}', headers: { ...JSON_TYPE, 'content-length': '99999999' } }), 401)
  t.is(changes(), 0)
})

test('over TCP whoever has the token may; the name of its scheme has no case', async (t) => {
  const { ask, changes } = await serve(t, tcp(TOKEN))
  for (const scheme of ['Bearer', 'bearer', 'BEARER ']) {
    const response = await ask('POST', '/v1/reload', bearing(`${scheme} ${TOKEN}`))
    t.is(response.statusCode, 200)
  }
  failure(t, await ask('POST', CLEAR, bearing(`Bearer ${TOKEN}`)), 409)
  t.is(changes(), 1)
})

const GUARDED = Object.entries({ ...API_VERBS, ...own }).filter(
  ([, { reads, guarded }]) => !reads || guarded !== undefined,
)

test('without the token everybody may read, with it too, and no verb that changes something counts as reading', async (t) => {
  for (const token of [undefined, TOKEN]) {
    const { ask } = await serve(t, tcp(token))
    for (const url of ['/metrics', '/openapi.json']) t.is((await ask('GET', url)).statusCode, 200)
    failure(t, await ask('POST', '/v1/list'), 409)
    for (const [name] of GUARDED) {
      failure(t, await ask('POST', `/v1/${name.replaceAll(' ', '/')}`), token === undefined ? 403 : 401)
    }
  }
  const guarded = new Set(GUARDED.map(([name]) => name))
  const open = Object.keys({ ...API_VERBS, ...own }).filter((name) => !guarded.has(name))
  t.deepEqual(
    open.sort(),
    ['backend remaining', 'filter list', 'list', 'status', 'trace'],
    'save, connections, doctor and diff are not: seeds, clients, probes, large bodies',
  )
})

test('over TCP seeds are for whoever has the token; over the Unix socket for everybody who may use that', async (t) => {
  const seed = '0x1a9fb586596ac719'
  const list: ApiVerb = {
    summary: '',
    reads: true,
    input: z.strictObject({}),
    run: ({ answer }) => answer({ services: [{ service: SERVICE, seed }], flows: 7n }, 'text'),
  }
  const told = async (access: ServerOptions['access'], headers = {}) => {
    const { ask } = await serve(t, { access, own: { ...own, list } })
    const { result } = (await ask('POST', '/v1/list', { headers })).json()
    t.is(result.flows, 7)
    return result.services[0]
  }
  t.deepEqual(await told({ kind: 'tcp', token: undefined }), { service: SERVICE, seed: null })
  t.deepEqual(await told({ kind: 'tcp', token: TOKEN }), { service: SERVICE, seed: null })
  t.deepEqual(await told({ kind: 'tcp', token: TOKEN }, { authorization: `Bearer ${TOKEN}` }), {
    service: SERVICE,
    seed,
  })
  t.deepEqual(await told({ kind: 'socket' }), { service: SERVICE, seed })
})
