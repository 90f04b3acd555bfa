// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { formatService, parseBackend, parseService } from '../../src/core/address.ts'
import {
  BACKENDS_PER_SERVICE_MAX,
  type Backend,
  type DesiredState,
  effectiveWeight,
  type Path,
  type Service,
} from '../../src/core/desired.ts'
import { removeBackend } from '../../src/core/leaving.ts'
import { withPaths } from '../../src/core/paths.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { checkCircles, checkService } from '../../src/core/state-faults.ts'
import { addService, drainBackend, removeService, setBackend, setService } from '../../src/core/verbs.ts'
import { desiredState } from './states.ts'

const WEB = parseService('tcp://198.51.100.1:80')
const DNS = parseService('udp://198.51.100.1:53')
const LINK: Path = { kind: 'link', mac: 2n, interfaceSlot: 0 }
const EMPTY: DesiredState = new Map()
const real = (host: number) => parseBackend(`192.0.2.${host}`, WEB)

/** WEB with backends 1 (weight 1) and 2 (weight 3, drained). */
const sample = (): DesiredState => {
  let state = addService(EMPTY, WEB, {}, 7n)
  state = setBackend(state, WEB, real(1), { path: LINK })
  state = setBackend(state, WEB, real(2), { weight: 3, path: LINK })
  return drainBackend(state, WEB, real(2))
}

const web = (state: DesiredState): Service => {
  const service = state.get(formatService(WEB))
  assert(service !== undefined)
  return service
}

const backend = (state: DesiredState, host: number): Backend | undefined =>
  web(state).backends.find(({ address }) => address === `192.0.2.${host}`)

test('a service is added with wrr, DSR, a hash over source and port, a ring of default size and the drawn seed', (t) => {
  t.deepEqual(web(addService(EMPTY, WEB, {}, 7n)), {
    ...WEB,
    scheduler: 'wrr',
    forward: 'dsr',
    hash: 'source-port',
    ops: false,
    ringSize: 0,
    seed: 7n,
    backends: [],
  })
})

test('what is named of a service is taken', (t) => {
  const service = web(addService(EMPTY, WEB, { scheduler: 'mh', hash: 'source', ringSize: 4093, seed: 9n }, 7n))
  t.like(service, { scheduler: 'mh', hash: 'source', ringSize: 4093, seed: 9n })
})

test('sh hashes the source alone unless told otherwise, on add and on set', (t) => {
  t.is(web(addService(EMPTY, WEB, { scheduler: 'sh' }, 0n)).hash, 'source')
  t.is(web(addService(EMPTY, WEB, { scheduler: 'sh', hash: 'source-port' }, 0n)).hash, 'source-port')
  t.is(web(setService(sample(), WEB, { scheduler: 'sh' })).hash, 'source')
  t.is(web(setService(sample(), WEB, { scheduler: 'sh', hash: 'source-port' })).hash, 'source-port')
})

test('what `service set` does not name stays, a hash of its own included', (t) => {
  const before = web(sample())
  t.deepEqual(web(setService(sample(), WEB, {})), before)
  t.deepEqual(web(setService(sample(), WEB, { ringSize: 127 })), { ...before, ringSize: 127 })
  t.deepEqual(web(setService(sample(), WEB, { seed: 9n })), { ...before, seed: 9n })
  const hashed = setService(sample(), WEB, { hash: 'source' })
  t.is(web(setService(hashed, WEB, { scheduler: 'wrr' })).hash, 'source')
})

test('a service is removed with its backends, and others stay as they are', (t) => {
  const state = addService(sample(), DNS, {}, 1n)
  t.deepEqual(new Map(removeService(state, DNS)), new Map(sample()))
  t.deepEqual([...removeService(state, WEB).keys()], [formatService(DNS)])
})

test('a backend is added with weight 1, and changed only in what is named', (t) => {
  t.deepEqual(backend(sample(), 1), { ...real(1), weight: 1, admin: 'up', path: LINK })
  t.is(backend(setBackend(sample(), WEB, real(1), { weight: 8, path: LINK }), 1)?.weight, 8)
  t.is(backend(setBackend(sample(), WEB, real(2), { path: { kind: 'local' } }), 2)?.weight, 3)
  t.deepEqual(backend(setBackend(sample(), WEB, real(2), { path: { kind: 'local' } }), 2)?.path, { kind: 'local' })
  t.is(web(setBackend(sample(), WEB, real(2), { path: LINK })).backends.length, 2)
})

test('a drained backend keeps its weight, and `backend set` takes it back in', (t) => {
  t.like(backend(sample(), 2), { admin: 'drain', weight: 3 })
  t.like(backend(setBackend(sample(), WEB, real(2), { path: LINK }), 2), { admin: 'up', weight: 3 })
  t.deepEqual(new Map(drainBackend(sample(), WEB, real(2))), new Map(sample()))
})

test('a removed backend is gone, and the others stay as they are', (t) => {
  const state = removeBackend(sample(), WEB, real(1))
  t.is(backend(state, 1), undefined)
  t.deepEqual(backend(state, 2), backend(sample(), 2))
})

test('a removed backend whose flows are kept or cut is leaving until it is removed again, or taken back in', (t) => {
  for (const [fate, admin] of [
    ['keep', 'leaving'],
    ['cut', 'cut'],
  ] as const) {
    const state = removeBackend(sample(), WEB, real(2), fate)
    t.like(backend(state, 2), { admin, weight: 3, path: LINK })
    t.deepEqual(backend(state, 1), backend(sample(), 1))
    t.is(backend(removeBackend(state, WEB, real(2)), 2), undefined)
    t.like(backend(removeBackend(state, WEB, real(2), 'keep'), 2), { admin: 'leaving' })
    t.like(backend(setBackend(state, WEB, real(2), { path: LINK }), 2), { admin: 'up', weight: 1 }, 'as a new one')
    t.like(backend(setBackend(state, WEB, real(2), { path: LINK, weight: 9 }), 2), { admin: 'up', weight: 9 })
  }
})

test('nothing is kept of a backend that cannot be reached, nor of a service without flows', (t) => {
  const unresolved = setBackend(sample(), WEB, real(2), { path: { kind: 'unresolved', why: 'silent' } })
  t.is(backend(removeBackend(unresolved, WEB, real(2), 'keep'), 2), undefined)
  t.like(backend(removeBackend(unresolved, WEB, real(2), 'cut'), 2), { admin: 'cut' })
  const ops = setBackend(addService(EMPTY, DNS, { ops: true }, 0n), DNS, real(1), { path: LINK })
  for (const fate of ['keep', 'cut', 'move'] as const) {
    t.deepEqual(removeBackend(ops, DNS, real(1), fate).get(formatService(DNS))?.backends, [])
  }
})

test('only a backend that is up, resolved and has a weight takes new flows; rr treats all of those alike', (t) => {
  const up: Backend = { ...real(1), weight: 5, admin: 'up', path: LINK }
  for (const scheduler of ['wrr', 'mh', 'sh'] as const) t.is(effectiveWeight({ scheduler }, up), 5)
  t.is(effectiveWeight({ scheduler: 'rr' }, up), 1)
  t.is(effectiveWeight({ scheduler: 'wrr' }, { ...up, path: { kind: 'local' } }), 5)
  for (const scheduler of ['rr', 'wrr', 'mh', 'sh'] as const) {
    for (const admin of ['drain', 'leaving', 'cut'] as const) t.is(effectiveWeight({ scheduler }, { ...up, admin }), 0)
    t.is(effectiveWeight({ scheduler }, { ...up, path: { kind: 'unresolved', why: 'silent' } }), 0)
    t.is(effectiveWeight({ scheduler }, { ...up, weight: 0 }), 0)
  }
})

test('paths are asked anew in the services of some names, and what does not change stays the same object', (t) => {
  const moved: Path = { kind: 'link', mac: 3n, interfaceSlot: 1 }
  fc.assert(
    fc.property(desiredState, fc.integer({ min: 1, max: 8 }), fc.integer(), (state, host, bits) => {
      const asked = [...state.keys()].filter((_, i) => ((bits >> i) & 1) === 1)
      const isMoved = (address: string): boolean => address === `192.0.2.${host}`
      const next = withPaths(state, [...asked, 'tcp://203.0.113.1:80'], (address, before) =>
        isMoved(address) ? moved : before,
      )
      assert.deepEqual([...next.keys()].toSorted(), [...state.keys()].toSorted())
      for (const [name, service] of state) {
        if (!asked.includes(name) || !service.backends.some(({ address }) => isMoved(address))) {
          assert.equal(next.get(name), service)
          continue
        }
        const expected = service.backends.map(
          (each): Backend => (isMoved(each.address) ? { ...each, path: moved } : each),
        )
        assert.deepEqual(next.get(name)?.backends, expected)
      }
    }),
  )
  const names = [formatService(WEB)]
  const silent = withPaths(sample(), names, () => ({ kind: 'unresolved', why: 'one reason' }))
  t.is(
    withPaths(silent, names, () => ({ kind: 'unresolved', why: 'another' })),
    silent,
  )
})

const many = (count: number): DesiredState =>
  new Map(sample()).set(formatService(WEB), {
    ...web(sample()),
    backends: Array.from({ length: count }, (_, i) => ({
      address: `10.0.${i >> 8}.${i & 255}`,
      port: 80,
      weight: 1,
      admin: 'up' as const,
      path: LINK,
    })),
  })

const set =
  (weight: number) =>
  (state: DesiredState): DesiredState =>
    setBackend(state, WEB, real(1), { weight, path: LINK })
const ring =
  (ringSize: number) =>
  (state: DesiredState): DesiredState =>
    setService(state, WEB, { ringSize })

type Verb = (state: DesiredState) => unknown

const REFUSED: readonly (readonly [rule: string, state: DesiredState, verb: Verb, what: RegExp, mend: RegExp])[] = [
  ['is added twice', sample(), (s) => addService(s, WEB, {}, 0n), /tcp:.*:80 exists already/, /xlb service set tcp:/],
  ['is set before it is added', EMPTY, (s) => setService(s, WEB, {}), /does not exist/, /xlb service add tcp:/],
  ['of others is set', sample(), (s) => setService(s, DNS, {}), /udp:.* does not exist/, /xlb list/],
  ['is removed that is not there', sample(), (s) => removeService(s, DNS), /udp:.* does not exist/, /xlb list/],
  ['is not there for a backend', sample(), (s) => setBackend(s, DNS, real(1), { path: LINK }), /not exist/, /xlb list/],
  ['has no such backend to drain', sample(), (s) => drainBackend(s, WEB, real(9)), /192\.0\.2\.9 of/, /192\.0\.2\.1, /],
  [
    'has removed the backend that is to be drained',
    removeBackend(sample(), WEB, real(1), 'keep'),
    (s) => drainBackend(s, WEB, real(1)),
    /192\.0\.2\.1 of tcp:.* was removed/,
    /take it back in: xlb backend set tcp:\S+ 192\.0\.2\.1$/,
  ],
  [
    'goes by a hash, and shall cut UDP flows',
    setBackend(addService(EMPTY, DNS, { scheduler: 'mh' }, 0n), DNS, real(1), { path: LINK }),
    (s) => removeBackend(s, DNS, real(1), 'cut'),
    /192\.0\.2\.1 of udp:.* does not know its flows/,
    /--flows move, or --flows keep/,
  ],
  ['has no such backend to remove', sample(), (s) => removeBackend(s, WEB, real(9)), /not exist/, /192\.0\.2\.1, /],
  [
    'has no backend at all to remove',
    addService(EMPTY, WEB, {}, 0n),
    (s) => removeBackend(s, WEB, real(9)),
    /192\.0\.2\.9 of tcp:.* does not exist/,
    /xlb backend set tcp:\S+ 192\.0\.2\.9$/,
  ],
  ['gets a weight above 65535', sample(), set(65536), /weight 65536/, /0 to 65535/],
  ['gets a weight below 0', sample(), set(-1), /weight -1/, /0 to 65535/],
  ['gets a weight that is not whole', sample(), set(1.5), /weight 1\.5/, /0 to 65535/],
  ['gets a weight that is no number', sample(), set(Number.NaN), /weight NaN/, /0 to 65535/],
  ['gets a ring size that is no prime', sample(), ring(4096), /4096 is not a prime/, /4093/],
  ['gets a ring size below 0', sample(), ring(-7), /-7 is not a prime/, /4093/],
  ['gets a ring size above the largest', sample(), ring(1048583), /1048583 exceeds 1048573/, /smaller prime/],
  ['gets a ring smaller than its backends', many(12), ring(11), /smaller than its 12 backends/, /100 x backends/],
  [
    'outgrows its ring',
    setService(many(11), WEB, { ringSize: 11 }),
    (s) => setBackend(s, WEB, real(1), { path: LINK }),
    /smaller than its 12 backends/,
    /or 0 to let xlb choose/,
  ],
  [
    'gets one backend too many',
    many(BACKENDS_PER_SERVICE_MAX),
    (s) => setBackend(s, WEB, real(1), { path: LINK }),
    /4001 backends exceed 4000/,
    /several services/,
  ],
  [
    'gets a VIP as a backend',
    sample(),
    (s) => setBackend(s, WEB, parseBackend('198.51.100.1', WEB), { path: LINK }),
    /198\.51\.100\.1 .* is a VIP itself/,
    /real server by its own address/,
  ],
  [
    'gets the VIP of another service as a backend',
    addService(sample(), parseService('udp://203.0.113.1:53'), {}, 0n),
    (s) => setBackend(s, WEB, parseBackend('203.0.113.1', WEB), { path: LINK }),
    /203\.0\.113\.1 of tcp:.* is a VIP itself/,
    /real server by its own address/,
  ],
  [
    'is added at the address of a backend',
    sample(),
    (s) => addService(s, parseService('udp://192.0.2.2:53'), {}, 0n),
    /192\.0\.2\.2 of tcp:.* is a VIP itself/,
    /real server by its own address/,
  ],
]

for (const [rule, state, verb, what, mend] of REFUSED) {
  test(`refused, and the state stays as it was: a service that ${rule}`, (t) => {
    const before = new Map(structuredClone([...state]))
    const refused = t.throws(() => verb(state), { instanceOf: Refusal, message: what })
    t.regex(refused?.mend ?? '', mend)
    t.deepEqual(new Map(state), before)
  })
}

test('a verb that is carried out leaves the state that it was given as it was', (t) => {
  const state = sample()
  const before = new Map(structuredClone([...state]))
  for (const verb of [
    (s: DesiredState) => addService(s, DNS, {}, 0n),
    (s: DesiredState) => setService(s, WEB, { scheduler: 'sh', seed: 1n }),
    (s: DesiredState) => removeService(s, WEB),
    set(9),
    (s: DesiredState) => drainBackend(s, WEB, real(1)),
    (s: DesiredState) => removeBackend(s, WEB, real(1)),
    (s: DesiredState) => withPaths(s, s.keys(), () => ({ kind: 'local' })),
  ]) {
    t.notDeepEqual(new Map(verb(state)), before)
    t.deepEqual(new Map(state), before)
  }
})

test('a whole state is refused for a backend that stands twice in a service, or is a VIP', (t) => {
  const service = web(sample())
  const twice = { ...service, backends: [...service.backends, ...service.backends] }
  const refused = t.throws(() => checkService(twice), { instanceOf: Refusal, message: /192\.0\.2\.1 .*is there twice/ })
  t.regex(refused?.mend ?? '', /sum of the weights/)
  t.notThrows(() => checkCircles(sample()))
  const circle = new Map(sample()).set('udp://192.0.2.1:53', { ...service, ...parseService('udp://192.0.2.1:53') })
  t.throws(() => checkCircles(circle), { instanceOf: Refusal, message: /is a VIP itself/ })
})
