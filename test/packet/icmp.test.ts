// SPDX-License-Identifier: Apache-2.0
// ICMP errors go to the backend whose packet they are about, and change nothing.
import test from 'ava'
import { type CommonFields, FAMILIES } from './families.ts'
import { TABLES } from './flowtable.ts'
import { PROTOCOL, TCP, tcp, udp } from './frames.ts'
import { Balancer, breathe, VERDICT } from './plane.ts'

test.beforeEach(breathe)

const shared = new Balancer()
test.after.always(() => shared.close())

interface ErrorFields {
  error?: { type: number; code: number }
  /** Octets that are quoted behind the quoted IP header. */
  quoted?: number
  outer?: CommonFields
  inner?: CommonFields & { version?: number; ihl?: number }
  client?: string
  clientPort?: number
  port?: number
  udp?: boolean
}

for (const {
  family,
  VIP,
  HOST,
  NO_VIP,
  CLIENT,
  ROUTER,
  source,
  errors,
  optional,
  piece,
  tcpFrame,
  udpFrame,
  ip,
  errorFrame: frameAround,
  notErrors,
} of FAMILIES) {
  const TCP_SERVICE = `tcp://${HOST}:80`
  const UDP_SERVICE = `udp://${HOST}:53`

  const anyError = Object.values(errors)[0] ?? { type: 0, code: 0 }

  const open = (): Balancer => shared.reset()

  /** A router's answer to a packet that a backend sent from the VIP to a client. */
  const errorFrame = (fields: ErrorFields = {}): Buffer => {
    const over = fields.udp === true ? udp : tcp
    const turned = { sourcePort: fields.port ?? (fields.udp === true ? 53 : 80), port: fields.clientPort ?? 40000 }
    const protocol = fields.udp === true ? PROTOCOL.UDP : PROTOCOL.TCP
    const inner = { source: VIP, vip: fields.client ?? CLIENT, protocol, ...fields.inner }
    const sent = over({ ...turned, flags: TCP.ACK, payload: Buffer.alloc(100) })
    const quoted = ip(inner, sent)
    const octets = quoted.length - sent.length + (fields.quoted ?? 8)
    return frameAround({ source: ROUTER, ...fields.outer }, fields.error ?? anyError, quoted.subarray(0, octets))
  }

  for (const scheduler of ['mh', 'sh', 'rr', 'wrr'] as const) {
    test.serial(
      `${family}: ${scheduler}: an error about a flow goes where the flow goes, from eight quoted octets`,
      (t) => {
        const balancer = open()
        balancer.add(TCP_SERVICE, { scheduler }, 7)
        balancer.add(UDP_SERVICE, { scheduler }, 7)
        for (let i = 0; i < 60; i++) {
          const [client, clientPort] = [source(i), 2000 + i]
          const tuple = { source: client, sourcePort: clientPort }
          const backend = balancer.to(tcpFrame({ ...tuple, flags: TCP.SYN }))
          const udpBackend = balancer.to(udpFrame({ ...tuple, port: 53 }))
          t.is(balancer.to(errorFrame({ client, clientPort })), backend)
          t.is(balancer.to(errorFrame({ client, clientPort, udp: true })), udpBackend)
        }
      },
    )
  }

  for (const [what, error] of Object.entries(errors)) {
    test.serial(`${family}: ${what} reaches the backend, unchanged but for its MACs`, (t) => {
      const balancer = open()
      balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 2)
      const backend = balancer.to(tcpFrame())
      balancer.moved()
      const frame = errorFrame({ error })
      const sent = balancer.send(Buffer.from(frame))
      t.deepEqual(sent.reasons, { TX_FORWARDED: 1 })
      t.is(sent.backend, backend)
      t.true(sent.frame.subarray(12).equals(frame.subarray(12)))
    })
  }

  test.serial(`${family}: an error counts as its backend’s packet, but opens, refreshes and ends no flow`, (t) => {
    const balancer = open()
    balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 2)
    const table = () => Buffer.from(balancer.plane.buffer(TABLES[family])).toString('latin1')
    const empty = table()
    const without = balancer.send(errorFrame())
    t.deepEqual(without.reasons, { TX_FORWARDED: 1 })
    t.is(table(), empty)
    const backend = balancer.to(tcpFrame()) ?? 0
    const before = table()
    const counts = balancer.counters(TCP_SERVICE, backend)
    balancer.run(errorFrame({ inner: optional(2) }))
    t.is(table(), before)
    const after = balancer.counters(TCP_SERVICE, backend)
    t.is(after.packets - counts.packets, 1n)
    t.is(after.flows, counts.flows)
  })

  test.serial(`${family}: an error about a flow without an entry goes where its next packet would`, (t) => {
    const balancer = open()
    balancer.add(TCP_SERVICE, { scheduler: 'wrr' }, 5)
    for (let i = 0; i < 40; i++) {
      const [client, clientPort] = [source(i), 3000 + i]
      const backend = balancer.to(errorFrame({ client, clientPort }))
      t.is(balancer.to(tcpFrame({ source: client, sourcePort: clientPort, flags: TCP.ACK })), backend)
    }
  })

  test.serial(`${family}: on a ring that changed, an error still goes to the backend that holds the flow`, (t) => {
    const balancer = open()
    balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 3)
    const flows = Array.from({ length: 60 }, (_, i) => ({ client: source(i), clientPort: 4000 + i }))
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
    ...Object.entries(notErrors).map(([what, type]) => [what, { error: { type, code: 0 } }] as const),
    ['an error that quotes seven octets', { quoted: 7 }],
    ['an error whose eighth quoted octet is padding', { quoted: 7, outer: { padding: 4 } }],
    ['an error that quotes the other family’s version', { inner: { version: family === 'ipv4' ? 6 : 4 } }],
    ['an error that quotes a later fragment', { inner: piece(1, 800, true) }],
    ['a fragment of an error', { outer: piece(1, 0, true) }],
    ...(family === 'ipv4' ? ([['an error that quotes no header whole', { inner: { ihl: 4 } }]] as const) : []),
    ['an error that quotes another host’s packet', { inner: { source: NO_VIP } }],
    ['an error that quotes ICMP', { inner: { protocol: family === 'ipv4' ? PROTOCOL.ICMP : PROTOCOL.ICMPV6 } }],
  ] as const satisfies readonly (readonly [string, ErrorFields])[]) {
    test.serial(`${family}: ${what} is left to the stack`, (t) => {
      const balancer = open()
      balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 2)
      const sent = balancer.send(errorFrame(fields))
      t.deepEqual(sent.reasons, { PASS_NOT_BALANCED: 1 })
      t.is(sent.verdict, VERDICT.PASS)
    })
  }

  test.serial(`${family}: an error about a port without a service is the director’s own`, (t) => {
    const balancer = open()
    balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 2)
    t.deepEqual(balancer.send(errorFrame({ port: 22 })).reasons, { PASS_NO_SERVICE: 1 })
    t.deepEqual(balancer.send(errorFrame({ udp: true })).reasons, { PASS_NO_SERVICE: 1 })
  })

  test.serial(`${family}: an error for no VIP is left alone`, (t) => {
    const balancer = open()
    balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 2)
    t.deepEqual(balancer.send(errorFrame({ outer: { vip: NO_VIP } })).reasons, { PASS_NOT_VIP: 1 })
  })

  test.serial(`${family}: where no backend can be reached, an error about a flow is dropped by name`, (t) => {
    const balancer = open()
    balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 0)
    t.deepEqual(balancer.send(errorFrame()).reasons, { DROP_NO_BACKEND: 1 })
  })

  test.serial(`${family}: quoted options and extension headers are stepped over`, (t) => {
    const balancer = open()
    balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 4)
    const backend = balancer.to(tcpFrame())
    for (const words of [1, 5, 10]) {
      t.is(balancer.to(errorFrame({ inner: optional(words) })), backend)
      t.is(balancer.to(errorFrame({ outer: optional(words) })), backend)
    }
  })
}
