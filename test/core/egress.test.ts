// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { type EgressFacts, egressFault } from '../../src/core/egress.ts'

const BACKEND = '198.51.100.1'
const facts = (changed: Partial<EgressFacts> = {}): EgressFacts => ({
  name: 'eth1',
  mac: '02:00:00:00:00:07',
  loopback: false,
  kind: '',
  transmits: true,
  transmitsMultiBuffer: true,
  native: ['eth0'],
  multiBuffer: [],
  ...changed,
})
const fault = (changed: Partial<EgressFacts>) => egressFault(BACKEND, facts(changed))

test('an interface that takes redirected frames leads to backends', (t) => {
  t.is(fault({}), undefined)
  t.is(fault({ kind: 'bridge' }), undefined)
})

test('one that takes none is refused, with what makes it take them', (t) => {
  const nic = fault({ transmits: false })
  t.regex(
    nic?.message ?? '',
    /198\.51\.100\.1: is reached through eth1, whose driver takes no frames.*eth0 would redirect/,
  )
  t.regex(nic?.mend ?? '', /xlb attach eth1; or take generic mode on eth0/)
  t.regex(fault({ transmits: false, kind: 'veth' })?.mend ?? '', /ethtool -K PEER gro on/)
})

test('one that takes no jumbo frames is refused where some would be redirected to it', (t) => {
  t.is(fault({ multiBuffer: ['eth0'] }), undefined)
  t.is(fault({ transmitsMultiBuffer: false }), undefined)
  t.is(fault({ transmitsMultiBuffer: undefined, multiBuffer: ['eth0'] }), undefined)
  const jumbo = fault({ transmitsMultiBuffer: false, multiBuffer: ['eth0'] })
  t.regex(jumbo?.message ?? '', /eth1, whose driver takes no jumbo frames.*eth0 would redirect/)
})

test('where all programs are generic, any Ethernet interface does', (t) => {
  t.is(fault({ transmits: false, native: [] }), undefined)
  t.is(fault({ transmits: false, kind: 'bridge', native: [] }), undefined)
})

test('where the kernel does not tell, the kind of device does', (t) => {
  t.is(fault({ transmits: undefined }), undefined)
  t.is(fault({ transmits: undefined, kind: 'bond' }), undefined)
  t.truthy(fault({ transmits: undefined, kind: 'bridge' }))
})

test('without MAC addresses no frame can be aimed', (t) => {
  for (const changed of [{ loopback: true }, { mac: '' }]) {
    t.regex(fault({ ...changed, native: [] })?.message ?? '', /eth1, which has no MAC addresses/)
  }
})
