// SPDX-License-Identifier: Apache-2.0
// Persistence: a client's new flows go where its first one went.
import test, { type ExecutionContext } from 'ava'
import type { ServiceOptions } from '../../src/core/desired.ts'
import { explain } from '../../src/dataplane/explain.ts'
import { Cpu } from '../../src/dataplane/layout.gen.ts'
import { entries } from './flowtable.ts'
import { datagram, icmpError, ipv4, PROTOCOL, TCP, tcp, tcp6Frame, tcpFrame, udpFrame, VIP, VIP6 } from './frames.ts'
import { agesLeft, endIn, notes, states } from './notes.ts'
import { Balancer, type BalancerOptions, breathe, LOCAL, UNRESOLVED, VERDICT } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)

const WEB = `tcp://${VIP}:80`
const TLS = `tcp://${VIP}:443`
const DNS = `udp://${VIP}:53`
const ALICE = '203.0.113.5'
const BOB = '203.0.113.6'
const CAROL = '198.18.0.9'

const open = (
  t: ExecutionContext,
  options: ServiceOptions = {},
  { service = WEB, backends = 4, ...balancerOptions }: BalancerOptions & { service?: string; backends?: number } = {},
): Balancer => {
  const balancer = new Balancer(balancerOptions)
  t.teardown(() => balancer.close())
  balancer.add(service, { scheduler: 'rr', persist: 300, ...options }, backends)
  return balancer
}

let port = 1024
const syn = (source: string, fields: { port?: number; vip?: string } = {}) =>
  tcpFrame({ source, sourcePort: port++, flags: TCP.SYN, ...fields })
const ack = (source: string, sourcePort: number) => tcpFrame({ source, sourcePort, flags: TCP.ACK })

for (const scheduler of ['rr', 'wrr', 'mh', 'sh'] as const) {
  test.serial(`${scheduler}: all of a client's connections go to the server of its first`, (t) => {
    const balancer = open(t, { scheduler, hash: 'source-port' })
    for (const client of [ALICE, BOB, CAROL]) {
      const first = balancer.to(syn(client))
      for (let i = 0; i < 20; i++) t.is(balancer.to(syn(client)), first)
    }
    t.is(notes(balancer).size, 3)
  })
}

for (const scheduler of ['mh', 'sh'] as const) {
  test.serial(`${scheduler}: a new client goes where the ring says, and its flows are recorded`, (t) => {
    const balancer = open(t, { scheduler })
    const first = tcpFrame({ source: ALICE, sourcePort: 7 })
    const sent = balancer.send(first)
    t.is(sent.backend, ringBackend(balancer, WEB, { source: ALICE, sourcePort: 7 }))
    t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1, CLIENT_NOTED: 1 })
  })
}

test.serial('rr: clients take turns, not their connections', (t) => {
  const balancer = open(t)
  const clients = [ALICE, BOB, CAROL, '198.18.0.10']
  t.deepEqual(
    clients.map((client) => [1, 2, 3].map(() => balancer.to(syn(client)))),
    [1, 2, 3, 4].map((backend) => [backend, backend, backend]),
  )
})

test.serial('a first connection is noted once, a later one is not', (t) => {
  const balancer = open(t)
  t.deepEqual(balancer.send(syn(ALICE)).reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1, CLIENT_NOTED: 1 })
  t.deepEqual(balancer.send(syn(ALICE)).reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1 })
})

for (const [mask, same, different] of [
  [24, '203.0.113.200', '203.0.114.5'],
  [32, ALICE, '203.0.113.4'],
  [8, '203.255.255.255', '202.0.113.5'],
  [1, '128.0.0.1', '127.0.0.1'],
] as const) {
  test.serial(`--persist-mask ${mask}: ${same} is the client that ${ALICE} is, and ${different} another`, (t) => {
    const balancer = open(t, { persistMask: mask })
    const first = balancer.to(syn(ALICE))
    t.not(balancer.to(syn(different)), first)
    t.is(balancer.to(syn(same)), first)
    t.is(notes(balancer).size, 2)
  })
}

test.serial('after a change of the mask every client is a new one', (t) => {
  const balancer = open(t, { persistMask: 32 })
  t.is(balancer.to(syn('203.0.113.0')), 1)
  balancer.set(WEB, { persistMask: 24 })
  t.is(balancer.to(syn('203.0.113.0')), 2)
  t.is(balancer.to(syn(ALICE)), 2)
})

test.serial(
  'when a note has ended the client is scheduled as a new one, and the note is written again in its place',
  (t) => {
    const balancer = open(t)
    t.is(balancer.to(syn(ALICE)), 1)
    endIn(balancer, 0)
    t.is(balancer.to(syn(ALICE)), 1)
    endIn(balancer, -1)
    const sent = balancer.send(syn(ALICE))
    t.is(sent.backend, 2)
    t.is(sent.reasons.CLIENT_NOTED, 1)
    t.is(balancer.to(syn(ALICE)), 2)
    t.is(notes(balancer).size, 1)
  },
)

test.serial('a new connection makes the note last anew', (t) => {
  const balancer = open(t)
  balancer.to(syn(ALICE))
  const [whole] = agesLeft(balancer)
  endIn(balancer, 0)
  balancer.to(syn(ALICE))
  t.deepEqual(agesLeft(balancer), [whole])
})

test.serial(
  'a packet of a connection, the first one in a unit of age, makes the note last anew, even one that has ended',
  (t) => {
    const balancer = open(t)
    const first = balancer.to(tcpFrame({ source: ALICE, sourcePort: 9 }))
    balancer.to(ack(ALICE, 9))
    const [whole] = agesLeft(balancer)
    for (const left of [0, -5]) {
      endIn(balancer, left)
      makeFlowsIdle(balancer)
      t.is(balancer.to(ack(ALICE, 9)), first)
      t.deepEqual(agesLeft(balancer), [whole])
    }
  },
)

/** As if the clock had gone on by one: the clock is frozen. */
const makeFlowsIdle = (balancer: Balancer): void => {
  const words = new BigUint64Array(balancer.plane.buffer('flows'))
  for (let at = 1; at < words.length; at += 2) {
    const value = words[at] ?? 0n
    if (value !== 0n) words[at] = (value & ~(0xfffn << 32n)) | (((((value >> 32n) & 0xfffn) - 1n) & 0xfffn) << 32n)
  }
}

test.serial('a packet of a connection to another server than the noted one leaves the note as it is', (t) => {
  const balancer = open(t, { drainPersistence: 'cut' })
  t.is(balancer.to(tcpFrame({ source: ALICE, sourcePort: 9 })), 1)
  balancer.to(ack(ALICE, 9))
  balancer.drain(WEB, 1)
  const second = balancer.to(syn(ALICE))
  t.not(second, 1)
  endIn(balancer, 0)
  makeFlowsIdle(balancer)
  t.is(balancer.to(ack(ALICE, 9)), 1)
  t.deepEqual(agesLeft(balancer), [0])
})

test.serial('a client is assured when one of its connections is established', (t) => {
  const balancer = open(t)
  balancer.to(tcpFrame({ source: ALICE, sourcePort: 9 }))
  t.deepEqual(states(balancer), ['CLIENT_NEW'])
  balancer.to(ack(ALICE, 9))
  t.deepEqual(states(balancer), ['CLIENT_ASSURED'])
})

test.serial('a UDP client is assured when it comes again in a later unit of age', (t) => {
  const balancer = open(t, {}, { service: DNS })
  const first = balancer.to(udpFrame({ source: ALICE, sourcePort: 1, port: 53 }))
  t.is(balancer.to(udpFrame({ source: ALICE, sourcePort: 2, port: 53 })), first)
  t.deepEqual(states(balancer), ['CLIENT_NEW'])
  endIn(balancer, 0)
  t.is(balancer.to(udpFrame({ source: ALICE, sourcePort: 3, port: 53 })), first)
  t.deepEqual(states(balancer), ['CLIENT_ASSURED'])
})

for (const [how, keeps] of [
  ['keep', true],
  ['cut', false],
] as const) {
  for (const [what, spec] of [
    ['drained', { drained: true }],
    ['of weight 0', { weight: 0 }],
  ] as const) {
    test.serial(
      `--drain-persistence ${how}: a backend that is ${what} ${keeps ? 'keeps' : 'loses'} its clients`,
      (t) => {
        const balancer = open(t, { drainPersistence: how })
        t.is(balancer.to(syn(ALICE)), 1)
        balancer.setBackend(WEB, 1, spec)
        const later = balancer.to(syn(ALICE))
        t.is(later === 1, keeps)
        t.not(balancer.to(syn(BOB)), 1)
        balancer.setBackend(WEB, 1, { weight: 1 })
        t.is(balancer.to(syn(ALICE)), later)
      },
    )
  }
}

for (const how of ['keep', 'cut'] as const) {
  test.serial(`--drain-persistence ${how}: a backend without a MAC loses its clients, for good`, (t) => {
    const balancer = open(t, { drainPersistence: how })
    t.is(balancer.to(syn(ALICE)), 1)
    balancer.setBackend(WEB, 1, { path: UNRESOLVED })
    const later = balancer.to(syn(ALICE))
    t.not(later, 1)
    balancer.setBackend(WEB, 1)
    t.is(balancer.to(syn(ALICE)), later)
  })
}

test.serial(
  "a removed backend's clients are scheduled anew, and a backend that takes its number has none of them",
  (t) => {
    const balancer = open(t, {}, { backends: 2 })
    t.is(balancer.to(syn(ALICE)), 1)
    balancer.removeBackend(WEB, 1)
    balancer.setBackend(WEB, 7)
    t.is(notes(balancer).size, 0)
    balancer.setBackend(WEB, 1)
    const later = balancer.to(syn(ALICE))
    t.is(balancer.to(syn(ALICE)), later)
  },
)

test.serial('a backend that is added takes no client from another', (t) => {
  const balancer = open(t, { scheduler: 'mh' })
  const before = [ALICE, BOB, CAROL].map((client) => balancer.to(syn(client)))
  for (const backend of [5, 6, 7, 8, 9]) balancer.setBackend(WEB, backend, { weight: 100 })
  t.deepEqual(
    [ALICE, BOB, CAROL].map((client) => balancer.to(syn(client))),
    before,
  )
})

test.serial('services of a group send a client to one server, whatever the order of their backends', (t) => {
  const balancer = open(t, { group: 'web' }, { backends: 3 })
  balancer.add(TLS, { scheduler: 'mh', group: 'web' }, { 3: {} })
  for (const backend of [2, 9, 1]) balancer.setBackend(TLS, backend)
  t.not(balancer.indexOf(TLS, 1), balancer.indexOf(WEB, 1))
  for (let client = 1; client <= 30; client++) {
    const source = `198.18.1.${client}`
    const first = client % 2 === 0 ? balancer.to(syn(source)) : balancer.to(syn(source, { port: 443 }))
    if (first === 9) continue
    t.is(balancer.to(syn(source)), first)
    t.is(balancer.to(syn(source, { port: 443 })), first)
  }
})

test.serial('a server that a service of the group lacks: its scheduler chooses, and the others follow', (t) => {
  const balancer = open(t, { group: 'web' }, { backends: 2 })
  balancer.add(TLS, { scheduler: 'rr', group: 'web' }, { 2: {} })
  t.is(balancer.to(syn(ALICE)), 1)
  const sent = balancer.send(syn(ALICE, { port: 443 }))
  t.is(sent.backend, 2)
  t.is(sent.reasons.CLIENT_NOTED, 1)
  t.is(balancer.to(syn(ALICE)), 2)
})

test.serial('services without a group have nothing in common, nor have two groups', (t) => {
  const balancer = open(t, {}, { backends: 3 })
  balancer.add(TLS, { scheduler: 'rr', persist: 300, group: 'one' }, 3)
  balancer.add(`tcp://${VIP}:8443`, { scheduler: 'rr', persist: 300, group: 'two' }, 3)
  t.is(balancer.to(syn(BOB)), 1)
  t.is(balancer.to(syn(ALICE)), 2)
  t.is(balancer.to(syn(ALICE, { port: 443 })), 1)
  t.is(balancer.to(syn(CAROL, { port: 8443 })), 1)
  t.is(balancer.to(syn(ALICE, { port: 8443 })), 2)
})

test.serial('a group may span VIPs and protocols', (t) => {
  const balancer = open(t, { group: 'all' }, { backends: 3 })
  balancer.add('tcp://192.0.2.11:80', { scheduler: 'rr', group: 'all' }, 3)
  balancer.add(DNS, { scheduler: 'rr', group: 'all' }, 3)
  balancer.to(syn(BOB))
  t.is(balancer.to(syn(ALICE)), 2)
  t.is(balancer.to(syn(ALICE, { vip: '192.0.2.11' })), 2)
  t.is(balancer.to(udpFrame({ source: ALICE, port: 53 })), 2)
})

test.serial('persistence holds for a range of ports, and for every port', (t) => {
  const balancer = open(t, {}, { service: `tcp://${VIP}:8000-8099` })
  balancer.add(`tcp://${VIP}:*`, { scheduler: 'rr', persist: 60 }, 4)
  const range = balancer.to(syn(ALICE, { port: 8000 }))
  t.is(balancer.to(syn(ALICE, { port: 8099 })), range)
  balancer.to(syn(BOB, { port: 1 }))
  const every = balancer.to(syn(ALICE, { port: 9999 }))
  t.not(every, range)
  t.is(balancer.to(syn(ALICE, { port: 22 })), every)
})

test.serial('a packet in mid-flow without an entry goes where its client was noted, and is recorded', (t) => {
  const balancer = open(t, {}, { backends: 20 })
  const first = balancer.to(tcpFrame({ source: ALICE, sourcePort: 9 }))
  new Uint8Array(balancer.plane.buffer('flows')).fill(0)
  for (let sourcePort = 9; sourcePort < 40; sourcePort++) {
    const sent = balancer.send(ack(ALICE, sourcePort))
    t.is(sent.backend, first)
    t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1 })
  }
})

test.serial(
  'a packet in mid-flow without an entry goes by the ring where its client has no note, and leaves none',
  (t) => {
    const balancer = open(t)
    t.is(balancer.to(ack(ALICE, 9)), ringBackend(balancer, WEB, { source: ALICE, sourcePort: 9 }))
    t.is(notes(balancer).size, 0)
  },
)

test.serial(
  'beyond the bound on new flows a known client stays with its server, and a new one goes by the ring',
  (t) => {
    const balancer = open(t, {}, { newFlows: 1 })
    const first = balancer.to(syn(ALICE))
    for (let i = 0; i < 10; i++) {
      const sent = balancer.send(syn(ALICE))
      t.is(sent.backend, first)
      t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_REFUSED_BUDGET: 1 })
    }
    const tuple = { source: BOB, sourcePort: 99 }
    t.is(balancer.to(tcpFrame(tuple)), ringBackend(balancer, WEB, tuple))
    t.is(notes(balancer).size, 1)
  },
)

test.serial('after a flood the ring decides for a new client, and it is noted there', (t) => {
  const balancer = open(t)
  const cpus = new DataView(balancer.plane.buffer('cpus'))
  for (let cpu = 0; cpu * Cpu.size < cpus.byteLength; cpu++) {
    cpus.setUint32(cpu * Cpu.size + Cpu.offset.flooded, 1, true)
    cpus.setUint32(cpu * Cpu.size + Cpu.offset.floodAge, balancer.plane.age(), true)
  }
  const tuple = { source: BOB, sourcePort: 99 }
  const first = balancer.to(tcpFrame(tuple))
  t.is(first, ringBackend(balancer, WEB, tuple))
  t.is(balancer.to(syn(BOB)), first)
})

test.serial('where the flow table is full a client is noted all the same, and its flows follow the note', (t) => {
  const balancer = open(t, {}, { capacity: { flows: 8 }, backends: 20 })
  for (let sourcePort = 1; sourcePort <= 40; sourcePort++) {
    balancer.to(tcpFrame({ source: BOB, sourcePort }))
    balancer.to(ack(BOB, sourcePort))
  }
  balancer.moved()
  const sent = balancer.send(tcpFrame({ source: ALICE, sourcePort: 9 }))
  t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_REFUSED_FULL: 1, CLIENT_NOTED: 1 })
  t.is(balancer.to(ack(ALICE, 9)), sent.backend)
  t.is(balancer.to(syn(ALICE)), sent.backend)
})

/** Makes every note that stands in the table assured. */
const assureAll = (balancer: Balancer, clients: readonly string[]): void => {
  for (const source of clients) {
    balancer.to(tcpFrame({ source, sourcePort: 9 }))
    balancer.to(ack(source, 9))
  }
}

test.serial('a full table: an assured client never gives way; a new one is not noted, and counted', (t) => {
  const balancer = open(t, {}, { capacity: { clients: 8 } })
  assureAll(
    balancer,
    Array.from({ length: 40 }, (_, i) => `198.18.2.${i}`),
  )
  const before = [...notes(balancer).keys()].sort()
  t.is(before.length, 8)
  balancer.moved()
  const sent = balancer.send(syn(ALICE))
  t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1, CLIENT_REFUSED_FULL: 1 })
  t.deepEqual([...notes(balancer).keys()].sort(), before)
})

test.serial(
  'a full table: clients that were never established give way, the oldest first, and ended ones before them',
  (t) => {
    const balancer = open(t, {}, { capacity: { clients: 8 } })
    for (let i = 0; i < 200; i++) balancer.to(syn(`198.18.2.${i}`))
    t.is(notes(balancer).size, 8)
    t.is(balancer.moved().CLIENT_REFUSED_FULL, undefined)
    assureAll(balancer, [ALICE])
    for (let i = 0; i < 200; i++) balancer.to(syn(`198.18.3.${i}`))
    t.true(notes(balancer).has(ALICE))
    endIn(balancer, -1)
    t.deepEqual(balancer.send(syn(CAROL)).reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1, CLIENT_NOTED: 1 })
  },
)

test.serial('an ICMP error follows the note where its flow has no entry, and changes nothing', (t) => {
  const balancer = open(t, {}, { backends: 20 })
  const first = balancer.to(tcpFrame({ source: ALICE, sourcePort: 9 }))
  new Uint8Array(balancer.plane.buffer('flows')).fill(0)
  endIn(balancer, 0)
  const quoted = ipv4(
    { source: VIP, vip: ALICE, protocol: PROTOCOL.TCP },
    tcp({ sourcePort: 80, port: 9, flags: TCP.ACK }),
  )
  const error = datagram(
    { source: '172.16.0.1', vip: VIP, protocol: PROTOCOL.ICMP },
    icmpError(3, 4, quoted.subarray(0, 28)),
  )
  t.deepEqual(balancer.send(error), { ...balancer.send(error), backend: first, reasons: { TX_FORWARDED: 1 } })
  t.deepEqual(agesLeft(balancer), [0])
  t.is(entries(balancer).length, 0)
})

test.serial('a first fragment of a new client is noted, and later ones follow it', (t) => {
  const balancer = open(t, {}, { service: DNS })
  const fields = { source: ALICE, port: 53, identification: 77 }
  const first = balancer.to(udpFrame({ ...fields, fragment: 0x2000 }))
  t.is(balancer.to(udpFrame({ ...fields, fragment: 3 })), first)
  t.is(balancer.to(udpFrame({ source: ALICE, sourcePort: 4, port: 53 })), first)
})

test.serial('a client may be noted to the director itself', (t) => {
  const balancer = open(t, {}, { backends: 1 })
  balancer.setBackend(WEB, 1, { path: LOCAL })
  t.is(balancer.send(syn(ALICE)).verdict, VERDICT.PASS)
  balancer.setBackend(WEB, 2)
  for (let i = 0; i < 5; i++) t.is(balancer.send(syn(ALICE)).verdict, VERDICT.PASS)
})

test.serial('without a backend nobody is noted', (t) => {
  const balancer = open(t, {}, { backends: 0 })
  t.deepEqual(balancer.send(syn(ALICE)).reasons, { DROP_NO_BACKEND: 1 })
  t.is(notes(balancer).size, 0)
})

test.serial('persistence that is taken away and given again begins anew', (t) => {
  const balancer = open(t)
  t.is(balancer.to(syn(ALICE)), 1)
  balancer.set(WEB, { persist: false })
  t.is(balancer.to(syn(ALICE)), 2)
  balancer.set(WEB, { persist: 300 })
  t.is(notes(balancer).size, 0)
  t.is(balancer.to(syn(ALICE)), 3)
  t.is(balancer.to(syn(ALICE)), 3)
})

for (const scheduler of ['mh', 'sh'] as const) {
  test.serial(`${scheduler}: flows outlive that persistence comes and goes`, (t) => {
    const balancer = open(t, { scheduler, persist: false }, { backends: 8 })
    const flows = Array.from({ length: 30 }, (_, i) => ({ source: ALICE, sourcePort: 5000 + i }))
    const before = flows.map((flow) => balancer.to(tcpFrame(flow)))
    balancer.set(WEB, { persist: 300 })
    const during = flows.map((flow) => balancer.to(tcpFrame({ ...flow, flags: TCP.ACK })))
    t.deepEqual(during, before)
    balancer.set(WEB, { persist: false })
    t.deepEqual(
      flows.map((flow) => balancer.to(tcpFrame({ ...flow, flags: TCP.ACK }))),
      before,
    )
  })
}

for (const [mask, same, different] of [
  [128, '2001:db8:cc::5', '2001:db8:cc::4'],
  [127, '2001:db8:cc::4', '2001:db8:cc::6'],
  [64, '2001:db8:cc:0:ffff::1', '2001:db8:cc:1::5'],
  [65, '2001:db8:cc:0:7fff::1', '2001:db8:cc:0:8000::5'],
  [48, '2001:db8:cc:ffff::', '2001:db8:cd::5'],
  [1, '::1:0', '8000::'],
] as const) {
  test.serial(
    `--persist-mask6 ${mask}: ${same} is the client that 2001:db8:cc::5 is, and ${different} another`,
    (t) => {
      const service = `tcp://[${VIP6}]:80`
      const balancer = open(t, { persistMask6: mask }, { service })
      const open6 = (source: string) => tcp6Frame({ source, sourcePort: port++, flags: TCP.SYN })
      const first = balancer.to(open6('2001:db8:cc::5'))
      t.not(balancer.to(open6(different)), first)
      t.is(balancer.to(open6(same)), first)
      t.is(notes(balancer).size, 2)
      const packet = { protocol: 'tcp', source: same, sourcePort: 9, vip: VIP6, port: 80, opens: true } as const
      const { look } = explain(balancer.plane, packet, { now: balancer.plane.age(), interfaceSlot: 0, budget: 'left' })
      t.is(look?.choice.by, 'note')
    },
  )
}

test.serial('a group may span families, but an IPv4 client is none of IPv6', (t) => {
  const balancer = open(t, { group: 'both' }, { backends: 3 })
  balancer.add(`tcp://[${VIP6}]:80`, { scheduler: 'rr', group: 'both' }, 3)
  t.is(balancer.to(syn(ALICE)), 1)
  t.is(balancer.to(tcp6Frame({ source: '::203.0.113.5', flags: TCP.SYN })), 1)
  t.is(balancer.to(tcp6Frame({ source: '2001:db8::9', flags: TCP.SYN })), 2)
  t.is(notes(balancer).size, 3)
})
