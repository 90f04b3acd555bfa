// SPDX-License-Identifier: Apache-2.0
// lc, wlc, sed and nq beside a model of what ipvsadm(8) says of them.
import test, { type ExecutionContext } from 'ava'
import type { Scheduler } from '../../src/core/desired.ts'
import { miscounted } from './counted.ts'
import { entries, makeIdle } from './flowtable.ts'
import { TCP, tcpFrame, udpFrame, VIP } from './frames.ts'
import { type BackendSpec, Balancer, type BalancerOptions, backendOf, breathe, VERDICT } from './plane.ts'
import { makeRandom, type Random } from './random.ts'

test.beforeEach(breathe)

const SERVICE = `tcp://${VIP}:80`
const BY_LOAD = ['lc', 'wlc', 'sed', 'nq'] as const

const open = (
  t: ExecutionContext,
  scheduler: Scheduler,
  backends: number | Record<number, BackendSpec>,
  options: BalancerOptions = {},
): Balancer => {
  const balancer = new Balancer({ capacity: { flows: 2048 }, ...options })
  t.teardown(() => balancer.close())
  balancer.add(SERVICE, { scheduler }, backends)
  return balancer
}

/** Without a look at the counters, which takes longer than all else. */
const send = (balancer: Balancer, sourcePort: number, flags: number): number | undefined => {
  const { returned, data } = balancer.run(tcpFrame({ sourcePort, flags }))
  return returned === VERDICT.TX ? backendOf(data) : undefined
}
const syn = (balancer: Balancer, sourcePort: number): number | undefined => send(balancer, sourcePort, TCP.SYN)
const establish = (balancer: Balancer, sourcePort: number): number | undefined => {
  syn(balancer, sourcePort)
  return send(balancer, sourcePort, TCP.ACK)
}

test.serial('lc: an idle service fills its backends in order, then the least loaded one gets the next', (t) => {
  const balancer = open(t, 'lc', 3)
  t.deepEqual(
    [1, 2, 3, 4].map((port) => establish(balancer, port)),
    [1, 2, 3, 1],
  )
  // Backend 3 has one connection that is closing: 1 weighs less than 256.
  send(balancer, 3, TCP.FIN | TCP.ACK)
  t.deepEqual(balancer.connections(SERVICE, 3), { active: 0, inactive: 1 })
  t.is(syn(balancer, 5), 3)
  t.is(syn(balancer, 6), 2)
})

test.serial('lc: 256 inactive connections weigh what one active does', (t) => {
  const balancer = open(t, 'lc', 2)
  establish(balancer, 1)
  for (let port = 2; port < 2 + 256; port++) {
    t.is(syn(balancer, port), 2)
    send(balancer, port, TCP.FIN | TCP.ACK)
  }
  t.is(syn(balancer, 1000), 1)
  t.is(syn(balancer, 1001), 2)
})

for (const scheduler of BY_LOAD) {
  test.serial(`${scheduler}: a burst of connections that are not established yet is shared out`, (t) => {
    const balancer = open(t, scheduler, 3)
    t.deepEqual(
      [1, 2, 3, 4, 5, 6].map((port) => syn(balancer, port)),
      [1, 2, 3, 1, 2, 3],
    )
    t.deepEqual(balancer.connections(SERVICE, 1), { active: 2, inactive: 0 })
  })
}

test.serial('lc takes no notice of weights, wlc shares by them', (t) => {
  const weights = { 1: { weight: 1 }, 2: { weight: 3 } }
  const shares = (scheduler: Scheduler): number[] => {
    const balancer = open(t, scheduler, weights)
    const to = Array.from({ length: 40 }, (_, i) => establish(balancer, i + 1))
    return [1, 2].map((backend) => to.filter((each) => each === backend).length)
  }
  t.deepEqual(shares('lc'), [20, 20])
  t.deepEqual(shares('wlc'), [10, 30])
})

test.serial('sed goes to the one that would be done first, nq to an idle one before that', (t) => {
  const weights = { 1: { weight: 1 }, 2: { weight: 4 } }
  const sed = open(t, 'sed', weights)
  t.deepEqual(
    [1, 2, 3, 4, 5].map((port) => establish(sed, port)),
    [2, 2, 2, 1, 2],
  )
  const nq = open(t, 'nq', weights)
  t.deepEqual(
    [1, 2, 3, 4, 5].map((port) => establish(nq, port)),
    [1, 2, 2, 2, 2],
  )
})

test.serial('a backend of weight 0, drained, or without a MAC gets no new connection by any of them', (t) => {
  for (const scheduler of BY_LOAD) {
    const balancer = open(t, scheduler, { 1: { weight: 0 }, 2: { drained: true }, 3: { weight: 1 } })
    t.deepEqual(
      [1, 2, 3].map((port) => establish(balancer, port)),
      [3, 3, 3],
    )
    balancer.setBackend(SERVICE, 3, { weight: 0 })
    balancer.moved()
    t.deepEqual(balancer.send(tcpFrame({ sourcePort: 9 })).reasons, { DROP_NO_BACKEND: 1 })
  }
})

test.serial('UDP flows are inactive connections', (t) => {
  const balancer = new Balancer()
  t.teardown(() => balancer.close())
  balancer.add(`udp://${VIP}:53`, { scheduler: 'lc' }, 2)
  t.deepEqual(
    [1, 2, 3].map((sourcePort) => balancer.to(udpFrame({ sourcePort }))),
    [1, 2, 1],
  )
  makeIdle(balancer, 1, 1)
  balancer.to(udpFrame({ sourcePort: 1 }))
  t.deepEqual(balancer.connections(`udp://${VIP}:53`, 1), { active: 0, inactive: 2 })
})

test.serial('one-packet scheduling is refused with them', (t) => {
  const balancer = new Balancer()
  t.teardown(() => balancer.close())
  for (const scheduler of BY_LOAD) {
    t.throws(() => balancer.add(`udp://${VIP}:53`, { scheduler, ops: true }, 2), { message: /records no flow/ })
  }
})

test.serial('what cannot be recorded goes by the ring, and is counted for nobody', (t) => {
  const balancer = open(t, 'lc', 4, { newFlows: 2 })
  const to = Array.from({ length: 50 }, (_, i) => syn(balancer, i + 1))
  t.deepEqual(to.slice(0, 2), [1, 2])
  t.true(new Set(to.slice(2)).size > 2)
  t.deepEqual(miscounted(balancer), [])
})

/** What the four schedulers say of loads and weights, a backend after the other. */
const leastOf = (
  scheduler: (typeof BY_LOAD)[number],
  backends: readonly { number: number; weight: number; active: number; inactive: number }[],
): number | undefined => {
  const able = backends.filter(({ weight }) => weight > 0)
  const idle = able.find(({ active }) => active === 0)
  if (scheduler === 'nq' && idle !== undefined) return idle.number
  const cost = ({ weight, active, inactive }: (typeof able)[number]): number => {
    if (scheduler === 'lc') return 256 * active + inactive
    return (scheduler === 'wlc' ? 256 * active + inactive : active + 1) / weight
  }
  return able.reduce<(typeof able)[number] | undefined>(
    (best, each) => (best === undefined || cost(each) < cost(best) ? each : best),
    undefined,
  )?.number
}

interface Modelled {
  backend: number
  active: boolean
}

/** One step of a random life; answers what went wrong. */
const step = (balancer: Balancer, random: Random, scheduler: (typeof BY_LOAD)[number], life: Life): string => {
  const { flows, weights } = life
  const port = random.below(200) + 1
  const flow = flows.get(port)
  if (flow === undefined) {
    const loads = [...weights].map(([number, weight]) => {
      const own = [...flows.values()].filter(({ backend }) => backend === number)
      const active = own.filter((each) => each.active).length
      return { number, weight, active, inactive: own.length - active }
    })
    const wanted = leastOf(scheduler, loads)
    const got = syn(balancer, port)
    if (wanted !== undefined) flows.set(port, { backend: wanted, active: true })
    return got === wanted ? '' : `flow ${port} went to ${got}, not ${wanted} of ${JSON.stringify(loads)}`
  }
  switch (random.below(4)) {
    case 0:
      // An end is an end: an established flow that is then seen to close does not come back.
      send(balancer, port, random.pick([TCP.FIN | TCP.ACK, TCP.RST]))
      flow.active = false
      life.ended.add(port)
      break
    case 1:
      makeIdle(balancer, port, 2000)
      balancer.sweep()
      flows.delete(port)
      life.ended.delete(port)
      break
    default:
      send(balancer, port, TCP.ACK)
      flow.active ||= !life.ended.has(port)
  }
  return ''
}

interface Life {
  flows: Map<number, Modelled>
  ended: Set<number>
  weights: Map<number, number>
}

for (const scheduler of BY_LOAD) {
  test.serial(`${scheduler} agrees with its model over openings, closings, expiries and changes of weight`, (t) => {
    const seed = Number(process.env.XLB_SEED ?? Date.now() % 2 ** 31)
    const random = makeRandom(seed)
    const life: Life = { flows: new Map(), ended: new Set(), weights: new Map() }
    for (let number = 1; number <= 7; number++) life.weights.set(number, random.below(5))
    const balancer = open(
      t,
      scheduler,
      Object.fromEntries([...life.weights].map(([number, weight]) => [number, { weight }])),
    )
    for (let i = 0; i < 3000; i++) {
      if (i % 100 === 99) {
        const number = 1 + random.below(7)
        life.weights.set(number, random.below(5))
        balancer.setBackend(SERVICE, number, { weight: life.weights.get(number) ?? 0 })
      }
      const wrong = step(balancer, random, scheduler, life)
      if (wrong !== '') return t.fail(`XLB_SEED=${seed}, step ${i}: ${wrong}`)
    }
    t.deepEqual(miscounted(balancer), [], `XLB_SEED=${seed}`)
  })
}

test.serial('counts follow entries that give way, in a table that is much too small', (t) => {
  const balancer = open(t, 'lc', 5, { capacity: { flows: 8 } })
  const random = makeRandom(7)
  for (let i = 0; i < 3000; i++) {
    send(balancer, 1 + random.below(40), random.pick([TCP.SYN, TCP.SYN, TCP.ACK, TCP.FIN | TCP.ACK, TCP.RST]))
    if (random.once(4)) {
      const entry = random.pick(entries(balancer))
      makeIdle(balancer, entry.sourcePort, random.below(1500))
    }
    if (random.once(20)) balancer.sweep()
    const wrong = miscounted(balancer)
    if (wrong.length > 0) return t.fail(`step ${i}: ${wrong.join('; ')}`)
  }
  t.pass()
})

test.serial('what is removed counts for nobody, and what takes its place starts with nothing', (t) => {
  const balancer = open(t, 'lc', 3)
  for (let port = 1; port <= 9; port++) establish(balancer, port)
  balancer.removeBackend(SERVICE, 2)
  balancer.setBackend(SERVICE, 4)
  t.is(balancer.indexOf(SERVICE, 4), 1)
  t.deepEqual(balancer.connections(SERVICE, 4), { active: 0, inactive: 0 })
  t.deepEqual(balancer.connections(SERVICE, 1), { active: 3, inactive: 0 })
  t.is(syn(balancer, 100), 4)
  t.deepEqual(miscounted(balancer), [])
  balancer.remove(SERVICE)
  balancer.add(SERVICE, { scheduler: 'lc' }, 3)
  t.deepEqual(
    [1, 2, 3].map((backend) => balancer.connections(SERVICE, backend)),
    [1, 2, 3].map(() => ({ active: 0, inactive: 0 })),
  )
})

test.serial('a service that becomes lc knows the connections that it had before', (t) => {
  const balancer = open(t, 'rr', 2)
  for (const port of [1, 2, 3]) establish(balancer, port)
  balancer.set(SERVICE, { scheduler: 'lc' })
  t.is(syn(balancer, 4), 2)
})

test.serial('the sweep frees expired entries of services that go by counts, and no others', (t) => {
  const balancer = open(t, 'lc', 2)
  balancer.add(`tcp://${VIP}:81`, { scheduler: 'rr' }, 2)
  establish(balancer, 1)
  balancer.to(tcpFrame({ port: 81, sourcePort: 2 }))
  for (const port of [1, 2]) makeIdle(balancer, port, 1000)
  establish(balancer, 3)
  balancer.sweep()
  t.deepEqual(
    entries(balancer)
      .map(({ sourcePort }) => sourcePort)
      .sort(),
    [2, 3],
  )
  t.deepEqual(miscounted(balancer), [])
})
