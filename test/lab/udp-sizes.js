// SPDX-License-Identifier: Apache-2.0
// A UDP client for the lab: node udp-sizes.js ADDRESS PORT FROM-PORT SIZE... From one port (0: any), a datagram of each
// size, one after the other. A line for each answer: the server's name, and `whole` where all octets came back, else how
// many did. Exits 1 where an answer is missing after 5 s.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'

const [address = '', port = '', from = '', ...sizes] = process.argv.slice(2)

// No two groups of eight octets are the same, so that none can stand in for another.
const text = Array.from({ length: 8192 }, (_, i) => `${i}`.padStart(8, '.')).join('')

const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
socket.bind(Number(from))
await once(socket, 'listening')
for (const size of sizes.map(Number)) {
  const sent = text.slice(0, size)
  socket.send(sent, Number(port), address)
  try {
    const [message] = await once(socket, 'message', { signal: AbortSignal.timeout(5000) })
    const answer = message.toString()
    const name = answer.slice(0, answer.indexOf(' '))
    const back = answer.slice(name.length + 1)
    console.log(`${name} ${back === sent ? 'whole' : back.length}`)
  } catch {
    console.error(`no answer to ${size} octets from ${address}:${port}`)
    process.exitCode = 1
  }
}
socket.close()
