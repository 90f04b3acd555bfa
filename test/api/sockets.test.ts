// SPDX-License-Identifier: Apache-2.0
// The API over TCP itself: who may do what there, of both families, and who holds how many connections.
import { connect, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { Refusal } from '../../src/core/refusal.ts'
import { listenOnTcp, TCP_CONNECTIONS_MAX } from '../../src/daemon/sockets.ts'
import { CLEAR, serve, TOKEN } from './asked.ts'

/** @returns the port, of a server that listens on a free one */
const listening = async (t: ExecutionContext, address: string) => {
  const asked = await serve(t, { access: { kind: 'tcp', token: TOKEN } })
  await listenOnTcp(asked.server, `${address}:0`)
  const { port } = asked.server.server.address() as { port: number }
  return { ...asked, port, url: `http://${address}:${port}` }
}

for (const address of ['127.0.0.1', '[::1]']) {
  test(`over TCP to ${address} everybody reads, and whoever has the token changes something`, async (t) => {
    const { url, changes } = await listening(t, address)
    const clear = (headers: Record<string, string>) =>
      fetch(`${url}${CLEAR}`, {
        method: 'POST',
        body: '{}',
        headers: { 'content-type': 'application/json', ...headers },
      })
    t.is((await fetch(`${url}/metrics`)).status, 200)
    t.is((await clear({})).status, 401)
    t.is((await clear({ authorization: 'Bearer incorrect-horse' })).status, 401)
    t.is(changes(), 0)
    // Nothing is attached here.
    t.is((await clear({ authorization: `Bearer ${TOKEN}` })).status, 409)
    t.is(changes(), 1)
  })
}

test('an address that is taken, or none of this host, is refused by its name', async (t) => {
  const { port } = await listening(t, '127.0.0.1')
  const refused = async (address: string) => {
    const { server } = await serve(t)
    const error = await t.throwsAsync(listenOnTcp(server, address), { instanceOf: Refusal })
    return error?.message ?? ''
  }
  t.regex(await refused(`127.0.0.1:${port}`), new RegExp(`^api\\.listen: 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`))
  t.regex(await refused('192.0.2.1:9618'), /^api\.listen: 192\.0\.2\.1:9618: .*EADDRNOTAVAIL/)
})

test('whoever holds many connections leaves room for descriptors of the daemon', async (t) => {
  const { port } = await listening(t, '127.0.0.1')
  let ended = 0
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port }, () => resolve(socket))
      socket.on('error', reject)
      socket.on('close', () => ended++)
      t.teardown(() => socket.destroy())
    })
  for (let i = 0; i < TCP_CONNECTIONS_MAX; i++) await open()
  t.is(ended, 0)
  const one = await open()
  await new Promise((resolve) => one.once('close', resolve))
  t.is(ended, 1)
})
