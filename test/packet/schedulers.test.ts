// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import type { ServiceOptions } from '../../src/core/verbs.ts'
import { FAMILIES } from './families.ts'
import { type BackendSpec, Balancer, breathe } from './plane.ts'

test.beforeEach(breathe)

const shared = new Balancer()
test.after.always(() => shared.close())

for (const { family, HOST, tcpFrame, udpFrame } of FAMILIES) {
  const SERVICE = `tcp://${HOST}:80`

  const open = (options: ServiceOptions, backends: number | Record<number, BackendSpec>): Balancer => {
    const balancer = shared.reset()
    balancer.add(SERVICE, options, backends)
    return balancer
  }

  let port = 1024
  /** The backends that `count` new connections go to. */
  const connect = (balancer: Balancer, count: number): (number | undefined)[] =>
    Array.from({ length: count }, () => balancer.to(tcpFrame({ sourcePort: port++ })))

  const tally = (backends: readonly (number | undefined)[]): Record<string, number> => {
    const counts: Record<string, number> = {}
    for (const backend of backends) counts[`${backend}`] = (counts[`${backend}`] ?? 0) + 1
    return counts
  }

  test.serial(`${family}: rr takes backends in turn`, (t) => {
    const balancer = open({ scheduler: 'rr' }, 3)
    t.deepEqual(connect(balancer, 7), [1, 2, 3, 1, 2, 3, 1])
  })

  test.serial(
    `${family}: rr treats backends alike, whatever their weight, but gives those of weight 0 nothing`,
    (t) => {
      const balancer = open({ scheduler: 'rr' }, { 1: { weight: 10 }, 2: { weight: 0 }, 3: { weight: 1 } })
      t.deepEqual(connect(balancer, 4), [1, 3, 1, 3])
    },
  )

  test.serial(`${family}: rr takes UDP flows in turn too`, (t) => {
    const balancer = shared.reset()
    balancer.add(`udp://${HOST}:53`, { scheduler: 'rr' }, 3)
    const to = [1, 2, 3, 4].map((sourcePort) => balancer.to(udpFrame({ sourcePort })))
    t.deepEqual(to, [1, 2, 3, 1])
  })

  test.serial(`${family}: rr goes on in turn when a backend is added`, (t) => {
    const balancer = open({ scheduler: 'rr' }, 2)
    t.deepEqual(connect(balancer, 4), [1, 2, 1, 2])
    balancer.setBackend(SERVICE, 3)
    const next = connect(balancer, 6)
    t.deepEqual(tally(next), { 1: 2, 2: 2, 3: 2 })
    t.deepEqual(next.slice(0, 3), next.slice(3))
  })

  test.serial(`${family}: every service has its own turn`, (t) => {
    const balancer = open({ scheduler: 'rr' }, 3)
    balancer.add(`tcp://${HOST}:81`, { scheduler: 'rr' }, 3)
    t.deepEqual(connect(balancer, 2), [1, 2])
    t.is(balancer.to(tcpFrame({ port: 81 })), 1)
    t.deepEqual(connect(balancer, 1), [3])
    t.is(balancer.to(tcpFrame({ port: 81, sourcePort: 5 })), 2)
  })

  test.serial(`${family}: all CPUs share one turn, so that the order is exact`, (t) => {
    const balancer = open({ scheduler: 'rr' }, 3)
    t.teardown(() => balancer.native.system.pinToCpu(-1))
    const to = [0, 1, 0, 1, 1, 0].map((cpu) => {
      balancer.native.system.pinToCpu(cpu)
      return connect(balancer, 1)[0]
    })
    t.deepEqual(to, [1, 2, 3, 1, 2, 3])
  })

  test.serial(`${family}: a new service starts with its first backend, whoever had its id before`, (t) => {
    const balancer = open({ scheduler: 'rr' }, 3)
    connect(balancer, 2)
    const { id } = balancer.live(SERVICE).service
    balancer.remove(SERVICE)
    balancer.add(SERVICE, { scheduler: 'rr' }, 3)
    t.is(balancer.live(SERVICE).service.id, id)
    t.deepEqual(connect(balancer, 3), [1, 2, 3])
  })

  test.serial(`${family}: wrr's order is nginx's smooth one: 5, 1 and 1 make a a b a c a a`, (t) => {
    const balancer = open({ scheduler: 'wrr' }, { 1: { weight: 5 }, 2: { weight: 1 }, 3: { weight: 1 } })
    t.deepEqual(connect(balancer, 14), [1, 1, 2, 1, 3, 1, 1, 1, 1, 2, 1, 3, 1, 1])
  })

  test.serial(`${family}: wrr gives each backend exactly its share of every cycle`, (t) => {
    const weights = { 1: { weight: 40 }, 2: { weight: 20 }, 3: { weight: 10 }, 4: { weight: 0 } }
    const balancer = open({ scheduler: 'wrr' }, weights)
    for (let cycle = 0; cycle < 5; cycle++) t.deepEqual(tally(connect(balancer, 7)), { 1: 4, 2: 2, 3: 1 })
  })

  test.serial(`${family}: wrr with equal weights is rr`, (t) => {
    const balancer = open({ scheduler: 'wrr' }, { 1: { weight: 7 }, 2: { weight: 7 } })
    t.deepEqual(connect(balancer, 5), [1, 2, 1, 2, 1])
  })

  test.serial(`${family}: wrr interleaves: 6, 4 and 2 make a b a c b a`, (t) => {
    const balancer = open({ scheduler: 'wrr' }, { 1: { weight: 6 }, 2: { weight: 4 }, 3: { weight: 2 } })
    t.deepEqual(connect(balancer, 12), [1, 2, 1, 3, 2, 1, 1, 2, 1, 3, 2, 1])
  })

  test.serial(`${family}: wrr goes by the new weights at once`, (t) => {
    const balancer = open({ scheduler: 'wrr' }, { 1: { weight: 1 }, 2: { weight: 1 } })
    connect(balancer, 4)
    balancer.setBackend(SERVICE, 2, { weight: 3 })
    t.deepEqual(tally(connect(balancer, 8)), { 1: 2, 2: 6 })
  })

  test.serial(`${family}: mh shares connections out by weight`, (t) => {
    const balancer = open({ scheduler: 'mh', seed: 7n }, { 1: { weight: 3 }, 2: { weight: 1 }, 3: { weight: 0 } })
    const counts = tally(connect(balancer, 4000))
    // Binomial with p = 3/4: the standard deviation is 27.
    t.true(Math.abs((counts['1'] ?? 0) - 3000) < 140, JSON.stringify(counts))
    t.is(counts['3'], undefined)
  })

  test.serial(`${family}: sh sends all connections of a source to one backend, mh spreads them`, (t) => {
    const balancer = open({ scheduler: 'sh', seed: 7n }, 8)
    t.is(new Set(connect(balancer, 100)).size, 1)
    balancer.remove(SERVICE)
    balancer.add(SERVICE, { scheduler: 'mh', seed: 7n }, 8)
    t.is(new Set(connect(balancer, 200)).size, 8)
  })
}
