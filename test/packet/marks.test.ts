// SPDX-License-Identifier: Apache-2.0
// A ring that changes under living flows (DESIGN.md, "A ring that changes"). No age passes.
import test from 'ava'
import { FAMILIES } from './families.ts'
import { clearTable, entries, setState, stateOf } from './flowtable.ts'
import { closeShared, FLOWS, goTo, marked, ringNow } from './marked.ts'
import { type Balancer, breathe, UNRESOLVED } from './plane.ts'
import { lookUp } from './ring.ts'

test.beforeEach(breathe)
test.after.always(closeShared)

for (const kit of FAMILIES) {
  const { family } = kit
  const { ack, client, movedBetween, open, syn, TCP_SERVICE, UDP_SERVICE, udp } = marked(kit)

  const CHANGES = [
    ['an added backend', (b: Balancer, s: string) => b.setBackend(s, 5)],
    ['a drained backend', (b: Balancer, s: string) => b.drain(s, 1)],
    ['a weight of 0', (b: Balancer, s: string) => b.setBackend(s, 1, { weight: 0 })],
    ['another weight', (b: Balancer, s: string) => b.setBackend(s, 1, { weight: 9 })],
    ['a larger ring', (b: Balancer, s: string) => b.set(s, { ringSize: 2039 })],
    ['a smaller ring', (b: Balancer, s: string) => b.set(s, { ringSize: 251 })],
    ['another seed', (b: Balancer, s: string) => b.set(s, { seed: 0x9876n })],
    [
      'the other hash input',
      (b: Balancer, s: string) => b.set(s, { hash: b.state.get(s)?.hash === 'source' ? 'source-port' : 'source' }),
    ],
  ] as const

  for (const scheduler of ['mh', 'sh'] as const) {
    for (const [name, change] of CHANGES) {
      test.serial(
        `${family}: ${scheduler}: ${name} moves no TCP flow that is under way, and new ones go by the new ring`,
        (t) => {
          const balancer = open(t, scheduler)
          const before = ringNow(balancer, TCP_SERVICE)
          const old = goTo(balancer, FLOWS, ack)
          t.is(entries(balancer).length, 0)
          change(balancer, TCP_SERVICE)
          const after = ringNow(balancer, TCP_SERVICE)
          const moved = movedBetween(before, after)
          t.true(moved.length > 5)
          t.deepEqual(goTo(balancer, FLOWS, ack), old)
          t.deepEqual(goTo(balancer, FLOWS, ack), old)
          // Recorded is what deviates; a flow on a slot that nobody marked needs no entry.
          for (const flow of moved) t.is(stateOf(balancer, flow), 'FLOW_ADOPTED')
          clearTable(balancer)
          for (const flow of FLOWS) {
            const wanted = lookUp(after, client(flow))
            t.is(balancer.to(syn(flow)), wanted)
            t.is(balancer.to(ack(flow)), wanted)
          }
          for (const flow of moved) t.is(stateOf(balancer, flow), 'FLOW_ESTABLISHED')
        },
      )

      test.serial(`${family}: ${scheduler}: ${name} leaves UDP with the backend before`, (t) => {
        const balancer = open(t, scheduler)
        const old = goTo(balancer, FLOWS, udp)
        change(balancer, UDP_SERVICE)
        t.deepEqual(goTo(balancer, FLOWS, udp), old)
        t.is(entries(balancer).length, 0)
      })
    }

    test.serial(`${family}: ${scheduler}: what goes by a slot that did not change is not recorded`, (t) => {
      const balancer = open(t, scheduler)
      const before = ringNow(balancer, TCP_SERVICE)
      balancer.setBackend(TCP_SERVICE, 5)
      const moved = movedBetween(before, ringNow(balancer, TCP_SERVICE))
      goTo(balancer, FLOWS, syn)
      t.deepEqual(
        entries(balancer)
          .map(({ sourcePort }) => sourcePort)
          .sort((a, b) => a - b),
        moved,
      )
    })

    test.serial(`${family}: ${scheduler}: successive changes remember the oldest backend`, (t) => {
      const balancer = open(t, scheduler)
      const tcp = goTo(balancer, FLOWS, ack)
      const datagrams = goTo(balancer, FLOWS, udp)
      for (const service of [TCP_SERVICE, UDP_SERVICE]) {
        for (const weight of [9, 2, 30]) {
          balancer.setBackend(service, 2, { weight })
          balancer.setBackend(service, weight + 10)
        }
        balancer.drain(service, 1)
        balancer.set(service, { ringSize: 4093 })
        balancer.setBackend(service, 3, { weight: 0 })
      }
      t.deepEqual(goTo(balancer, FLOWS, ack), tcp)
      t.deepEqual(goTo(balancer, FLOWS, udp), datagrams)
    })

    test.serial(`${family}: ${scheduler}: flows that began at any of several changes keep their backend`, (t) => {
      const balancer = open(t, scheduler)
      const generations: { flows: number[]; to: (number | undefined)[] }[] = []
      for (let generation = 0; generation < 6; generation++) {
        const flows = FLOWS.map((flow) => flow + 200 * generation)
        goTo(balancer, flows, syn)
        generations.push({ flows, to: goTo(balancer, flows, ack) })
        if (generation % 2 === 0) balancer.setBackend(TCP_SERVICE, 10 + generation)
        else balancer.drain(TCP_SERVICE, generation)
        for (const { flows: earlier, to } of generations) t.deepEqual(goTo(balancer, earlier, ack), to)
      }
    })

    test.serial(`${family}: ${scheduler}: a change and its reverse leave everything as it was`, (t) => {
      const balancer = open(t, scheduler)
      const old = goTo(balancer, FLOWS, ack)
      balancer.drain(TCP_SERVICE, 1)
      const meanwhile = FLOWS.map((flow) => flow + 500)
      goTo(balancer, meanwhile, syn)
      const begun = goTo(balancer, meanwhile, ack)
      balancer.setBackend(TCP_SERVICE, 1)
      t.deepEqual(goTo(balancer, FLOWS, ack), old)
      t.deepEqual(goTo(balancer, meanwhile, ack), begun)
      t.true(begun.every((backend) => backend !== 1))
    })

    for (const [what, down] of [
      ['removed', (b: Balancer, s: string) => b.removeBackend(s, 1)],
      ['down', (b: Balancer, s: string) => b.setBackend(s, 1, { path: UNRESOLVED })],
    ] as const) {
      test.serial(`${family}: ${scheduler}: flows of a backend that is ${what} go to another, the rest stays`, (t) => {
        const balancer = open(t, scheduler)
        const tcp = goTo(balancer, FLOWS, ack)
        const datagrams = goTo(balancer, FLOWS, udp)
        for (const [service, frame, old] of [
          [TCP_SERVICE, ack, tcp],
          [UDP_SERVICE, udp, datagrams],
        ] as const) {
          down(balancer, service)
          const ring = ringNow(balancer, service)
          t.deepEqual(
            goTo(balancer, FLOWS, frame),
            FLOWS.map((flow, i) => (old[i] === 1 ? lookUp(ring, client(flow)) : old[i])),
          )
        }
      })
    }

    test.serial(
      `${family}: ${scheduler}: a SYN that cannot be recorded goes to the backend before, and so does what follows it`,
      (t) => {
        const balancer = open(t, scheduler, { newFlows: 1 })
        t.teardown(() => balancer.native.system.pinToCpu(-1))
        balancer.native.system.pinToCpu(0)
        const before = ringNow(balancer, TCP_SERVICE)
        balancer.setBackend(TCP_SERVICE, 5)
        const moved = movedBetween(before, ringNow(balancer, TCP_SERVICE))
        balancer.to(syn(moved[0] ?? 0))
        for (const flow of moved.slice(1)) {
          const sent = balancer.send(syn(flow))
          t.is(sent.reasons.FLOW_REFUSED_BUDGET, 1)
          t.is(sent.backend, lookUp(before, client(flow)))
          t.is(balancer.to(ack(flow)), sent.backend)
        }
      },
    )

    test.serial(`${family}: ${scheduler}: a SYN that finds the table full goes to the backend before`, (t) => {
      const balancer = open(t, scheduler, { capacity: kit.flowCapacity(8) })
      const before = ringNow(balancer, TCP_SERVICE)
      balancer.setBackend(TCP_SERVICE, 5)
      const moved = movedBetween(before, ringNow(balancer, TCP_SERVICE))
      for (const flow of moved) {
        const { reasons, backend } = balancer.send(syn(flow))
        if (reasons.FLOW_INSERTED === 1) setState(balancer, flow, 'FLOW_ESTABLISHED')
        else t.is(backend, lookUp(before, client(flow)))
      }
      t.is(entries(balancer).length, 8)
    })
  }

  for (const scheduler of ['mh', 'sh'] as const) {
    for (const [name, rehash] of [
      ['another seed', (b: Balancer, s: string) => b.set(s, { seed: 0x9876n })],
      [
        'the other hash input',
        (b: Balancer, s: string) => b.set(s, { hash: scheduler === 'mh' ? 'source' : 'source-port' }),
      ],
    ] as const) {
      test.serial(
        `${family}: ${scheduler}: after ${name} and a further change, flows from before both keep their backend`,
        (t) => {
          const balancer = open(t, scheduler)
          const tcp = goTo(balancer, FLOWS, ack)
          const datagrams = goTo(balancer, FLOWS, udp)
          for (const service of [TCP_SERVICE, UDP_SERVICE]) {
            rehash(balancer, service)
            balancer.setBackend(service, 2, { weight: 3 })
          }
          t.deepEqual(goTo(balancer, FLOWS, ack), tcp)
          t.deepEqual(goTo(balancer, FLOWS, udp), datagrams)
        },
      )
    }
  }
}
