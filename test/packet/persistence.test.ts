// SPDX-License-Identifier: Apache-2.0
// Persistence: a client's new flows go where its first one went, for as long as its note lasts.
import test from 'ava'
import { explain } from '../../src/dataplane/explain.ts'
import { entries } from './flowtable.ts'
import { datagram, icmpError, ipv4, PROTOCOL, TCP, tcp, tcp6Frame, tcpFrame, udpFrame, VIP, VIP6 } from './frames.ts'
import { agesLeft, endIn, notes, states } from './notes.ts'
import { ALICE, ack, BOB, CAROL, DNS, makeFlowsIdle, nextPort, open, syn, WEB } from './persistence.ts'
import { breathe } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)

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
      const open6 = (source: string) => tcp6Frame({ source, sourcePort: nextPort(), flags: TCP.SYN })
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

test.serial('a first fragment of a new client is noted, and later ones follow it', (t) => {
  const balancer = open(t, {}, { service: DNS })
  const fields = { source: ALICE, port: 53, identification: 77 }
  const first = balancer.to(udpFrame({ ...fields, fragment: 0x2000 }))
  t.is(balancer.to(udpFrame({ ...fields, fragment: 3 })), first)
  t.is(balancer.to(udpFrame({ source: ALICE, sourcePort: 4, port: 53 })), first)
})

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
