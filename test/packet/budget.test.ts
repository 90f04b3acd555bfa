// SPDX-License-Identifier: Apache-2.0
// The bound on new tracked flows. It is each CPU's own, so that these tests stay on one.
import test, { type ExecutionContext } from 'ava'
import { Cpu } from '../../src/dataplane/layout.gen.ts'
import { FAMILIES } from './families.ts'
import { entries } from './flowtable.ts'
import { TCP } from './frames.ts'
import { Balancer, type BalancerOptions, FAST_CLOCK } from './plane.ts'
import { ringBackend } from './ring.ts'

for (const { family, HOST, tcpFrame, udpFrame } of FAMILIES) {
  const SERVICE = `tcp://${HOST}:80`
  const BOUND = 3

  const open = (t: ExecutionContext, options: BalancerOptions = { newFlows: BOUND }): Balancer => {
    const balancer = new Balancer(options)
    t.teardown(() => balancer.close())
    t.teardown(() => balancer.native.system.pinToCpu(-1))
    balancer.native.system.pinToCpu(0)
    balancer.add(SERVICE, { scheduler: 'rr' }, 5)
    balancer.add(`udp://${HOST}:53`, { scheduler: 'rr' }, 5)
    return balancer
  }

  const syn = (sourcePort: number): Buffer => tcpFrame({ sourcePort })
  const ack = (sourcePort: number): Buffer => tcpFrame({ sourcePort, flags: TCP.ACK })
  const spend = (balancer: Balancer): void => {
    for (let sourcePort = 1; sourcePort <= BOUND; sourcePort++) balancer.to(syn(sourcePort))
  }
  const OTHERS = Array.from({ length: 30 }, (_, i) => 100 + i)

  test.serial(`${family}: up to the bound new flows are recorded`, (t) => {
    const balancer = open(t)
    for (let sourcePort = 1; sourcePort <= BOUND; sourcePort++) {
      t.deepEqual(balancer.send(syn(sourcePort)).reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1 })
    }
  })

  test.serial(`${family}: a SYN beyond the bound goes by the ring, is counted, and inserts nothing`, (t) => {
    const balancer = open(t)
    spend(balancer)
    t.is(entries(balancer).length, BOUND)
    for (const sourcePort of OTHERS) {
      const sent = balancer.send(syn(sourcePort))
      t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_REFUSED_BUDGET: 1 })
      t.is(sent.backend, ringBackend(balancer, SERVICE, { sourcePort }))
    }
    t.is(entries(balancer).length, BOUND)
  })

  test.serial(`${family}: a repeated SYN beyond the bound, and what follows it, go where the first one went`, (t) => {
    const balancer = open(t)
    spend(balancer)
    for (const sourcePort of OTHERS) {
      const first = balancer.to(syn(sourcePort))
      t.is(balancer.to(syn(sourcePort)), first)
      t.is(balancer.to(ack(sourcePort)), first)
    }
  })

  test.serial(`${family}: packets in mid-flow and UDP count against the bound too`, (t) => {
    const balancer = open(t)
    t.is(balancer.send(ack(1)).reasons.FLOW_INSERTED, 1)
    t.is(balancer.send(udpFrame({ sourcePort: 2 })).reasons.FLOW_INSERTED, 1)
    t.is(balancer.send(syn(3)).reasons.FLOW_INSERTED, 1)
    const late = balancer.send(ack(4))
    t.deepEqual(late.reasons, { TX_FORWARDED: 1, FLOW_REFUSED_BUDGET: 1 })
    t.is(late.backend, ringBackend(balancer, SERVICE, { sourcePort: 4 }))
    const datagram = balancer.send(udpFrame({ sourcePort: 5 }))
    t.deepEqual(datagram.reasons, { TX_FORWARDED: 1, FLOW_REFUSED_BUDGET: 1 })
    t.is(datagram.backend, ringBackend(balancer, `udp://${HOST}:53`, { sourcePort: 5 }))
  })

  test.serial(`${family}: flows that stand in the table are served beyond the bound`, (t) => {
    const balancer = open(t)
    spend(balancer)
    balancer.send(syn(50))
    for (let sourcePort = 1; sourcePort <= BOUND; sourcePort++) {
      const sent = balancer.send(ack(sourcePort))
      t.deepEqual(sent.reasons, { TX_FORWARDED: 1 })
      t.is(sent.backend, sourcePort)
    }
  })

  test.serial(`${family}: each CPU has a bound of its own`, (t) => {
    const balancer = open(t)
    spend(balancer)
    t.is(balancer.send(syn(50)).reasons.FLOW_REFUSED_BUDGET, 1)
    balancer.native.system.pinToCpu(1)
    for (let i = 0; i < BOUND; i++) t.is(balancer.send(syn(60 + i)).reasons.FLOW_INSERTED, 1)
    t.is(balancer.send(syn(70)).reasons.FLOW_REFUSED_BUDGET, 1)
  })

  test.serial(`${family}: hashed services need no record, and know no bound`, (t) => {
    const balancer = open(t)
    balancer.add(`tcp://${HOST}:81`, { scheduler: 'mh' }, 3)
    spend(balancer)
    for (const sourcePort of OTHERS) {
      t.deepEqual(balancer.send(tcpFrame({ sourcePort, port: 81 })).reasons, { TX_FORWARDED: 1 })
    }
  })

  const wait = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds))

  /** Sends SYNs until one was beyond the bound: with a unit of age of 8 ms it may end between two of them. */
  const flood = (balancer: Balancer): void => {
    for (let sourcePort = 20000; sourcePort < 30000; sourcePort++) {
      if (balancer.send(syn(sourcePort)).reasons.FLOW_REFUSED_BUDGET === 1) return
    }
    throw new Error('no SYN was beyond the bound')
  }

  test.serial(`${family}: the bound is that of one unit of age`, async (t) => {
    const balancer = open(t, { newFlows: BOUND, settings: { ageShift: FAST_CLOCK, floodHold: 0 } })
    flood(balancer)
    await wait(30)
    t.is(balancer.send(syn(1)).reasons.FLOW_INSERTED, 1)
  })

  test.serial(`${family}: for a time after a flood the ring chooses for new flows, which are recorded`, async (t) => {
    const balancer = open(t, { newFlows: BOUND, settings: { ageShift: FAST_CLOCK, floodHold: 2 ** 30 } })
    flood(balancer)
    for (const sourcePort of OTHERS.slice(0, 12)) {
      await wait(20)
      const sent = balancer.send(syn(sourcePort))
      t.is(sent.reasons.FLOW_INSERTED, 1)
      t.is(sent.backend, ringBackend(balancer, SERVICE, { sourcePort }))
    }
  })

  test.serial(`${family}: when the hold after a flood has passed the scheduler chooses again`, async (t) => {
    const balancer = open(t, { newFlows: BOUND, settings: { ageShift: FAST_CLOCK, floodHold: 10 } })
    flood(balancer)
    await wait(300)
    const turns: (number | undefined)[] = []
    for (const sourcePort of OTHERS.slice(0, 10)) {
      await wait(20)
      turns.push(balancer.to(syn(sourcePort)))
    }
    const [first = 0] = turns
    t.deepEqual(
      turns,
      turns.map((_, i) => ((first - 1 + i) % 5) + 1),
    )
    t.is(new DataView(balancer.plane.buffer('cpus')).getUint32(Cpu.offset.flooded, true), 0)
  })
}
