// SPDX-License-Identifier: Apache-2.0
// What the API answers to whoever asks wrongly, or while xlb is broken; and which verbs it has. Nothing listens: requests are handed in.
import test from 'ava'
import { API_VERBS } from '../../src/api/verbs.ts'
import { DAEMON_VERBS } from '../../src/commands/daemon.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { CLEAR, failure, JSON_TYPE, own, SERVICE, serve } from './asked.ts'

const MALFORMED: [title: string, body: string, says: RegExp][] = [
  ['an open brace', '{', /^the request is no JSON/],
  ['words', 'service=tcp', /^the request is no JSON/],
  ['two objects', '{}{}', /^the request is no JSON/],
  ['a NUL', '\0', /^the request is no JSON/],
  ['a list', '[]', /the request/],
  ['a text', '"x"', /the request/],
  ['a number', '7', /the request/],
  ['an unknown field', '{"x":1}', /"x"/],
  ['a prototype', '{"__proto__":{"all":true}}', /__proto__/],
  ['a constructor', '{"constructor":{"prototype":{"all":true}}}', /"constructor"/],
  ['lists in lists', `{"x":${'['.repeat(40)}${']'.repeat(40)}}`, /nested deeper than 32/],
  ['thirty thousand lists', `${'['.repeat(30_000)}${']'.repeat(30_000)}`, /nested deeper than 32/],
]

for (const [title, payload, says] of MALFORMED) {
  test(`a body that is ${title} is refused, and nothing is done`, async (t) => {
    const asked = await serve(t)
    t.regex(failure(t, await asked.ask('POST', CLEAR, { payload, headers: JSON_TYPE }), 400).what, says)
    t.is(asked.changes(), 0)
    t.deepEqual(asked.faults, [])
  })
}

test('a field of a wrong type, or out of bounds, is named', async (t) => {
  const { post, changes } = await serve(t)
  const cases: [verb: string, body: object, field: RegExp][] = [
    ['service/add', { service: 80 }, /^service: /],
    ['service/add', {}, /^service: /],
    ['service/add', { service: SERVICE, scheduler: 'best' }, /^scheduler: /],
    ['service/add', { service: SERVICE, seed: 'x' }, /^seed: /],
    ['service/add', { service: 'x'.repeat(301) }, /^service: /],
    ['backend/set', { service: SERVICE, address: '192.0.2.21', weight: -1 }, /^weight: /],
    ['backend/set', { service: SERVICE, address: '192.0.2.21', weight: 1.5 }, /^weight: /],
    ['backend/set', { service: SERVICE, address: '192.0.2.21', weight: '1' }, /^weight: /],
    ['backend/set', { service: SERVICE, address: ['192.0.2.21'] }, /^address: /],
    ['filter/add', { words: 'deny' }, /^words: /],
    ['filter/add', { words: [null] }, /^words\.0: /],
    ['restore', { file: 'x', values: [] }, /^values: /],
    ['restore', { file: 'x', values: [{ file: 'x', value: {}, more: 1 }] }, /^values\.0: /],
    ['detach', { all: 'yes' }, /^all: /],
    ['diff', { values: [{ file: 'x', value: {} }] }, /^file: /],
    ['diff', { file: 'x', values: [{ file: 7, value: {} }] }, /^values\.0\.file: /],
    ['diff', { file: 'x', values: {} }, /^values: /],
    ['diff', { file: 'x', values: [{ file: 'x', value: {} }], attach: true }, /"attach"/],
    ['doctor', { service: 80 }, /^service: /],
    ['doctor', { setup: 'yes' }, /^setup: /],
    ['doctor', { listen: 1.5 }, /^listen: /],
    ['doctor', { listen: [10] }, /^listen: /],
    ['doctor', { here: true }, /"here"/],
  ]
  for (const [verb, body, field] of cases) t.regex(failure(t, await post(verb, body), 400).what, field)
  t.is(changes(), 0)
})

test('words that a verb refuses are refused as on the command line', async (t) => {
  const { post } = await serve(t)
  t.is(failure(t, await post('service/rm', { service: 'tcp://nonsense:80' }), 400).mend !== '', true)
  t.regex(failure(t, await post('timeouts', { udp: 'soon' }), 400).what, /soon/)
  t.regex(failure(t, await post('service/add', { service: SERVICE, persist: 'long' }), 400).what, /long/)
})

test('without a body a verb has no options', async (t) => {
  const { ask } = await serve(t)
  for (const options of [{}, { payload: '', headers: JSON_TYPE }, { payload: '{}', headers: JSON_TYPE }]) {
    const error = failure(t, await ask('POST', CLEAR, options), 409)
    t.deepEqual(error, { what: 'xlb is not attached', mend: 'xlb attach IFACE', usage: false })
  }
  t.regex(failure(t, await ask('POST', '/v1/service/rm'), 400).what, /^service: /)
})

test('a body of another type is refused: a form of a foreign page changes nothing', async (t) => {
  const { ask, changes } = await serve(t)
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'x']) {
    failure(t, await ask('POST', CLEAR, { payload: '{}', headers: { 'content-type': type } }), 415)
  }
  t.is(changes(), 0)
})

test('a body that is too large is refused before it is read; of what only reads already a smaller one', async (t) => {
  const { ask } = await serve(t)
  const claims = (octets: number) => ({ payload: '{}', headers: { ...JSON_TYPE, 'content-length': `${octets}` } })
  const { mend } = failure(t, await ask('POST', CLEAR, claims(64 * 1024 * 1024 + 1)), 413)
  t.regex(mend, /^send less: 64 MiB at most/)
  failure(t, await ask('POST', '/v1/list', claims(64 * 1024 + 1)), 413)
  failure(t, await ask('POST', '/v1/nothing', claims(64 * 1024 + 1)), 413)
  const words = Array.from({ length: 5000 }, () => '192.0.2.0/24 and more words')
  failure(t, await ask('POST', '/v1/filter/add', { payload: JSON.stringify({ words }), headers: JSON_TYPE }), 400)
})

test('a wrong method is told which is right', async (t) => {
  const { ask } = await serve(t)
  for (const [url, right, wrong] of [
    [CLEAR, 'POST', ['GET', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS']],
    ['/v1/backend/set', 'POST', ['GET']],
    ['/v1/events', 'GET', ['POST', 'DELETE', 'HEAD']],
    ['/metrics', 'GET', ['POST']],
    ['/openapi.json?x=1', 'GET', ['PUT']],
  ] as const) {
    for (const method of wrong) {
      const response = await ask(method, url)
      t.is(response.statusCode, 405, `${method} ${url}`)
      t.is(response.headers.allow, right)
      if (method !== 'HEAD') failure(t, response, 405)
    }
  }
})

test('an unknown path is none, however it is written', async (t) => {
  const { ask } = await serve(t)
  for (const url of [
    '/',
    '/v1',
    '/v1/',
    '/v1/clear/',
    '/V1/clear',
    '/v1/backend',
    '/v1/../etc/passwd',
    '/v1/clear%00',
  ]) {
    for (const method of ['GET', 'POST'] as const) failure(t, await ask(method, url), 404)
  }
  failure(t, await ask('GET', '/v1/%zz'), 400)
})

test('a verb that is no request says why, and where to run it; the document does too', async (t) => {
  const { ask, changes } = await serve(t)
  const document = (await ask('GET', '/openapi.json')).body
  for (const [verb, why, where] of [
    ['capture', /frames with what clients wrote/, /`xlb capture` on the director itself, as root/],
    ['upgrade', /the caller's build/, /`xlb upgrade` on the director itself, as root/],
    ['bench', /measures a machine/, /`xlb bench` on the machine itself/],
    ['check', /reads files as whoever calls it may/, /`xlb check -c FILE` where the file is/],
    ['run', /is the daemon itself/, /POST \/v1\/reload/],
  ] as const) {
    for (const method of ['POST', 'GET', 'DELETE'] as const) {
      const { what, mend } = failure(t, await ask(method, `/v1/${verb}`), 404)
      t.true(what.startsWith(`xlb ${verb} is no request: `), what)
      t.regex(what, why)
      t.regex(mend, where)
    }
    t.regex(document, why)
  }
  for (const path of ['constructor', '__proto__', 'toString', 'capture/x']) {
    t.is(failure(t, await ask('POST', `/v1/${path}`), 404).what, `there is no /v1/${path}`)
  }
  t.is(changes(), 0)
})

test('a whole configuration may be large; what is wrong with its values is told by their places', async (t) => {
  const { post } = await serve(t)
  const entry = { service: SERVICE, backends: [{ address: '192.0.2.21', weight: 'x'.repeat(100_000) }] }
  const values = [{ file: 'new.yaml', value: { services: [entry] } }]
  const { what } = failure(t, await post('diff', { file: 'new.yaml', values }), 409)
  t.regex(what, /^new\.yaml: a fault\n +new\.yaml:.* services\[0\]\.backends\[0\]\.weight: /)
  t.notRegex(what, /nothing was changed/, 'nothing would be')
})

// ---- what a verb says

test('what a verb refuses is told whole: 409 where the world is otherwise, 400 where the words are wrong', async (t) => {
  for (const [usage, status] of [
    [false, 409],
    [true, 400],
  ] as const) {
    const faults = [{ file: 'a.yaml', line: 3 }]
    const refusal = Object.assign(new Refusal('what is wrong', 'how to mend it', { usage }), { faults })
    const session = (): never => {
      throw refusal
    }
    const { post, faults: broken } = await serve(t, { session })
    const response = await post('clear', {})
    t.is(response.statusCode, status)
    t.deepEqual(response.json(), { error: { what: 'what is wrong', mend: 'how to mend it', usage, faults } })
    t.deepEqual(broken, [], 'a refusal is no fault of xlb')
  }
})

test('a verb that is broken is 500 without a stack, and the log hears of it', async (t) => {
  const error = new TypeError('x is not a function')
  const session = (): never => {
    throw error
  }
  const { post, faults } = await serve(t, { session })
  const { what, mend } = failure(t, await post('clear', {}), 500)
  t.is(what, 'x is not a function')
  t.is(mend, "see the daemon's log: journalctl -u xlb -n 50")
  t.deepEqual(faults, [error])
})

test('an answer has the result, the text for people, and the notes', async (t) => {
  const { post } = await serve(t)
  const response = await post('reload', {})
  t.is(response.statusCode, 200)
  t.deepEqual(response.json(), {
    result: { changed: [], changedForAll: false, changedPolicies: [], pending: [] },
    text: 'reloaded /etc/xlb/xlb.yaml: nothing to change',
    notes: [],
  })
})

// ---- which verbs there are

interface Document {
  paths: Record<
    string,
    { post?: { summary: string; description?: string; tags: string[]; requestBody?: unknown }; get?: unknown }
  >
}

test('the document lists each verb, and says of each what it takes', async (t) => {
  const { ask } = await serve(t)
  const { paths } = (await ask('GET', '/openapi.json')).json<Document>()
  const verbs = { ...API_VERBS, ...own }
  for (const [name, { summary, reads, guarded }] of Object.entries(verbs)) {
    const post = paths[`/v1/${name.replaceAll(' ', '/')}`]?.post
    t.is(post?.summary, summary, name)
    t.deepEqual(post?.tags, [reads ? 'reads' : 'changes'])
    t.is(/needs the token/.test(post?.description ?? ''), !reads || guarded !== undefined, name)
    t.truthy(post?.requestBody)
  }
  t.is(Object.values(paths).filter(({ post }) => post !== undefined).length, Object.keys(verbs).length)
  for (const path of ['/metrics', '/openapi.json', '/v1/events']) t.truthy(paths[path]?.get, path)
})

test('each verb that the command line hands to the daemon has a route, and each route is one of these verbs', (t) => {
  const routes = new Set([...Object.keys(API_VERBS), ...Object.keys(own)])
  // What `backend drain --deadline` asks while it waits.
  routes.delete('backend remaining')
  // What the command line reads from the maps by itself.
  for (const name of ['connections', 'trace']) routes.delete(name)
  t.deepEqual([...routes].sort(), [...DAEMON_VERBS].sort())
})
