// SPDX-License-Identifier: Apache-2.0
// A UDP client for the lab: node udp-ask.js ADDRESS PORT TEXT [COUNT [SAME]]. Sends TEXT COUNT times, one after the other,
// each from a new port (from one port where SAME is `same`), and prints one line for each answer; exits 1 where one is
// missing after a second.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'

const [address = '', port = '', text = '', count = '1', same = ''] = process.argv.slice(2)

const family = address.includes(':') ? 'udp6' : 'udp4'

const ask = async (socket) => {
  socket.send(text, Number(port), address)
  const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(1000) })
  console.log(answer.toString())
}

const kept = same === 'same' ? createSocket(family) : undefined
for (let asked = 0; asked < Number(count); asked++) {
  const socket = kept ?? createSocket(family)
  try {
    await ask(socket)
  } catch {
    console.error(`no answer from ${address}:${port}`)
    process.exitCode = 1
  }
  if (socket !== kept) socket.close()
}
kept?.close()
