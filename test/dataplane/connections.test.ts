// SPDX-License-Identifier: Apache-2.0
// The flow table as connections of live services, against the same table as a list.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { parseBackend, parseService, swap16, swap32 } from '../../src/core/address.ts'
import { CONNECTION_STATES, type ConnectionState } from '../../src/core/connection-states.ts'
import type { DesiredState } from '../../src/core/desired.ts'
import { parseSource } from '../../src/core/endpoint.ts'
import { hashMix } from '../../src/core/hash.ts'
import { formatIpv4, parseIpv4 } from '../../src/core/ip.ts'
import { removeBackend } from '../../src/core/leaving.ts'
import { addService, removeService, setBackend } from '../../src/core/verbs.ts'
import { type Connection, Connections, type Wanted } from '../../src/dataplane/connections.ts'
import { FlowState, Settings } from '../../src/dataplane/layout.gen.ts'
import type { PlaneMemory } from '../../src/dataplane/memory.ts'
import { type LiveService, readLive } from '../../src/dataplane/reader.ts'
import { type Entry, fill, isLive } from './flow-entries.ts'
import { apply, makePlane, type Plane, runs, turn } from './plane.ts'

test.afterEach.always(turn)

const FLOWS = 128
const FLOW_SEED = 7n
const WEB = 'tcp://192.0.2.10:80'
const DNS = 'udp://192.0.2.10:53'
const GONE = 'tcp://192.0.2.11:443'
const ADDRESSES = ['198.51.100.1', '198.51.100.2', '198.51.100.3']

const withBackends = (state: DesiredState, name: string): DesiredState =>
  ADDRESSES.reduce(
    (next, address, i) =>
      setBackend(next, parseService(name), parseBackend(address, parseService(name)), {
        weight: 1,
        path: { kind: 'link', mac: BigInt(i + 1), interfaceSlot: 0 },
      }),
    addService(state, parseService(name), { scheduler: 'rr' }, 1n),
  )

/** WEB and DNS with three backends, of which WEB's second was removed; and the id that GONE had. */
const prepared = (): { plane: Plane; gone: number } => {
  const plane = makePlane({ services: 16, backends: 60, flows: FLOWS, flows6: FLOWS })
  apply(plane, (have) => [WEB, DNS, GONE].reduce(withBackends, have))
  const gone = serviceOf(plane.memory, GONE).service.id
  apply(plane, (have) => removeBackend(have, parseService(WEB), parseBackend('198.51.100.2', parseService(WEB))))
  apply(plane, (have) => removeService(have, parseService(GONE)))
  return { plane, gone }
}

const serviceOf = (memory: PlaneMemory, name: string): LiveService => {
  const found = readLive(memory).services.get(name)
  if (found === undefined) throw new Error(`no ${name}`)
  return found
}

const ids = (memory: PlaneMemory): Map<number, LiveService> =>
  new Map([...readLive(memory).services.values()].map((service) => [service.service.id, service]))

/** The check bits that make an entry its flow's own. */
const checked = (entry: Omit<Entry, 'check'>): Entry => {
  const key = BigInt(entry.source) | (BigInt(entry.sourcePort) << 32n) | (BigInt(entry.service) << 48n)
  return { ...entry, check: Number(hashMix(key, FLOW_SEED + (BigInt(entry.port) << 1n)) & 0xfffffn) }
}

const entryOf = (services: readonly { id: number; port: number }[], age: number): fc.Arbitrary<Entry> =>
  fc
    .record({
      source: fc.integer({ min: 0, max: 255 }).map((last) => swap32(0x0a000000 + last * 257)),
      sourcePort: fc.integer({ min: 1, max: 4 }).map(swap16),
      service: fc.constantFrom(...services),
      backend: fc.integer({ min: 0, max: 3 }),
      state: fc.constantFrom(...Object.values(FlowState)),
      age: fc.integer({ min: Math.max(0, age - 120), max: age }),
      foreign: fc.integer({ min: 0, max: 9 }),
    })
    .map(({ service, foreign, ...entry }) => {
      const own = checked({ ...entry, service: service.id, port: swap16(service.port) })
      // One of ten carries another flow's value.
      return foreign === 0 ? { ...own, check: own.check ^ 1 } : own
    })

const wanted: fc.Arbitrary<Wanted> = fc.record(
  {
    service: fc.constantFrom(WEB, DNS),
    backend: fc.constantFrom(...ADDRESSES),
    source: fc.constantFrom('10.0.0.0/8', '10.0.7.7', '10.0.7.7:3', '10.0.0.0/17', '0.0.0.0/0:2').map(parseSource),
    state: fc.constantFrom(...CONNECTION_STATES),
  },
  { requiredKeys: [] },
)

interface Told {
  told: Omit<Connection, 'secondsLeft'>[]
  leftOver: number
}

/** The same by looking at one entry after the other, as people would say it. */
const expected = (entries: readonly (Entry | undefined)[], memory: PlaneMemory, now: number, asked: Wanted): Told => {
  const { timeout } = Settings.read(new DataView(memory.buffer('settings')), 0)
  const services = ids(memory)
  const result: Told = { told: [], leftOver: 0 }
  for (const entry of entries) {
    if (entry === undefined || !isLive(entry, now, timeout)) continue
    const state = CONNECTION_STATES[entry.state - FlowState.FLOW_HALF_OPEN] as ConnectionState
    const address = swap32(entry.source)
    const { source, backend } = asked
    if (asked.state !== undefined && asked.state !== state) continue
    if (source !== undefined && (entry.source & (source.masks[0] ?? 0)) >>> 0 !== source.words[0]) continue
    if (source?.port !== undefined && swap16(entry.sourcePort) !== source.port) continue
    const service = services.get(entry.service)
    if (asked.service !== undefined && service?.name !== asked.service) continue
    const isOwn = checked(entry).check === entry.check
    const named = service?.backends.find(({ index }) => index === entry.backend)
    if (service !== undefined && !isOwn) continue
    if (named === undefined || service === undefined) {
      if (backend === undefined) result.leftOver++
      continue
    }
    if (backend !== undefined && named.want.address !== backend) continue
    const { protocol, vip, port } = service.want
    result.told.push({
      protocol,
      state,
      source: `${formatIpv4(address)}:${swap16(entry.sourcePort)}`,
      virtual: `${vip}:${port}`,
      destination: `${named.want.address}:${port}`,
    })
  }
  return result
}

const sorted = (rows: readonly object[]): string[] => rows.map((row) => JSON.stringify(row)).sort()

test.serial(
  'what is told is every unexpired entry of a live service and backend that is asked for, and no value of another flow',
  (t) => {
    const { plane, gone } = prepared()
    const { memory } = plane
    const services = [...ids(memory)].map(([id, { want }]) => ({ id, port: want.port }))
    let told = 0
    let asks = 0
    fc.assert(
      fc.property(
        fc.constantFrom(1000, 4100, 2 ** 24 + 5).chain((age) =>
          fc.tuple(
            fc.constant(age),
            fc.array(fc.option(entryOf([...services, { id: gone, port: 443 }], age), { nil: undefined, freq: 5 }), {
              minLength: FLOWS,
              maxLength: FLOWS,
            }),
          ),
        ),
        fc.oneof(fc.constant<Wanted>({}), wanted),
        ([age, entries], asked) => {
          plane.age = age
          fill(memory, entries)
          const found = new Connections(memory, readLive(memory).services.values(), asked)
          const rows = [...found].map(({ secondsLeft: _, ...row }) => row)
          const should = expected(entries, memory, age, asked)
          assert.deepEqual(sorted(rows.map(inOrder)), sorted(should.told.map(inOrder)))
          assert.equal(found.count, should.told.length)
          assert.equal(found.leftOver, should.leftOver)
          told += found.count
          asks++
        },
      ),
      runs(150),
    )
    t.log(`${told} connections in ${asks} runs`)
    t.true(told > asks, `${told} connections in ${asks} runs`)
  },
)

const inOrder = ({ protocol, state, source, virtual, destination }: Omit<Connection, 'secondsLeft'>) => ({
  protocol,
  state,
  source,
  virtual,
  destination,
})

const one = (plane: Plane, entry: Partial<Entry>): Entry =>
  checked({
    source: swap32(parseIpv4('10.0.0.1') ?? 0),
    sourcePort: swap16(40000),
    service: serviceOf(plane.memory, WEB).service.id,
    port: swap16(80),
    backend: 0,
    state: FlowState.FLOW_ESTABLISHED,
    age: plane.age,
    ...entry,
  })

const connectionsOf = (plane: Plane): Connection[] => [
  ...new Connections(plane.memory, readLive(plane.memory).services.values()),
]

test.serial('the time left is the state’s timeout less the time that the entry was idle', (t) => {
  const { plane } = prepared()
  // Timeout 90 ages of 256 jiffies at 250 a second.
  const left = [0, 1, 40, 90, 91].map((idle) => {
    fill(plane.memory, [one(plane, { age: plane.age - idle })])
    return connectionsOf(plane)[0]?.secondsLeft
  })
  t.deepEqual(left, [90 * 1.024, 89 * 1.024, 50 * 1.024, 0, undefined])
})

test.serial('an entry that a packet refreshed after the clock was read is as fresh as can be', (t) => {
  const { plane } = prepared()
  fill(plane.memory, [one(plane, { age: plane.age + 1 })])
  t.is(connectionsOf(plane)[0]?.secondsLeft, 90 * 1.024)
})

test.serial('connections are told as they were taken, whatever becomes of the table and the services', (t) => {
  const { plane } = prepared()
  fill(plane.memory, [one(plane, {})])
  const taken = new Connections(plane.memory, readLive(plane.memory).services.values())
  const before = [...taken]
  fill(plane.memory, [undefined])
  apply(plane, new Map())
  t.is(before.length, 1)
  t.deepEqual([...taken], before)
})
