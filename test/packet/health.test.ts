// SPDX-License-Identifier: Apache-2.0
// Maintenance, and what a daemon found of a backend: who gets new flows, and what becomes of those that there are.
import test from 'ava'
import { formatService, parseService } from '../../src/core/address.ts'
import { type Health, withHealth } from '../../src/core/health.ts'
import { withService } from '../../src/core/verbs.ts'
import { FAMILIES } from './families.ts'
import { TCP } from './frames.ts'
import { Balancer, breathe } from './plane.ts'

test.beforeEach(breathe)

const shared = new Balancer()
test.after.always(() => shared.close())

const DOWN: Health = { alive: false, percent: 0, sinceMs: 1_800_000_000_000 }
const WELL: Health = { alive: true, percent: 100, sinceMs: 1_800_000_000_000 }
const share = (percent: number): Health => ({ ...WELL, percent })

/** As the daemon changes it: health alone. */
const find = (balancer: Balancer, service: string, address: string, health: Health | undefined): void =>
  balancer.change((state) => {
    const found = state.get(formatService(parseService(service)))
    return found === undefined ? state : withService(state, withHealth(found, new Map([[address, health]])))
  })

const FLOWS = Array.from({ length: 60 }, (_, i) => i + 1)

for (const { family, HOST, tcpFrame } of FAMILIES) {
  const SERVICE = `tcp://${HOST}:80`
  const syn = (sourcePort: number): Buffer => tcpFrame({ sourcePort })
  const ack = (sourcePort: number): Buffer => tcpFrame({ sourcePort, flags: TCP.ACK })
  const to = (balancer: Balancer, make: (flow: number) => Buffer, flows = FLOWS) =>
    flows.map((flow) => balancer.to(make(flow)))
  const addressOf = (balancer: Balancer, backend: number): string =>
    balancer.live(SERVICE).backends.find(({ index }) => index === balancer.indexOf(SERVICE, backend))?.want.address ??
    ''
  const later = FLOWS.map((flow) => flow + 1000)

  for (const scheduler of ['rr', 'wrr', 'mh', 'sh', 'lc', 'wlc'] as const) {
    const open = (): Balancer => {
      const balancer = shared.reset()
      balancer.add(SERVICE, { scheduler, hash: 'source-port' }, 3)
      return balancer
    }

    for (const [what, takeOut, takeBack] of [
      ['in maintenance', (b: Balancer) => b.maint(SERVICE, 1), (b: Balancer) => b.setBackend(SERVICE, 1)],
      [
        'down',
        (b: Balancer) => find(b, SERVICE, addressOf(b, 1), DOWN),
        (b: Balancer) => find(b, SERVICE, addressOf(b, 1), WELL),
      ],
    ] as const) {
      test.serial(`${family}: ${scheduler}: a backend that is ${what} gets no packet, and is taken back`, (t) => {
        const balancer = open()
        const old = to(balancer, syn)
        t.deepEqual(to(balancer, ack), old)
        t.true(old.includes(1))
        takeOut(balancer)
        const now = to(balancer, ack)
        t.false(now.includes(1))
        t.false(now.includes(undefined), 'its flows go to others')
        for (const [i, backend] of old.entries()) if (backend !== 1) t.is(now[i], backend, 'those of others stay')
        t.deepEqual(to(balancer, ack), now)
        t.false(to(balancer, syn, later).includes(1))
        takeBack(balancer)
        t.deepEqual(to(balancer, ack), now, 'flows do not come back')
        t.true(
          to(
            balancer,
            syn,
            FLOWS.map((flow) => flow + 2000),
          ).includes(1),
        )
      })
    }

    test.serial(`${family}: ${scheduler}: a backend without a share keeps its flows, and gets no new one`, (t) => {
      const balancer = open()
      const old = to(balancer, syn)
      find(balancer, SERVICE, addressOf(balancer, 1), share(0))
      t.deepEqual(to(balancer, ack), old)
      t.false(to(balancer, syn, later).includes(1))
    })

    test.serial(`${family}: ${scheduler}: where all backends are in maintenance packets are dropped`, (t) => {
      const balancer = open()
      to(balancer, syn)
      for (const backend of [1, 2, 3]) balancer.maint(SERVICE, backend)
      for (const frame of [syn(1), ack(1), syn(4000)]) t.deepEqual(balancer.send(frame).reasons, { DROP_NO_BACKEND: 1 })
    })
  }

  test.serial(`${family}: wrr: a backend of half its weight gets half of what it would get`, (t) => {
    const balancer = shared.reset()
    balancer.add(SERVICE, { scheduler: 'wrr' }, { 1: { weight: 10, health: share(50) }, 2: { weight: 10 } })
    const got = to(
      balancer,
      syn,
      Array.from({ length: 300 }, (_, i) => i + 1),
    )
    t.is(got.filter((backend) => backend === 1).length, 100)
  })

  test.serial(`${family}: mh: a backend of half its weight has half of the slots that it would have`, (t) => {
    const balancer = shared.reset()
    balancer.add(SERVICE, { scheduler: 'mh' }, { 1: { weight: 10, health: share(50) }, 2: { weight: 10 } })
    const got = to(
      balancer,
      syn,
      Array.from({ length: 3000 }, (_, i) => i + 1),
    )
    const first = got.filter((backend) => backend === 1).length
    t.true(first > 900 && first < 1100, `${first} of 3000`)
  })

  test.serial(`${family}: what was found of a backend outlasts verbs, and goes with it`, (t) => {
    const balancer = shared.reset()
    balancer.add(SERVICE, { scheduler: 'wrr' }, { 1: { weight: 4 }, 2: {} })
    const address = addressOf(balancer, 1)
    const now = () => balancer.live(SERVICE).backends.find(({ want }) => want.address === address)?.want
    const half = { ...share(50), sinceMs: 1_800_000_123_000 }
    find(balancer, SERVICE, address, { ...half, sinceMs: half.sinceMs + 456 })
    t.deepEqual(now()?.health, half, 'in whole seconds')
    t.is(now()?.weight, 4, 'as configured')
    balancer.setBackend(SERVICE, 1, { weight: 8 })
    balancer.maint(SERVICE, 1)
    balancer.drain(SERVICE, 1)
    balancer.set(SERVICE, { scheduler: 'mh' })
    balancer.setBackend(SERVICE, 2, { weight: 7 })
    t.deepEqual(now()?.health, half)
    balancer.removeBackend(SERVICE, 1)
    balancer.setBackend(SERVICE, 1)
    t.is(now()?.health, undefined)
  })
}
