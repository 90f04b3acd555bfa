// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { formatService, parseBackend, parseService } from '../../src/core/address.ts'
import type { DesiredState, Path } from '../../src/core/desired.ts'
import { removeBackend, withLeavingOf, withoutEnded } from '../../src/core/leaving.ts'
import { plan } from '../../src/core/plan.ts'
import { addService, setBackend } from '../../src/core/verbs.ts'

const WEB = parseService('tcp://198.51.100.1:80')
const NAME = formatService(WEB)
const LINK: Path = { kind: 'link', mac: 2n, interfaceSlot: 0 }
const real = (host: number) => parseBackend(`192.0.2.${host}`, WEB)

const state = (hosts: readonly number[]): DesiredState =>
  hosts.reduce<DesiredState>(
    (next, host) => setBackend(next, WEB, real(host), { path: LINK }),
    addService(new Map(), WEB, {}, 1n),
  )

const admins = (of: DesiredState): string =>
  (of.get(NAME)?.backends ?? []).map(({ address, admin }) => `${address.slice(8)} ${admin}`).join(', ')

const leaving = removeBackend(removeBackend(state([1, 2, 3]), WEB, real(2), 'keep'), WEB, real(3), 'cut')

test('a state that does not name leaving backends leaves them as they are', (t) => {
  t.is(admins(withLeavingOf(leaving, state([1]))), '1 up, 2 leaving, 3 cut')
  t.deepEqual(plan(leaving, withLeavingOf(leaving, state([1]))), [])
})

test('one that names them takes them back in, and one without their service ends them', (t) => {
  t.is(admins(withLeavingOf(leaving, state([1, 2]))), '1 up, 2 up, 3 cut')
  t.is(withLeavingOf(leaving, new Map()).size, 0)
  const without = state([1])
  t.is(withLeavingOf(state([1, 2]), without), without, 'what is not leaving goes')
})

test('a leaving backend of which nothing remains goes, and no other', (t) => {
  const asked: string[] = []
  const next = withoutEnded(leaving, [NAME, 'tcp://198.51.100.9:80'], (service, address) => {
    asked.push(`${service} ${address}`)
    return address !== '192.0.2.2'
  })
  t.is(admins(next), '1 up, 3 cut')
  t.deepEqual(asked, [`${NAME} 192.0.2.2`, `${NAME} 192.0.2.3`])
  t.is(
    withoutEnded(leaving, [NAME], () => true),
    leaving,
  )
  t.is(
    withoutEnded(leaving, [], () => false),
    leaving,
  )
})
