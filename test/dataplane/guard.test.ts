// SPDX-License-Identifier: Apache-2.0
// What verbs write beside a commit, edited by somebody else: put back as the verbs left it.
import test from 'ava'
import { Guard } from '../../src/dataplane/guard.ts'
import { Interface, InterfaceRole, Root, Settings } from '../../src/dataplane/layout.gen.ts'
import { egressKey, egressValue, type PlaneMemory } from '../../src/dataplane/memory.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { readTimeouts, writeTimeouts } from '../../src/dataplane/timeouts.ts'
import { viewOf } from '../../src/dataplane/views.ts'
import { writeInterface } from '../../src/shell/interfaces.ts'
import { makePlane } from './plane.ts'

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
