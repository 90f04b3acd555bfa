// SPDX-License-Identifier: Apache-2.0
// ICMP errors go to the backend whose packet they are about, and change nothing.
import test, { type ExecutionContext } from 'ava'
import {
  CLIENT,
  datagram,
  FRAGMENT,
  type FrameFields,
  icmpError,
  ipv4,
  PROTOCOL,
  TCP,
  tcp,
  tcpFrame,
  udp,
  udpFrame,
  VIP,
} from './frames.ts'
import { Balancer, breathe, VERDICT } from './plane.ts'

test.beforeEach(breathe)

const TCP_SERVICE = `tcp://${VIP}:80`
const UDP_SERVICE = `udp://${VIP}:53`
const ROUTER = '203.0.113.254'

const open = (t: ExecutionContext): Balancer => {
  const balancer = new Balancer()
  t.teardown(() => balancer.close())
  return balancer
}

interface ErrorFields {
  type?: number
  code?: number
  /** Octets that are quoted behind the quoted IP header. */
  quoted?: number
  outer?: FrameFields
  inner?: FrameFields
  client?: string
  clientPort?: number
  port?: number
  udp?: boolean
}

/** A router's answer to a packet that a backend sent from the VIP to a client. */
const errorFrame = (fields: ErrorFields = {}): Buffer => {
  const over = fields.udp === true ? udp : tcp
  const turned = { sourcePort: fields.port ?? (fields.udp === true ? 53 : 80), port: fields.clientPort ?? 40000 }
  const protocol = fields.udp === true ? PROTOCOL.UDP : PROTOCOL.TCP
  const inner = { source: VIP, vip: fields.client ?? CLIENT, protocol, ...fields.inner }
  const datagramBack = ipv4(inner, over({ ...turned, flags: TCP.ACK, payload: Buffer.alloc(100) }))
  const header = ((datagramBack[0] ?? 0) & 15) * 4
  const body = icmpError(fields.type ?? 3, fields.code ?? 4, datagramBack.subarray(0, header + (fields.quoted ?? 8)))
  return datagram({ source: ROUTER, protocol: PROTOCOL.ICMP, ...fields.outer }, body)
}

for (const scheduler of ['mh', 'sh', 'rr', 'wrr'] as const) {
  test.serial(`${scheduler}: an error about a flow goes where the flow goes, from eight quoted octets`, (t) => {
    const balancer = open(t)
    balancer.add(TCP_SERVICE, { scheduler }, 7)
    balancer.add(UDP_SERVICE, { scheduler }, 7)
    for (let i = 0; i < 60; i++) {
      const [client, clientPort] = [`203.0.113.${i}`, 2000 + i]
      const tuple = { source: client, sourcePort: clientPort }
      const backend = balancer.to(tcpFrame({ ...tuple, flags: TCP.SYN }))
      const udpBackend = balancer.to(udpFrame({ ...tuple, port: 53 }))
      t.is(balancer.to(errorFrame({ client, clientPort })), backend)
      t.is(balancer.to(errorFrame({ client, clientPort, udp: true })), udpBackend)
    }
  })
}

for (const [what, type, code] of [
  ['fragmentation needed', 3, 4],
  ['host unreachable', 3, 1],
  ['port unreachable', 3, 3],
  ['time exceeded', 11, 0],
  ['parameter problem', 12, 0],
] as const) {
  test.serial(`${what} reaches the backend, unchanged but for its MACs`, (t) => {
    const balancer = open(t)
    balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 2)
    const backend = balancer.to(tcpFrame())
    balancer.moved()
    const frame = errorFrame({ type, code })
    const sent = balancer.send(Buffer.from(frame))
    t.deepEqual(sent.reasons, { TX_FORWARDED: 1 })
    t.is(sent.backend, backend)
    t.true(sent.frame.subarray(12).equals(frame.subarray(12)))
  })
}

test.serial('an error counts as its backend’s packet, but opens, refreshes and ends no flow', (t) => {
  const balancer = open(t)
  balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 2)
  const table = () => Buffer.from(balancer.plane.buffer('flows')).toString('latin1')
  const empty = table()
  const without = balancer.send(errorFrame())
  t.deepEqual(without.reasons, { TX_FORWARDED: 1 })
  t.is(table(), empty)
  const backend = balancer.to(tcpFrame()) ?? 0
  const before = table()
  const counts = balancer.counters(TCP_SERVICE, backend)
  balancer.run(errorFrame({ inner: { options: Buffer.alloc(8, 1) } }))
  t.is(table(), before)
  const after = balancer.counters(TCP_SERVICE, backend)
  t.is(after.packets - counts.packets, 1n)
  t.is(after.flows, counts.flows)
})

test.serial('an error about a flow without an entry goes where its next packet would', (t) => {
  const balancer = open(t)
  balancer.add(TCP_SERVICE, { scheduler: 'wrr' }, 5)
  for (let i = 0; i < 40; i++) {
    const [client, clientPort] = [`203.0.113.${i}`, 3000 + i]
    const backend = balancer.to(errorFrame({ client, clientPort }))
    t.is(balancer.to(tcpFrame({ source: client, sourcePort: clientPort, flags: TCP.ACK })), backend)
  }
})

test.serial('on a ring that changed, an error still goes to the backend that holds the flow', (t) => {
  const balancer = open(t)
  balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 3)
  const flows = Array.from({ length: 60 }, (_, i) => ({ client: `203.0.113.${i}`, clientPort: 4000 + i }))
  const before = flows.map(({ client, clientPort }) =>
    balancer.to(tcpFrame({ source: client, sourcePort: clientPort })),
  )
  for (const backend of [4, 5, 6]) balancer.setBackend(TCP_SERVICE, backend)
  t.deepEqual(
    flows.map((flow) => balancer.to(errorFrame(flow))),
    before,
  )
})

for (const [what, fields] of [
  ['a redirect', { type: 5 }],
  ['a ping', { type: 8 }],
  ['an answer to a ping', { type: 0 }],
  ['an error that quotes seven octets', { quoted: 7 }],
  ['an error whose eighth quoted octet is padding', { quoted: 7, outer: { padding: 4 } }],
  ['an error that quotes no header whole', { inner: { ihl: 4 } }],
  ['an error that quotes IPv6', { inner: { version: 6 } }],
  ['an error that quotes a later fragment', { inner: { fragment: 100 } }],
  ['an error that quotes another host’s packet', { inner: { source: '192.0.2.200' } }],
  ['an error that quotes ICMP', { inner: { protocol: PROTOCOL.ICMP } }],
  ['a fragment of an error', { outer: { fragment: FRAGMENT.MORE } }],
] as const satisfies readonly (readonly [string, ErrorFields])[]) {
  test.serial(`${what} is left to the stack`, (t) => {
    const balancer = open(t)
    balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 2)
    const sent = balancer.send(errorFrame(fields))
    t.deepEqual(sent.reasons, { PASS_NOT_BALANCED: 1 })
    t.is(sent.verdict, VERDICT.PASS)
  })
}

test.serial('an error about a port without a service is the director’s own', (t) => {
  const balancer = open(t)
  balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 2)
  t.deepEqual(balancer.send(errorFrame({ port: 22 })).reasons, { PASS_NO_SERVICE: 1 })
  t.deepEqual(balancer.send(errorFrame({ udp: true })).reasons, { PASS_NO_SERVICE: 1 })
})

test.serial('an error for no VIP is left alone', (t) => {
  const balancer = open(t)
  balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 2)
  t.deepEqual(balancer.send(errorFrame({ outer: { vip: '192.0.2.99' } })).reasons, { PASS_NOT_VIP: 1 })
})

test.serial('where no backend can be reached, an error about a flow is dropped by name', (t) => {
  const balancer = open(t)
  balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 0)
  t.deepEqual(balancer.send(errorFrame()).reasons, { DROP_NO_BACKEND: 1 })
})

test.serial('a quoted header with options is stepped over', (t) => {
  const balancer = open(t)
  balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 4)
  const backend = balancer.to(tcpFrame())
  for (const words of [1, 5, 10]) {
    t.is(balancer.to(errorFrame({ inner: { options: Buffer.alloc(words * 4, 1) } })), backend)
    t.is(balancer.to(errorFrame({ outer: { options: Buffer.alloc(words * 4, 1) } })), backend)
  }
})
