// SPDX-License-Identifier: Apache-2.0
// Services of IPv6 prefixes: which of several decides, and what becomes of each kind of packet. Their flows: prefix-flows6.test.ts.
import test from 'ava'
import { explain } from '../../src/dataplane/explain.ts'
import {
  ETHERTYPE,
  EXTENSION,
  extension,
  type Frame6Fields,
  fragmentHeader,
  icmp6,
  ipv6,
  PROTOCOL,
  packet6,
  tcp as segment,
  TCP,
  tcp6Frame as tcp,
  udp6Frame as udp,
} from './frames.ts'
import { Balancer, backendMac, breathe, LOCAL, linkPath } from './plane.ts'
import { ringBackend } from './ring.ts'
import { type Case, testTable } from './table.ts'

test.beforeEach(breathe)

const WIDE = '[2001:db8:5::/64]'
const NESTED = '[2001:db8:5:0:4000::/66]'
/** In both, and a VIP. */
const VIP = '2001:db8:5:0:5000::80'
/** As the directory has WIDE; the first is a VIP too. */
const NUMBER_OF_WIDE = '2001:db8:5:0:8000::'
const NUMBER_OF_NESTED = '2001:db8:5:0:6000::'

const mixed = new Balancer()
test.after.always(() => mixed.close())
// Backend numbers tell the services apart.
mixed.add(`tcp://${WIDE}:80`, { scheduler: 'dh' }, { 1: {} })
mixed.add(`tcp://${WIDE}:8000-8099`, { scheduler: 'mh' }, { 2: {} })
mixed.add(`udp://${WIDE}:*`, { scheduler: 'rr', ops: true }, { 3: {} })
mixed.add(`tcp://${NESTED}:80`, { scheduler: 'sh' }, { 4: {} })
mixed.add(`tcp://[${VIP}]:443`, { scheduler: 'mh' }, { 5: {} })
mixed.add(`tcp://[${NUMBER_OF_WIDE}]:81`, { scheduler: 'mh' }, { 6: {} })
mixed.add('tcp://[2001:db8::/45]:80', { scheduler: 'dh' }, { 7: {} })
mixed.add('tcp://[2001:db8:9::fffe/127]:*', { scheduler: 'dh' }, { 8: {} })
// More services of one prefix than its bucket holds.
for (const port of [1, 2, 3, 4, 5]) mixed.add(`tcp://[2001:db8::/45]:${port}`, { scheduler: 'dh' }, { 10: {} })

const forwarded = (name: string, goes: number, frame: Buffer): Case => ({ name, frame, goes, reason: 'TX_FORWARDED' })
const passed = (
  name: string,
  reason: 'PASS_NOT_VIP' | 'PASS_NO_SERVICE' | 'PASS_NOT_BALANCED',
  frame: Buffer,
): Case => ({
  name,
  frame,
  goes: 'stack',
  reason,
})
const dropped = (name: string, reason: Case['reason'], frame: Buffer): Case => ({
  name,
  frame,
  goes: 'nowhere',
  reason,
})

/** What a router answers to what a backend has sent from an address. */
const errorAbout = (vip: string, from = vip, type = 2): Buffer =>
  packet6(
    { source: '2001:db8:ff::1', vip, protocol: PROTOCOL.ICMPV6 },
    icmp6(type, 0, ipv6({ source: from, vip: '2001:db8:cc::5' }, segment({ sourcePort: 80, port: 40000 }))),
  )

const host = (i: number): string => `2001:db8:5::${i.toString(16)}`
const later = (vip: string): Buffer =>
  packet6({ vip, protocol: PROTOCOL.TCP, extensions: [fragmentHeader(9, 800, true)] }, Buffer.alloc(16))

testTable(
  () => mixed,
  [
    forwarded('the first address of a prefix is in it', 1, tcp({ vip: '2001:db8:5::' })),
    forwarded('the last address of a prefix is in it', 1, tcp({ vip: '2001:db8:5:0:ffff:ffff:ffff:ffff' })),
    forwarded('the address behind a prefix is in the one around it', 7, tcp({ vip: '2001:db8:5:1::' })),
    forwarded('the address before a prefix too', 7, tcp({ vip: '2001:db8:4:ffff:ffff:ffff:ffff:ffff' })),
    passed('the address behind the widest prefix is for no VIP', 'PASS_NOT_VIP', tcp({ vip: '2001:db8:8::' })),
    passed('the address before it', 'PASS_NOT_VIP', tcp({ vip: '2001:db7:ffff:ffff:ffff:ffff:ffff:ffff' })),
    forwarded('of two prefixes that hold an address the longer one decides', 4, tcp({ vip: '2001:db8:5:0:4000::' })),
    forwarded('the last address of the longer one too', 4, tcp({ vip: '2001:db8:5:0:7fff:ffff:ffff:ffff' })),
    forwarded('an address before the longer one is in the shorter', 1, tcp({ vip: '2001:db8:5:0:3fff::' })),
    passed(
      'a port that the longer prefix has no service of is of none, though the shorter has one',
      'PASS_NO_SERVICE',
      tcp({ vip: '2001:db8:5:0:4000::', port: 8000 }),
    ),
    passed('UDP to the longer prefix is of no service', 'PASS_NO_SERVICE', udp({ vip: '2001:db8:5:0:4000::' })),
    forwarded('a VIP goes before the prefixes that hold it', 5, tcp({ vip: VIP, port: 443 })),
    passed('a port that the VIP has no service of is of none', 'PASS_NO_SERVICE', tcp({ vip: VIP, port: 80 })),
    forwarded('a range of a prefix', 2, tcp({ vip: host(9), port: 8099 })),
    passed('the port behind that range', 'PASS_NO_SERVICE', tcp({ vip: host(9), port: 8100 })),
    forwarded('every UDP port of a prefix, each datagram by itself', 3, udp({ vip: host(9), port: 9 })),
    forwarded('a VIP that is the number of a prefix has its own service', 6, tcp({ vip: NUMBER_OF_WIDE, port: 81 })),
    passed('and has not that of the prefix', 'PASS_NO_SERVICE', tcp({ vip: NUMBER_OF_WIDE, port: 80 })),
    forwarded('an address that is the number of a prefix, and no VIP', 4, tcp({ vip: NUMBER_OF_NESTED })),
    forwarded('the number of the widest prefix is an address of it', 7, tcp({ vip: '2001:db8:4::' })),
    forwarded('the first address of a prefix of 127 bits', 8, tcp({ vip: '2001:db8:9::fffe' })),
    forwarded('the second one, which is its number', 8, tcp({ vip: '2001:db8:9::ffff' })),
    ...[1, 2, 3, 4, 5].map((port) =>
      forwarded(
        `port ${port} of a prefix with more services than its bucket holds`,
        10,
        tcp({ vip: '2001:db8:3::7', port }),
      ),
    ),
    passed('another port of that prefix', 'PASS_NO_SERVICE', tcp({ vip: '2001:db8:3::7', port: 6 })),
    forwarded(
      'a packet with an extension header',
      1,
      tcp({ vip: host(9), extensions: [extension(EXTENSION.DESTINATION)] }),
    ),
    forwarded('a tagged packet', 4, tcp({ vip: '2001:db8:5:0:4000::7', tags: [{ type: ETHERTYPE.VLAN, id: 7 }] })),
    forwarded('a short datagram', 3, udp({ vip: host(9), payload: Buffer.alloc(1) })),
    passed(
      'a tagged packet beside all prefixes',
      'PASS_NOT_VIP',
      tcp({ vip: '2001:db9::1', tags: [{ type: ETHERTYPE.VLAN, id: 7 }] }),
    ),
    passed(
      'a ping to an address of a prefix goes to the stack',
      'PASS_NOT_BALANCED',
      packet6({ vip: host(9), protocol: PROTOCOL.ICMPV6 }, icmp6(128, 0, Buffer.alloc(8))),
    ),
    passed(
      'a neighbour solicitation too',
      'PASS_NOT_BALANCED',
      packet6({ vip: host(9), protocol: PROTOCOL.ICMPV6 }, icmp6(135, 0, Buffer.alloc(24))),
    ),
    dropped('a header that contradicts itself', 'DROP_MALFORMED', tcp({ vip: host(9), payloadLength: 200 })),
    passed(
      'the same beside all prefixes is none of ours',
      'PASS_NOT_VIP',
      tcp({ vip: '2001:db9::1', payloadLength: 200 }),
    ),
    dropped('half a TCP header', 'DROP_TRUNCATED', tcp({ vip: host(9), payloadLength: 10 })),
    dropped(
      'more extension headers than are walked',
      'DROP_EXTENSIONS',
      tcp({ vip: host(9), extensions: Array.from({ length: 9 }, () => extension(EXTENSION.DESTINATION)) }),
    ),
    ...[1, 2, 3, 4].map((type) =>
      forwarded(`an ICMPv6 error of type ${type} about a flow of a prefix`, 1, errorAbout(host(9), host(9), type)),
    ),
    passed('an ICMPv6 error about another address of the prefix', 'PASS_NOT_BALANCED', errorAbout(host(9), host(10))),
    dropped('a later fragment by itself, of a prefix with several services', 'DROP_FRAGMENT', later(host(9))),
    forwarded(
      'a later fragment by itself, where the only service of its prefix hashes sources',
      4,
      later('2001:db8:5:0:4000::7'),
    ),
  ],
)

const open = (t: { teardown: (end: () => void) => void }): Balancer => {
  const balancer = new Balancer()
  t.teardown(() => balancer.close())
  return balancer
}

const DH = `tcp://${WIDE}:80`

test.serial('dh goes by the ring that the hash of the destination names, whoever asks', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 8)
  const seen = new Set<number | undefined>()
  for (let i = 0; i < 256; i++) {
    const vip = `2001:db8:5:0:${i.toString(16)}::${(255 - i).toString(16)}`
    const expected = ringBackend(balancer, DH, { destination: vip })
    seen.add(expected)
    for (const fields of [
      {},
      { source: '2001:db8:cc::9' },
      { sourcePort: 9 },
      { flags: TCP.ACK },
      { flags: TCP.RST },
    ]) {
      t.is(balancer.to(tcp({ vip, ...fields })), expected)
    }
    t.is(balancer.to(tcp({ vip, extensions: [extension(EXTENSION.DESTINATION)] })), expected)
  }
  t.is(seen.size, 8)
  t.is(balancer.moved().FLOW_INSERTED, undefined, 'no flow is recorded')
})

test.serial('dh: a backend that goes leaves flows where they were, and the other destinations', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 4)
  const hosts = Array.from({ length: 256 }, (_, i) => host(i))
  const before = hosts.map((vip) => balancer.to(tcp({ vip, flags: TCP.ACK })))
  balancer.drain(DH, 2)
  t.deepEqual(
    hosts.map((vip) => balancer.to(tcp({ vip, flags: TCP.ACK }))),
    before,
    'established flows stay',
  )
  const opened = hosts.map((vip) => balancer.to(tcp({ vip, sourcePort: 5 })))
  t.false(opened.includes(2))
  t.true(before.filter((to, i) => to !== 2 && to !== opened[i]).length < 10)
  t.deepEqual(
    hosts.map((vip) => balancer.to(tcp({ vip, sourcePort: 5, flags: TCP.ACK }))),
    opened,
    'and new ones stay where they were opened',
  )
})

test.serial('a prefix that comes or goes takes effect with one change, and its addresses with it', (t) => {
  const balancer = open(t)
  t.deepEqual(balancer.send(tcp({ vip: host(9) })).reasons, { PASS_NOT_VIP: 1 })
  balancer.add(DH, { scheduler: 'dh' }, { 1: {} })
  t.is(balancer.to(tcp({ vip: host(9) })), 1)
  balancer.add('tcp://[2001:db8:5::8/125]:80', { scheduler: 'dh' }, { 2: {} })
  t.is(balancer.to(tcp({ vip: host(9) })), 2)
  t.is(balancer.to(tcp({ vip: host(16) })), 1)
  balancer.add(`tcp://[${host(9)}]:80`, { scheduler: 'mh' }, { 3: {} })
  t.is(balancer.to(tcp({ vip: host(9) })), 3)
  t.is(balancer.to(tcp({ vip: host(10) })), 2)
  balancer.remove('tcp://[2001:db8:5::8/125]:80')
  t.is(balancer.to(tcp({ vip: host(10) })), 1)
  balancer.remove(`tcp://[${host(9)}]:80`)
  balancer.remove(DH)
  t.deepEqual(balancer.send(tcp({ vip: host(9) })).reasons, { PASS_NOT_VIP: 1 })
})

test.serial(
  'prefixes of all 112 lengths, one within the other: each address goes to the longest that holds it',
  (t) => {
    const balancer = new Balancer({ capacity: { services: 128 } })
    t.teardown(() => balancer.close())
    balancer.change((state) => state)
    for (let bits = 16; bits <= 127; bits++) {
      balancer.add(`tcp://[3fff::/${bits}]:80`, { scheduler: 'dh', ringSize: 31 }, { [bits]: {} })
    }
    t.is(balancer.to(tcp({ vip: '3fff::' })), 127)
    t.is(balancer.to(tcp({ vip: '3fff::1' })), 127)
    for (let bits = 16; bits < 127; bits++) {
      const beyond = 1n << BigInt(127 - bits)
      for (const offset of [beyond, 2n * beyond - 1n]) {
        const text = ((0x3fffn << 112n) | offset).toString(16).padStart(32, '0')
        const vip = text.match(/..../g)?.join(':') ?? ''
        t.is(balancer.to(tcp({ vip })), bits, vip)
      }
    }
    t.deepEqual(balancer.send(tcp({ vip: '4000::' })).reasons, { PASS_NOT_VIP: 1 })
  },
)

test.serial(
  'fragments of two datagrams with one identification, to two addresses of a prefix, go each its own way',
  (t) => {
    const balancer = open(t)
    balancer.add(`udp://${WIDE}:*`, { scheduler: 'dh', seed: 7n }, 4)
    balancer.add(DH, { scheduler: 'dh' }, 1)
    const hosts = Array.from({ length: 20 }, (_, i) => host(i))
    const piece = (vip: string, offset: number): Frame6Fields => ({
      vip,
      port: 53,
      protocol: PROTOCOL.UDP,
      extensions: [fragmentHeader(7, offset, true)],
    })
    const first = hosts.map((vip) => balancer.to(udp(piece(vip, 0))))
    t.true(new Set(first).size > 1)
    const followers = hosts.map((vip) => balancer.to(packet6(piece(vip, 800), Buffer.alloc(16))))
    t.deepEqual(followers, first)
  },
)

test.serial('a backend on this host, behind another interface, or without one: as for a VIP', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh' }, { 1: { path: LOCAL } })
  t.deepEqual(balancer.send(tcp({ vip: host(1) })).reasons, { PASS_LOCAL: 1 })
  balancer.setBackend(DH, 2)
  t.deepEqual(balancer.send(tcp({ vip: host(1), sourceMac: backendMac(2) })).reasons, { PASS_FROM_PEER: 1 })
  balancer.setBackend(DH, 1, { path: linkPath(1, 1) })
  balancer.removeBackend(DH, 2)
  t.is(balancer.send(tcp({ vip: host(1) })).reasons.TX_REDIRECTED, 1)
  balancer.setBackend(DH, 1, { path: linkPath(1, 0, 9) })
  t.is(balancer.send(tcp({ vip: host(1) })).frame.readUInt16BE(14), 9)
  balancer.removeBackend(DH, 1)
  t.deepEqual(balancer.send(tcp({ vip: host(1) })).reasons, { DROP_NO_BACKEND: 1 })
})

test.serial('filters and rates of a prefix go by sources', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'rr' }, 2)
  balancer.filter(DH, 'deny 2001:db8:cc::/64')
  t.deepEqual(balancer.send(tcp({ vip: host(1) })).reasons, { DROP_DENIED: 1 })
  t.is(balancer.send(tcp({ vip: host(1), source: '2001:db8:cd::5' })).reasons.TX_FORWARDED, 1)
  balancer.filter(DH, 'allow ::/0')
  balancer.set(DH, { sourceRate: 1, sourceBurst: 2 })
  const opened = [1, 2, 3, 4].map((i) => balancer.send(tcp({ vip: host(i), sourcePort: 7 + i })).reasons)
  t.deepEqual(
    opened.map(({ DROP_RATE_LIMITED }) => DROP_RATE_LIMITED),
    [undefined, undefined, 1, 1],
    'one source, whatever its destinations',
  )
})

test.serial('trace names the prefix that decides, and the backend that the packet gets', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 4)
  balancer.add('tcp://[2001:db8:5::8/125]:81', { scheduler: 'mh', seed: 7n }, 4)
  const at = { now: balancer.plane.age(), interfaceSlot: 0, budget: 'left' as const }
  const look = (vip: string, port: number) =>
    explain(
      balancer.plane,
      { protocol: 'tcp', source: '2001:db8:cc::5', sourcePort: 40000, vip, port, opens: true },
      at,
    )
  for (let i = 20; i < 60; i++) {
    const said = look(host(i), 80)
    t.is(said.prefix, '2001:db8:5::/64')
    t.is(said.look?.choice.backend, balancer.indexOf(DH, balancer.to(tcp({ vip: host(i) })) ?? 0))
  }
  t.like(look(host(9), 80), { prefix: '2001:db8:5::8/125', look: undefined, reason: 'PASS_NO_SERVICE' })
  t.is(look(host(9), 81).reason, 'TX_FORWARDED')
  t.like(look('2001:db8:6::', 80), { isVip: false, prefix: undefined, reason: 'PASS_NOT_VIP' })
  t.like(look('2001:db8:5:0:8000::', 80), { prefix: '2001:db8:5::/64', reason: 'TX_FORWARDED' })
})
