// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { formatService, parseService } from '../../src/core/address.ts'
import type { DesiredState } from '../../src/core/desired.ts'
import { sharedLabels } from '../../src/core/label.ts'
import { plan } from '../../src/core/plan.ts'
import { addService, setService } from '../../src/core/verbs.ts'

const WEB = parseService('tcp://192.0.2.10:80')
const MAIL = parseService('tcp://192.0.2.10:25')

const state = (): DesiredState => addService(new Map(), WEB, { name: 'web' }, 1n)
const labelOf = (of: DesiredState, address = WEB): string | undefined => of.get(formatService(address))?.label

test('a service keeps its name until it is given another, or none', (t) => {
  t.is(labelOf(state()), 'web')
  t.is(labelOf(setService(state(), WEB, { scheduler: 'rr' })), 'web')
  const renamed = setService(state(), WEB, { name: 'www' })
  t.is(labelOf(renamed), 'www')
  t.is(plan(state(), renamed).length, 1)
  t.false('label' in (setService(state(), WEB, { name: false }).get(formatService(WEB)) ?? { label: '' }))
  t.deepEqual(plan(state(), setService(state(), WEB, { name: 'web' })), [])
})

test('no two services have one name', (t) => {
  t.throws(() => addService(state(), MAIL, { name: 'web' }, 1n), {
    message: 'service tcp://192.0.2.10:25: tcp://192.0.2.10:80 is called web already',
  })
  const both = addService(state(), MAIL, { name: 'mail' }, 1n)
  t.throws(() => setService(both, MAIL, { name: 'web' }), { message: /is called web already/ })
  t.deepEqual([...sharedLabels(both)], [])
})

test('what is no name is refused', (t) => {
  for (const name of ['', 'a b', '-a', '.a', 'a/b', 'ä', 'x'.repeat(32)]) {
    t.throws(() => setService(state(), WEB, { name }), { message: /is no name/ }, name)
  }
  t.notThrows(() => setService(state(), WEB, { name: `9${'x.-_'.repeat(7)}xx` }))
})
