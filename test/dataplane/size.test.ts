// SPDX-License-Identifier: Apache-2.0
// What the maps are made for: everything that a capacity allows can be replaced at one stroke.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { formatService } from '../../src/core/address.ts'
import type { DesiredState, Scheduler, Service } from '../../src/core/desired.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { type Capacity, capacityOf, elementsFor, MAPPED, makeMemory } from '../../src/dataplane/memory.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { findOverlap, ownedExtents } from './extents.ts'
import { apply, MAPS, makePlane, type Plane, picture, runs, turn } from './plane.ts'
import { carryOut, naiveOf, verbs } from './verbs.ts'

test.afterEach.always(turn)

interface Kind {
  /** Backends of each service. */
  sizes: readonly number[]
  /** Second octet of the VIPs, and of the backends. */
  vips: number
  backends: number
  scheduler: Scheduler
  weight: (service: number, backend: number) => number
}

const stateOf = ({ sizes, vips, backends, scheduler, weight }: Kind): DesiredState =>
  new Map(
    sizes.map((size, i): [string, Service] => {
      const address = { protocol: 'tcp' as const, vip: `198.${vips}.${i >> 8}.${i & 255}`, port: 80, lastPort: 80 }
      const service: Service = {
        ...address,
        scheduler,
        forward: 'dsr',
        hash: 'source-port',
        ops: false,
        ringSize: 0,
        seed: BigInt(i),
        backends: Array.from({ length: size }, (_, j) => ({
          address: `10.${backends}.${j >> 8}.${j & 255}`,
          port: 80,
          weight: weight(i, j),
          admin: 'up' as const,
          path: { kind: 'link' as const, mac: BigInt(i * 4096 + j + 1), interfaceSlot: 0 },
        })),
      }
      return [formatService(address), service]
    }),
  )

/** Makes it so, and sees that it is. @throws Refusal */
const restore = (plane: Plane, kind: Kind): void => {
  const state = stateOf(kind)
  apply(plane, state)
  plane.age++
  assert.deepEqual(naiveOf(readLive(plane.memory).desired), naiveOf(state))
  assert.equal(findOverlap(plane.memory, ownedExtents(plane.memory)), undefined)
}

const FIFTY: Capacity = { services: 50, backends: 1250, flows: 64, flows6: 64 }
const ONE: Kind = {
  sizes: new Array(50).fill(25),
  vips: 18,
  backends: 0,
  scheduler: 'wrr',
  weight: () => 1,
}
const OTHER: Kind = { ...ONE, vips: 19, backends: 1 }
const weighted = (round: number) => (i: number, j: number) => 1 + ((i + 3 * j + round) % 5)
/** So large and odd that a schedule takes as many turns as it may. */
const heavy = (round: number) => (i: number, j: number) => 1000 + 7 * i + 131 * j + round

for (const scheduler of ['wrr', 'mh'] as const) {
  test.serial(
    `${scheduler}: 50 services of 25 backends are replaced by 50 others at one stroke, again and again`,
    (t) => {
      const plane = makePlane(FIFTY)
      for (const kind of [ONE, OTHER, ONE, OTHER]) restore(plane, { ...kind, scheduler })
      t.pass()
    },
  )

  test.serial(`${scheduler}: of 50 services of 25 backends each weight is changed at one stroke`, (t) => {
    const plane = makePlane(FIFTY)
    for (const kind of [ONE, OTHER, { ...OTHER, weight: weighted(0) }]) restore(plane, { ...kind, scheduler })
    t.pass()
  })
}

for (const scheduler of ['wrr', 'mh'] as const) {
  test.serial(`${scheduler}: of 50 services of 25 backends each weight is changed at one stroke, and again`, (t) => {
    const plane = makePlane(FIFTY)
    // From the second change on there are two rings before, not one: that of what is, and that of what is to be.
    for (let round = 0; round < 4; round++) restore(plane, { ...ONE, scheduler, weight: weighted(round) })
    t.pass()
  })
}

test.serial('wrr: 50 services with the longest schedules are replaced by 50 others at one stroke', (t) => {
  const plane = makePlane(FIFTY)
  for (const kind of [ONE, OTHER]) restore(plane, { ...kind, weight: heavy(0) })
  t.pass()
})

const HUNDRED: Capacity = { services: 10, backends: 100, flows: 8, flows6: 8 }

/** Services of so many backends each, 100 in all or fewer. */
const sizes = fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 10 }).map((wanted) => {
  let left = 100
  return wanted.map((size) => {
    const taken = Math.min(size, left)
    left -= taken
    return taken
  })
})

test.serial('however a capacity is shared out among services, they are replaced by others of the same sizes', (t) => {
  fc.assert(
    fc.property(sizes, (sizes) => {
      const plane = makePlane(HUNDRED)
      for (const kind of [ONE, OTHER, ONE]) restore(plane, { ...kind, sizes })
    }),
    runs(25),
  )
  t.pass()
})

test.serial('maps have room for what is asked for, in powers of two, and tell what they have room for', (t) => {
  const capacity = fc.record({
    services: fc.integer({ min: 1, max: 300 }),
    backends: fc.integer({ min: 1, max: 2000 }),
    flows: fc.integer({ min: 3, max: 12 }).map((bits) => 2 ** bits),
    flows6: fc.integer({ min: 3, max: 12 }).map((bits) => 2 ** bits),
  })
  fc.assert(
    fc.property(capacity, (capacity) => {
      const memory = makeMemory(capacity)
      const elements = elementsFor(capacity, 1)
      const told = capacityOf(memory)
      return (
        (['services', 'backends', 'flows', 'flows6'] as const).every(
          (kind) => told[kind] >= capacity[kind] && told[kind] < 2 * capacity[kind],
        ) &&
        JSON.stringify(elementsFor(told, 1)) === JSON.stringify(elements) &&
        MAPS.every((map) => Number.isInteger(Math.log2(elements[map]))) &&
        MAPS.every((map) => memory.buffer(map).byteLength === elements[map] * MAPPED[map])
      )
    }),
    runs(20),
  )
  t.pass()
})

test.serial(
  'a table that is full is a refusal that names a larger option, and leaves the state and the packets as they were',
  (t) => {
    const capacity = fc.record({
      services: fc.integer({ min: 1, max: 4 }),
      backends: fc.integer({ min: 1, max: 12 }),
      flows: fc.constant(8),
      flows6: fc.constant(8),
    })
    let refused = 0
    fc.assert(
      fc.property(capacity, verbs(15), (capacity, plan) => {
        const plane = makePlane(capacity)
        for (const verb of plan) {
          const before = picture(plane.memory)
          const extents = JSON.stringify(ownedExtents(plane.memory))
          try {
            apply(plane, (have) => carryOut(have, verb))
          } catch (error) {
            assert(error instanceof Refusal, String(error))
            if (/is full/.test(error.message)) {
              refused++
              assert.match(error.mend, /nothing was changed; .*attach again with a larger --(services|backends)/)
            }
            assert.deepEqual(picture(plane.memory), before)
            assert.equal(JSON.stringify(ownedExtents(plane.memory)), extents)
          }
          assert(readLive(plane.memory).services.size <= capacityOf(plane.memory).services)
          assert.equal(findOverlap(plane.memory, ownedExtents(plane.memory)), undefined)
        }
      }),
      runs(60),
    )
    t.true(refused > 10, `only ${refused} refusals`)
  },
)

test.serial('one service more than the capacity is refused with how many there may be', (t) => {
  const plane = makePlane({ services: 2, backends: 100, flows: 8, flows6: 8 })
  restore(plane, { ...ONE, sizes: [1, 1] })
  t.throws(() => apply(plane, stateOf({ ...ONE, sizes: [1, 1, 1] })), {
    instanceOf: Refusal,
    message: /table of services is full: 3 are wanted, and it holds 2/,
  })
  t.is(readLive(plane.memory).services.size, 2)
})

test.serial('wrr: of 50 services with the longest schedules each weight is changed, and again', (t) => {
  const plane = makePlane(FIFTY)
  // From the third on there are a ring, a ring before and a schedule of what is, and of what is to be.
  for (let round = 0; round < 4; round++) restore(plane, { ...ONE, weight: heavy(round) })
  t.pass()
})

test.serial('of 50 services of 25 backends each backend is replaced by another', (t) => {
  const plane = makePlane(FIFTY)
  // The new ones get indices 25 to 49 of their service, so that each needs a run of 50 records.
  for (const backends of [0, 1, 2]) restore(plane, { ...ONE, backends })
  t.pass()
})

test.serial('however a capacity is shared out among services, it can be shared out anew', (t) => {
  fc.assert(
    fc.property(sizes, sizes, sizes, (first, second, third) => {
      const plane = makePlane(HUNDRED)
      restore(plane, { ...ONE, sizes: first })
      restore(plane, { ...OTHER, sizes: second })
      restore(plane, { ...ONE, sizes: third })
    }),
    // The last needs runs of 44 and 56 records; 110 are free, in runs of 11 and 99.
    { ...runs(100), endOnFailure: true, examples: [[[11], [39, 22, 29], [44, 56]]] },
  )
  t.pass()
})

test.serial('more backends than the capacity are refused, as no change of them would find room', (t) => {
  const plane = makePlane({ services: 4, backends: 10, flows: 8, flows6: 8 })
  t.throws(() => apply(plane, stateOf({ ...ONE, sizes: [17] })), { instanceOf: Refusal })
})
