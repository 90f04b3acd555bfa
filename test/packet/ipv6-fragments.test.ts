// SPDX-License-Identifier: Apache-2.0
// IPv6's own about fragments: names of 32 bits, headers on either side of the fragment header, and what is said twice. What holds
// for both families is in fragments.test.ts.
import test from 'ava'
import {
  EXTENSION,
  type Extension,
  extension,
  type Frame6Fields,
  fragmentHeader,
  icmp6,
  inSegment,
  OWN_MAC,
  PROTOCOL,
  packet6,
  rewritten,
  tcp,
  udp,
  VIP6,
} from './frames.ts'
import { Balancer, backendMac, breathe, type ReasonName, VERDICT } from './plane.ts'

test.beforeEach(breathe)

const balancer = new Balancer()
test.after.always(() => balancer.close())

const SERVICES = [`udp://[${VIP6}]:53`, `tcp://[${VIP6}]:53`]
const { DESTINATION, ROUTING, HOP_BY_HOP } = EXTENSION

interface PieceFields extends Frame6Fields {
  identification?: number
  offset?: number
  more?: boolean
  /** Headers before the fragment header, and behind it. */
  before?: readonly Extension[]
  behind?: readonly Extension[]
}

const piece = (
  { identification = 1, offset = 0, more = true, before = [], behind = [], ...fields }: PieceFields,
  body: Uint8Array,
): Buffer =>
  packet6({ ...fields, extensions: [...before, fragmentHeader(identification, offset, more), ...behind] }, body)

const first = (fields: PieceFields = {}): Buffer =>
  piece({ protocol: PROTOCOL.UDP, ...fields }, udp({ ...fields, payload: Buffer.alloc(16) }))
const firstOfTcp = (fields: PieceFields = {}): Buffer =>
  piece(fields, tcp({ port: 53, ...fields, payload: Buffer.alloc(20) }))
const later = (fields: PieceFields = {}): Buffer =>
  piece({ protocol: PROTOCOL.UDP, offset: 24, more: false, ...fields }, Buffer.alloc(40, 0x55))

/** UDP has more backends than TCP, so that what is led by the wrong one shows. */
const open = (): Balancer => {
  balancer.reset()
  balancer.add(SERVICES[0] ?? '', { scheduler: 'rr' }, { 1: {}, 2: {}, 3: {}, 4: {} })
  balancer.add(SERVICES[1] ?? '', { scheduler: 'rr' }, { 11: {}, 12: {} })
  return balancer
}

for (const [what, fields] of [
  ['no other header', {}],
  ['headers before the fragment header', { before: [extension(HOP_BY_HOP), extension(ROUTING, 3)] }],
  ['seven headers before it', { before: Array.from({ length: 7 }, () => extension(DESTINATION)) }],
  ['a destination header behind it, which is in the first one alone', { behind: [extension(DESTINATION, 2)] }],
  ['headers on both sides', { before: [extension(ROUTING)], behind: [extension(DESTINATION), extension(DESTINATION)] }],
  ['a tag', { tags: [{ type: 0x8100, id: 7 }] }],
] as const satisfies readonly (readonly [string, PieceFields])[]) {
  for (const [protocol, lead] of [
    ['UDP', first],
    ['TCP', firstOfTcp],
  ] as const) {
    test.serial(`${protocol} with ${what}: later fragments follow the first`, (t) => {
      open()
      const { behind, ...outer } = { behind: [], ...fields }
      const follows = behind.length > 0 ? DESTINATION : protocol === 'UDP' ? PROTOCOL.UDP : PROTOCOL.TCP
      for (let identification = 1; identification < 12; identification++) {
        const flow = { sourcePort: 1000 + identification, identification }
        const backend = balancer.to(lead({ ...flow, ...fields }))
        t.not(backend, undefined)
        for (const offset of [24, 1200, 65528]) {
          const frame = later({ ...flow, ...outer, protocol: follows, offset, more: offset < 65528 })
          balancer.moved()
          const sent = balancer.send(Buffer.from(frame))
          t.deepEqual(sent.reasons, { TX_FORWARDED: 1 })
          t.deepEqual(sent.frame, rewritten(inSegment(frame, undefined), backendMac(backend ?? 0), OWN_MAC))
        }
      }
    })
  }
}

for (const protocol of [PROTOCOL.TCP, PROTOCOL.UDP, DESTINATION, ROUTING, PROTOCOL.ICMPV6, 50, 59, 255]) {
  test.serial(`a later fragment goes by what its first one said, though it says ${protocol} itself`, (t) => {
    open()
    const backends = [1, 2, 3].map((identification) =>
      balancer.to(first({ identification, sourcePort: identification })),
    )
    t.deepEqual(backends, [1, 2, 3])
    t.deepEqual(
      [1, 2, 3].map((identification) => balancer.to(later({ identification, protocol }))),
      backends,
    )
    const ofTcp = [4, 5].map((identification) =>
      balancer.to(firstOfTcp({ identification, sourcePort: identification })),
    )
    t.deepEqual(ofTcp, [11, 12])
    t.deepEqual(
      [4, 5].map((identification) => balancer.to(later({ identification, protocol }))),
      ofTcp,
    )
  })
}

for (const bit of [0, 1, 7, 8, 15, 16, 23, 24, 30, 31]) {
  test.serial(`an identification that differs in bit ${bit} is another datagram’s`, (t) => {
    open()
    const identification = 0x12345678
    const backend = balancer.to(first({ identification }))
    balancer.moved()
    t.deepEqual(balancer.send(later({ identification: (identification ^ (1 << bit)) >>> 0 })).reasons, {
      DROP_FRAGMENT: 1,
    })
    t.is(balancer.to(later({ identification })), backend)
  })
}

test.serial('datagrams of two sources with one identification are two', (t) => {
  open()
  const sources = ['2001:db8:cc::5', '2001:db8:cc::6', '2001:db8:cd::5', '2001:db8:cc:0:8000::5']
  const backends = sources.map((source) => balancer.to(first({ source })))
  t.deepEqual(backends, [1, 2, 3, 4])
  t.deepEqual(
    sources.map((source) => balancer.to(later({ source }))),
    backends,
  )
})

test.serial('a datagram under way keeps its backend through new directories, with other handles', (t) => {
  open()
  const all = [1, 2, 3, 4]
  const backends = all.map((identification) => balancer.to(first({ identification, sourcePort: identification })))
  const follow = () => all.map((identification) => balancer.to(later({ identification })))
  balancer.set(SERVICES[1] ?? '', { seed: 99n })
  t.deepEqual(follow(), backends)
  for (const line of ['deny 198.51.100.0/24', 'deny 198.51.101.0/24', 'allow 198.51.100.0/24']) {
    balancer.filter(undefined, line)
    t.deepEqual(follow(), backends)
  }
})

test.serial('fragments of several datagrams may come mixed', (t) => {
  open()
  const all = Array.from({ length: 40 }, (_, identification) => identification)
  const backends = all.map((identification) =>
    balancer.to(first({ identification, sourcePort: 2000 + identification })),
  )
  for (const offset of [24, 48, 72]) {
    t.deepEqual(
      all.toReversed().map((identification) => balancer.to(later({ identification, offset }))),
      backends.toReversed(),
    )
  }
})

test.serial('an identification that is used again leads to the new datagram’s backend', (t) => {
  open()
  for (let sourcePort = 1; sourcePort < 10; sourcePort++) {
    const backend = balancer.to(first({ sourcePort }))
    t.is(balancer.to(later()), backend)
    t.is(balancer.to(later({ offset: 800 })), backend)
  }
})

test.serial('the notes of both families are apart', (t) => {
  open()
  balancer.add('udp://192.0.2.10:53', { scheduler: 'rr' }, { 7: {} })
  balancer.to(first({ identification: 0x1234 }))
  balancer.moved()
  t.deepEqual(balancer.send(later({ identification: 0x1234, vip: '2001:db8::99' })).reasons, { PASS_NOT_VIP: 1 })
})

interface Lost {
  name: string
  frames: readonly Buffer[]
  reasons: readonly ReasonName[]
}

const ping = (fields: PieceFields): Buffer =>
  piece({ ...fields, protocol: PROTOCOL.ICMPV6 }, icmp6(128, 0, Buffer.alloc(24)))

const lost: Lost[] = [
  {
    name: 'a first fragment without its TCP header whole leads nobody (RFC 7112)',
    frames: [piece({}, tcp({ port: 53 }).subarray(0, 16)), later({ protocol: PROTOCOL.TCP })],
    reasons: ['DROP_TRUNCATED', 'DROP_FRAGMENT'],
  },
  {
    name: 'nor one without its ports',
    frames: [piece({ protocol: PROTOCOL.UDP }, Buffer.alloc(0)), later()],
    reasons: ['DROP_TRUNCATED', 'DROP_FRAGMENT'],
  },
  {
    name: 'nor one whose chain of headers goes on in the second',
    frames: [
      piece({ protocol: DESTINATION }, Buffer.from('3c01000000000000', 'hex')),
      later({ protocol: DESTINATION, offset: 8 }),
    ],
    reasons: ['DROP_TRUNCATED', 'DROP_FRAGMENT'],
  },
  {
    name: 'nor one with more headers than are walked',
    frames: [
      first({ behind: Array.from({ length: 8 }, () => extension(DESTINATION)) }),
      later({ protocol: DESTINATION }),
    ],
    reasons: ['DROP_EXTENSIONS', 'DROP_FRAGMENT'],
  },
  {
    name: 'nor one for a port without a service',
    frames: [first({ port: 54 }), later()],
    reasons: ['PASS_NO_SERVICE', 'DROP_FRAGMENT'],
  },
  {
    name: 'a later fragment that comes first is dropped',
    frames: [later(), later({ offset: 65528 }), later({ more: true })],
    reasons: ['DROP_FRAGMENT', 'DROP_FRAGMENT', 'DROP_FRAGMENT'],
  },
  {
    name: 'one with headers in front too',
    frames: [later({ before: [extension(ROUTING), extension(DESTINATION)] })],
    reasons: ['DROP_FRAGMENT'],
  },
  {
    name: 'a later fragment without data',
    frames: [piece({ protocol: PROTOCOL.UDP, offset: 24, more: false }, Buffer.alloc(0))],
    reasons: ['DROP_FRAGMENT'],
  },
  {
    name: 'a ping in fragments is left to the stack whole',
    frames: [ping({}), later({ protocol: PROTOCOL.ICMPV6 })],
    reasons: ['PASS_NOT_BALANCED', 'PASS_NOT_BALANCED'],
  },
  {
    name: 'fragments of what is never balanced are left to the stack',
    frames: [132, 50, 89].map((protocol) => later({ protocol })),
    reasons: ['PASS_NOT_BALANCED', 'PASS_NOT_BALANCED', 'PASS_NOT_BALANCED'],
  },
  {
    name: 'a later fragment whose fragment header is padding is truncated',
    frames: [later({ payloadLength: 7 })],
    reasons: ['DROP_TRUNCATED'],
  },
]

for (const { name, frames, reasons } of lost) {
  test.serial(name, (t) => {
    open()
    for (const [i, frame] of frames.entries()) {
      const sent = balancer.send(Buffer.from(frame))
      t.deepEqual(Object.keys(sent.reasons), [reasons[i]])
      t.is(sent.verdict, reasons[i]?.startsWith('PASS') === true ? VERDICT.PASS : VERDICT.DROP)
      t.deepEqual(sent.frame, frame)
    }
  })
}

test.serial(
  'where sources alone are hashed, and the VIP has one service, an early fragment goes by its source',
  (t) => {
    balancer.reset()
    balancer.add(SERVICES[0] ?? '', { scheduler: 'sh' }, 8)
    for (let host = 1; host < 60; host++) {
      const tuple = { source: `2001:db8:${host.toString(16)}::1`, sourcePort: host, identification: host }
      const early = balancer.to(later(tuple))
      t.is(early, balancer.to(first(tuple)))
      t.is(early, balancer.to(later({ ...tuple, offset: 48 })))
    }
  },
)

test.serial('that needs a protocol: an early fragment that begins with an extension header has none', (t) => {
  balancer.reset()
  balancer.add(SERVICES[0] ?? '', { scheduler: 'sh' }, 8)
  t.deepEqual(balancer.send(later({ protocol: DESTINATION })).reasons, { DROP_FRAGMENT: 1 })
})
