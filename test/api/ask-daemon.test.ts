// SPDX-License-Identifier: Apache-2.0
// What a command says where the daemon answers otherwise than it should: it was killed, it ends meanwhile, or is of another version.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { askDaemon } from '../../src/commands/ask-daemon.ts'
import { unreachable } from '../../src/commands/unreachable.ts'
import { Refusal } from '../../src/core/refusal.ts'

const folderOf = (t: ExecutionContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-ask-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

/** A daemon that answers so. */
const daemon = async (t: ExecutionContext, listener: RequestListener): Promise<string> => {
  const socket = join(folderOf(t), 'api.sock')
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  t.teardown(() => server.close())
  return socket
}

const answering =
  (status: number, what: string, mend: string): RequestListener =>
  (_request, response) =>
    void response.writeHead(status).end(JSON.stringify({ error: { what, mend, usage: status < 409 } }))

const refusal = async (t: ExecutionContext, socket: string, verb: string): Promise<Refusal> => {
  const error = await t.throwsAsync(() => askDaemon(socket, verb, {}, {}), { instanceOf: Refusal })
  return error as Refusal
}

test('a daemon that does not know a verb is of another version: the command does what it can do by itself', async (t) => {
  const socket = await daemon(t, answering(404, 'there is no /v1/doctor', 'see: GET /openapi.json'))
  t.false(await askDaemon(socket, 'doctor', {}, {}))
  const { message, mend, usage } = await refusal(t, socket, 'clear')
  t.regex(message, /^the daemon that runs does not know xlb clear: it may be of another version$/)
  t.regex(mend, /systemctl restart xlb/)
  t.false(usage)
})

test('nobody who uses a command is sent to the document of the API', async (t) => {
  const socket = await daemon(
    t,
    answering(400, 'the request: Unrecognized key: "new"', 'see what it takes: GET /openapi.json'),
  )
  const { message, mend, usage } = await refusal(t, socket, 'clear')
  t.regex(message, /"new"/)
  t.regex(mend, /systemctl restart xlb/)
  t.true(usage)
  const other = await daemon(t, answering(409, 'what is wrong', 'how to mend it'))
  t.like(await refusal(t, other, 'clear'), { message: 'what is wrong', mend: 'how to mend it', usage: false })
})

test('a daemon that ends meanwhile, or does not speak, is told with what becomes of packets and of what was asked', async (t) => {
  const ending = await daemon(t, (request) => request.socket.destroy())
  const ended = await refusal(t, ending, 'clear')
  t.regex(ended.message, /has ended before it answered; what was asked is done whole, or not at all$/)
  t.regex(ended.mend, /packets do not need it.*journalctl -u xlb/)
  const other = await daemon(t, (_request, response) => void response.end('<html>'))
  t.regex((await refusal(t, other, 'clear')).message, /does not answer \(status 200, no JSON\)$/)
})

test('where nobody listens, or nothing is there, the command does it by itself', async (t) => {
  t.false(await askDaemon(join(folderOf(t), 'none.sock'), 'doctor', {}, {}))
})

test('who may not use the socket is told whose it is', (t) => {
  const file = join(folderOf(t), 'api.sock')
  writeFileSync(file, '')
  chmodSync(file, 0o660)
  for (const code of ['EACCES', 'EPERM']) {
    const { message, mend } = unreachable(file, Object.assign(new Error(code), { code }))
    t.is(message, `you may not ask the daemon of xlb: ${file} is not open to you`)
    t.regex(mend, /^run it with sudo, or (have `api\.group` name a group|join the socket's group .* usermod -aG )/)
  }
})
