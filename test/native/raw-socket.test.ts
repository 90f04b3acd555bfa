// SPDX-License-Identifier: Apache-2.0
// Packet sockets: what goes out, what comes in, and what a filter keeps out.
import test from 'ava'
import { probeFilter } from '../../src/core/probe/filter.ts'
import { framesOf, readHeard } from '../../src/core/probe/heard.ts'
import { echoRequest, whoHas } from '../../src/core/probe/packets.ts'
import { failureOf, makeVeth, native, u32 } from './setup.ts'

/** Classic BPF: `ret #octets`. */
const takes = (octets: number): Uint8Array => u32(0x06, octets)

const rootTest = process.getuid?.() === 0 ? test.serial : test.serial.skip

rootTest('a frame goes out, its answer comes in by name of the interface, and what the filter leaves does not', (t) => {
  const veth = makeVeth(t)
  const mac = native.netlink.interfaceByIndex(veth.ifindex, -1)?.mac ?? ''
  const socket = native.openRawSocket(probeFilter())
  const deaf = native.openRawSocket(takes(0))
  t.teardown(() => deaf.close())
  const hop = { source: mac, destination: veth.peerMac }
  const route = { source: '198.51.100.1', destination: '198.51.100.2' }
  socket.send(veth.ifindex, whoHas(mac, '198.51.100.1', '198.51.100.2'))
  const [answer] = framesOf(socket.read(2000, 10))
  t.is(answer?.ifindex, veth.ifindex)
  t.deepEqual(readHeard(answer?.frame ?? new Uint8Array()), {
    kind: 'neighbour',
    address: '198.51.100.2',
    mac: veth.peerMac,
  })
  // No probe's identifier.
  socket.send(veth.ifindex, echoRequest(hop, route, { id: 5, sequence: 1 }))
  t.is(socket.read(200, 10).length, 0)
  // As much of it as the filter takes.
  socket.send(veth.ifindex, echoRequest(hop, route, { id: 61000, sequence: 1, size: 1500 }))
  t.is([...framesOf(socket.read(2000, 10))][0]?.frame.length, 256)
  t.is(deaf.read(0, 10).length, 0)
  socket.close()
  t.is(failureOf(t, () => socket.read(0, 1)).code, 'EBADF')
  t.is(failureOf(t, () => socket.send(veth.ifindex, new Uint8Array(60))).code, 'EBADF')
})

rootTest('no more frames are taken than are asked for, the others wait', (t) => {
  const veth = makeVeth(t)
  const mac = native.netlink.interfaceByIndex(veth.ifindex, -1)?.mac ?? ''
  const socket = native.openRawSocket(probeFilter())
  t.teardown(() => socket.close())
  for (let i = 0; i < 3; i++) socket.send(veth.ifindex, whoHas(mac, '198.51.100.1', '198.51.100.2'))
  t.is(socket.read(2000, 0).length, 0)
  t.is([...framesOf(socket.read(2000, 2))].length, 2)
  t.is([...framesOf(socket.read(2000, 2))].length, 1)
  const start = Date.now()
  t.is(socket.read(50, 2).length, 0)
  t.true(Date.now() - start >= 49)
})

rootTest('what a packet socket cannot do is named', (t) => {
  const socket = native.openRawSocket(takes(64))
  t.teardown(() => socket.close())
  const unknown = failureOf(t, () => socket.send(2 ** 30, new Uint8Array(60)))
  t.deepEqual([unknown.code, unknown.call, unknown.object], ['ENXIO', 'sendto', 'interface 1073741824'])
  t.is(failureOf(t, () => native.openRawSocket(u32(0xffff, 0))).code, 'EINVAL')
  for (const filter of [new Uint8Array(0), new Uint8Array(7), new Uint8Array(8 * 4097)]) {
    t.throws(() => native.openRawSocket(filter), { instanceOf: RangeError })
  }
  t.throws(() => socket.read(10_001, 1), { instanceOf: RangeError })
  t.throws(() => socket.read(0, 65_537), { instanceOf: RangeError })
  t.throws(() => native.openRawSocket('filter' as unknown as Uint8Array), { instanceOf: TypeError })
})

rootTest('a socket is counted while it is open', (t) => {
  const before = native.openHandles().rawSockets
  const socket = native.openRawSocket(takes(64))
  t.is(native.openHandles().rawSockets, before + 1)
  socket.close()
  socket.close()
  t.is(native.openHandles().rawSockets, before)
})
