// SPDX-License-Identifier: Apache-2.0
// What verbs write beside a commit, edited by somebody else: put back as the verbs left it.
import test from 'ava'
import { configOfValues } from '../../src/config/read.ts'
import type { DesiredState } from '../../src/core/desired.ts'
import { plan } from '../../src/core/plan.ts'
import { drainBackend } from '../../src/core/verbs.ts'
import { Guard } from '../../src/dataplane/guard.ts'
import { Interface, InterfaceRole, Root, ServiceFlag, Settings } from '../../src/dataplane/layout.gen.ts'
import { egressKey, egressValue, MAPPED, type MappedName, type PlaneMemory } from '../../src/dataplane/memory.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { readTimeouts, writeTimeouts } from '../../src/dataplane/timeouts.ts'
import { viewOf } from '../../src/dataplane/views.ts'
import { applyChanges } from '../../src/dataplane/writer.ts'
import { writeInterface } from '../../src/shell/interfaces.ts'
import type { Extent } from './directory.ts'
import { reachableExtents } from './extents.ts'
import { apply, makePlane, photograph } from './plane.ts'

const SLOT = 3
const IFINDEX = 17

const guarded = () => {
  const { memory } = makePlane()
  writeInterface(memory, SLOT, { mac: 2n, ifindex: IFINDEX, generic: 0, name: 'eth0' })
  return { memory, guard: new Guard(memory, readLive(memory)) }
}

const leadsTo = (memory: PlaneMemory, slot = SLOT): number | undefined =>
  memory.kernelMap('egress').lookup(egressKey(slot))?.readUInt32LE()

test('an edited timeout is put back, and told with the map', (t) => {
  const { memory, guard } = guarded()
  const before = readTimeouts(memory)
  writeTimeouts(memory, { established: 1 })
  viewOf(memory, 'settings').setBigUint64(Settings.offset.flowSeed, 1n, true)
  t.deepEqual(guard.undoPart(0, 3), [{ subject: 'settings', map: 'settings', octets: 16 }])
  t.deepEqual(readTimeouts(memory), before)
  t.is(viewOf(memory, 'settings').getBigUint64(Settings.offset.flowSeed, true), 7n)
  t.deepEqual(guard.undoPart(1, 3), [])
})

test('what a verb makes of timeouts and interfaces stays; what was edited before it does not', (t) => {
  const { memory, guard } = guarded()
  const before = readTimeouts(memory)
  writeTimeouts(memory, { udp: 1 })
  t.is(guard.undoUncommitted().length, 1)
  writeTimeouts(memory, { established: 50 })
  writeInterface(memory, SLOT + 1, { mac: 4n, ifindex: 18, generic: 1, name: 'eth1' })
  guard.takeUncommitted()
  t.deepEqual(guard.undoPart(0, 3), [])
  t.deepEqual(readTimeouts(memory), { ...before, established: 50 })
  t.is(leadsTo(memory, SLOT + 1), 18)
})

test('a slot’s device is made what its record says again: led elsewhere, taken out, or put where no interface is', (t) => {
  const { memory, guard } = guarded()
  const egress = memory.kernelMap('egress')
  for (const edit of [
    () => egress.update(egressKey(SLOT), egressValue(1)),
    () => void egress.delete(egressKey(SLOT)),
    () => egress.update(egressKey(SLOT + 1), egressValue(IFINDEX)),
  ]) {
    edit()
    t.deepEqual(guard.undoPart(2, 3), [{ subject: 'interfaces', map: 'egress', octets: 4 }])
    t.deepEqual([leadsTo(memory), leadsTo(memory, SLOT + 1)], [IFINDEX, undefined])
    t.deepEqual(guard.undoPart(0, 3), [])
  }
})

test('records of interfaces are put back before the devices that they name', (t) => {
  const { memory, guard } = guarded()
  const at = Root.offset.interface + SLOT * Interface.size
  viewOf(memory, 'root').setUint32(at + Interface.offset.ifindex, 1, true)
  viewOf(memory, 'root').setUint8(at + Interface.offset.role, InterfaceRole.INTERFACE_EGRESS)
  memory.kernelMap('egress').update(egressKey(SLOT), egressValue(1))
  t.deepEqual(
    guard.undoPart(0, 3).map(({ map }) => map),
    ['root', 'egress'],
  )
  t.is(leadsTo(memory), IFINDEX)
})

test('a device that is gone is no edit, however often it is looked for', (t) => {
  const { memory, guard } = guarded()
  const egress = memory.kernelMap('egress')
  egress.delete(egressKey(SLOT))
  const refusal = Object.assign(new Error('EINVAL: bpf_map_update_elem'), { code: 'EINVAL' })
  egress.update = () => {
    throw refusal
  }
  t.deepEqual(guard.undoPart(0, 3), [])
  t.is(leadsTo(memory), undefined)
  refusal.code = 'EPERM'
  t.throws(() => guard.undoPart(0, 3), { is: refusal }, 'any other refusal is a fault')
})

const backends = (first: number, more: object = {}) =>
  [0, 1, 2].map((i) => ({ address: `192.0.2.${first + i}`, weight: 1 + i, ...more }))
const backends6 = ['2001:db8:1::21', '2001:db8:1::22'].map((address) => ({ address }))

/** Services of whatever kind has something of its own in the maps. */
const EVERY_KIND = {
  filter: { default: 'allow', deny: ['203.0.113.0/24', '2001:db8:bad::/48'] },
  services: [
    { service: 'tcp://198.51.100.1:80', scheduler: 'mh', backends: backends(21) },
    { service: 'udp://198.51.100.1:53', scheduler: 'rr', backends: backends(21) },
    { service: 'tcp://198.51.100.2:8000-8099', scheduler: 'lc', backends: backends(31, { 'max-conns': '10:5' }) },
    { service: 'tcp://198.51.100.2:*', scheduler: 'wrr', persist: '5m', backends: backends(41) },
    { service: 'tcp://198.51.101.0/24:443', scheduler: 'lblcr', backends: backends(51) },
    { service: 'tcp://[2001:db8::10]:80', scheduler: 'wlc', backends: backends6 },
    { service: 'tcp://[2001:db8:5::/64]:80', scheduler: 'dh', backends: backends6 },
    {
      service: 'tcp://198.51.100.3:80',
      filter: { default: 'deny', allow: ['203.0.113.0/25', '2001:db8:a::/48'] },
      'source-rate': { rate: 5 },
      backends: backends(61),
    },
  ],
}

const wantedOf = (value: unknown): DesiredState => {
  const { desired } = configOfValues([{ file: 'every-kind', value }])
  return new Map(
    [...desired(new Map(), () => 5n)].map(([name, service]) => [
      name,
      {
        ...service,
        backends: service.backends.map((backend, i) => ({
          ...backend,
          path: { kind: 'link', mac: BigInt(2 + 2 * i), interfaceSlot: SLOT },
        })),
      },
    ]),
  )
}

/** Octets at the beginning, in the middle and at the end of each part. */
const placesOf = ({ start, end }: Extent): number[] => [start, (start + end) >> 1, end - 1]

/** Of a table of two directories, that of the live one. */
const halfOf = (memory: PlaneMemory, map: MappedName): Extent[] => {
  const half = memory.size(map) / 2
  const start = readLive(memory).live * half
  return [{ map, start, end: start + half, owner: 'directory' }]
}

/** What packets write, and nobody knows otherwise. */
const WRITTEN_BY_PACKETS: readonly MappedName[] = [
  'source_rates',
  'connections',
  'flows',
  'flows6',
  'prefix_flows6',
  'fragments',
  'clients',
  'destinations',
  'cursors',
  'flow_changes',
  'cpus',
  'counters',
]

/** Beside what extents.ts names: where entries of flows lead to, and limits. Words of `root` that no packet goes by are nobody's. */
const guardedExtents = (memory: PlaneMemory): Extent[] => [
  ...reachableExtents(memory).filter(({ map, owner }) => map !== 'cursors' && owner !== 'root'),
  { map: 'root', start: Root.offset.live, end: Root.offset.live + 8, owner: 'live' },
  ...halfOf(memory, 'vip6_buckets'),
  ...[...readLive(memory).services.values()].flatMap(({ name, service: { id, backendBase, backendCount } }) => {
    const extent = (map: MappedName, first: number, count: number): Extent => ({
      map,
      start: first * MAPPED[map],
      end: (first + count) * MAPPED[map],
      owner: name,
    })
    return [extent('backend_runs', id, 1), extent('connection_limits', backendBase, backendCount)]
  }),
]

test('whatever packets and readers go by is put back wherever an octet of it was edited, in every map', (t) => {
  const plane = makePlane()
  const { memory, nowMs, random } = plane
  writeInterface(memory, SLOT, { mac: 2n, ifindex: IFINDEX, generic: 0, name: 'eth0' })
  apply(plane, wantedOf(EVERY_KIND))
  // A ring that changes has the one before beside it.
  apply(plane, (state) => {
    const web = state.get('tcp://198.51.100.1:80')
    return web === undefined ? state : drainBackend(state, web, { address: '192.0.2.21', port: 80 })
  })
  const before = readLive(memory)
  const { filter } = configOfValues([{ file: 'every-kind', value: EVERY_KIND }])
  const globals = { filter, newFlows: 1000 }
  applyChanges(memory, before, plan(before.desired, before.desired), { nowMs, random, globals })

  const live = readLive(memory)
  t.true([...live.services.values()].some(({ service }) => (service.flags & ServiceFlag.SERVICE_MARKED) !== 0))
  const guard = new Guard(memory, live)
  const whole = photograph(memory)
  const extents = guardedExtents(memory)
  for (const extent of extents) {
    for (const at of placesOf(extent)) {
      const octets = new Uint8Array(memory.buffer(extent.map))
      octets[at] = (octets[at] ?? 0) ^ 0xff
      const edits = [0, 1, 2].flatMap((part) => guard.undoPart(part, 3))
      const where = `${extent.map} of ${extent.owner} at ${at}`
      t.true(
        edits.some(({ map }) => map === extent.map),
        where,
      )
      if (octets[at] !== whole.get(extent.map)?.[at]) t.fail(where)
    }
  }
  t.deepEqual(photograph(memory), whole)
  const others = Object.keys(MAPPED).filter((map) => !extents.some((extent) => extent.map === map))
  t.deepEqual(new Set(others), new Set(WRITTEN_BY_PACKETS))
})
