// SPDX-License-Identifier: Apache-2.0
// The API's server, with which no instance is: it is asked, and what its verbs would do is counted.
import type { ExecutionContext } from 'ava'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { makeServer, type ServerOptions } from '../../src/api/server.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { EventLog } from '../../src/daemon/event-log.ts'
import { ownVerbs } from '../../src/daemon/own-verbs.ts'
import type { Native } from '../../src/dataplane/native.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import type { Session } from '../../src/shell/session.ts'

export const TOKEN = 'correct-horse-battery'
export const CLEAR = '/v1/clear'
export const SERVICE = 'tcp://192.0.2.10:80'

export interface Asked {
  server: FastifyInstance
  events: EventLog
  /** What was thrown that is no refusal. */
  faults: unknown[]
  /** How often a verb came so far that it would have changed something. */
  changes: () => number
  ask: (method: InjectOptions['method'], url: string, options?: InjectOptions) => Promise<LightMyRequestResponse>
  /** As JSON. */
  post: (verb: string, body: unknown) => Promise<LightMyRequestResponse>
}

export const own = ownVerbs({
  file: '/etc/xlb/xlb.yaml',
  reload: () => ({ services: [], globals: false, policies: [], pending: [] }),
  report: () => {
    throw new Refusal('xlb is not attached', 'xlb attach IFACE')
  },
})

export const serve = async (
  t: ExecutionContext,
  options: {
    access?: ServerOptions['access']
    own?: ServerOptions['own']
    session?: () => never
    /** What is attached; left out: nothing. */
    live?: () => Session
  } = {},
): Promise<Asked> => {
  const events = new EventLog(() => 0)
  const faults: unknown[] = []
  let changes = 0
  const server = await makeServer({
    context: {
      native: {} as Native,
      paths: pathsOf('test'),
      session: (action) => {
        if (options.live !== undefined) return action(options.live())
        changes++
        if (options.session !== undefined) return options.session()
        throw new Refusal('xlb is not attached', 'xlb attach IFACE')
      },
    },
    events,
    own: options.own ?? own,
    metrics: async () => ({ contentType: 'text/plain', text: 'xlb_attached 0\n' }),
    prepare: async () => {},
    because: (_reason, action) => action(),
    onFault: (_what, error) => faults.push(error),
    access: options.access ?? { kind: 'socket' },
  })
  t.teardown(() => server.close())
  const ask: Asked['ask'] = (method, url, more = {}) =>
    server.inject({ ...(method === undefined ? {} : { method }), url, ...more })
  const post: Asked['post'] = (verb, body) =>
    ask('POST', `/v1/${verb}`, { payload: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
  return { server, events, faults, changes: () => changes, ask, post }
}

interface Shape {
  error: { what: string; mend: string; usage: boolean }
}

/** Every answer that is none has the same shape, and says nothing of where in the code it came about. */
export const failure = (t: ExecutionContext, response: LightMyRequestResponse, status: number): Shape['error'] => {
  t.is(response.statusCode, status, response.body)
  t.is(response.headers['content-type'], 'application/json; charset=utf-8')
  const { error, ...rest } = response.json<Shape>()
  t.deepEqual(rest, {})
  t.truthy(error.what)
  t.truthy(error.mend)
  t.is(error.usage, status < 500 && ![401, 403, 409].includes(status))
  t.notRegex(response.body, /\.[jt]s:\d|node_modules|\\n +at /)
  return error
}

export const JSON_TYPE = { 'content-type': 'application/json' }
