// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { parseBackend, parseService } from '../../src/core/address.ts'
import type { DesiredState, Path } from '../../src/core/desired.ts'
import { withPaths } from '../../src/core/paths.ts'
import { plan } from '../../src/core/plan.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { addService, setBackend } from '../../src/core/verbs.ts'
import { parseVlan } from '../../src/core/vlan.ts'

const NAME = 'tcp://192.0.2.10:80'
const SERVICE = parseService(NAME)
const BACKEND = parseBackend('198.51.100.1', SERVICE)
const link = (vlan?: number): Path => ({
  kind: 'link',
  mac: 7n,
  interfaceSlot: 0,
  ...(vlan === undefined ? {} : { vlan }),
})
const empty = addService(new Map(), SERVICE, {}, 1n)
const backendOf = (state: DesiredState) => state.get(NAME)?.backends[0]

test('a VLAN is a number from 1 to 4094, none, or auto', (t) => {
  t.deepEqual(['1', '4094', 'none', 'auto'].map(parseVlan), [1, 4094, 'none', 'auto'])
  for (const wrong of ['4095', '-1', '1.5', '0x10', '', 'ten', '65536', '00001']) {
    const error = t.throws(() => parseVlan(wrong), { instanceOf: Refusal, message: /is not a VLAN/ })
    t.true(error.usage)
  }
  t.throws(() => parseVlan('0'), { instanceOf: Refusal, message: /is a priority tag/ })
})

test('without a wish a backend is in the VLAN that the route leads to, and follows it', (t) => {
  const state = setBackend(empty, SERVICE, BACKEND, { path: link(100) })
  t.deepEqual(backendOf(state)?.path, link(100))
  t.false('vlan' in (backendOf(state) ?? {}))
  t.deepEqual(backendOf(withPaths(state, [NAME], () => link(200)))?.path, link(200))
  t.deepEqual(backendOf(withPaths(state, [NAME], () => link()))?.path, link())
})

test('a wish holds whatever the route says, until it is taken back', (t) => {
  for (const [vlan, path] of [
    [300, link(300)],
    ['none', link()],
  ] as const) {
    const state = setBackend(empty, SERVICE, BACKEND, { vlan, path: link(100) })
    t.deepEqual(backendOf(state)?.path, path)
    t.deepEqual(backendOf(withPaths(state, [NAME], () => link(200)))?.path, path)
    const heavier = setBackend(state, SERVICE, BACKEND, { weight: 5, path: link(100) })
    t.deepEqual(backendOf(heavier)?.path, path)
    t.is(backendOf(heavier)?.vlan, vlan)
    const back = setBackend(heavier, SERVICE, BACKEND, { vlan: 'auto', path: link(100) })
    t.deepEqual(backendOf(back)?.path, link(100))
    t.false('vlan' in (backendOf(back) ?? {}))
  }
})

test('a wish for where a packet would go anyway is a change: it is kept with the backend', (t) => {
  const before = setBackend(empty, SERVICE, BACKEND, { path: link(100) })
  const after = setBackend(before, SERVICE, BACKEND, { vlan: 100, path: link(100) })
  t.is(plan(before, after).length, 1)
  t.is(plan(after, after).length, 0)
})

test('a wish waits where the path is not known', (t) => {
  const unresolved: Path = { kind: 'unresolved', why: 'nobody answers' }
  const state = setBackend(empty, SERVICE, BACKEND, { vlan: 300, path: unresolved })
  t.is(backendOf(state)?.path.kind, 'unresolved')
  t.deepEqual(backendOf(withPaths(state, [NAME], () => link()))?.path, link(300))
})
