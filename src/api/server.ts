// SPDX-License-Identifier: Apache-2.0
// HTTP over the Unix socket, and over TCP where the configuration says so. Over TCP nothing changes without the token.
import { timingSafeEqual } from 'node:crypto'
import swagger from '@fastify/swagger'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Context, Output } from '../commands/context.ts'
import { Refusal } from '../core/refusal.ts'
import type { EventLog } from '../daemon/event-log.ts'
import { answerOf, failureOf, serialize } from './answer.ts'
import { elsewhere, elsewhereText } from './elsewhere.ts'
import { API_VERBS, type ApiVerb } from './verbs.ts'

export interface ServerOptions {
  context: Omit<Context, keyof Output>
  events: EventLog
  /** Verbs that are the daemon's own, and of no command without it. */
  own: Readonly<Record<string, ApiVerb>>
  metrics: () => Promise<{ contentType: string; text: string }>
  /** Before a verb: whatever it may wait for, so that it need not. */
  prepare: (verb: string, input: Record<string, unknown>) => Promise<void>
  /** Whatever is done within is told of with this reason. */
  because: <T>(reason: string, action: () => T) => T
  /** Hears of what is no refusal: xlb itself is broken. Whoever asked is told its message alone. */
  onFault: (what: string, error: unknown) => void
  /** Over TCP: whoever has it may change something. Absent: nobody may. Over the Unix socket nobody is asked. */
  access: { kind: 'socket' } | { kind: 'tcp'; token: string | undefined }
}

/** Of a request that changes something, or takes a whole configuration: one of 100,000 backends is some 10 MB. */
const BODY_MAX = 64 * 1024 * 1024
/** Of any other: whoever has no token may send no more. */
const READ_BODY_MAX = 64 * 1024
/** So deep no request of these has to be; whoever nests deeper wants something else than to configure. */
const DEPTH_MAX = 32

const deeperThan = (value: unknown, depth: number): boolean => {
  if (typeof value !== 'object' || value === null) return false
  if (depth === 0) return true
  return Object.values(value).some((each) => deeperThan(each, depth - 1))
}

const parseBody = (text: string): unknown => {
  if (text === '') return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Refusal(`the request is no JSON: ${error instanceof Error ? error.message : error}`, 'send an object', {
      usage: true,
    })
  }
  if (deeperThan(value, DEPTH_MAX)) {
    throw new Refusal(
      `the request is nested deeper than ${DEPTH_MAX}`,
      'send what the API describes: GET /openapi.json',
      {
        usage: true,
      },
    )
  }
  return value
}

const SIZES = 'send less: 64 MiB at most of what changes something or takes a configuration, 64 KiB of any other'
const TOO_LARGE = 413

const SEE = 'see what it takes: GET /openapi.json'

/** @throws Refusal with what is wrong of each field */
const inputOf = (verb: ApiVerb, value: unknown): Record<string, unknown> => {
  const read = verb.input.safeParse(value)
  if (read.success) {
    return Object.fromEntries(Object.entries(read.data).filter(([, each]) => each !== undefined))
  }
  const faults = read.error.issues.map(({ path, message }) => `${path.join('.') || 'the request'}: ${message}`)
  throw new Refusal(faults.join('; '), SEE, { usage: true })
}

const isEqual = (a: string, b: string): boolean => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}

const FORBIDDEN = 403
const UNAUTHORIZED = 401

/** Why a verb needs the token; undefined: it needs none. */
const guardOf = ({ reads, guarded }: ApiVerb): string | undefined => (reads ? guarded : 'changes something')

/** Is it one of those who may use the Unix socket, or have the token? */
const isTrusted = (access: ServerOptions['access'], { headers }: FastifyRequest): boolean => {
  if (access.kind === 'socket') return true
  const given = /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1]
  return given !== undefined && access.token !== undefined && isEqual(given, access.token)
}

/** What answers a request that needs the token, and may not be; undefined: it may. */
const denied = (
  access: ServerOptions['access'],
  request: FastifyRequest,
  why: string,
): { status: number; refusal: Refusal } | undefined => {
  if (isTrusted(access, request)) return undefined
  if (access.kind === 'tcp' && access.token === undefined) {
    const refusal = new Refusal(
      `this request ${why}, which over TCP takes a token, and none is configured`,
      'use the Unix socket, or set api.token',
    )
    return { status: FORBIDDEN, refusal }
  }
  const refusal = new Refusal(`this request ${why}, and bears no valid token`, 'send Authorization: Bearer TOKEN')
  return { status: UNAUTHORIZED, refusal }
}

/** Whoever knows a ring's seed can aim at one backend. */
const withoutSeeds = (value: unknown): unknown =>
  JSON.parse(serialize(value), (key, each: unknown) => (key === 'seed' ? null : each))

const send = (reply: FastifyReply, status: number, value: unknown): FastifyReply =>
  reply.code(status).type('application/json; charset=utf-8').send(serialize(value))

const fail = (reply: FastifyReply, error: unknown, asked?: number): FastifyReply => {
  const { status, failure } = failureOf(error)
  return send(reply, asked ?? status, failure)
}

const jsonSchema = (schema: z.ZodType) => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return rest
}

/** Before the body is read: nobody without a token sends much of it. */
const guarded =
  (access: ServerOptions['access'], why: string) =>
  async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> => {
    const no = denied(access, request, why)
    if (no === undefined) return undefined
    // RFC 9110 section 11.6.1: a 401 says how to be let in.
    if (no.status === UNAUTHORIZED) void reply.header('www-authenticate', 'Bearer')
    return fail(reply, no.refusal, no.status)
  }

/** Aborted when the connection ends, which after an answer says nothing. */
const goneOf = ({ raw }: FastifyReply): AbortSignal => {
  const gone = new AbortController()
  if (raw.destroyed) gone.abort()
  else raw.once('close', () => gone.abort())
  return gone.signal
}

const addVerb = (server: FastifyInstance, name: string, verb: ApiVerb, options: ServerOptions): void => {
  const tags = [verb.reads ? 'reads' : 'changes']
  const why = guardOf(verb)
  const isLarge = !verb.reads || verb.guarded === 'takes a whole configuration'
  server.post(
    `/v1/${name.replaceAll(' ', '/')}`,
    {
      schema: {
        summary: verb.summary,
        ...(why === undefined ? {} : { description: `Over TCP it needs the token: it ${why}.` }),
        tags,
        body: jsonSchema(verb.input),
      },
      ...(isLarge ? { bodyLimit: BODY_MAX } : {}),
      ...(why === undefined ? {} : { onRequest: guarded(options.access, why) }),
    },
    async (request, reply) => {
      try {
        const input = inputOf(verb, request.body ?? {})
        await options.prepare(name, input)
        const session: Context['session'] = (action) =>
          options.because(`xlb ${name}`, () => options.context.session(action))
        const context = { ...options.context, session, gone: goneOf(reply) }
        const answer = await answerOf(context, (context) => verb.run(context, input as never))
        return send(reply, 200, isTrusted(options.access, request) ? answer : withoutSeeds(answer))
      } catch (error) {
        if (!(error instanceof Refusal)) options.onFault(`xlb ${name}`, error)
        return fail(reply, error)
      }
    },
  )
}

const KEEP_ALIVE_MS = 15_000
/** Octets of events that a follower has not taken yet. */
const UNREAD_MAX = 1 << 20

/** Server-sent events: those since Last-Event-ID first, then each as it happens. */
const addEvents = (server: FastifyInstance, events: EventLog): void => {
  const schema = {
    summary: 'events as they happen (text/event-stream); with Last-Event-ID, or ?since=ID, those after it first',
    tags: ['reads'],
    querystring: {
      type: 'object',
      additionalProperties: false,
      properties: { since: { type: 'integer', minimum: 0 } },
    },
  }
  server.get('/v1/events', { schema, exposeHeadRoute: false }, (request, reply) => {
    const { since } = request.query as { since?: string }
    const after = since ?? request.headers['last-event-id']
    if (after !== undefined && !/^\d{1,15}$/.test(String(after))) {
      void fail(reply, new Refusal(`since '${after}': is no number of an event`, 'leave it out', { usage: true }))
      return
    }
    reply.hijack()
    const { raw } = reply
    raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    raw.write(': events of xlb\n\n')
    const tell = (event: { id: number; kind: string }): void => {
      // Whoever does not read is not waited for, nor remembered for: it may come back with the number of its last event.
      if (raw.writableLength > UNREAD_MAX) raw.destroy()
      else raw.write(`id: ${event.id}\nevent: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`)
    }
    if (after !== undefined) for (const event of events.since(Number(after))) tell(event)
    const end = events.follow(tell)
    const alive = setInterval(() => raw.write(':\n\n'), KEEP_ALIVE_MS)
    raw.on('close', () => {
      clearInterval(alive)
      end()
    })
  })
}

/** A server of all routes, that does not listen yet. */
export const makeServer = async (options: ServerOptions): Promise<FastifyInstance> => {
  const failed = (
    error: Error & { statusCode?: number },
    request: FastifyRequest,
    reply: FastifyReply,
  ): FastifyReply => {
    if (error instanceof Refusal) return fail(reply, error)
    const status = error.statusCode ?? 500
    if (status === TOO_LARGE)
      return fail(reply, new Refusal('the request is too large', SIZES, { usage: true }), status)
    if (status < 500) return fail(reply, new Refusal(error.message, SEE, { usage: true }), status)
    options.onFault(`${request.method} ${request.url}`, error)
    return fail(reply, error, status)
  }
  const server = fastify({
    bodyLimit: READ_BODY_MAX,
    requestTimeout: 60_000,
    forceCloseConnections: true,
    frameworkErrors: failed,
  })
  // The routes' schemas are for the document: each verb's own says what is wrong, in words.
  server.setValidatorCompiler(() => () => true)
  server.removeContentTypeParser('text/plain')
  server.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    try {
      done(null, parseBody(body as string))
    } catch (error) {
      done(error as Error)
    }
  })
  server.setErrorHandler(failed)
  server.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? ''
    const known = server.hasRoute({ method: 'POST', url: path })
      ? 'POST'
      : server.hasRoute({ method: 'GET', url: path })
        ? 'GET'
        : undefined
    if (known === undefined) {
      const nowhere = new Refusal(`there is no ${path}`, 'see: GET /openapi.json', { usage: true })
      return fail(reply, elsewhere(/^\/v1\/(\w+)$/.exec(path)?.[1] ?? '') ?? nowhere, 404)
    }
    void reply.header('allow', known)
    return fail(reply, new Refusal(`${path} takes ${known} alone`, `ask with ${known}`, { usage: true }), 405)
  })
  await server.register(swagger, {
    openapi: {
      info: {
        title: 'xlb',
        version: '1',
        description: `Each verb of the command line as a request, by the names of its words and options. It answers { result, text, notes }: what --json prints, what a person reads, and what there is to say beside; or { error: { what, mend } }.\n\nThese are no requests:\n\n${elsewhereText()}`,
      },
    },
  })
  for (const [name, verb] of Object.entries({ ...API_VERBS, ...options.own })) addVerb(server, name, verb, options)
  addEvents(server, options.events)
  server.get(
    '/metrics',
    { schema: { summary: 'metrics for Prometheus', tags: ['reads'] } },
    async (_request, reply) => {
      const { contentType, text } = await options.metrics()
      return reply.type(contentType).send(text)
    },
  )
  server.get('/openapi.json', { schema: { summary: 'this document', tags: ['reads'] } }, () => server.swagger())
  return server
}
