// SPDX-License-Identifier: Apache-2.0
// A service of 4,000 backends: each scheduler reaches all of them.
import test, { type ExecutionContext } from 'ava'
import { parseService } from '../../src/core/address.ts'
import type { Backend, Scheduler } from '../../src/core/desired.ts'
import { existing } from '../../src/core/verbs.ts'
import { slotsAt } from '../../src/dataplane/views.ts'
import { type FrameFields, TCP, tcpFrame, VIP } from './frames.ts'
import { Balancer, backendAddress, backendOf, breathe, linkPath, VERDICT } from './plane.ts'
import { lookUp, ringOf } from './ring.ts'

test.beforeEach(breathe)

const COUNT = 4000
const NUMBERS = Array.from({ length: COUNT }, (_, i) => i + 1)
const SERVICE = `tcp://${VIP}:80`
const PREFIX = 'tcp://198.18.0.0/16:80'

/** Verbs would take long to add so many one by one. */
const backend = (number: number): Backend => ({
  address: backendAddress(number),
  port: 80,
  weight: 1,
  admin: 'up',
  path: linkPath(number),
})

const open = (t: ExecutionContext, scheduler: Scheduler, service = SERVICE): Balancer => {
  t.timeout(60_000)
  // So large that a flow without a place is as good as impossible.
  const capacity = { backends: 4096, flows: 2 ** 17, flows6: 2 ** 20, destinations: 2 ** 17 }
  const balancer = new Balancer({ capacity })
  t.teardown(() => balancer.close())
  balancer.add(service, { scheduler }, 0)
  balancer.change((state) => {
    const found = existing(state, parseService(service))
    return new Map([[service, { ...found, backends: NUMBERS.map(backend) }]])
  })
  return balancer
}

/** Without a look at the counters, which takes longer than all else. */
const send = (balancer: Balancer, fields: FrameFields): number | undefined => {
  const { returned, data } = balancer.run(tcpFrame(fields))
  return returned === VERDICT.TX ? backendOf(data) : undefined
}
const connect = (balancer: Balancer, fields: FrameFields): number | undefined => {
  send(balancer, { ...fields, flags: TCP.SYN })
  return send(balancer, { ...fields, flags: TCP.ACK })
}

/** The first few places where they differ, not thousands of lines. */
const isEach = (t: ExecutionContext, backends: readonly (number | undefined)[]): void => {
  t.is(backends.length, COUNT)
  const wrong = backends.flatMap((to, i) => (to === i + 1 ? [] : [`${i + 1} went to ${to}`]))
  t.deepEqual(wrong.slice(0, 5), [])
}

const inOrder = (backends: readonly (number | undefined)[]) => backends.toSorted((a, b) => (a ?? 0) - (b ?? 0))

for (const scheduler of ['lc', 'wlc', 'sed', 'nq'] as const) {
  test.serial(`${scheduler}: the last of 4,000 backends is found`, (t) => {
    const balancer = open(t, scheduler)
    isEach(
      t,
      NUMBERS.map((sourcePort) => connect(balancer, { sourcePort })),
    )
    send(balancer, { sourcePort: COUNT, flags: TCP.RST })
    t.is(send(balancer, { sourcePort: 5000, flags: TCP.SYN }), COUNT)
  })
}

test.serial('rr: 4,000 connections go to 4,000 backends in turn, and the next ones again', (t) => {
  const balancer = open(t, 'rr')
  for (const turn of [0, 1]) {
    isEach(
      t,
      NUMBERS.map((number) => connect(balancer, { sourcePort: turn * COUNT + number })),
    )
  }
})

test.serial('wrr: of 4,000 backends of one weight each gets one of 4,000 connections', (t) => {
  const balancer = open(t, 'wrr')
  isEach(t, inOrder(NUMBERS.map((sourcePort) => connect(balancer, { sourcePort }))))
})

for (const scheduler of ['lblc', 'lblcr'] as const) {
  test.serial(`${scheduler}: of 4,000 backends each gets one of 4,000 destinations, and keeps it`, (t) => {
    const balancer = open(t, scheduler, PREFIX)
    const vip = (number: number) => `198.18.${number >> 8}.${number & 255}`
    isEach(
      t,
      NUMBERS.map((number) => connect(balancer, { vip: vip(number), sourcePort: number })),
    )
    for (const number of [1, 2047, COUNT]) t.is(send(balancer, { vip: vip(number), sourcePort: 1 }), number)
  })
}

for (const scheduler of ['mh', 'sh', 'dh'] as const) {
  test.serial(`${scheduler}: the ring of 4,000 backends names them all, and leads to them`, (t) => {
    const service = scheduler === 'dh' ? PREFIX : SERVICE
    const balancer = open(t, scheduler, service)
    const { service: record, backends, want } = balancer.live(service)
    const slots = slotsAt(balancer.plane, record.ringLine, record.ringSize)
    const named = new Set(slots)
    t.is(named.size, COUNT)
    t.true(backends.every(({ index }) => named.has(index)))
    const ring = ringOf(want)
    const reached = new Set<number | undefined>()
    for (const sourcePort of NUMBERS) {
      const octets = `${sourcePort >> 8}.${sourcePort & 255}`
      const tuple = { source: `10.1.${octets}`, sourcePort, destination: scheduler === 'dh' ? `198.18.${octets}` : VIP }
      const to = send(balancer, { source: tuple.source, sourcePort, vip: tuple.destination })
      if (to !== lookUp(ring, tuple)) return t.fail(`${octets}: to ${to}, not ${lookUp(ring, tuple)}`)
      reached.add(to)
    }
    // 4,000 flows over 4,000 backends by chance: some 2,528 of them.
    t.true(reached.size > 2300, `${reached.size}`)
  })
}
