// SPDX-License-Identifier: Apache-2.0
// --max-conns: a backend with so many connections gets no new flow until enough of them have ended.
import test, { type ExecutionContext } from 'ava'
import type { ServiceOptions } from '../../src/core/verbs.ts'
import { explain } from '../../src/dataplane/explain.ts'
import { makeIdle } from './flowtable.ts'
import { CLIENT, TCP, tcpFrame, udpFrame, VIP } from './frames.ts'
import { type BackendSpec, Balancer, breathe } from './plane.ts'
import { makeRandom } from './random.ts'

test.beforeEach(breathe)

const SERVICE = `tcp://${VIP}:80`
const TRACKED = ['rr', 'wrr', 'lc', 'wlc', 'sed', 'nq'] as const

const open = (
  t: ExecutionContext,
  options: ServiceOptions,
  backends: Record<number, BackendSpec>,
  newFlows?: number,
): Balancer => {
  const balancer = new Balancer({ capacity: { flows: 2048 }, ...(newFlows === undefined ? {} : { newFlows }) })
  t.teardown(() => balancer.close())
  balancer.add(SERVICE, options, backends)
  return balancer
}

const syn = (balancer: Balancer, sourcePort: number): number | undefined => balancer.to(tcpFrame({ sourcePort }))

/** Connections end, all of them at once. */
const end = (balancer: Balancer, ...sourcePorts: number[]): void => {
  for (const sourcePort of sourcePorts) makeIdle(balancer, sourcePort, 2000)
  balancer.sweep()
}

const limit = (upper: number, lower = 0): BackendSpec => ({ maxConns: { upper, lower } })

for (const scheduler of TRACKED) {
  test.serial(`${scheduler}: a full backend is left out, and where all are, new flows are dropped by name`, (t) => {
    const balancer = open(t, { scheduler }, { 1: limit(2), 2: limit(3) })
    const to = Array.from({ length: 5 }, (_, i) => syn(balancer, i + 1))
    t.deepEqual([...to].sort(), [1, 1, 2, 2, 2])
    balancer.moved()
    const sent = balancer.send(tcpFrame({ sourcePort: 99 }))
    t.deepEqual(sent.reasons, { DROP_BACKENDS_FULL: 1 })
    t.is(sent.backend, undefined)
    for (const [i, backend] of to.entries()) {
      t.is(balancer.to(tcpFrame({ sourcePort: i + 1, flags: TCP.ACK })), backend, 'flows that are there go on')
    }
  })
}

test.serial('a full backend is taken again below LOWER, not at it', (t) => {
  const balancer = open(t, { scheduler: 'lc' }, { 1: limit(4, 2) })
  for (const port of [1, 2, 3, 4]) t.is(syn(balancer, port), 1)
  t.is(syn(balancer, 5), undefined)
  end(balancer, 1, 2)
  t.deepEqual(balancer.connections(SERVICE, 1), { active: 2, inactive: 0 })
  t.is(syn(balancer, 6), undefined)
  end(balancer, 3)
  t.is(syn(balancer, 7), 1)
  t.is(syn(balancer, 8), 1)
  t.is(syn(balancer, 9), 1)
  t.is(syn(balancer, 10), undefined)
})

test.serial('without LOWER it is three quarters of UPPER', (t) => {
  const balancer = open(t, { scheduler: 'rr' }, { 1: limit(4) })
  for (const port of [1, 2, 3, 4]) syn(balancer, port)
  end(balancer, 1)
  t.is(syn(balancer, 5), undefined, '3 is not below 3')
  end(balancer, 2)
  t.is(syn(balancer, 6), 1)
})

test.serial('it stays full although nobody asked while it was: what counts is that it was', (t) => {
  const balancer = open(t, { scheduler: 'lc' }, { 1: limit(3, 1), 2: limit(1, 1) })
  t.deepEqual(
    [1, 2, 3, 4].map((port) => syn(balancer, port)),
    [1, 2, 1, 1],
  )
  end(balancer, 1, 3)
  t.is(syn(balancer, 5), undefined, 'backend 1 has one connection, which is not below 1')
})

test.serial('rr finds the one that is not full among many, also behind a long row of full turns', (t) => {
  const backends = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [i + 1, i === 50 ? {} : limit(1)]))
  const balancer = open(t, { scheduler: 'rr' }, backends)
  for (let port = 1; port <= 60; port++) syn(balancer, port)
  t.deepEqual(
    Array.from({ length: 20 }, (_, i) => syn(balancer, 100 + i)),
    Array.from({ length: 20 }, () => 51),
  )
})

test.serial('another limit counts at once, and none lets all in again', (t) => {
  const balancer = open(t, { scheduler: 'rr' }, { 1: limit(2, 1) })
  for (const port of [1, 2]) syn(balancer, port)
  t.is(syn(balancer, 3), undefined)
  balancer.setBackend(SERVICE, 1, limit(3))
  t.is(syn(balancer, 4), 1)
  t.is(syn(balancer, 5), undefined)
  balancer.setBackend(SERVICE, 1, { maxConns: 'none' })
  t.is(syn(balancer, 6), 1)
  balancer.setBackend(SERVICE, 1, limit(2))
  t.is(syn(balancer, 7), undefined)
})

test.serial('UDP flows are bounded too', (t) => {
  const balancer = new Balancer()
  t.teardown(() => balancer.close())
  balancer.add(`udp://${VIP}:53`, { scheduler: 'wrr' }, { 1: limit(1), 2: limit(2) })
  const to = [1, 2, 3].map((sourcePort) => balancer.to(udpFrame({ sourcePort })))
  t.deepEqual([...to].sort(), [1, 2, 2])
  t.deepEqual(balancer.send(udpFrame({ sourcePort: 4 })).reasons.DROP_BACKENDS_FULL, 1)
})

test.serial('what is beyond the bound on new flows goes by the ring, and no limit holds it', (t) => {
  const balancer = open(t, { scheduler: 'rr' }, { 1: limit(1), 2: limit(1) }, 2)
  const to = Array.from({ length: 10 }, (_, i) => syn(balancer, i + 1))
  t.deepEqual(to.slice(0, 2), [1, 2])
  t.true(to.slice(2).every((backend) => backend !== undefined))
})

test.serial('where no flow is recorded, a limit is refused, and so is a scheduler that records none', (t) => {
  const balancer = open(t, { scheduler: 'mh' }, { 1: {} })
  t.throws(() => balancer.setBackend(SERVICE, 1, limit(5)), { message: /goes by its ring alone/ })
  balancer.set(SERVICE, { scheduler: 'rr' })
  balancer.setBackend(SERVICE, 1, limit(5))
  t.throws(() => balancer.set(SERVICE, { scheduler: 'sh' }), { message: /goes by its ring alone/ })
  balancer.add(`udp://${VIP}:53`, { scheduler: 'rr', ops: true }, { 1: {} })
  t.throws(() => balancer.setBackend(`udp://${VIP}:53`, 1, limit(5)), { message: /one-packet scheduling/ })
})

/** What trace would say of a SYN. */
const said = (balancer: Balancer, sourcePort: number) =>
  explain(
    balancer.plane,
    { protocol: 'tcp', source: CLIENT, sourcePort, vip: VIP, port: 80, opens: true },
    { now: balancer.plane.age(), interfaceSlot: 0, budget: 'left' },
  )

for (const scheduler of TRACKED) {
  test.serial(
    `${scheduler}: limits hold over random openings and ends, as a model says, and trace foresees them`,
    (t) => {
      const seed = Number(process.env.XLB_SEED ?? Date.now() % 2 ** 31)
      const random = makeRandom(seed)
      const limits = new Map(
        [1, 2, 3, 4].map((backend) => [backend, { upper: 2 + random.below(6), lower: random.below(3) }]),
      )
      const balancer = open(
        t,
        { scheduler },
        Object.fromEntries([...limits].map(([backend, maxConns]) => [backend, { maxConns }])),
      )
      const flows = new Map<number, number>()
      const full = new Set<number>()
      const loadOf = (backend: number) => [...flows.values()].filter((each) => each === backend).length
      for (let i = 0; i < 600; i++) {
        const port = 1 + random.below(40)
        if (flows.has(port)) {
          if (!random.once(3)) continue
          end(balancer, port)
          flows.delete(port)
        } else {
          for (const [backend, { upper, lower }] of limits) {
            const reopens = lower === 0 ? Math.ceil((upper * 3) / 4) : lower
            if (full.has(backend) && loadOf(backend) < reopens) full.delete(backend)
          }
          const { look } = said(balancer, port)
          const got = syn(balancer, port)
          const free = [...limits.keys()].filter((backend) => !full.has(backend))
          const foreseen = look?.choice.backend
          if (got === undefined ? free.length > 0 : !free.includes(got)) {
            return t.fail(`XLB_SEED=${seed}, step ${i}: went to ${got}, free are ${free}`)
          }
          if (
            (got === undefined) !== (foreseen === undefined) ||
            (got !== undefined && balancer.indexOf(SERVICE, got) !== foreseen)
          ) {
            return t.fail(`XLB_SEED=${seed}, step ${i}: went to ${got}, trace said index ${foreseen}`)
          }
          if (got === undefined) continue
          flows.set(port, got)
          if (loadOf(got) >= (limits.get(got)?.upper ?? 0)) full.add(got)
        }
      }
      t.pass()
    },
  )
}
