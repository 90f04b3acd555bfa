// SPDX-License-Identifier: Apache-2.0
// Fragments follow the first one of their datagram; what comes before it is dropped by name, or goes by its source alone.
import test, { type ExecutionContext } from 'ava'
import { FlowLimit, FlowValue, FragmentLimit } from '../../src/dataplane/layout.gen.ts'
import { type CommonFields, FAMILIES } from './families.ts'
import { OWN_MAC, PROTOCOL, rewritten, TCP, tcp, udp } from './frames.ts'
import { Balancer, type BalancerOptions, backendMac, breathe, VERDICT } from './plane.ts'

test.beforeEach(breathe)

const shared = new Balancer()
test.after.always(() => shared.close())

/** Where in its datagram a fragment stands. */
type Later = CommonFields & { offset?: number; more?: boolean }

for (const {
  family,
  HOST,
  NO_VIP,
  OTHER_VIP,
  OTHER_HOST,
  source,
  packet,
  piece,
  flowCapacity,
  tcpFrame,
  udpFrame,
} of FAMILIES) {
  const UDP_SERVICE = `udp://${HOST}:53`
  const TCP_SERVICE = `tcp://${HOST}:80`

  const open = (t: ExecutionContext, options: BalancerOptions = {}): Balancer => {
    if (Object.keys(options).length === 0) return shared.reset()
    const balancer = new Balancer(options)
    t.teardown(() => balancer.close())
    return balancer
  }

  /** 8 octets of UDP and 16 of payload, then what follows at offset 24. */
  const first = (fields: CommonFields = {}): Buffer =>
    packet(
      { protocol: PROTOCOL.UDP, ...fields, ...piece(fields.identification ?? 1, 0, true) },
      udp({ ...fields, payload: Buffer.alloc(16) }),
    )
  const later = ({ offset = 24, more = false, ...fields }: Later = {}): Buffer =>
    packet(
      { protocol: PROTOCOL.UDP, ...fields, ...piece(fields.identification ?? 1, offset, more) },
      Buffer.alloc(40, 0x55),
    )

  for (const scheduler of ['mh', 'sh', 'rr', 'wrr'] as const) {
    test.serial(
      `${family}: ${scheduler}: later fragments go where the first one went, each datagram's to its own backend`,
      (t) => {
        const balancer = open(t)
        balancer.add(UDP_SERVICE, { scheduler, hash: 'source-port' }, 8)
        const wanted = new Map<number, number | undefined>()
        for (let identification = 0; identification < 200; identification++) {
          wanted.set(identification, balancer.to(first({ identification, sourcePort: 1024 + identification })))
        }
        t.true(new Set(wanted.values()).size > 1)
        for (const [identification, backend] of wanted) {
          t.is(balancer.to(later({ identification, more: true })), backend)
          t.is(balancer.to(later({ identification, offset: 800 })), backend)
        }
      },
    )
  }

  test.serial(
    `${family}: a later fragment is sent on whole, and counts as its backend’s packet but not as a flow`,
    (t) => {
      const balancer = open(t)
      balancer.add(UDP_SERVICE, { scheduler: 'rr' }, 1)
      balancer.to(first())
      const before = balancer.counters(UDP_SERVICE, 1)
      balancer.moved()
      const frame = later()
      const sent = balancer.send(Buffer.from(frame))
      t.deepEqual(sent.reasons, { TX_FORWARDED: 1 })
      t.deepEqual(sent.frame, rewritten(frame, backendMac(1), OWN_MAC))
      const after = balancer.counters(UDP_SERVICE, 1)
      t.is(after.packets - before.packets, 1n)
      t.is(after.bytes - before.bytes, BigInt(frame.length))
      t.is(after.flows, before.flows)
    },
  )

  test.serial(`${family}: a first fragment of TCP opens a flow as a whole segment does`, (t) => {
    const balancer = open(t)
    balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 3)
    const sent = balancer.send(tcpFrame({ ...piece(1, 0, true), flags: TCP.SYN }))
    t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1 })
    t.is(balancer.to(tcpFrame({ flags: TCP.ACK })), sent.backend)
  })

  for (const [what, fields] of [
    ['another source', { source: source(6) }],
    ['another identification', { identification: 2 }],
    // Of IPv6 the protocol is no part of a datagram's name (RFC 8200 section 4.5).
    ...(family === 'ipv4' ? ([['another protocol', { protocol: PROTOCOL.TCP }]] as const) : []),
    ['another VIP', { vip: OTHER_VIP }],
  ] as const) {
    test.serial(`${family}: a later fragment of ${what} belongs to another datagram, and is dropped`, (t) => {
      const balancer = open(t)
      balancer.add(UDP_SERVICE, { scheduler: 'mh' }, 4)
      balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 4)
      balancer.add(`udp://${OTHER_HOST}:53`, { scheduler: 'mh' }, 4)
      balancer.to(first({ identification: 1 }))
      balancer.moved()
      const sent = balancer.send(later({ identification: 1, ...fields }))
      t.deepEqual(sent.reasons, { DROP_FRAGMENT: 1 })
      t.is(sent.verdict, VERDICT.DROP)
    })
  }

  test.serial(
    `${family}: a later fragment that comes first is dropped where ports are hashed or flows are tracked`,
    (t) => {
      for (const scheduler of ['mh', 'rr', 'wrr'] as const) {
        const balancer = open(t)
        balancer.add(UDP_SERVICE, { scheduler }, 4)
        t.deepEqual(balancer.send(later()).reasons, { DROP_FRAGMENT: 1 })
      }
    },
  )

  test.serial(`${family}: where sources alone are hashed, and the VIP has one service, order does not matter`, (t) => {
    const balancer = open(t)
    balancer.add(UDP_SERVICE, { scheduler: 'sh' }, 8)
    for (let i = 0; i < 50; i++) {
      const tuple = { source: source(i), sourcePort: 1000 + i, identification: i }
      const early = balancer.to(later(tuple))
      t.is(early, balancer.to(first(tuple)))
      t.is(early, balancer.to(udpFrame({ ...tuple, port: 53 })))
    }
  })

  test.serial(`${family}: with a second service of the VIP nobody knows whose an early fragment is`, (t) => {
    const balancer = open(t)
    balancer.add(UDP_SERVICE, { scheduler: 'sh' }, 8)
    balancer.add(`udp://${HOST}:54`, { scheduler: 'sh' }, 8)
    t.deepEqual(balancer.send(later()).reasons, { DROP_FRAGMENT: 1 })
  })

  test.serial(`${family}: an early fragment of a protocol that the only service does not have is dropped`, (t) => {
    const balancer = open(t)
    balancer.add(UDP_SERVICE, { scheduler: 'sh' }, 8)
    t.deepEqual(balancer.send(later({ protocol: PROTOCOL.TCP })).reasons, { DROP_FRAGMENT: 1 })
  })

  test.serial(`${family}: a first fragment without all its ports is truncated, and leads nobody`, (t) => {
    const balancer = open(t)
    balancer.add(UDP_SERVICE, { scheduler: 'mh' }, 4)
    balancer.add(TCP_SERVICE, { scheduler: 'mh' }, 4)
    const cut = packet(piece(1, 0, true), tcp({}).subarray(0, 16))
    t.deepEqual(balancer.send(cut).reasons, { DROP_TRUNCATED: 1 })
    t.deepEqual(balancer.send(later({ protocol: PROTOCOL.TCP })).reasons, { DROP_FRAGMENT: 1 })
  })

  test.serial(`${family}: a first fragment for a port without a service leads nobody`, (t) => {
    const balancer = open(t)
    balancer.add(UDP_SERVICE, { scheduler: 'mh' }, 4)
    t.deepEqual(balancer.send(first({ port: 99 })).reasons, { PASS_NO_SERVICE: 1 })
    t.deepEqual(balancer.send(later()).reasons, { DROP_FRAGMENT: 1 })
  })

  test.serial(`${family}: fragments for no VIP are left alone, whatever notes there are`, (t) => {
    const balancer = open(t)
    balancer.add(UDP_SERVICE, { scheduler: 'mh' }, 4)
    balancer.to(first())
    balancer.moved()
    t.deepEqual(balancer.send(later({ vip: NO_VIP })).reasons, { PASS_NOT_VIP: 1 })
  })

  test.serial(`${family}: a note is good for the reassembly time, and no longer`, (t) => {
    const balancer = open(t)
    balancer.add(UDP_SERVICE, { scheduler: 'mh' }, 4)
    balancer.to(first())
    const words = new BigUint64Array(balancer.plane.buffer('fragments'))
    const at = words.findIndex((word, i) => i % 2 === 1 && word !== 0n)
    const older = (by: bigint): void => {
      const shift = BigInt(FlowValue.FLOW_AGE_SHIFT)
      const value = words[at] ?? 0n
      const age = ((value >> shift) - by) & BigInt(FlowValue.FLOW_AGE_MASK)
      words[at] = (value & ~(BigInt(FlowValue.FLOW_AGE_MASK) << shift)) | (age << shift)
    }
    older(25n)
    t.not(balancer.to(later()), undefined)
    older(10n)
    balancer.moved()
    t.deepEqual(balancer.send(later()).reasons, { DROP_FRAGMENT: 1 })
  })

  test.serial(`${family}: a flood of fragments takes no flow’s place, and the youngest notes stay`, (t) => {
    const balancer = open(t, { capacity: flowCapacity(64) })
    balancer.add(TCP_SERVICE, { scheduler: 'rr' }, 3)
    balancer.add(UDP_SERVICE, { scheduler: 'mh' }, 3)
    const flows = [1, 2, 3, 4, 5].map((n) => ({ n, backend: balancer.to(tcpFrame({ sourcePort: 1000 + n })) }))
    const places = FragmentLimit.FRAGMENT_BUCKETS * FlowLimit.FLOWS_PER_BUCKET
    for (let i = 0; i < 3 * places; i++) {
      balancer.run(first({ source: source(i), identification: i & 0xffff }))
    }
    for (const { n, backend } of flows) t.is(balancer.to(tcpFrame({ sourcePort: 1000 + n, flags: TCP.ACK })), backend)
    const backend = balancer.to(first({ identification: 77 }))
    t.is(balancer.to(later({ identification: 77 })), backend)
  })

  test.serial(
    `${family}: when a backend goes and another gets its place, no fragment of the old one comes to it`,
    (t) => {
      const balancer = open(t)
      balancer.add(UDP_SERVICE, { scheduler: 'rr' }, 1)
      balancer.to(first())
      balancer.setBackend(UDP_SERVICE, 2)
      balancer.removeBackend(UDP_SERVICE, 1)
      balancer.setBackend(UDP_SERVICE, 3)
      balancer.moved()
      t.deepEqual(balancer.send(later()).reasons, { DROP_FRAGMENT: 1 })
    },
  )
}
