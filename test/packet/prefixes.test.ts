// SPDX-License-Identifier: Apache-2.0
// Services of prefixes: the longest prefix decides, a VIP before all prefixes; and the schedulers that choose by destination.
import test from 'ava'
import { parseSource } from '../../src/core/endpoint.ts'
import { Connections } from '../../src/dataplane/connections.ts'
import { explain } from '../../src/dataplane/explain.ts'
import {
  datagram,
  ETHERTYPE,
  FRAGMENT,
  type FrameFields,
  icmpError,
  icmpFrame,
  ipv4,
  PROTOCOL,
  tcp as segment,
  TCP,
  tcpFrame as tcp,
  udpFrame as udp,
} from './frames.ts'
import { Balancer, backendMac, LOCAL, linkPath } from './plane.ts'
import { ringBackend } from './ring.ts'
import { testTable } from './table.ts'

const WIDE = '192.0.2.0/24'
const NESTED = '192.0.2.64/26'
/** In both, and a VIP. */
const VIP = '192.0.2.80'

const mixed = new Balancer({ capacity: { services: 64 } })
test.after.always(() => mixed.close())
// Backend numbers tell the services apart.
mixed.add(`tcp://${WIDE}:80`, { scheduler: 'dh' }, { 1: {} })
mixed.add(`tcp://${WIDE}:8000-8099`, { scheduler: 'mh' }, { 2: {} })
mixed.add(`udp://${WIDE}:*`, { scheduler: 'rr', ops: true }, { 3: {} })
mixed.add(`tcp://${NESTED}:80`, { scheduler: 'sh' }, { 4: {} })
mixed.add(`tcp://${VIP}:443`, { scheduler: 'mh' }, { 5: {} })
// The first has the same word in the directory as WIDE, the second as NESTED; the third is the only service of its prefix.
mixed.add('tcp://192.0.2.128:81', { scheduler: 'mh' }, { 6: {} })
mixed.add('tcp://10.0.0.0/8:80', { scheduler: 'dh' }, { 7: {} })
mixed.add('tcp://198.51.99.254/31:*', { scheduler: 'dh' }, { 8: { path: LOCAL }, 9: {} })
// More services of one prefix than its bucket holds.
for (const port of [1, 2, 3, 4, 5]) mixed.add(`tcp://10.0.0.0/8:${port}`, { scheduler: 'dh' }, { 10: {} })

const forwarded = (name: string, goes: number, frame: Buffer) => ({
  name,
  frame,
  goes,
  reason: 'TX_FORWARDED' as const,
})
const passed = (name: string, reason: 'PASS_NOT_VIP' | 'PASS_NO_SERVICE' | 'PASS_NOT_BALANCED', frame: Buffer) => ({
  name,
  frame,
  goes: 'stack' as const,
  reason,
})
const dropped = (name: string, reason: 'DROP_FRAGMENT' | 'DROP_MALFORMED' | 'DROP_TRUNCATED', frame: Buffer) => ({
  name,
  frame,
  goes: 'nowhere' as const,
  reason,
})

/** What a router answers to what a backend has sent from an address. */
const errorAbout = (vip: string, from = vip): Buffer =>
  datagram(
    { source: '172.16.0.1', vip, protocol: PROTOCOL.ICMP },
    icmpError(3, 4, ipv4({ source: from, vip: '203.0.113.5' }, segment({ sourcePort: 80, port: 40000 }))),
  )

testTable(
  () => mixed,
  [
    forwarded('the first address of a prefix is in it', 1, tcp({ vip: '192.0.2.0' })),
    forwarded('the last address of a prefix is in it', 1, tcp({ vip: '192.0.2.255' })),
    passed('the address before a prefix is for no VIP', 'PASS_NOT_VIP', tcp({ vip: '192.0.1.255' })),
    passed('the address behind a prefix is for no VIP', 'PASS_NOT_VIP', tcp({ vip: '192.0.3.0' })),
    forwarded('of two prefixes that hold an address the longer one decides', 4, tcp({ vip: '192.0.2.64' })),
    forwarded('the last address of the longer one too', 4, tcp({ vip: '192.0.2.127' })),
    forwarded('the address before the longer one is in the shorter alone', 1, tcp({ vip: '192.0.2.63' })),
    passed(
      'a port that the longer prefix has no service of is of none, though the shorter has one',
      'PASS_NO_SERVICE',
      tcp({ vip: '192.0.2.64', port: 8000 }),
    ),
    passed(
      'UDP to the longer prefix is of no service, though the shorter has every port',
      'PASS_NO_SERVICE',
      udp({ vip: '192.0.2.64' }),
    ),
    forwarded('a VIP goes before the prefixes that hold it', 5, tcp({ vip: VIP, port: 443 })),
    passed('a port that the VIP has no service of is of none', 'PASS_NO_SERVICE', tcp({ vip: VIP, port: 80 })),
    forwarded('a range of a prefix', 2, tcp({ vip: '192.0.2.9', port: 8099 })),
    passed('the port behind that range', 'PASS_NO_SERVICE', tcp({ vip: '192.0.2.9', port: 8100 })),
    forwarded('every UDP port of a prefix, each datagram by itself', 3, udp({ vip: '192.0.2.9', port: 9 })),
    forwarded('a VIP with the same word as a prefix has its own service', 6, tcp({ vip: '192.0.2.128', port: 81 })),
    passed('and has not that of the prefix', 'PASS_NO_SERVICE', tcp({ vip: '192.0.2.128', port: 80 })),
    forwarded(
      'an address with the same word as a prefix, and no VIP, is in the shorter one',
      1,
      tcp({ vip: '192.0.2.32' }),
    ),
    forwarded('an address with the word of a prefix is in that prefix', 4, tcp({ vip: '192.0.2.96' })),
    forwarded('a prefix of 8 bits', 7, tcp({ vip: '10.255.255.255' })),
    ...[1, 2, 3, 4, 5].map((port) =>
      forwarded(
        `port ${port} of a prefix with more services than its bucket holds`,
        10,
        tcp({ vip: '10.128.0.0', port }),
      ),
    ),
    passed('another port of that prefix', 'PASS_NO_SERVICE', tcp({ vip: '10.128.0.0', port: 6 })),
    forwarded('a packet with IP options', 1, tcp({ vip: '192.0.2.9', options: Buffer.alloc(8, 1) })),
    forwarded('a tagged packet', 4, tcp({ vip: '192.0.2.70', tags: [{ type: ETHERTYPE.VLAN, id: 7 }] })),
    forwarded('a short datagram', 3, udp({ vip: '192.0.2.9', payload: Buffer.alloc(1) })),
    passed(
      'a tagged packet beside all prefixes',
      'PASS_NOT_VIP',
      tcp({ vip: '192.0.3.1', tags: [{ type: ETHERTYPE.VLAN, id: 7 }] }),
    ),
    passed('a ping to an address of a prefix goes to the stack', 'PASS_NOT_BALANCED', icmpFrame({ vip: '192.0.2.9' })),
    passed('a ping beside all prefixes', 'PASS_NOT_VIP', icmpFrame({ vip: '192.0.3.1' })),
    dropped('a header that contradicts itself', 'DROP_MALFORMED', tcp({ vip: '192.0.2.9', totalLength: 10 })),
    passed('the same beside all prefixes is none of ours', 'PASS_NOT_VIP', tcp({ vip: '192.0.3.1', totalLength: 10 })),
    dropped('half a TCP header', 'DROP_TRUNCATED', tcp({ vip: '192.0.2.9', totalLength: 30 })),
    forwarded('an ICMP error about a flow of a prefix', 1, errorAbout('192.0.2.9')),
    passed(
      'an ICMP error about another address of the prefix',
      'PASS_NOT_BALANCED',
      errorAbout('192.0.2.9', '192.0.2.10'),
    ),
    dropped(
      'a later fragment by itself, of a prefix with several services',
      'DROP_FRAGMENT',
      tcp({ vip: '192.0.2.9', fragment: 100 }),
    ),
    forwarded(
      'a later fragment by itself, where the only service of its prefix hashes sources',
      4,
      tcp({ vip: '192.0.2.65', fragment: 100 }),
    ),
    passed('a packet for the word of a prefix that is no address of it', 'PASS_NOT_VIP', tcp({ vip: '11.128.0.0' })),
  ],
)

const open = (t: { teardown: (end: () => void) => void }): Balancer => {
  const balancer = new Balancer()
  t.teardown(() => balancer.close())
  return balancer
}

const DH = `tcp://${WIDE}:80`
const host = (i: number): string => `192.0.2.${i}`

test.serial('dh sends a destination to one backend, whoever asks, and spreads destinations by weight', (t) => {
  const balancer = open(t)
  balancer.add('tcp://172.16.0.0/12:80', { scheduler: 'dh', seed: 5n }, { 1: { weight: 3 }, 2: {}, 3: { weight: 0 } })
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < 4000; i++) {
    const vip = `172.16.${i >> 8}.${i & 255}`
    const to = balancer.to(tcp({ vip, sourcePort: 1024 + i }))
    if (i < 200) {
      for (const fields of [{ source: '203.0.113.9' }, { sourcePort: 9 }, { flags: TCP.ACK }, { flags: TCP.RST }]) {
        t.is(balancer.to(tcp({ vip, ...fields })), to)
      }
    }
    counts[to ?? 0] = (counts[to ?? 0] ?? 0) + 1
  }
  // Binomial with p = 3/4: the standard deviation is 27.
  t.true(Math.abs((counts[1] ?? 0) - 3000) < 140, counts.join())
  t.is(counts[3], 0)
  t.is(balancer.moved().FLOW_INSERTED, undefined, 'no flow is recorded')
})

test.serial('dh goes by the ring that the hash of the destination names', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 8)
  for (let i = 0; i < 256; i++) {
    const expected = ringBackend(balancer, DH, { destination: host(i) })
    t.is(balancer.to(tcp({ vip: host(i) })), expected)
  }
})

test.serial('dh: a backend that goes leaves the destinations of all others where they were', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 4)
  const before = Array.from({ length: 256 }, (_, i) => balancer.to(tcp({ vip: host(i), flags: TCP.ACK })))
  balancer.drain(DH, 2)
  const flows = before.map((_, i) => balancer.to(tcp({ vip: host(i), flags: TCP.ACK })))
  t.deepEqual(flows, before, 'established flows stay')
  const opened = before.map((_, i) => balancer.to(tcp({ vip: host(i), sourcePort: 5 })))
  t.false(opened.includes(2))
  const moved = before.filter((to, i) => to !== 2 && to !== opened[i]).length
  t.true(moved < 10, `${moved} moved`)
  const later = before.map((_, i) => balancer.to(tcp({ vip: host(i), sourcePort: 5, flags: TCP.ACK })))
  t.deepEqual(later, opened, 'and new ones stay where they were opened')
})

test.serial('flows of one client port to two addresses of a prefix are two flows', (t) => {
  for (const protocol of ['tcp', 'udp'] as const) {
    const balancer = open(t)
    const service = `${protocol}://${WIDE}:80`
    const frame = protocol === 'tcp' ? tcp : (fields: FrameFields) => udp({ port: 80, ...fields })
    balancer.add(service, { scheduler: 'rr' }, 3)
    const hosts = Array.from({ length: 9 }, (_, i) => host(i * 20))
    const opened = hosts.map((vip) => balancer.to(frame({ vip })))
    t.deepEqual(opened, [1, 2, 3, 1, 2, 3, 1, 2, 3])
    for (let i = 0; i < 3; i++)
      t.deepEqual(
        hosts.map((vip) => balancer.to(frame({ vip, flags: TCP.ACK }))),
        opened,
      )
    t.is(balancer.moved().FLOW_INSERTED, undefined)
    const listed = [...new Connections(balancer.plane, [balancer.live(service)])]
    t.deepEqual(
      listed.map(({ source, virtual, destination }) => `${source} ${virtual} ${destination}`).sort(),
      hosts.map((vip, i) => `203.0.113.5:40000 ${vip}:80 198.51.100.${opened[i]}:80`).sort(),
    )
    const from = (text: string) => [
      ...new Connections(balancer.plane, [balancer.live(service)], { source: parseSource(text) }),
    ]
    t.is(from('203.0.113.0/24').length, 9)
    t.is(from('203.0.113.5:40000').length, 9)
    t.is(from('203.0.113.6').length, 0)
    t.is(from('::/0').length, 0)
  }
})

test.serial('the end of a flow to one address of a prefix is not the end of another', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'rr' }, 3)
  t.is(balancer.to(tcp({ vip: host(1) })), 1)
  t.is(balancer.to(tcp({ vip: host(2) })), 2)
  t.is(balancer.to(tcp({ vip: host(1), flags: TCP.RST })), 1)
  t.is(balancer.to(tcp({ vip: host(1) })), 3, 'a new one has its own turn')
  t.is(balancer.to(tcp({ vip: host(2), flags: TCP.ACK })), 2)
})

test.serial('an ICMP error follows the flow to the address that it is about', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'rr' }, 3)
  const fields = (vip: string) => ({ vip, source: '203.0.113.5', sourcePort: 40000 })
  const hosts = [host(1), host(2), host(3)]
  for (const vip of hosts) balancer.to(tcp(fields(vip)))
  t.deepEqual(
    hosts.map((vip) => balancer.to(errorAbout(vip))),
    [1, 2, 3],
  )
})

test.serial('from dh to mh and back flows stay, and marks of both hashes are told apart', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 6)
  const flags = TCP.ACK
  const before = Array.from({ length: 64 }, (_, i) => balancer.to(tcp({ vip: host(i), flags })))
  balancer.set(DH, { scheduler: 'mh' })
  t.deepEqual(
    before.map((_, i) => balancer.to(tcp({ vip: host(i), flags }))),
    before,
  )
  const opened = before.map((_, i) => balancer.to(tcp({ vip: host(i), sourcePort: 7 })))
  t.is(new Set(opened).size, 1, 'of one source and port')
  t.deepEqual(
    before.map((_, i) => balancer.to(tcp({ vip: host(i), sourcePort: 7, flags }))),
    opened,
  )
})

test.serial('a prefix that comes or goes takes effect with one change, and its addresses with it', (t) => {
  const balancer = open(t)
  t.deepEqual(balancer.send(tcp({ vip: host(9) })).reasons, { PASS_NOT_VIP: 1 })
  balancer.add(DH, { scheduler: 'dh' }, { 1: {} })
  t.is(balancer.to(tcp({ vip: host(9) })), 1)
  balancer.add('tcp://192.0.2.8/29:80', { scheduler: 'dh' }, { 2: {} })
  t.is(balancer.to(tcp({ vip: host(9) })), 2)
  t.is(balancer.to(tcp({ vip: host(16) })), 1)
  balancer.add(`tcp://${host(9)}:80`, { scheduler: 'mh' }, { 3: {} })
  t.is(balancer.to(tcp({ vip: host(9) })), 3)
  t.is(balancer.to(tcp({ vip: host(10) })), 2)
  balancer.remove('tcp://192.0.2.8/29:80')
  t.is(balancer.to(tcp({ vip: host(10) })), 1)
  balancer.remove(`tcp://${host(9)}:80`)
  balancer.remove(DH)
  t.deepEqual(balancer.send(tcp({ vip: host(9) })).reasons, { PASS_NOT_VIP: 1 })
})

test.serial('prefixes of all 24 lengths, one within the other: each address goes to the longest that holds it', (t) => {
  const balancer = open(t)
  for (let bits = 8; bits <= 31; bits++) balancer.add(`tcp://10.0.0.0/${bits}:80`, { scheduler: 'dh' }, { [bits]: {} })
  t.is(balancer.to(tcp({ vip: '10.0.0.0' })), 31)
  t.is(balancer.to(tcp({ vip: '10.0.0.1' })), 31)
  for (let bits = 8; bits < 31; bits++) {
    const beyond = 2 ** (31 - bits)
    for (const offset of [beyond, 2 * beyond - 1]) {
      const vip = [10, (offset >> 16) & 255, (offset >> 8) & 255, offset & 255].join('.')
      t.is(balancer.to(tcp({ vip })), bits, vip)
    }
  }
  t.deepEqual(balancer.send(tcp({ vip: '11.0.0.0' })).reasons, { PASS_NOT_VIP: 1 })
})

test.serial(
  'fragments of two datagrams with one identification, to two addresses of a prefix, go each its own way',
  (t) => {
    const balancer = open(t)
    balancer.add(`udp://${WIDE}:*`, { scheduler: 'dh', seed: 7n }, 4)
    balancer.add(`tcp://${WIDE}:80`, { scheduler: 'dh' }, 1)
    const hosts = Array.from({ length: 20 }, (_, i) => host(i))
    const fields = (vip: string): FrameFields => ({ vip, port: 53, identification: 7, protocol: PROTOCOL.UDP })
    const first = hosts.map((vip) => balancer.to(udp({ ...fields(vip), fragment: FRAGMENT.MORE })))
    t.true(new Set(first).size > 1)
    const later = hosts.map((vip) => balancer.to(datagram({ ...fields(vip), fragment: 100 }, Buffer.alloc(16))))
    t.deepEqual(later, first)
  },
)

test.serial('a later fragment by itself goes by its destination, where that is all that is hashed', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 4)
  for (let i = 0; i < 40; i++) {
    t.is(balancer.to(tcp({ vip: host(i), fragment: 100 })), balancer.to(tcp({ vip: host(i) })))
  }
})

test.serial('a backend on this host, behind another interface, or without one: as for a VIP', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh' }, { 1: { path: LOCAL } })
  t.deepEqual(balancer.send(tcp({ vip: host(1) })).reasons, { PASS_LOCAL: 1 })
  balancer.setBackend(DH, 2)
  const fromPeer = tcp({ vip: host(1), sourceMac: backendMac(2) })
  t.deepEqual(balancer.send(fromPeer).reasons, { PASS_FROM_PEER: 1 })
  balancer.setBackend(DH, 1, { path: linkPath(1, 1) })
  balancer.removeBackend(DH, 2)
  t.is(balancer.send(tcp({ vip: host(1) })).reasons.TX_REDIRECTED, 1)
  balancer.removeBackend(DH, 1)
  t.deepEqual(balancer.send(tcp({ vip: host(1) })).reasons, { DROP_NO_BACKEND: 1 })
})

test.serial('trace names the prefix that decides, and the backend that the packet gets', (t) => {
  const balancer = open(t)
  balancer.add(DH, { scheduler: 'dh', seed: 7n }, 4)
  balancer.add('tcp://192.0.2.8/29:81', { scheduler: 'mh', seed: 7n }, 4)
  const at = { now: balancer.plane.age(), interfaceSlot: 0, budget: 'left' as const }
  const look = (last: string, port: number) =>
    explain(
      balancer.plane,
      { protocol: 'tcp', source: '203.0.113.5', sourcePort: 40000, vip: last, port, opens: true },
      at,
    )
  for (let i = 20; i < 60; i++) {
    const said = look(host(i), 80)
    t.is(said.prefix, WIDE)
    t.is(said.look?.choice.backend, balancer.indexOf(DH, balancer.to(tcp({ vip: host(i) })) ?? 0))
  }
  t.like(look(host(9), 80), { prefix: '192.0.2.8/29', look: undefined, reason: 'PASS_NO_SERVICE' })
  t.is(look(host(9), 81).reason, 'TX_FORWARDED')
  t.like(look('192.0.18.0', 80), { isVip: false, prefix: undefined, reason: 'PASS_NOT_VIP' })
})
