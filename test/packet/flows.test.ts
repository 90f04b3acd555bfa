// SPDX-License-Identifier: Apache-2.0
// Tracked services (rr): the flow table names the backend. No age passes (plane.ts, FROZEN_CLOCK).
import test from 'ava'
import { type CommonFields, FAMILIES } from './families.ts'
import { entries, entryOf, stateOf, TABLES } from './flowtable.ts'
import { TCP } from './frames.ts'
import { Balancer, breathe, UNRESOLVED } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)

const shared = new Balancer()
test.after.always(() => shared.close())

for (const { family, HOST, OTHER_VIP, OTHER_HOST, source, tcpFrame, udpFrame } of FAMILIES) {
  const SERVICE = `tcp://${HOST}:80`
  const UDP = `udp://${HOST}:53`

  const open = (backends = 3): Balancer => {
    const balancer = shared.reset()
    balancer.add(SERVICE, { scheduler: 'rr' }, backends)
    balancer.add(UDP, { scheduler: 'rr' }, backends)
    return balancer
  }

  const syn = (sourcePort: number, fields: CommonFields = {}): Buffer => tcpFrame({ sourcePort, ...fields })
  const ack = (sourcePort: number): Buffer => tcpFrame({ sourcePort, flags: TCP.ACK })
  const fin = (sourcePort: number): Buffer => tcpFrame({ sourcePort, flags: TCP.FIN | TCP.ACK })
  const rst = (sourcePort: number): Buffer => tcpFrame({ sourcePort, flags: TCP.RST })

  test.serial(`${family}: a SYN is recorded once, and its repetitions keep its backend`, (t) => {
    const balancer = open()
    t.is(balancer.send(syn(1)).reasons.FLOW_INSERTED, 1)
    for (let i = 0; i < 5; i++) {
      const sent = balancer.send(syn(1))
      t.is(sent.backend, 1)
      t.deepEqual(sent.reasons, { TX_FORWARDED: 1 })
    }
    t.is(balancer.to(syn(2)), 2)
  })

  test.serial(`${family}: what stands in the table is the flow that was sent`, (t) => {
    const balancer = open()
    balancer.to(syn(1))
    balancer.to(syn(0xabcd, { source: source(0x1234) }))
    t.like(entryOf(balancer, 0xabcd), {
      table: TABLES[family],
      source: source(0x1234),
      sourcePort: 0xabcd,
      service: balancer.live(SERVICE).service.id,
      port: 80,
      backend: balancer.indexOf(SERVICE, 2),
      state: 'FLOW_HALF_OPEN',
    })
  })

  test.serial(`${family}: source address, source port and service make a flow`, (t) => {
    const balancer = open()
    balancer.add(`tcp://${HOST}:81`, { scheduler: 'rr' }, 3)
    balancer.add(`tcp://${OTHER_HOST}:80`, { scheduler: 'rr' }, 3)
    t.is(balancer.to(syn(1)), 1)
    t.is(balancer.to(syn(1, { source: source(6) })), 2)
    t.is(balancer.to(syn(257)), 3)
    t.is(balancer.to(syn(1, { port: 81 })), 1)
    t.is(balancer.to(syn(1, { vip: OTHER_VIP })), 1)
    t.is(entries(balancer).length, 5)
  })

  test.serial(`${family}: a flow's state follows the client's half: SYN, then data, then FIN or RST`, (t) => {
    const balancer = open()
    balancer.to(syn(1))
    t.is(stateOf(balancer, 1), 'FLOW_HALF_OPEN')
    balancer.to(syn(1))
    t.is(stateOf(balancer, 1), 'FLOW_HALF_OPEN')
    balancer.to(ack(1))
    t.is(stateOf(balancer, 1), 'FLOW_ESTABLISHED')
    balancer.to(fin(1))
    t.is(stateOf(balancer, 1), 'FLOW_CLOSING')
    balancer.to(ack(1))
    t.is(stateOf(balancer, 1), 'FLOW_CLOSING')
    balancer.to(rst(1))
    t.is(stateOf(balancer, 1), 'FLOW_CLOSED')
    balancer.to(fin(1))
    t.is(stateOf(balancer, 1), 'FLOW_CLOSED')
  })

  test.serial(`${family}: every packet of a flow goes to its backend, whatever its flags`, (t) => {
    const balancer = open()
    balancer.to(syn(1))
    balancer.to(ack(1))
    for (let flags = 0; flags < 64; flags++) {
      // A SYN alone on a flow that has ended is another flow.
      if ((flags & (TCP.SYN | TCP.ACK)) === TCP.SYN) continue
      t.is(balancer.to(tcpFrame({ sourcePort: 1, flags })), 1)
    }
  })

  test.serial(`${family}: a SYN on an established flow keeps its backend and its state`, (t) => {
    const balancer = open()
    balancer.to(syn(1))
    balancer.to(ack(1))
    t.is(balancer.to(syn(1)), 1)
    t.is(stateOf(balancer, 1), 'FLOW_ESTABLISHED')
  })

  test.serial(`${family}: SYN and ACK together open no flow`, (t) => {
    const balancer = open()
    balancer.to(tcpFrame({ sourcePort: 1, flags: TCP.SYN | TCP.ACK }))
    t.is(stateOf(balancer, 1), 'FLOW_ADOPTED')
    t.is(balancer.to(syn(2)), 1)
  })

  for (const [name, end] of [
    ['closing', fin],
    ['closed', rst],
  ] as const) {
    test.serial(`${family}: a SYN on a ${name} flow is scheduled afresh, in the same place`, (t) => {
      const balancer = open()
      balancer.to(syn(1))
      balancer.to(ack(1))
      balancer.to(end(1))
      const { word } = entryOf(balancer, 1)
      const sent = balancer.send(syn(1))
      t.is(sent.backend, 2)
      t.is(sent.reasons.FLOW_INSERTED, 1)
      t.is(entryOf(balancer, 1).word, word)
      t.is(stateOf(balancer, 1), 'FLOW_HALF_OPEN')
      t.is(balancer.to(ack(1)), 2)
    })

    test.serial(`${family}: late packets of a ${name} flow still go to its backend`, (t) => {
      const balancer = open()
      balancer.to(syn(1))
      balancer.to(end(1))
      t.is(balancer.to(ack(1)), 1)
      t.is(balancer.to(rst(1)), 1)
    })
  }

  for (const [name, change] of [
    ['a change of weight', (b: Balancer) => b.setBackend(SERVICE, 1, { weight: 50 })],
    ['a weight of 0', (b: Balancer) => b.setBackend(SERVICE, 1, { weight: 0 })],
    ['draining', (b: Balancer) => b.drain(SERVICE, 1)],
    ['added backends', (b: Balancer) => [4, 5, 6].forEach((backend) => void b.setBackend(SERVICE, backend))],
    ['the removal of another backend', (b: Balancer) => b.removeBackend(SERVICE, 2)],
    ['another scheduler', (b: Balancer) => b.set(SERVICE, { scheduler: 'wrr' })],
    ['a ring of another size', (b: Balancer) => b.set(SERVICE, { ringSize: 4093 })],
    ['other services', (b: Balancer) => b.add(`tcp://${OTHER_HOST}:1`, { scheduler: 'rr' }, 2)],
  ] as const) {
    test.serial(`${family}: ${name} leaves half-open, established and UDP flows with their backend`, (t) => {
      const balancer = open()
      balancer.to(syn(1))
      for (const _ of [2, 3]) balancer.to(syn(90 + _))
      t.is(balancer.to(syn(4)), 1)
      t.is(balancer.to(ack(4)), 1)
      t.is(balancer.to(udpFrame({ sourcePort: 7 })), 1)
      change(balancer)
      t.is(balancer.to(syn(1)), 1)
      t.is(balancer.to(ack(1)), 1)
      t.is(balancer.to(ack(4)), 1)
      t.is(balancer.to(udpFrame({ sourcePort: 7 })), 1)
    })
  }

  for (const [name, change] of [
    ['removed', (b: Balancer, service: string) => b.removeBackend(service, 1)],
    ['no longer resolved', (b: Balancer, service: string) => b.setBackend(service, 1, { path: UNRESOLVED })],
  ] as const) {
    test.serial(
      `${family}: flows of a backend that is ${name} go by the ring with their next packet, and stay there`,
      (t) => {
        const balancer = open()
        balancer.to(syn(1))
        balancer.to(ack(1))
        change(balancer, SERVICE)
        const expected = ringBackend(balancer, SERVICE, { sourcePort: 1 })
        const sent = balancer.send(ack(1))
        t.is(sent.backend, expected)
        t.is(sent.reasons.FLOW_INSERTED, 1)
        balancer.setBackend(SERVICE, 9)
        t.deepEqual(balancer.send(ack(1)).reasons, { TX_FORWARDED: 1 })
        t.is(balancer.to(ack(1)), expected)
      },
    )

    test.serial(`${family}: a repeated SYN to a backend that is ${name} is scheduled afresh`, (t) => {
      const balancer = open()
      balancer.to(syn(1))
      change(balancer, SERVICE)
      t.not(balancer.to(syn(1)), 1)
      t.is(entries(balancer).length, 1)
    })

    test.serial(`${family}: UDP flows of a backend that is ${name} are scheduled afresh`, (t) => {
      const balancer = open()
      balancer.to(udpFrame({ sourcePort: 1 }))
      change(balancer, UDP)
      const sent = balancer.send(udpFrame({ sourcePort: 1 }))
      t.true(sent.backend === 2 || sent.backend === 3)
      t.is(sent.reasons.FLOW_INSERTED, 1)
    })
  }

  test.serial(`${family}: a backend that is added again takes over none of the removed one's flows`, (t) => {
    const balancer = open()
    for (let sourcePort = 1; sourcePort <= 30; sourcePort++) balancer.to(syn(sourcePort))
    const index = balancer.indexOf(SERVICE, 1)
    balancer.removeBackend(SERVICE, 1)
    balancer.setBackend(SERVICE, 7)
    t.is(balancer.indexOf(SERVICE, 7), index)
    t.false(entries(balancer).some(({ backend }) => backend === index))
    t.is(entries(balancer).length, 20)
  })

  test.serial(`${family}: a service that is added again takes over no flow of the removed one`, (t) => {
    const balancer = open()
    for (let sourcePort = 1; sourcePort <= 30; sourcePort++) balancer.to(syn(sourcePort))
    balancer.to(udpFrame({ sourcePort: 99 }))
    balancer.remove(SERVICE)
    balancer.add(SERVICE, { scheduler: 'rr' }, 3)
    t.deepEqual(
      entries(balancer).map(({ sourcePort }) => sourcePort),
      [99],
    )
  })

  test.serial(`${family}: a packet in mid-flow without an entry goes by the ring and is recorded as adopted`, (t) => {
    const balancer = open()
    for (let sourcePort = 1; sourcePort <= 40; sourcePort++) {
      const sent = balancer.send(ack(sourcePort))
      t.is(sent.backend, ringBackend(balancer, SERVICE, { sourcePort }))
      t.is(sent.reasons.FLOW_INSERTED, 1)
      t.is(stateOf(balancer, sourcePort), 'FLOW_ADOPTED')
    }
    t.is(balancer.to(syn(50)), 1, 'the scheduler was not asked')
  })

  test.serial(`${family}: a FIN or RST without an entry is recorded as the end of a flow`, (t) => {
    const balancer = open()
    balancer.to(fin(1))
    balancer.to(rst(2))
    t.is(stateOf(balancer, 1), 'FLOW_CLOSING')
    t.is(stateOf(balancer, 2), 'FLOW_CLOSED')
  })
}
