// SPDX-License-Identifier: Apache-2.0
// The notes of lblc and lblcr: what trace says of them, and what gives way where their table is full.
import { inspect } from 'node:util'
import test from 'ava'
import { explain } from '../../src/dataplane/explain.ts'
import { age, notes } from './destinations.ts'
import { TCP, tcpFrame } from './frames.ts'
import { BOTH, DAY, host, inactive, newPort, open, SERVICE, weights } from './locality.ts'
import { backendAddress, breathe } from './plane.ts'
import { makeRandom } from './random.ts'

test.beforeEach(breathe)

for (const scheduler of BOTH) {
  test.serial(
    `${scheduler}: what trace says is what the program does, over random flows, ages, weights and limits`,
    (t) => {
      const seed = Number(process.env.XLB_SEED ?? Date.now() % 2 ** 31)
      const random = makeRandom(seed)
      // A unit of age counts as a second.
      const settings = { jiffiesPerSecond: 2 ** 31, ageShift: 31 }
      const balancer = open(t, scheduler, weights(1, 2, 0, 3), { capacity: { destinations: 16 }, settings })
      const seen = new Map<string, number>()
      for (let i = 0; i < 4000; i++) {
        if (i % 50 === 49) {
          const backend = 1 + random.below(11)
          const maxConns = random.once(4) ? { upper: 1 + random.below(12), lower: 0 } : ('none' as const)
          if (
            random.once(6) &&
            balancer.live(SERVICE).backends.some(({ want }) => want.address === backendAddress(backend))
          )
            balancer.removeBackend(SERVICE, backend, 'move')
          else balancer.setBackend(SERVICE, backend, { weight: random.below(5), maxConns })
        }
        if (i % 40 === 39)
          age(balancer, random.once(3) ? { unchanged: DAY + 1 } : { idle: random.pick([5, 5, 5, 400, DAY + 5]) })
        const to = random.below(30)
        const flags = random.pick([TCP.SYN, TCP.SYN, TCP.ACK, TCP.ACK, TCP.RST])
        const packet = { source: '203.0.113.5', sourcePort: 40000 + random.below(8), vip: host(to), port: 80 }
        const at = { now: balancer.plane.age(), interfaceSlot: 0, budget: 'left' as const }
        const said = explain(balancer.plane, { ...packet, protocol: 'tcp', opens: flags === TCP.SYN }, at)
        balancer.moved()
        const sent = balancer.send(tcpFrame({ ...packet, flags }))
        const index = sent.backend === undefined ? undefined : balancer.indexOf(SERVICE, sent.backend)
        const refused = said.look?.unremembered === 'DESTINATION_REFUSED_FULL' ? 1 : 0
        if (index !== said.look?.choice.backend || (sent.reasons.DESTINATION_REFUSED_FULL ?? 0) !== refused)
          return t.fail(
            `XLB_SEED=${seed}, step ${i}: ${index} ${inspect(sent.reasons)}, not ${inspect(said.look, { depth: 5 })}`,
          )
        for (const what of [
          said.look?.choice.by,
          said.look?.unremembered,
          said.look?.destination?.note?.backends.length,
        ])
          seen.set(`${what}`, (seen.get(`${what}`) ?? 0) + 1)
      }
      t.log([...seen].map(([what, count]) => `${what} ${count}`).join(', '))
      for (const what of [
        'load',
        'destination',
        'DESTINATION_REFUSED_FULL',
        '1',
        ...(scheduler === 'lblcr' ? ['2'] : []),
      ])
        t.true((seen.get(what) ?? 0) > 0, `${what} has not come up: XLB_SEED=${seed}`)
    },
  )
}

test.serial('full buckets: notes of a single moment give way, the oldest first; those in use do not', (t) => {
  const balancer = open(t, 'lblc', weights(50, 50), { capacity: { destinations: 4 } })
  for (const to of [1, 2, 3, 4]) inactive(balancer, to)
  const kept = notes(balancer).size
  t.true(kept >= 2 && kept <= 4)
  // Used again in another unit of age: from now on they are in use.
  age(balancer, { idle: 1 })
  const used = [...notes(balancer).keys()].map((address) => Number(address.split('.')[3]))
  for (const to of used) inactive(balancer, to)
  balancer.moved()
  let refused = 0
  for (let to = 10; to < 60; to++) {
    const { reasons } = balancer.send(tcpFrame({ vip: host(to), sourcePort: newPort() }))
    t.is(reasons.TX_FORWARDED, 1)
    refused += reasons.DESTINATION_REFUSED_FULL ?? 0
  }
  for (const to of used) t.true(notes(balancer).has(host(to)), host(to))
  t.true(refused > 0)
})

test.serial(
  'full buckets: after six minutes without a flow a note gives way, and an ended one before all others',
  (t) => {
    // A unit of age counts as a second.
    const settings = { jiffiesPerSecond: 2 ** 31, ageShift: 31 }
    const balancer = open(t, 'lblc', weights(50, 50), { capacity: { destinations: 2 }, settings })
    inactive(balancer, 1)
    age(balancer, { idle: 1 })
    inactive(balancer, 1)
    inactive(balancer, 2)
    t.is(notes(balancer).size, 2)
    age(balancer, { idle: 1 })
    inactive(balancer, 2)
    age(balancer, { idle: 360 })
    inactive(balancer, 3)
    t.deepEqual([...notes(balancer).keys()].sort(), [host(1), host(2)])
    age(balancer, { idle: 361 })
    inactive(balancer, 3)
    t.true(notes(balancer).has(host(3)))
    t.is(notes(balancer).size, 2)
  },
)
