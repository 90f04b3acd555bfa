// SPDX-License-Identifier: Apache-2.0
// A TCP server for the lab: node line-server.js NAME PORT. It answers each line with `NAME line`, for as long as the client
// stays. It listens on every address of both families, so on the VIP too.
import { createServer } from 'node:net'

const [name = '', port = ''] = process.argv.slice(2)

const server = createServer({ noDelay: true }, (socket) => {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('error', () => {})
  socket.on('data', (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    if (lines.length > 0) socket.write(lines.map((line) => `${name} ${line}\n`).join(''))
  })
})

server.listen({ port: Number(port), host: '::', backlog: 1024 }, () => console.log(`listening ${port}`))
process.on('SIGTERM', () => process.exit(0))
