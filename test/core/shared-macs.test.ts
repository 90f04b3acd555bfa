// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { explainSharedMac, type MacFacts, sharedMacs } from '../../src/core/shared-macs.ts'

const ETH0 = { ifindex: 2, name: 'eth0', mac: '02:00:00:00:00:02', loopback: false }
const ETH1 = { ifindex: 3, name: 'eth1', mac: '02:00:00:00:00:03', loopback: false }
const LO = { ifindex: 1, name: 'lo', mac: '00:00:00:00:00:00', loopback: true }
const VIP = '192.0.2.10'

const backend = (last: number, mac: string, ifindex = 2) => ({ address: `198.51.100.${last}`, mac, ifindex })
const facts = (more: Partial<MacFacts>): MacFacts => ({
  backends: [],
  vips: new Set([VIP]),
  neighbours: [],
  interfaces: [LO, ETH0, ETH1],
  ...more,
})

test('backends with MACs of their own share nothing', (t) => {
  const backends = [backend(1, '02:be:00:00:00:01'), backend(2, '02:be:00:00:00:02'), backend(3, ''), backend(4, '')]
  t.deepEqual(sharedMacs(facts({ backends })), [])
})

test('a MAC that several backends of a segment have is told once, with all of them', (t) => {
  const backends = [3, 1, 2].map((last) => backend(last, '02:be:00:00:00:01'))
  t.deepEqual(sharedMacs(facts({ backends: [...backends, backend(9, '02:be:00:00:00:09')] })), [
    {
      kind: 'backends',
      mac: '02:be:00:00:00:01',
      interface: 'eth0',
      addresses: ['198.51.100.1', '198.51.100.2', '198.51.100.3'],
    },
  ])
})

test('a backend of two services, or with an address in each of two segments, shares nothing', (t) => {
  const mac = '02:be:00:00:00:01'
  t.deepEqual(sharedMacs(facts({ backends: [backend(1, mac), backend(1, mac), backend(2, mac, 3)] })), [])
})

test('a backend that answers for a VIP on its segment is told, and on another it is not', (t) => {
  const mac = '02:be:00:00:00:01'
  const backends = [backend(1, mac)]
  const holder = { ifindex: 2, address: VIP, mac }
  const told = [{ kind: 'vip', mac, interface: 'eth0', addresses: ['198.51.100.1'], vips: [VIP] }]
  t.deepEqual(sharedMacs(facts({ backends, neighbours: [holder] })), told as never)
  t.deepEqual(sharedMacs(facts({ backends, neighbours: [{ ...holder, ifindex: 3 }] })), [])
  t.deepEqual(sharedMacs(facts({ backends, neighbours: [{ ...holder, mac: '02:00:5e:00:00:01' }] })), [])
  t.deepEqual(sharedMacs(facts({ backends, neighbours: [{ ...holder, mac: '' }] })), [])
  t.deepEqual(sharedMacs(facts({ backends, neighbours: [{ ...holder, address: '198.51.100.1' }] })), [])
})

test('a backend whose own address is a service holds that as any host does', (t) => {
  const mac = '02:be:00:00:00:01'
  const vips = new Set(['198.51.100.1'])
  const neighbours = [{ ifindex: 2, address: '198.51.100.1', mac }]
  t.deepEqual(sharedMacs(facts({ backends: [backend(1, mac)], vips, neighbours })), [])
})

test("a backend with the MAC of any of this host's interfaces is told; loopback's zeros are nobody's", (t) => {
  t.deepEqual(sharedMacs(facts({ backends: [backend(1, ETH1.mac)] })), [
    { kind: 'own', mac: ETH1.mac, interface: 'eth0', addresses: ['198.51.100.1'], own: ['eth1'] },
  ])
  t.deepEqual(sharedMacs(facts({ backends: [backend(1, LO.mac)] })), [])
})

test('what is worst comes first, and the order does not depend on that of the facts', (t) => {
  const backends = [
    backend(5, '02:be:00:00:00:05'),
    backend(6, '02:be:00:00:00:05'),
    backend(1, '02:be:00:00:00:01'),
    backend(2, ETH0.mac),
    backend(3, '02:aa:00:00:00:01'),
    backend(4, '02:aa:00:00:00:01'),
  ]
  const neighbours = [{ ifindex: 2, address: VIP, mac: '02:be:00:00:00:01' }]
  const kinds = (from: typeof backends) =>
    sharedMacs(facts({ backends: from, neighbours })).map(({ kind, addresses }) => `${kind} ${addresses[0]}`)
  const want = ['own 198.51.100.2', 'vip 198.51.100.1', 'backends 198.51.100.3', 'backends 198.51.100.5']
  t.deepEqual(kinds(backends), want)
  t.deepEqual(kinds([...backends].reverse()), want)
})

test('an operator is told who, what follows, and what to do; of many the first four', (t) => {
  const mac = '02:be:00:00:00:01'
  const words = (more: Partial<MacFacts>) => sharedMacs(facts(more)).map(explainSharedMac)
  const [many] = words({ backends: [1, 2, 3, 4, 5, 6].map((last) => backend(last, mac)) })
  t.is(
    many?.what,
    'backends 198.51.100.1, 198.51.100.2, 198.51.100.3, 198.51.100.4 and 2 more have the same MAC 02:be:00:00:00:01 on eth0: packets for any of them go to one machine',
  )
  const [vip] = words({ backends: [backend(1, mac)], neighbours: [{ ifindex: 2, address: VIP, mac }] })
  t.regex(vip?.what ?? '', /^backend 198\.51\.100\.1: .* answers for the VIP 192\.0\.2\.10 on eth0/)
  t.regex(vip?.mend ?? '', /arp_ignore=1/)
  const [own] = words({ backends: [backend(1, ETH1.mac)] })
  t.regex(own?.what ?? '', /own eth1, so that packets for it would come back here/)
  t.regex(own?.mend ?? '', /ip link set dev eth1 address/)
})
