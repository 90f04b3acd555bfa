// SPDX-License-Identifier: Apache-2.0
// An HTTP client for the lab: node http-from.js ADDRESS PORT LOCAL_PORT... It asks once from each of its own ports, one after
// the other, and prints one line for each: the body, or why there is none. It ends a connection by a reset, so that the port
// is free again at once.
import { connect } from 'node:net'

const [address = '', port = '', ...localPorts] = process.argv.slice(2)

const ask = (localPort) =>
  new Promise((resolve) => {
    let answer = ''
    const socket = connect({ host: address, port: Number(port), localPort }, () => {
      socket.write('GET / HTTP/1.1\r\nHost: lab\r\n\r\n')
    })
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')))
    socket.on('data', (data) => {
      answer += data
      const [, body = ''] = answer.split('\r\n\r\n')
      if (!body.endsWith('\n')) return
      resolve(body.trim())
      socket.resetAndDestroy()
    })
    socket.on('error', (error) => resolve(error.code ?? error.message))
  })

for (const localPort of localPorts) console.log(await ask(Number(localPort)))
