// SPDX-License-Identifier: Apache-2.0
// Persistence where flows have no entry, beyond the bound on new flows, and where the tables are full.
import test from 'ava'
import { Cpu } from '../../src/dataplane/layout.gen.ts'
import { tcpFrame } from './frames.ts'
import { endIn, notes } from './notes.ts'
import { ALICE, ack, BOB, CAROL, open, syn, WEB } from './persistence.ts'
import { type Balancer, breathe } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)

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
    // The bound is each CPU's own.
    t.teardown(() => balancer.native.system.pinToCpu(-1))
    balancer.native.system.pinToCpu(0)
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
