// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import type { DesiredState, Service } from '../../src/core/desired.ts'
import { type Change, plan, sameService } from '../../src/core/plan.ts'
import { desiredState, serviceAt } from './states.ts'

/** All that is stored of a service, in an order of its own: neither the order of backends nor why a path is unresolved. */
const stored = ({ backends, filter, sourceRate, ...service }: Service): string => {
  const lines = backends.map(({ path, ...backend }) =>
    Object.values({ ...backend, ...(path.kind === 'unresolved' ? { kind: 'unresolved' } : path) }).join(' '),
  )
  const asked = JSON.stringify([filter, sourceRate])
  return [...Object.entries(service).map(String).sort(), asked, ...lines.sort()].join('\n')
}

const storedState = (state: DesiredState): Map<string, string> =>
  new Map([...state].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, service]) => [name, stored(service)]))

/** What a plan means, one change at a time. */
const carriedOut = (have: DesiredState, changes: readonly Change[]): DesiredState => {
  const state = new Map(have)
  for (const change of changes) {
    if (change.kind === 'remove') state.delete(change.name)
    else state.set(change.name, change.want)
  }
  return state
}

test('a state asks for no change of itself, nor of itself with its backends in another order', (t) => {
  fc.assert(
    fc.property(desiredState, (state) => {
      const turned = new Map(
        [...state].map(([name, service]) => [name, { ...service, backends: service.backends.toReversed() }]),
      )
      assert.deepEqual(plan(state, state), [])
      assert.deepEqual(plan(state, turned), [])
    }),
  )
  t.pass()
})

test('a plan is empty only where both states store the same', (t) => {
  fc.assert(
    fc.property(desiredState, desiredState, (have, want) => {
      const same = [...storedState(have)].join() === [...storedState(want)].join()
      return (plan(have, want).length === 0) === same
    }),
  )
  t.is(plan(new Map(), new Map()).length, 0)
})

test('services are the same exactly where all that is stored of them is', (t) => {
  const service = serviceAt({ protocol: 'tcp', vip: '198.51.100.1', port: 80, lastPort: 80 })
  fc.assert(
    fc.property(
      service,
      service,
      fc.constantFrom('scheduler', 'hash', 'ringSize', 'seed', 'filter', 'sourceRate', 'backends'),
      (a, b, only) => {
        // Two services at large differ in everything; these differ in one thing at most.
        const near = { ...a, [only]: b[only as keyof Service] }
        return sameService(a, near) === (stored(a) === stored(near)) && sameService(a, near) === sameService(near, a)
      },
    ),
    { numRuns: 300 },
  )
  t.pass()
})

test('one other weight, admin state, path or address of a backend makes another service', (t) => {
  const service = serviceAt({ protocol: 'tcp', vip: '198.51.100.1', port: 80, lastPort: 80 })
  fc.assert(
    fc.property(service, fc.constantFrom('weight', 'admin', 'path', 'address', 'gone'), (a, what) => {
      const [first, ...others] = a.backends
      if (first === undefined) return fc.pre(false)
      const changed = {
        weight: { ...first, weight: first.weight ^ 1 },
        admin: { ...first, admin: first.admin === 'up' ? ('drain' as const) : ('up' as const) },
        path: { ...first, path: { kind: 'link' as const, mac: 0n, interfaceSlot: 64 } },
        address: { ...first, address: '192.0.2.200' },
        gone: undefined,
      }[what]
      return !sameService(a, { ...a, backends: changed === undefined ? others : [...others, changed] })
    }),
  )
  t.pass()
})

test('what a plan says, carried out, gives the wanted state, and no service is named twice', (t) => {
  fc.assert(
    fc.property(desiredState, desiredState, (have, want) => {
      const changes = plan(have, want)
      assert.deepEqual(storedState(carriedOut(have, changes)), storedState(want))
      assert.equal(new Set(changes.map(({ name }) => name)).size, changes.length)
      for (const change of changes) {
        assert.equal(change.kind, !have.has(change.name) ? 'add' : want.has(change.name) ? 'change' : 'remove')
        if (change.kind !== 'add') assert.equal(change.have, have.get(change.name))
        if (change.kind !== 'remove') assert.equal(change.want, want.get(change.name))
      }
    }),
  )
  t.pass()
})

test('removals come first, then changes, then additions', (t) => {
  const order = ['remove', 'change', 'add']
  fc.assert(
    fc.property(desiredState, desiredState, (have, want) => {
      const kinds = plan(have, want).map(({ kind }) => order.indexOf(kind))
      assert.deepEqual(kinds, kinds.toSorted())
    }),
  )
  t.pass()
})
