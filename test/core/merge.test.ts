// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { parseBackend, parseService } from '../../src/core/address.ts'
import {
  type Backend,
  type DesiredState,
  type Globals,
  isLeaving,
  type Path,
  type Service,
} from '../../src/core/desired.ts'
import { type FlowFate, removeBackend } from '../../src/core/leaving.ts'
import {
  mergeFaults,
  mergeGlobals,
  mergeState,
  mergeTimeouts,
  runtimeChanges,
  sameForAll,
  withChanges,
} from '../../src/core/merge.ts'
import { plan } from '../../src/core/plan.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { ChangedState } from '../../src/core/state-map.ts'
import { DEFAULT_TIMEOUTS } from '../../src/core/timeouts.ts'
import { addService, drainBackend, removeService, setBackend, setService } from '../../src/core/verbs.ts'
import { filter } from './filters.ts'

const NAMES = ['tcp://198.51.100.1:80', 'tcp://198.51.100.2:443', 'udp://198.51.100.1:53'] as const
const SERVICES = NAMES.map((name) => parseService(name))
const HOSTS = [1, 2, 3, 4] as const
const NOWHERE: Path = { kind: 'unresolved', why: 'not asked' }

/** A verb, or the edit of a file that comes to the same. */
type Step = (state: DesiredState, path: Path) => DesiredState

const at = (service: number) => SERVICES[service] ?? parseService(NAMES[0])
const real = (service: number, host: number) => parseBackend(`192.0.2.${host}`, at(service))

const step: fc.Arbitrary<Step> = fc
  .record({
    verb: fc.constantFrom('add', 'add', 'set', 'rm', 'backend', 'backend', 'backend', 'drain', 'gone'),
    service: fc.integer({ min: 0, max: NAMES.length - 1 }),
    host: fc.constantFrom(...HOSTS),
    weight: fc.integer({ min: 0, max: 3 }),
    limit: fc.constantFrom(undefined, 'none' as const, { upper: 5, lower: 0 }),
    vlan: fc.constantFrom(undefined, undefined, 'auto' as const, 7),
    scheduler: fc.constantFrom('wrr' as const, 'lc' as const),
    seed: fc.constantFrom(1n, 2n),
    label: fc.constantFrom(undefined, false as const, 'web', 'dns'),
    persist: fc.constantFrom(undefined, false as const, 60, 300),
    fate: fc.constantFrom<FlowFate>('keep', 'cut', 'move'),
  })
  .map(({ verb, service, host, weight, limit, vlan, scheduler, seed, label, persist, fate }) => (state, path) => {
    const said = {
      ...(label === undefined ? {} : { name: label }),
      ...(persist === undefined ? {} : { persist }),
    }
    try {
      if (verb === 'add') return addService(state, at(service), { scheduler, seed, ...said }, 0n)
      if (verb === 'set') return setService(state, at(service), { scheduler, seed, ...said })
      if (verb === 'rm') return removeService(state, at(service))
      if (verb === 'drain') return drainBackend(state, at(service), real(service, host))
      const isFile = path === NOWHERE
      if (verb === 'gone') return removeBackend(state, at(service), real(service, host), isFile ? 'move' : fate)
      return setBackend(state, at(service), real(service, host), {
        weight,
        ...(limit === undefined ? {} : { maxConns: limit }),
        ...(vlan === undefined ? {} : { vlan }),
        path,
      })
    } catch (error) {
      if (error instanceof Refusal) return state
      throw error
    }
  })

const steps = fc.array(step, { maxLength: 14 })
const EMPTY: DesiredState = new Map()
const inFile = (state: DesiredState, made: readonly Step[]) => made.reduce((next, each) => each(next, NOWHERE), state)
const atRunTime = (state: DesiredState, made: readonly Step[]) =>
  made.reduce<DesiredState>(
    (next, each, i) => each(next, { kind: 'link', mac: BigInt(i + 1), interfaceSlot: 0 }),
    resolved(state),
  )

/** As what is in the maps: every backend's path is known. */
const resolved = (state: DesiredState): DesiredState =>
  new Map(
    [...state].map(([name, service]) => [
      name,
      {
        ...service,
        backends: service.backends.map((backend, i) => ({
          ...backend,
          path: { kind: 'link' as const, mac: BigInt(100 + i), interfaceSlot: 1 },
        })),
      },
    ]),
  )

/** A base, the file as it was edited since, and what verbs made of the base. */
const three = fc.tuple(steps, steps, steps).map(([first, edits, verbs]) => {
  const base = inFile(EMPTY, first)
  return { base, file: inFile(base, edits), have: atRunTime(base, verbs) }
})

const SERVICE_KEYS = ['scheduler', 'seed', 'label', 'persistence', 'hash'] as const
const BACKEND_KEYS = ['weight', 'admin', 'vlan', 'maxConns'] as const

/** Everything that a state says, as flat as can be: `service/backend/key` -> text. What is not there says nothing. */
const flat = (state: DesiredState): Map<string, string> => {
  const text = (value: unknown) => JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}n` : each))
  const said = new Map<string, string>()
  for (const [name, service] of state) {
    said.set(name, 'is there')
    for (const key of SERVICE_KEYS) said.set(`${name}#${key}`, text(service[key]) ?? 'no')
    for (const backend of service.backends) {
      if (isLeaving(backend)) continue
      said.set(`${name}|${backend.address}`, 'is there')
      for (const key of BACKEND_KEYS) said.set(`${name}|${backend.address}#${key}`, text(backend[key]) ?? 'no')
    }
  }
  return said
}

/** The rules once more, of flat texts: whatever differs between base and file is the file's, all else is what it is. */
const model = (base: DesiredState, file: DesiredState, have: DesiredState): Map<string, string> => {
  const [was, is, now] = [flat(base), flat(file), flat(have)]
  const merged = new Map<string, string>()
  for (const key of new Set([...is.keys(), ...now.keys()])) {
    let value = was.get(key) === is.get(key) ? now.get(key) : is.get(key)
    // A drain holds where the file comes to name a backend.
    if (key.endsWith('#admin') && !was.has(key) && now.get(key) === '"drain"') value = now.get(key)
    if (value !== undefined) merged.set(key, value)
  }
  const isThere = (name: string): boolean => merged.get(name) === 'is there'
  for (const key of [...merged.keys()]) {
    const [owner = ''] = key.split('#')
    const [service = ''] = owner.split('|')
    if (!isThere(service) || !isThere(owner)) merged.delete(key)
  }
  return merged
}

const sorted = (said: ReadonlyMap<string, string>): [string, string][] => [...said].sort(([a], [b]) => (a < b ? -1 : 1))

const backendsOf = (state: DesiredState, name: string): readonly Backend[] => state.get(name)?.backends ?? []

test('any edits of the file and any verbs since merge as each of their words by itself', (t) => {
  fc.assert(
    fc.property(three, ({ base, file, have }) => {
      assert.deepEqual(sorted(flat(mergeState(base, file, have))), sorted(model(base, file, have)))
    }),
    { numRuns: 600 },
  )
  t.pass()
})

test('a file that says what it said changes nothing, and nothing but the file is followed where no verb came between', (t) => {
  fc.assert(
    fc.property(three, ({ base, file, have }) => {
      assert.equal(mergeState(base, base, have), have)
      assert.equal(mergeState(base, new Map(base), have), have)
      assert.deepEqual(plan(file, mergeState(base, file, base)), [])
    }),
    { numRuns: 300 },
  )
  t.pass()
})

test('what was merged once merges again to itself', (t) => {
  fc.assert(
    fc.property(three, ({ base, file, have }) => {
      for (const before of [base, undefined]) {
        const once = mergeState(before, file, have)
        assert.equal(mergeState(before, file, once), once)
        assert.equal(mergeState(file, file, once), once)
      }
    }),
    { numRuns: 400 },
  )
  t.pass()
})

test('backends that stay keep their paths, new ones have none, and those that leave are there until their service goes', (t) => {
  fc.assert(
    fc.property(three, fc.boolean(), ({ base, file, have }, isFirst) => {
      const merged = mergeState(isFirst ? undefined : base, file, have)
      for (const [name, { backends }] of merged) {
        const before = new Map(backendsOf(have, name).map((backend) => [backend.address, backend]))
        assert.equal(new Set(backends.map(({ address }) => address)).size, backends.length)
        for (const backend of backends) {
          const known = before.get(backend.address)
          if (known === undefined) assert.deepEqual(backend.path, NOWHERE)
          else if (known.vlan === backend.vlan) assert.equal(backend.path, known.path)
          else if (backend.vlan !== undefined) assert.deepEqual(backend.path, { ...known.path, vlan: backend.vlan })
          else assert.deepEqual(backend.path, NOWHERE)
        }
        const there = new Set(backends.map(({ address }) => address))
        for (const backend of before.values()) if (isLeaving(backend)) assert(there.has(backend.address))
      }
    }),
    { numRuns: 400 },
  )
  t.pass()
})

test('the first load takes the file as it is, but that a drain holds', (t) => {
  fc.assert(
    fc.property(three, ({ file, have }) => {
      const merged = mergeState(undefined, file, have)
      const expected = flat(file)
      for (const [key, value] of flat(have)) {
        if (key.endsWith('#admin') && value === '"drain"' && expected.has(key)) expected.set(key, value)
      }
      assert.deepEqual(sorted(flat(merged)), sorted(expected))
    }),
    { numRuns: 300 },
  )
  t.pass()
})

test('what verbs changed is told, and makes of the base what was', (t) => {
  fc.assert(
    fc.property(three, ({ base, file, have }) => {
      const kept = runtimeChanges(base, have)
      assert.deepEqual(sorted(flat(withChanges(base, kept, 'have'))), sorted(flat(have)))
      for (const [name, change] of kept) {
        assert.equal(change.base, base.get(name) ?? null)
        assert.deepEqual(change.have?.backends.filter(isLeaving) ?? [], [])
      }
      assert.equal(runtimeChanges(base, base).size, 0)
      assert.equal(runtimeChanges(base, resolved(base)).size, 0, 'paths are no change')
      // After a restart, with the file edited meanwhile: as if it had been edited and loaded before.
      const restarted = mergeState(withChanges(file, kept, 'base'), file, withChanges(file, kept, 'have'))
      assert.deepEqual(sorted(flat(restarted)), sorted(flat(mergeState(base, file, have))))
    }),
    { numRuns: 400 },
  )
  t.pass()
})

const globals: fc.Arbitrary<Globals> = fc.record(
  { filter: fc.option(filter, { nil: undefined }), newFlows: fc.integer({ min: 1, max: 3 }) },
  { noNullPrototype: true },
)

test('what holds for all services merges field by field too', (t) => {
  fc.assert(
    fc.property(globals, globals, globals, (base, file, have) => {
      assert.deepEqual(mergeGlobals(base, base, have), have)
      assert.deepEqual(mergeGlobals(base, file, base), file)
      assert.deepEqual(mergeGlobals(undefined, file, have), file)
      const merged = mergeGlobals(base, file, have)
      assert(merged.newFlows === (base.newFlows === file.newFlows ? have.newFlows : file.newFlows))
      assert(sameForAll(merged, mergeGlobals(base, file, merged)))
    }),
  )
  const [file, have] = [
    { ...DEFAULT_TIMEOUTS, udp: 5 },
    { ...DEFAULT_TIMEOUTS, udp: 7, closed: 3 },
  ]
  t.deepEqual(mergeTimeouts(DEFAULT_TIMEOUTS, file, have), { ...have, udp: 5 })
  t.deepEqual(mergeTimeouts(DEFAULT_TIMEOUTS, DEFAULT_TIMEOUTS, have), have)
  t.deepEqual(mergeTimeouts(undefined, file, have), file)
})

const first = (state: DesiredState): Service => {
  const service = state.get(NAMES[0])
  assert(service !== undefined)
  return service
}
const one = (steps: (state: DesiredState) => DesiredState): DesiredState => steps(addService(EMPTY, at(0), {}, 1n))
const withHost = (state: DesiredState, host: number, weight: number) =>
  setBackend(state, at(0), real(0, host), { weight, path: NOWHERE })

test('an operator drains a backend and the file changes its weight: it is drained, with the new weight', (t) => {
  const base = one((state) => withHost(state, 1, 1))
  const merged = mergeState(base, withHost(base, 1, 9), drainBackend(base, at(0), real(0, 1)))
  t.like(first(merged).backends[0], { weight: 9, admin: 'drain' })
})

test('an operator removes a backend and the file changes its weight: it stays removed', (t) => {
  const base = one((state) => withHost(withHost(state, 1, 1), 2, 1))
  const merged = mergeState(base, withHost(base, 1, 9), removeBackend(base, at(0), real(0, 1)))
  t.deepEqual(
    first(merged).backends.map(({ address }) => address),
    ['192.0.2.2'],
  )
})

test('a file and a verb that are right by themselves, and wrong together, are told', (t) => {
  const base = one((state) => withHost(state, 1, 1))
  const file = setBackend(base, at(0), real(0, 1), { maxConns: { upper: 5, lower: 0 }, path: NOWHERE })
  const have = setService(base, at(0), { scheduler: 'mh' })
  const named = (state: DesiredState, service: number) => setService(state, at(service), { name: 'web' })
  const two = addService(base, at(1), {}, 1n)
  const empty = one((state) => state)
  const circle = addService(empty, parseService('tcp://192.0.2.1:80'), {}, 1n)
  const told = (was: DesiredState, is: DesiredState, now: DesiredState) =>
    [...mergeFaults(now, mergeState(was, is, now))].map(({ service, keys }) => `${service} ${keys.join('.')}`)
  t.deepEqual(told(base, file, have), [`${NAMES[0]} backends.0.max-conns`])
  t.deepEqual(told(two, named(two, 0), named(two, 1)), [`${NAMES[1]} name`])
  t.deepEqual(told(empty, circle, withHost(empty, 1, 1)), [`${NAMES[0]} backends.0`])
  t.deepEqual(told(base, base, have), [])
})

test('of thousands of services only those that the file changes are looked at', (t) => {
  const [template] = addService(EMPTY, at(0), {}, 1n).values()
  assert(template !== undefined)
  const make = (weight: number): DesiredState =>
    new Map(
      Array.from({ length: 4000 }, (_, i) => {
        const name = `tcp://10.${i >> 8}.${i & 255}.1:80`
        const backends = Array.from({ length: 25 }, (_, host): Backend => {
          const changed = i === 77 && host === 5
          return { address: `192.0.2.${host}`, port: 80, weight: changed ? weight : 1, admin: 'up', path: NOWHERE }
        })
        return [name, { ...template, vip: `10.${i >> 8}.${i & 255}.1`, backends }]
      }),
    )
  const [base, file, inMaps] = [make(1), make(2), make(1)]
  const asked: string[] = []
  const have: DesiredState = Object.assign(new Map(inMaps), {
    get: (name: string) => {
      asked.push(name)
      return inMaps.get(name)
    },
  })
  const from = process.hrtime.bigint()
  const merged = mergeState(base, file, have)
  t.log(`${Number(process.hrtime.bigint() - from) / 1e6} ms`)
  t.deepEqual(asked, ['tcp://10.0.77.1:80'])
  assert(merged instanceof ChangedState)
  t.is(merged.base, have)
  t.is(merged.changes.size, 1)
  t.is(merged.get('tcp://10.0.77.1:80')?.backends[5]?.weight, 2)
})
