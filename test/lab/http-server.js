// SPDX-License-Identifier: Apache-2.0
// A real server for the lab: node http-server.js NAME PORT. It listens on every address of both families, so on the
// VIP too.
// Plain JavaScript, so that it starts without a loader.
//   /                        200, NAME
//   /status/503              that status, NAME
//   /slow?bytes=N&seconds=S  N bytes, spread evenly over S seconds
//   /held?bytes=N            half of N bytes at once, the rest when somebody asks for /release
//   /release                 200, the number of answers that were held
// Each answer names the server (x-server), and the addresses it sees (x-client, x-local): with direct server return the
// client's own, and the VIP.
import { createServer } from 'node:http'

const [name = '', port = ''] = process.argv.slice(2)
const SLICE_MS = 50

const inUrl = (address = '') => (address.includes(':') ? `[${address}]` : address)

/** Writes `bytes` in equal slices; ends with the last one, or when the client is gone. */
const drip = (response, bytes, seconds) => {
  const slices = Math.max(1, Math.round((seconds * 1000) / SLICE_MS))
  let sent = 0
  let slice = 0
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes })
  const timer = setInterval(
    () => {
      slice += 1
      const due = Math.floor((bytes * slice) / slices)
      response.write(Buffer.alloc(due - sent, name || '.'))
      sent = due
      if (slice === slices) {
        clearInterval(timer)
        response.end()
      }
    },
    (seconds * 1000) / slices,
  )
  response.on('close', () => clearInterval(timer))
}

const held = new Set()

/** Writes half of `bytes`, and keeps the rest until /release. */
const hold = (response, bytes) => {
  const half = Math.floor(bytes / 2)
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes })
  response.write(Buffer.alloc(half, name || '.'))
  const finish = () => response.end(Buffer.alloc(bytes - half, name || '.'))
  held.add(finish)
  response.on('close', () => held.delete(finish))
}

/** Lets every held answer go. @returns how many there were */
const releaseAll = () => {
  const count = held.size
  for (const finish of held) finish()
  held.clear()
  return count
}

const answer = (request, response) => {
  const url = new URL(request.url ?? '/', 'http://lab')
  const status = /^\/status\/(\d{3})$/.exec(url.pathname)
  const { remoteAddress, remotePort, localAddress, localPort } = request.socket
  response.setHeader('x-server', name)
  response.setHeader('x-client', `${inUrl(remoteAddress)}:${remotePort}`)
  response.setHeader('x-local', `${inUrl(localAddress)}:${localPort}`)
  if (url.pathname === '/slow') {
    drip(response, Number(url.searchParams.get('bytes') ?? 1), Number(url.searchParams.get('seconds') ?? 1))
    return
  }
  if (url.pathname === '/held') {
    hold(response, Number(url.searchParams.get('bytes') ?? 2))
    return
  }
  const body = url.pathname === '/release' ? `${releaseAll()}\n` : `${name}\n`
  response.writeHead(status ? Number(status[1]) : 200, {
    'content-type': 'text/plain',
    'content-length': Buffer.byteLength(body),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

// A server for each family: one for both would call IPv4 clients ::ffff:192.0.2.1.
const listen = (host) =>
  new Promise((resolve) => {
    createServer(answer).listen({ port: Number(port), host, ipv6Only: true }, resolve)
  })

await Promise.all(['0.0.0.0', '::'].map(listen))
console.log(`listening ${port}`)
process.on('SIGTERM', () => process.exit(0))
