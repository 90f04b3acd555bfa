// SPDX-License-Identifier: Apache-2.0
// Flows of a backend that was removed: kept until they end, cut, or moved.
import test, { type ExecutionContext } from 'ava'
import { FlowState, Service as ServiceRecord, Settings } from '../../src/dataplane/layout.gen.ts'
import { KITS } from './families.ts'
import { entries, entryOf, makeIdle, setState, stateOf } from './flowtable.ts'
import {
  datagram,
  FRAGMENT,
  icmpError,
  ipv4,
  PROTOCOL,
  TCP,
  tcp,
  tcp6Frame,
  tcpFrame,
  udpFrame,
  VIP,
  VIP6,
} from './frames.ts'
import { closeShared, FLOWS, goTo, marked, ringNow } from './marked.ts'
import { type Balancer, breathe, LOCAL, UNRESOLVED, VERDICT } from './plane.ts'
import { lookUp } from './ring.ts'

test.beforeEach(breathe)
test.after.always(closeShared)

const { ack, client, open, syn, TCP_SERVICE, UDP_SERVICE, udp } = marked(KITS.ipv4)

const fin = (flow: number): Buffer => tcpFrame({ ...client(flow), flags: TCP.FIN | TCP.ACK })

/** Ends in a drop, by that name and no other. */
const dropped = (t: ExecutionContext, balancer: Balancer, frame: Buffer): void => {
  const sent = balancer.send(frame)
  t.deepEqual(sent.reasons, { DROP_BACKEND_CUT: 1 })
  t.is(sent.verdict, VERDICT.DROP)
}

/** Established flows, and the backend of each. */
const establish = (balancer: Balancer): (number | undefined)[] => {
  goTo(balancer, FLOWS, syn)
  return goTo(balancer, FLOWS, ack)
}

/** Sets the age after which the marks of the TCP service's ring count no more. */
const endMarks = (balancer: Balancer, age: number): void => {
  const at = balancer.live(TCP_SERVICE).record * ServiceRecord.size + ServiceRecord.offset.marksEnd
  new DataView(balancer.plane.buffer('services')).setUint32(at, age >>> 0, true)
}

const ofFirst = (to: readonly (number | undefined)[]): number[] => FLOWS.filter((_, i) => to[i] === 1)

for (const scheduler of ['rr', 'wrr', 'mh', 'sh'] as const) {
  test.serial(`${scheduler}: keep: a removed backend keeps its flows and gets no new one`, (t) => {
    const balancer = open(t, scheduler)
    const old = establish(balancer)
    balancer.removeBackend(TCP_SERVICE, 1, 'keep')
    t.deepEqual(goTo(balancer, FLOWS, ack), old)
    const others = FLOWS.map((flow) => flow + 1000)
    t.false(goTo(balancer, others, syn).includes(1))
    t.false(goTo(balancer, others, ack).includes(1))
    t.deepEqual(goTo(balancer, FLOWS, fin), old)
  })

  test.serial(`${scheduler}: keep: UDP flows stay with the removed backend`, (t) => {
    const balancer = open(t, scheduler)
    const old = goTo(balancer, FLOWS, udp)
    balancer.removeBackend(UDP_SERVICE, 1, 'keep')
    t.deepEqual(goTo(balancer, FLOWS, udp), old)
  })

  test.serial(`${scheduler}: keep, then move: its flows go to others`, (t) => {
    const balancer = open(t, scheduler)
    establish(balancer)
    balancer.removeBackend(TCP_SERVICE, 1, 'keep')
    balancer.removeBackend(TCP_SERVICE, 1, 'move')
    t.false(goTo(balancer, FLOWS, ack).includes(1))
    t.is(balancer.live(TCP_SERVICE).backends.length, 3)
  })

  test.serial(`${scheduler}: keep, then set: it takes new flows again, and its old ones are still its own`, (t) => {
    const balancer = open(t, scheduler)
    const old = establish(balancer)
    balancer.removeBackend(TCP_SERVICE, 1, 'keep')
    balancer.setBackend(TCP_SERVICE, 1)
    t.deepEqual(goTo(balancer, FLOWS, ack), old)
    t.true(
      goTo(
        balancer,
        FLOWS.map((flow) => flow + 1000),
        syn,
      ).includes(1),
    )
  })

  test.serial(`${scheduler}: cut: packets of its flows are dropped by name, all others go as before`, (t) => {
    const balancer = open(t, scheduler)
    const old = establish(balancer)
    balancer.removeBackend(TCP_SERVICE, 1, 'cut')
    for (const [i, flow] of FLOWS.entries()) {
      if (old[i] !== 1) t.is(balancer.to(ack(flow)), old[i])
      else for (const frame of [ack(flow), fin(flow), ack(flow)]) dropped(t, balancer, frame)
    }
    t.is(balancer.counters(TCP_SERVICE, 1).packets, BigInt(2 * ofFirst(old).length), 'what is dropped is not counted')
  })

  test.serial(`${scheduler}: cut: a SYN of a flow that was cut opens a new one elsewhere, which stays there`, (t) => {
    const balancer = open(t, scheduler)
    for (const flow of ofFirst(establish(balancer))) {
      balancer.setBackend(TCP_SERVICE, 1)
      balancer.removeBackend(TCP_SERVICE, 1, 'cut')
      dropped(t, balancer, ack(flow))
      const { backend, reasons } = balancer.send(syn(flow))
      t.true(backend !== undefined && backend > 1)
      t.is(reasons.FLOW_INSERTED, 1)
      t.is(balancer.to(ack(flow)), backend)
    }
  })

  test.serial(`${scheduler}: cut, then set: flows that have not ended go on`, (t) => {
    const balancer = open(t, scheduler)
    const old = establish(balancer)
    balancer.removeBackend(TCP_SERVICE, 1, 'cut')
    for (const flow of ofFirst(old)) dropped(t, balancer, ack(flow))
    balancer.setBackend(TCP_SERVICE, 1)
    t.deepEqual(goTo(balancer, FLOWS, ack), old)
  })

  test.serial(`${scheduler}: cut: the last backend's flows are dropped, and new ones have no backend`, (t) => {
    const balancer = open(t, scheduler)
    establish(balancer)
    for (const backend of [2, 3, 4]) balancer.removeBackend(TCP_SERVICE, backend, 'cut')
    const last = FLOWS.filter((flow) => balancer.send(ack(flow)).backend === 1)
    t.true(last.length > 0)
    balancer.removeBackend(TCP_SERVICE, 1, 'cut')
    for (const flow of last) dropped(t, balancer, ack(flow))
    t.deepEqual(balancer.send(syn(9999)).reasons, { DROP_NO_BACKEND: 1 })
  })

  for (const [what, path] of [
    ['this host', LOCAL],
    ['not resolved', UNRESOLVED],
  ] as const) {
    test.serial(`${scheduler}: cut: no flow of a backend that is ${what} is passed or sent`, (t) => {
      const balancer = open(t, scheduler)
      const old = establish(balancer)
      balancer.setBackend(TCP_SERVICE, 1, { path })
      balancer.removeBackend(TCP_SERVICE, 1, 'cut')
      for (const flow of ofFirst(old)) dropped(t, balancer, ack(flow))
    })
  }
}

for (const scheduler of ['rr', 'wrr'] as const) {
  test.serial(
    `${scheduler}: cut: what is dropped does not keep the entry, and when that has expired it is moved`,
    (t) => {
      const balancer = open(t, scheduler)
      const [flow = 0] = ofFirst(establish(balancer))
      balancer.removeBackend(TCP_SERVICE, 1, 'cut')
      makeIdle(balancer, flow, 500)
      const { age } = entryOf(balancer, flow)
      dropped(t, balancer, ack(flow))
      dropped(t, balancer, fin(flow))
      t.is(entryOf(balancer, flow).age, age)
      t.is(stateOf(balancer, flow), 'FLOW_ESTABLISHED')
      makeIdle(balancer, flow, 1500)
      endMarks(balancer, balancer.plane.age() - 1)
      const { backend, reasons } = balancer.send(ack(flow))
      t.true(backend !== undefined && backend > 1)
      t.is(reasons.FLOW_INSERTED, 1)
    },
  )

  test.serial(
    `${scheduler}: cut: UDP flows are dropped until a UDP timeout has passed, however long they go on`,
    (t) => {
      const balancer = open(t, scheduler)
      const [flow = 0] = ofFirst(goTo(balancer, FLOWS, udp))
      balancer.removeBackend(UDP_SERVICE, 1, 'cut')
      const timeout = Settings.read(new DataView(balancer.plane.buffer('settings')), 0).timeout[FlowState.FLOW_UDP] ?? 0
      setState(balancer, flow, 'FLOW_UDP')
      makeIdle(balancer, flow, timeout)
      dropped(t, balancer, udp(flow))
      dropped(t, balancer, udp(flow))
      makeIdle(balancer, flow, timeout + 1)
      const { backend } = balancer.send(udp(flow))
      t.true(backend !== undefined && backend > 1)
      t.is(balancer.to(udp(flow)), backend)
    },
  )

  test.serial(`${scheduler}: cut: an ICMP error about a flow that was cut is dropped with it`, (t) => {
    const balancer = open(t, scheduler)
    const [flow = 0] = ofFirst(establish(balancer))
    balancer.removeBackend(TCP_SERVICE, 1, 'cut')
    const { source, sourcePort } = client(flow)
    const quoted = ipv4(
      { source: VIP, vip: source, protocol: PROTOCOL.TCP },
      tcp({ sourcePort: 80, port: sourcePort, flags: TCP.ACK }),
    )
    const message = icmpError(3, 4, quoted.subarray(0, 28))
    dropped(t, balancer, datagram({ source: '203.0.113.77', protocol: PROTOCOL.ICMP }, message))
  })

  test.serial(`${scheduler}: cut: a first fragment is dropped, and so are those that follow it`, (t) => {
    const balancer = open(t, scheduler)
    const [flow = 0] = ofFirst(goTo(balancer, FLOWS, udp))
    balancer.removeBackend(UDP_SERVICE, 1, 'cut')
    const fields = { ...client(flow), port: 80, identification: 7, payload: Buffer.alloc(40) }
    dropped(t, balancer, udpFrame({ ...fields, fragment: FRAGMENT.MORE }))
    dropped(t, balancer, udpFrame({ ...fields, fragment: 6 }))
  })
}

for (const scheduler of ['mh', 'sh'] as const) {
  test.serial(`${scheduler}: cut: an older flow is known by its slot, and not recorded`, (t) => {
    const balancer = open(t, scheduler)
    const old = goTo(balancer, FLOWS, ack)
    balancer.removeBackend(TCP_SERVICE, 1, 'cut')
    for (const flow of ofFirst(old)) dropped(t, balancer, ack(flow))
    t.is(entries(balancer).length, 0)
  })

  test.serial(`${scheduler}: cut: a slot leads to it for the timeout of an established flow, and no longer`, (t) => {
    const balancer = open(t, scheduler)
    const [flow = 0] = ofFirst(goTo(balancer, FLOWS, ack))
    balancer.removeBackend(TCP_SERVICE, 1, 'cut')
    endMarks(balancer, balancer.plane.age())
    dropped(t, balancer, ack(flow))
    endMarks(balancer, balancer.plane.age() - 1)
    t.is(balancer.to(ack(flow)), lookUp(ringNow(balancer, TCP_SERVICE), client(flow)))
  })

  test.serial(`${scheduler}: cut: a flow that cannot be recorded goes by the ring as it is now`, (t) => {
    const balancer = open(t, scheduler, { newFlows: 1 })
    t.teardown(() => balancer.native.system.pinToCpu(-1))
    balancer.native.system.pinToCpu(0)
    const old = goTo(balancer, FLOWS, ack)
    balancer.removeBackend(TCP_SERVICE, 1, 'cut')
    const [first = 0, ...others] = ofFirst(old)
    balancer.to(syn(first))
    for (const flow of others) {
      const sent = balancer.send(syn(flow))
      t.is(sent.reasons.FLOW_REFUSED_BUDGET, 1)
      t.is(sent.backend, lookUp(ringNow(balancer, TCP_SERVICE), client(flow)))
      t.is(balancer.to(ack(flow)), sent.backend)
    }
  })

  test.serial(`${scheduler}: cut is refused for UDP, whose flows nobody knows, and changes nothing`, (t) => {
    const balancer = open(t, scheduler)
    const old = goTo(balancer, FLOWS, udp)
    t.throws(() => balancer.removeBackend(UDP_SERVICE, 1, 'cut'), { message: /does not know its flows/ })
    t.deepEqual(goTo(balancer, FLOWS, udp), old)
  })

  test.serial(
    `${scheduler}: a UDP service that was cut when it was tracked drops what it has recorded, no more`,
    (t) => {
      const balancer = open(t, 'rr')
      const old = goTo(balancer, FLOWS, udp)
      balancer.removeBackend(UDP_SERVICE, 1, 'cut')
      balancer.set(UDP_SERVICE, { scheduler, hash: 'source-port' })
      for (const flow of ofFirst(old)) dropped(t, balancer, udp(flow))
      const others = FLOWS.map((flow) => flow + 1000)
      t.true(goTo(balancer, others, udp).every((backend) => backend !== undefined && backend > 1))
    },
  )
}

test.serial('with one-packet scheduling there are no flows to keep or cut: the backend is gone at once', (t) => {
  const balancer = open(t, 'rr')
  balancer.set(UDP_SERVICE, { ops: true })
  for (const [backend, flows] of [
    [1, 'keep'],
    [2, 'cut'],
  ] as const) {
    balancer.removeBackend(UDP_SERVICE, backend, flows)
    t.false(goTo(balancer, FLOWS, udp).includes(backend))
  }
  t.is(balancer.live(UDP_SERVICE).backends.length, 2)
})

for (const scheduler of ['rr', 'wrr', 'mh', 'sh'] as const) {
  test.serial(`${scheduler}: flows of IPv6 are kept, cut and moved as those of IPv4`, (t) => {
    const balancer = open(t, scheduler)
    const service = `tcp://[${VIP6}]:80`
    balancer.add(service, { scheduler, seed: 0x1234n }, 4)
    const frame = (flow: number, flags: number) =>
      tcp6Frame({ source: `2001:db8:5::${flow.toString(16)}`, sourcePort: flow, flags })
    const syn6 = (flow: number) => frame(flow, TCP.SYN)
    const ack6 = (flow: number) => frame(flow, TCP.ACK)
    goTo(balancer, FLOWS, syn6)
    const old = goTo(balancer, FLOWS, ack6)
    t.true(ofFirst(old).length > 0)
    balancer.removeBackend(service, 1, 'keep')
    t.deepEqual(goTo(balancer, FLOWS, ack6), old)
    balancer.removeBackend(service, 1, 'cut')
    for (const flow of ofFirst(old)) dropped(t, balancer, ack6(flow))
    const [flow = 0] = ofFirst(old)
    const anew = balancer.to(syn6(flow))
    t.true(anew !== undefined && anew > 1)
    t.is(balancer.to(ack6(flow)), anew)
    balancer.removeBackend(service, 1, 'move')
    t.false(goTo(balancer, FLOWS, ack6).includes(1))
  })
}
