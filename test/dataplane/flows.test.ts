// SPDX-License-Identifier: Apache-2.0
// Whole scans of the flow table, against the same table as a list.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { hashMix, hashSlot } from '../../src/core/hash.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { countFlows, deviatingSlots, sweepFlows } from '../../src/dataplane/flows.ts'
import { FlowState, Settings } from '../../src/dataplane/layout.gen.ts'
import type { PlaneMemory } from '../../src/dataplane/memory.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { compare, type Entry, fill, isLive, isUsed, table } from './flow-entries.ts'
import { apply, makePlane, runs, turn } from './plane.ts'
import { carryOut, verbs } from './verbs.ts'

test.afterEach.always(turn)

const FLOWS = 64
const CAPACITY = { services: 16, backends: 200, flows: FLOWS, flows6: FLOWS }
const SERVICES = [0, 1, 2, 700, 65535]
const RUNS = runs(150)

const places = (entries: readonly (Entry | undefined)[], asked: (entry: Entry) => boolean): Set<number> =>
  new Set(entries.flatMap((entry, i) => (entry !== undefined && asked(entry) ? [i] : [])))

const timeouts = (memory: PlaneMemory): number[] => Settings.read(new DataView(memory.buffer('settings')), 0).timeout

test.serial(
  'a sweep frees every entry of the services and backends that are asked for, and no other, and no claimed place',
  (t) => {
    const { memory } = makePlane(CAPACITY)
    const backends = fc.uniqueArray(fc.integer({ min: 0, max: 7 }), { maxLength: 4 })
    fc.assert(
      fc.property(
        table(FLOWS, SERVICES, 1000),
        fc.subarray(SERVICES),
        fc.array(fc.tuple(fc.constantFrom(...SERVICES), backends), { maxLength: 3 }),
        (entries, whole, some) => {
          fill(memory, entries)
          const services = new Set(whole)
          const parts = new Map(some.flatMap(([id, list]) => (services.has(id) ? [] : [[id, new Set(list)] as const])))
          const asked = places(
            entries,
            (entry) =>
              isUsed(entry) && (services.has(entry.service) || parts.get(entry.service)?.has(entry.backend) === true),
          )
          const swept = sweepFlows(memory, { services, backends: parts })
          const { changed, freed } = compare(memory, entries)
          assert.deepEqual(freed, asked)
          assert.deepEqual(changed, asked)
          assert.equal(swept, asked.size)
        },
      ),
      RUNS,
    )
    t.pass()
  },
)

/** A set that changes the flow table when it is asked: a packet that comes between two looks of the sweep. */
class Meanwhile extends Set<number> {
  readonly #act: () => void
  constructor(values: readonly number[], act: () => void) {
    super(values)
    this.#act = act
  }
  override has(value: number): boolean {
    const answer = super.has(value)
    this.#act?.()
    return answer
  }
}

const ACTIVE: readonly number[] = [FlowState.FLOW_HALF_OPEN, FlowState.FLOW_ESTABLISHED]

const FLOW: Entry = {
  source: 1,
  sourcePort: 2,
  service: 3,
  port: 4,
  backend: 5,
  state: FlowState.FLOW_ESTABLISHED,
  age: 7,
  check: 8,
}

test.serial("an entry that became another service's while the sweep looked at it stays", (t) => {
  const { memory } = makePlane(CAPACITY)
  const other = { ...FLOW, service: 4 }
  fill(memory, [FLOW])
  sweepFlows(memory, { services: new Set(), backends: new Map([[3, new Meanwhile([5], () => fill(memory, [other]))]]) })
  t.is(compare(memory, [other]).changed.size, 0)
})

test.serial('an entry that a packet gave a living backend while the sweep looked at it stays', (t) => {
  const { memory } = makePlane(CAPACITY)
  const renewed = { ...FLOW, backend: 6 }
  fill(memory, [FLOW])
  sweepFlows(memory, {
    services: new Set(),
    backends: new Map([[3, new Meanwhile([5], () => fill(memory, [renewed]))]]),
  })
  t.is(compare(memory, [renewed]).changed.size, 0)
})

/** A time, and a table as it may be then. */
const moment = fc
  .constantFrom(1000, 4100, 2 ** 24 + 5)
  .chain((now) => fc.tuple(fc.constant(now), table(FLOWS, SERVICES, now)))

const hashed = fc.record({
  ring: fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 13 }),
  marked: fc.boolean(),
  seed: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  hash: fc.constantFrom('source' as const, 'source-port' as const),
})

test.serial(
  'a slot deviates exactly where an unexpired entry that falls on it names another backend than the ring',
  (t) => {
    const { memory } = makePlane(CAPACITY)
    const timeout = timeouts(memory)
    fc.assert(
      fc.property(
        moment,
        fc.subarray(SERVICES),
        fc.array(hashed, { minLength: SERVICES.length, maxLength: SERVICES.length }),
        ([now, entries], asked, rings) => {
          fill(memory, entries)
          const services = asked.flatMap((id, i) => {
            const like = rings[i]
            if (like === undefined) return []
            const ring = Uint16Array.from(like.ring, (backend) => (like.marked ? backend | 0x8000 : backend))
            return [{ id, ring, seed: like.seed, hash: like.hash }]
          })
          const expected = new Map(
            services.map(({ id, ring, seed, hash }) => {
              const slots = new Set<number>()
              for (const entry of entries) {
                if (entry === undefined || entry.service !== id || !isLive(entry, now, timeout)) continue
                const word = BigInt(entry.source) | (hash === 'source-port' ? BigInt(entry.sourcePort) << 32n : 0n)
                const slot = hashSlot(hashMix(word, seed), ring.length)
                if (((ring[slot] ?? 0) & 0xfff) !== entry.backend) slots.add(slot)
              }
              return [id, slots]
            }),
          )
          assert.deepEqual(deviatingSlots(memory, services, now), expected)
        },
      ),
      RUNS,
    )
    t.pass()
  },
)

test.serial(
  'flows are counted by service and backend while unexpired, those that open or are established as active',
  (t) => {
    const { memory } = makePlane(CAPACITY)
    const timeout = timeouts(memory)
    fc.assert(
      fc.property(moment, ([now, entries]) => {
        fill(memory, entries)
        const counted = countFlows(memory, now)
        const live = entries.flatMap((entry) => (entry !== undefined && isLive(entry, now, timeout) ? [entry] : []))
        for (const service of SERVICES) {
          for (const backend of [0, 1, 2, 3, 4, 5, 6, 7, 8, 0xffe]) {
            const mine = live.filter((entry) => entry.service === service && entry.backend === backend)
            const active = mine.filter(({ state }) => ACTIVE.includes(state)).length
            assert.deepEqual(counted.of(service, backend), { active, inactive: mine.length - active })
          }
        }
        assert.deepEqual(counted.tables.ipv4, { used: live.length, capacity: FLOWS })
      }),
      RUNS,
    )
    t.pass()
  },
)

/** Service id and backend index of all that lives, by name and address. */
const living = (memory: PlaneMemory) =>
  new Map(
    [...readLive(memory).services].map(([name, { service, backends }]) => [
      name,
      { id: service.id, indices: new Map(backends.map(({ index, want }) => [want.address, index])) },
    ]),
  )

test.serial(
  'when an id or index is given out anew, no entry bears it by the time it is committed; all others stay',
  (t) => {
    let freedInAll = 0
    fc.assert(
      fc.property(verbs(12), table(FLOWS, [0, 1, 2, 3, 4], 1000), (steps, entries) => {
        const plane = makePlane(CAPACITY)
        const { memory } = plane
        for (const verb of steps) {
          fill(memory, entries)
          const before = living(memory)
          let atCommit = compare(memory, entries)
          try {
            apply(
              plane,
              (have) => carryOut(have, verb),
              () => {
                atCommit = compare(memory, entries)
              },
            )
          } catch (error) {
            if (error instanceof Refusal) continue
            throw error
          }
          const asked = new Set<number>()
          for (const [name, { id, indices }] of living(memory)) {
            const known = before.get(name)
            for (const [address, index] of indices) {
              const fresh = known === undefined || !known.indices.has(address)
              if (!fresh) continue
              for (const i of places(
                entries,
                (entry) => isUsed(entry) && entry.service === id && entry.backend === index,
              )) {
                asked.add(i)
              }
            }
            if (known !== undefined) continue
            for (const i of places(entries, (entry) => isUsed(entry) && entry.service === id)) asked.add(i)
          }
          assert.deepEqual(atCommit.changed, asked)
          assert.deepEqual(compare(memory, entries).changed, asked)
          freedInAll += asked.size
        }
      }),
      runs(60),
    )
    t.true(freedInAll > 100, `only ${freedInAll} entries were freed`)
  },
)

test.serial('a new service begins its turns at the first, and a living one goes on', (t) => {
  const { memory, ...plane } = makePlane(CAPACITY)
  const cursors = new BigUint64Array(memory.buffer('cursors')).fill(77n)
  const add = (port: number) =>
    apply({ memory, ...plane }, (have) =>
      carryOut(have, {
        verb: 'add',
        service: { protocol: 'tcp', vip: '198.51.100.1', port, lastPort: port },
        options: {},
      }),
    )
  const id = (port: number) => living(memory).get(`tcp://198.51.100.1:${port}`)?.id ?? -1
  add(80)
  t.is(cursors[id(80)], 0n)
  cursors[id(80)] = 5n
  add(81)
  t.is(cursors[id(80)], 5n)
  t.is(cursors[id(81)], 0n)
})
