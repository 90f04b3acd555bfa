// SPDX-License-Identifier: Apache-2.0
// Which interface, and which VLAN, a backend is found in: by the route to it. The kernel is a table here, since a test machine's
// may know no VLAN devices.
import test from 'ava'
import type { Path } from '../../src/core/desired.ts'
import { Refusal } from '../../src/core/refusal.ts'
import type { Interface, Native, Neighbour } from '../../src/dataplane/native.ts'
import { type Allot, Neighbours } from '../../src/shell/neighbours.ts'
import type { Reached } from '../../src/shell/segments.ts'

const link = (ifindex: number, name: string, more: Partial<Interface> = {}): Interface => ({
  ifindex,
  name,
  mac: `02:00:00:00:00:0${ifindex}`,
  mtu: 1500,
  kind: '',
  vlan: 0,
  vlanOfProvider: false,
  up: true,
  loopback: false,
  promiscuous: false,
  master: 0,
  link: 0,
  linkNetnsId: -1,
  rxQueues: 1,
  txQueues: 1,
  xdpMode: 'none',
  xdpProgramId: 0,
  ...more,
})
const vlan = (ifindex: number, name: string, parent: number, id: number, more: Partial<Interface> = {}): Interface =>
  link(ifindex, name, { kind: 'vlan', link: parent, vlan: id, ...more })

const ETH0 = link(1, 'eth0')
const ETH1 = link(2, 'eth1')
const VLAN100 = vlan(3, 'eth0.100', 1, 100)
const VLAN200 = vlan(4, 'eth1.200', 2, 200)
const PROVIDER = vlan(5, 'eth0.10', 1, 10, { vlanOfProvider: true })
const WITHIN = vlan(6, 'eth0.100.7', 3, 7)
const ELSEWHERE = vlan(7, 'far.9', 1, 9, { linkNetnsId: 0 })
const ALL = [ETH0, ETH1, VLAN100, VLAN200, PROVIDER, WITHIN, ELSEWHERE]

const BACKEND = '198.51.100.1'
const MAC = 0x010000be02n // 02:be:00:00:00:01 has its first octet lowest
const neighbour = (ifindex: number, more: Partial<Neighbour> = {}): Neighbour => ({
  ifindex,
  address: BACKEND,
  mac: '02:be:00:00:01:00',
  state: 2,
  managed: true,
  ...more,
})

/** A kernel whose route to the backend leads out of one interface; eth0 has slot 0, all others have none. */
const kernel = (route: number, neighbours: readonly Neighbour[] = [neighbour(route)]) => {
  const managed: number[] = []
  const allotted: string[] = []
  const netlink = {
    interfaces: () => ALL,
    interfaceByIndex: (ifindex: number) => ALL.find((each) => each.ifindex === ifindex),
    neighbours: (family: number) => (family === 2 ? neighbours : []),
    route: () => ({ type: 'unicast', ifindex: route, gateway: '', source: '' }),
    manageNeighbour: (ifindex: number) => void managed.push(ifindex),
  }
  const native = { netlink } as unknown as Native
  const reached: Reached[] = [{ slot: 0, ifindex: 1, name: 'eth0' }]
  const allot: Allot = (_, { ifindex, name }) => {
    allotted.push(name)
    return { slot: 5, ifindex, name }
  }
  return { of: new Neighbours(native, reached), allot, managed, allotted }
}

const resolved = (route: number) => {
  const { of, allot, allotted } = kernel(route)
  return { path: of.resolve([BACKEND], allot).get(BACKEND), allotted }
}
const path = (interfaceSlot: number, id?: number): Path => ({
  kind: 'link',
  mac: MAC,
  interfaceSlot,
  ...(id === undefined ? {} : { vlan: id }),
})

test('a backend on an attached interface is there, untagged', (t) => {
  t.deepEqual(resolved(1), { path: path(0), allotted: [] })
})

test('a backend behind a VLAN device is on its parent, with its tag', (t) => {
  t.deepEqual(resolved(3), { path: path(0, 100), allotted: [] })
})

test('an interface that has no slot gets one, and its VLAN devices go by that too', (t) => {
  t.deepEqual(resolved(2), { path: path(5), allotted: ['eth1'] })
  t.deepEqual(resolved(4), { path: path(5, 200), allotted: ['eth1'] })
})

test('a slot is given to an interface once, whoever is behind it', (t) => {
  const { of, allot, allotted } = kernel(4)
  of.resolve([BACKEND], allot)
  of.resolve([BACKEND], allot)
  t.deepEqual(allotted, ['eth1'])
})

test('a tag that xlb does not write, and a parent elsewhere, are refused by name', (t) => {
  for (const [route, says] of [
    [5, /eth0\.10, a VLAN of the provider's kind, 802\.1ad: xlb writes one tag/],
    [6, /eth0\.100\.7, a VLAN within eth0\.100: xlb writes one tag/],
    [7, /far\.9, whose parent is in another network namespace/],
  ] as const) {
    t.throws(() => resolved(route), { instanceOf: Refusal, message: says })
  }
})

test('a path is followed in its own segment', (t) => {
  const stranger = neighbour(1, { mac: '02:be:00:00:00:99', managed: false })
  const { of } = kernel(3, [neighbour(3), stranger])
  t.deepEqual(of.refreshed(BACKEND, { kind: 'link', mac: 1n, interfaceSlot: 0, vlan: 100 }), path(0, 100))
  const gone = kernel(3, [stranger])
  const before: Path = { kind: 'link', mac: 1n, interfaceSlot: 0, vlan: 100 }
  t.is(gone.of.refreshed(BACKEND, before), before, 'the same address in another segment may be another host')
})

test('a path with a tag that no device here has is followed where xlb has looked for the backend', (t) => {
  const { of } = kernel(1, [neighbour(1)])
  t.deepEqual(of.refreshed(BACKEND, { kind: 'link', mac: 1n, interfaceSlot: 0, vlan: 77 }), path(0))
})
