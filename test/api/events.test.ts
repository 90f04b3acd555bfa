// SPDX-License-Identifier: Apache-2.0
// The stream of events.
import { mkdtempSync, rmSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { EventLog } from '../../src/daemon/event-log.ts'
import { type Asked, failure, SERVICE, serve } from './asked.ts'

/** What is told of one more event that happens, and of those before it: over a socket, as it is the connection's end that ends it. */
const stream = async (t: ExecutionContext, asked: Asked, path: string, headers = {}): Promise<string> => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-api-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const socketPath = join(folder, 'api.sock')
  await asked.server.listen({ path: socketPath })
  return new Promise((resolve, reject) => {
    let text = ''
    const request = get({ socketPath, path, headers }, (response) => {
      response.setEncoding('utf8')
      response.on('error', reject)
      response.once('data', () => asked.events.tell({ kind: 'maps', subject: 'x', to: 'mended', reason: '' }))
      response.on('data', (piece: string) => {
        text += piece
        if (!text.includes('"mended"')) return
        response.removeAllListeners('error')
        response.on('error', () => {})
        request.destroy()
        resolve(text)
      })
    })
    request.on('error', reject)
  })
}

const ids = (text: string): number[] => [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))

const three = async (t: ExecutionContext): Promise<Asked> => {
  const asked = await serve(t)
  for (const to of ['one', 'two\ndata: forged', 'three']) {
    asked.events.tell({ kind: 'service', subject: SERVICE, to, reason: '' })
  }
  return asked
}

test('events: those from now on, or after a number, or after the last that was heard', async (t) => {
  t.deepEqual(ids(await stream(t, await three(t), '/v1/events')), [4])
  t.deepEqual(ids(await stream(t, await three(t), '/v1/events?since=0')), [1, 2, 3, 4])
  t.deepEqual(ids(await stream(t, await three(t), '/v1/events?since=2')), [3, 4])
  t.deepEqual(ids(await stream(t, await three(t), '/v1/events?since=99')), [4])
  t.deepEqual(ids(await stream(t, await three(t), '/v1/events', { 'last-event-id': '1' })), [2, 3, 4])
  t.deepEqual(ids(await stream(t, await three(t), '/v1/events?since=3', { 'last-event-id': '1' })), [4])
})

test('events: whoever has numbers of a daemon before is told of all that this one tells', (t) => {
  const before = new EventLog(() => 1000)
  const after = new EventLog(() => 2000)
  for (const log of [before, after]) {
    for (const to of ['one', 'two']) log.tell({ kind: 'service', subject: SERVICE, to, reason: '' })
  }
  const last = before.since(0).at(-1)?.id ?? 0
  t.deepEqual(
    after.since(last).map(({ to }) => to),
    ['one', 'two'],
  )
})

test('events: a line break in one ends none', async (t) => {
  const data = (await stream(t, await three(t), '/v1/events?since=1')).match(/^data: .*$/gm) ?? []
  t.deepEqual(
    data.map((line) => JSON.parse(line.slice('data: '.length)).to),
    ['two\ndata: forged', 'three', 'mended'],
  )
})

test('events: what is no number of one is refused', async (t) => {
  const { ask } = await serve(t)
  for (const since of ['', 'x', '-1', '1.5', '1e3', '1&since=2', '9'.repeat(16), '%00']) {
    t.regex(failure(t, await ask('GET', `/v1/events?since=${since}`), 400).what, /^since /, since)
  }
  failure(t, await ask('GET', '/v1/events', { headers: { 'last-event-id': 'x' } }), 400)
})
