// SPDX-License-Identifier: Apache-2.0
// A UDP server for the lab that answers late: node udp-late.js ADDRESS PORT [TTL]. It says `holds CLIENT-PORT` for each
// datagram, and on SIGUSR1 answers them all, each over a socket of its own that is connected to its client: such a socket
// is told of errors, `refused CLIENT-PORT` (RFC 1122 section 4.1.3.3).
import { createSocket } from 'node:dgram'

const [address = '', port = '', ttl = '64'] = process.argv.slice(2)

const type = address.includes(':') ? 'udp6' : 'udp4'
const held = []
const server = createSocket({ type, reuseAddr: true })
server.on('message', (_, client) => {
  held.push(client)
  console.log(`holds ${client.port}`)
})
server.bind(Number(port), address, () => console.log(`listening ${port}`))

const answer = (client) => {
  const socket = createSocket({ type, reuseAddr: true })
  socket.on('error', (error) => console.log(`${error.code === 'ECONNREFUSED' ? 'refused' : error.code} ${client.port}`))
  socket.bind(Number(port), address, () => {
    socket.connect(client.port, client.address, () => {
      socket.setTTL(Number(ttl))
      socket.send('late')
    })
  })
}

process.on('SIGUSR1', () => {
  for (const client of held.splice(0)) answer(client)
})
process.on('SIGTERM', () => process.exit(0))
