// SPDX-License-Identifier: Apache-2.0
// Random verbs on the data plane in memory, against a Map (verbs.ts) and a packet that goes its own way (packets.ts).
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { parseService } from '../../src/core/address.ts'
import { expandSeed } from '../../src/core/hash.ts'
import { formatIpv4, parseIpv4 } from '../../src/core/ip.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { addService } from '../../src/core/verbs.ts'
import { ServiceFlag } from '../../src/dataplane/layout.gen.ts'
import { SCHEDULE_TURNS } from '../../src/dataplane/memory.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { slotsAt } from '../../src/dataplane/views.ts'
import { ADDRESSES } from '../core/states.ts'
import { isVip, occupants, type Reached, reachService } from './directory.ts'
import { findOverlap, ownedExtents } from './extents.ts'
import { backendAt, byRing, type Client, NONE, newFlow } from './packets.ts'
import { apply, makePlane, type Plane, runs, turn } from './plane.ts'
import { naivelyFound, naiveVip } from './ports.ts'
import { carryOut, type Naive, type NaiveService, naively, naiveOf, naiveWeight, type Verb, verbs } from './verbs.ts'

test.afterEach.always(turn)

const WEB = parseService('tcp://198.51.100.1:80')
const RUNS = runs(60)

/** A rehashed ring is refused while marks of the old hash are in force: the one refusal that the Map knows nothing of. */
const REHASHED_TOO_SOON = /its ring changed less than/

/** One verb, on both sides. @returns whether it was carried out */
const step = (plane: Plane, naive: Naive, verb: Verb): boolean => {
  plane.nowMs += 1000
  if (verb.verb === 'wait') plane.age += verb.ages
  const next = structuredClone(naive)
  const expected = naively(next, verb)
  try {
    apply(plane, (have) => carryOut(have, verb))
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    assert(!expected || REHASHED_TOO_SOON.test(error.message), error.message)
    return false
  }
  assert(expected, `${verb.verb} has to be refused`)
  naive.clear()
  for (const [name, service] of next) naive.set(name, service)
  return true
}

/** Calls `check` after each of the verbs. */
const through = (plan: readonly Verb[], check: (plane: Plane, naive: Naive, verb: Verb) => void): void => {
  const plane = makePlane()
  const naive: Naive = new Map()
  for (const verb of plan) {
    step(plane, naive, verb)
    check(plane, naive, verb)
  }
}

test.serial('what is read back is what the verbs said', (t) => {
  fc.assert(
    fc.property(verbs(20), (plan) =>
      through(plan, ({ memory }, naive) => assert.deepEqual(naiveOf(readLive(memory).desired), naive)),
    ),
    RUNS,
  )
  t.pass()
})

test.serial('a packet finds each service and VIP that there is, and none that there is not', (t) => {
  fc.assert(
    fc.property(verbs(20), fc.integer({ min: 0, max: 2 ** 32 - 1 }), (plan, stranger) =>
      through(plan, ({ memory }, naive) => {
        const records = new Map(occupants(memory).map(({ name, record }) => [name, record]))
        for (const { protocol, vip, port, lastPort } of ADDRESSES) {
          for (const each of [port - 1, port, port + 1, lastPort - 1, lastPort, lastPort + 1]) {
            const to = { protocol, vip, port: each & 0xffff }
            const own = vip.includes('/') ? vip : naiveVip(naive.keys(), vip)
            const found = own === undefined ? undefined : naivelyFound(naive.keys(), { ...to, vip: own })
            assert.equal(reachService(memory, to)?.record, records.get(found ?? ''))
          }
        }
        for (let host = 0; host < 18; host++) {
          const address = `198.51.100.${host}`
          const vip = naiveVip(naive.keys(), address)
          assert.equal(isVip(memory, parseIpv4(address) ?? 0), vip !== undefined)
          for (const port of [80, 90, 500]) {
            const found = vip === undefined ? undefined : naivelyFound(naive.keys(), { protocol: 'tcp', vip, port })
            assert.equal(
              reachService(memory, { protocol: 'tcp', vip: address, port })?.record,
              records.get(found ?? ''),
            )
          }
        }
        for (const vip of [0, stranger]) {
          assert(!isVip(memory, vip))
          assert.equal(reachService(memory, { protocol: 'tcp', vip: formatIpv4(vip), port: 80 }), undefined)
        }
        assert.deepEqual(
          occupants(memory)
            .map(({ name }) => name)
            .toSorted(),
          [...naive.keys()].toSorted(),
        )
      }),
    ),
    RUNS,
  )
  t.pass()
})

test.serial('a packet is hashed by the seed of its service', (t) => {
  const state = (seed: bigint): Verb => ({ verb: 'restore', state: addService(new Map(), WEB, { seed }, 0n) })
  fc.assert(
    fc.property(verbs(20), (plan) =>
      through(plan, ({ memory }, naive) => {
        for (const service of naive.values())
          assert.equal(reachService(memory, service)?.seed, expandSeed(service.seed))
      }),
    ),
    { ...RUNS, examples: [[[state(1n), state(2n)]]] },
  )
  t.pass()
})

const client = fc.record({
  source: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  sourcePort: fc.integer({ min: 1, max: 65535 }),
})
const clients = fc.array(client, { minLength: 4, maxLength: 4 })

/** Calls `check` for packets of these clients to every service there is. */
const sendAll = (
  { memory }: Plane,
  naive: Naive,
  clients: readonly Client[],
  check: (expected: NaiveService, reached: Reached, client: Client) => void,
): void => {
  for (const expected of naive.values()) {
    const reached = reachService(memory, expected)
    assert(reached !== undefined)
    for (const client of clients) check(expected, reached, client)
  }
}

test.serial(
  'a new flow goes to a backend that takes new ones, by its own path, and nowhere only if there is none',
  (t) => {
    fc.assert(
      fc.property(verbs(15), clients, fc.nat(), (plan, clients, turn) =>
        through(plan, (plane, naive) =>
          sendAll(plane, naive, clients, (expected, reached, client) => {
            const index = newFlow(plane.memory, reached, client, turn)
            const found = backendAt(plane.memory, reached.service, index)
            if (found === undefined) {
              assert.equal(index, NONE)
              for (const address of expected.backends.keys()) assert.equal(naiveWeight(expected, address), 0)
              return
            }
            assert(naiveWeight(expected, found.address) > 0)
            assert(found.alive)
            assert.equal(
              found.local ? 'local' : `link ${found.mac} ${found.interfaceSlot}`,
              expected.backends.get(found.address)?.path,
            )
          }),
        ),
      ),
      RUNS,
    )
    t.pass()
  },
)

test.serial(
  'a packet without an entry goes to a backend that was not removed and can be reached, or is dropped',
  (t) => {
    fc.assert(
      fc.property(verbs(15), clients, (plan, clients) =>
        through(plan, (plane, naive) =>
          sendAll(plane, naive, clients, (expected, reached, client) => {
            const index = byRing(plane.memory, reached, client, plane.age)
            const found = backendAt(plane.memory, reached.service, index)
            if (found === undefined) return assert.equal(index, NONE)
            assert(found.alive)
            assert.notEqual(expected.backends.get(found.address)?.path ?? 'unresolved', 'unresolved')
          }),
        ),
      ),
      RUNS,
    )
    t.pass()
  },
)

test.serial('every backend that takes new flows has turns in the schedule, as many as its weight asks for', (t) => {
  fc.assert(
    fc.property(verbs(10), (plan) =>
      through(plan, ({ memory }, naive) => {
        for (const { name, ...reached } of occupants(memory)) {
          const { service } = reached
          const expected = naive.get(name)
          if (expected?.scheduler !== 'rr' && expected?.scheduler !== 'wrr') continue
          const turns = new Map<string, number>()
          for (let turn = 0; turn < service.scheduleSize; turn++) {
            const taker = backendAt(memory, service, newFlow(memory, reached, { source: 1, sourcePort: 1 }, turn))
            turns.set(taker?.address ?? 'none', (turns.get(taker?.address ?? 'none') ?? 0) + 1)
          }
          const weights = [...expected.backends.keys()].map((address) => naiveWeight(expected, address))
          const sum = weights.reduce((total, weight) => total + weight, 0)
          for (const address of expected.backends.keys()) {
            const share: number = sum === 0 ? 0 : (naiveWeight(expected, address) * service.scheduleSize) / sum
            const had: number = turns.get(address) ?? 0
            assert.equal(had > 0, share > 0)
            // Exact where the cycle is short enough; a small share is raised to one turn where it does not.
            assert(
              Math.abs(had - share) < (sum <= SCHEDULE_TURNS ? 1e-6 : expected.backends.size + 1),
              `${address}: ${had}`,
            )
          }
          assert(!turns.has('none'))
        }
      }),
    ),
    RUNS,
  )
  t.pass()
})

type Lasting = { id: number; backends: Map<string, { index: number; counter: number; sinceMs: number; of: string }> }

const lasting = (plane: Plane): Map<string, Lasting> =>
  new Map(
    [...readLive(plane.memory).services].map(([name, { service, backends }]) => [
      name,
      {
        id: service.id,
        backends: new Map(
          backends.map(({ index, counter, sinceMs, want }) => [
            want.address,
            { index, counter, sinceMs, of: want.admin === 'up' && want.weight === 0 ? 'weight 0' : want.admin },
          ]),
        ),
      },
    ]),
  )

test.serial('what lives on keeps its service id, index and counter, and each has its own', (t) => {
  fc.assert(
    fc.property(verbs(20), (plan) => {
      let before = new Map<string, Lasting>()
      through(plan, (plane) => {
        const after = lasting(plane)
        for (const [name, { id, backends }] of after) {
          const known = before.get(name)
          if (known === undefined) continue
          assert.equal(id, known.id)
          for (const [address, { index, counter, sinceMs, of }] of backends) {
            const old = known.backends.get(address)
            if (old === undefined) continue
            assert.deepEqual({ index, counter }, { index: old.index, counter: old.counter })
            assert.equal(sinceMs, old.of === of ? old.sinceMs : plane.nowMs)
          }
          const indices = [...backends.values()].map(({ index }) => index)
          assert.equal(new Set(indices).size, indices.length)
        }
        const ids = [...after.values()].map(({ id }) => id)
        const counters = [...after.values()].flatMap(({ backends }) =>
          [...backends.values()].map((each) => each.counter),
        )
        assert.equal(new Set(ids).size, ids.length)
        assert.equal(new Set(counters).size, counters.length)
        before = after
      })
    }),
    RUNS,
  )
  t.pass()
})

test.serial('no two things that live share an octet: records, rings, rings before, schedules, backends', (t) => {
  fc.assert(
    fc.property(verbs(20), (plan) =>
      through(plan, ({ memory }) => assert.equal(findOverlap(memory, ownedExtents(memory)), undefined)),
    ),
    RUNS,
  )
  t.pass()
})

test.serial(
  'a service whose ring has marks has a ring before, none else has, and it names living backends alone',
  (t) => {
    fc.assert(
      fc.property(verbs(15), (plan) =>
        through(plan, ({ memory }) => {
          for (const { name, service } of occupants(memory)) {
            const marked = slotsAt(memory, service.ringLine, service.ringSize).some((slot) => (slot & 0x8000) !== 0)
            assert.equal((service.flags & ServiceFlag.SERVICE_MARKED) !== 0, marked)
            if (!marked) continue
            const indices =
              readLive(memory)
                .services.get(name)
                ?.backends.map(({ index }) => index) ?? []
            const known = new Set([NONE, ...indices])
            assert(slotsAt(memory, service.beforeLine, service.beforeSize).every((slot) => known.has(slot & 0xfff)))
          }
        }),
      ),
      RUNS,
    )
    t.pass()
  },
)
