// SPDX-License-Identifier: Apache-2.0
// How long a mark lasts, and what it remembers when backends go.
import test from 'ava'
import { FlowState, Service } from '../../src/dataplane/layout.gen.ts'
import { FAMILIES } from './families.ts'
import { makeIdle } from './flowtable.ts'
import { closeShared, FLOWS, goTo, marked, ringNow } from './marked.ts'
import { type Balancer, type BalancerOptions, breathe, FAST_CLOCK, REAL_CLOCK } from './plane.ts'
import { lookUp } from './ring.ts'

test.beforeEach(breathe)
test.after.always(closeShared)

for (const kit of FAMILIES) {
  const { family } = kit
  const { ack, client, movedBetween, open, syn, TCP_SERVICE, UDP_SERVICE, udp } = marked(kit)

  const UDP_TIMEOUT = 120
  const fast: BalancerOptions = {
    settings: {
      ageShift: FAST_CLOCK,
      timeout: Array.from({ length: 16 }, (_, state) => (state === FlowState.FLOW_UDP ? UDP_TIMEOUT : 1000)),
    },
  }
  /** Until so many ages have passed. */
  const pass = async (balancer: Balancer, ages: number): Promise<void> => {
    const end = balancer.plane.age() + ages
    while (balancer.plane.age() <= end) await new Promise((resolve) => void setTimeout(resolve, 5))
  }

  test.serial(`${family}: UDP goes by the new ring when the UDP timeout has passed since the change`, async (t) => {
    const balancer = open(t, 'mh', fast)
    const old = goTo(balancer, FLOWS, udp)
    balancer.setBackend(UDP_SERVICE, 5)
    const ring = ringNow(balancer, UDP_SERVICE)
    t.deepEqual(goTo(balancer, FLOWS, udp), old)
    await pass(balancer, 2 * UDP_TIMEOUT)
    t.deepEqual(
      goTo(balancer, FLOWS, udp),
      FLOWS.map((flow) => lookUp(ring, client(flow))),
    )
  })

  test.serial(`${family}: UDP: a later change of other slots prolongs no mark`, async (t) => {
    const balancer = open(t, 'mh', fast)
    const first = ringNow(balancer, UDP_SERVICE)
    balancer.setBackend(UDP_SERVICE, 5)
    const second = ringNow(balancer, UDP_SERVICE)
    await pass(balancer, UDP_TIMEOUT + 1)
    balancer.setBackend(UDP_SERVICE, 6)
    const third = ringNow(balancer, UDP_SERVICE)
    const moved = movedBetween(first, second)
    const again = new Set(movedBetween(second, third))
    t.true(moved.some((flow) => !again.has(flow)))
    // All at once: the marks last for no longer than the timeout.
    const now = goTo(balancer, FLOWS, udp)
    t.deepEqual(
      now,
      FLOWS.map((flow) => lookUp(second, client(flow))),
    )
  })

  for (const scheduler of ['mh', 'sh'] as const) {
    test.serial(
      `${family}: ${scheduler}: UDP that left a removed backend stays with the next one when that is drained too`,
      (t) => {
        const balancer = open(t, scheduler)
        balancer.removeBackend(UDP_SERVICE, 1)
        const old = goTo(balancer, FLOWS, udp)
        balancer.drain(UDP_SERVICE, 2)
        t.deepEqual(goTo(balancer, FLOWS, udp), old)
      },
    )

    test.serial(
      `${family}: ${scheduler}: TCP that left a removed backend, unrecorded, stays with the next one when that is drained too`,
      (t) => {
        const balancer = open(t, scheduler, { newFlows: 1 })
        t.teardown(() => balancer.native.system.pinToCpu(-1))
        balancer.native.system.pinToCpu(0)
        balancer.removeBackend(TCP_SERVICE, 1)
        const old = goTo(balancer, FLOWS, ack)
        balancer.drain(TCP_SERVICE, 2)
        t.deepEqual(goTo(balancer, FLOWS, ack), old)
      },
    )
  }

  const real: BalancerOptions = { settings: { ageShift: REAL_CLOCK } }

  /** As if the service's ring had been changed longer ago than any timeout: its marks end with the next change. */
  const letMarksPass = (balancer: Balancer, service: string): void => {
    const view = new DataView(balancer.plane.buffer('services'))
    const at = balancer.live(service).record * Service.size
    view.setUint32(at + Service.offset.written, (view.getUint32(at + Service.offset.written, true) - 2000) >>> 0, true)
  }

  test.serial(`${family}: a mark ends with the first change after the timeout when no entry deviates`, (t) => {
    const balancer = open(t, 'mh', real)
    balancer.setBackend(TCP_SERVICE, 5)
    letMarksPass(balancer, TCP_SERVICE)
    balancer.setBackend(TCP_SERVICE, 4, { weight: 2 })
    const before = ringNow(balancer, TCP_SERVICE)
    const { beforeLine, ringSize } = balancer.live(TCP_SERVICE).service
    const lines = new Uint16Array(balancer.plane.buffer('rings'), beforeLine * 64, ringSize)
    t.true(lines.length > 0 && before.slots.length === ringSize)
    const marked = new Uint16Array(
      balancer.plane.buffer('rings'),
      balancer.live(TCP_SERVICE).service.ringLine * 64,
      ringSize,
    )
    const marks = marked.filter((slot) => (slot & 0x8000) !== 0).length
    t.true(marks > 0 && marks < ringSize / 2, `${marks} of ${ringSize} slots are marked`)
  })

  test.serial(`${family}: a mark stays while an entry deviates`, (t) => {
    const balancer = open(t, 'mh', real)
    const old = goTo(balancer, FLOWS, ack)
    balancer.setBackend(TCP_SERVICE, 5)
    goTo(balancer, FLOWS, ack)
    letMarksPass(balancer, TCP_SERVICE)
    balancer.setBackend(TCP_SERVICE, 6)
    t.deepEqual(goTo(balancer, FLOWS, ack), old)
  })

  test.serial(
    `${family}: an entry that expired before its mark ended speaks for no later flow of the same ports`,
    (t) => {
      const balancer = open(t, 'mh', real)
      const first = ringNow(balancer, TCP_SERVICE)
      balancer.setBackend(TCP_SERVICE, 5)
      const second = ringNow(balancer, TCP_SERVICE)
      const moved = movedBetween(first, second)
      goTo(balancer, moved, ack) // recorded with the backend before
      for (const flow of moved) makeIdle(balancer, flow, 2000) // long gone
      letMarksPass(balancer, TCP_SERVICE)
      balancer.setBackend(TCP_SERVICE, 5, { weight: 2 }) // the marks end where the ring stays
      const third = ringNow(balancer, TCP_SERVICE)
      const unmarked = moved.filter((flow) => lookUp(second, client(flow)) === lookUp(third, client(flow)))
      goTo(balancer, unmarked, syn) // the clients use their ports again
      const begun = goTo(balancer, unmarked, ack)
      t.deepEqual(
        begun,
        unmarked.map((flow) => lookUp(third, client(flow))),
      )
      balancer.drain(TCP_SERVICE, 5) // every slot of theirs is marked again
      t.deepEqual(goTo(balancer, unmarked, ack), begun)
    },
  )
}
