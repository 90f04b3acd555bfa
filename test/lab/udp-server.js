// SPDX-License-Identifier: Apache-2.0
// A UDP echo server for the lab: node udp-server.js NAME PORT ADDRESS... It answers each datagram with `NAME `, then the
// datagram. One socket an address: the answer must come from the address asked, the VIP or the server's own, and a
// socket on 0.0.0.0 would send it from whichever the route prefers.
import { createSocket } from 'node:dgram'

const [name = '', port = '', ...addresses] = process.argv.slice(2)

const listen = (address) =>
  new Promise((resolve) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    socket.on('message', (message, from) => {
      socket.send(Buffer.concat([Buffer.from(`${name} `), message]), from.port, from.address)
    })
    socket.bind(Number(port), address, resolve)
  })

process.on('SIGTERM', () => process.exit(0))
await Promise.all(addresses.map(listen))
console.log(`listening ${port}`)
