// SPDX-License-Identifier: Apache-2.0
// The interfaces that an instance is attached to: records in `root`, links pinned by ifindex.
import { existsSync } from 'node:fs'
import { formatMac } from '../core/address.ts'
import { InterfaceLimit, Interface as InterfaceRecord, InterfaceRole, Root } from '../dataplane/layout.gen.ts'
import { egressKey, egressValue, type PlaneMemory } from '../dataplane/memory.ts'
import type { Interface, Native } from '../dataplane/native.ts'
import { viewOf } from '../dataplane/views.ts'
import { linkPin } from './instance.ts'
import { isOwnProgram } from './own-programs.ts'
import { hasCode } from './programs.ts'

/**
 * One record in use. `attached` is false where the interface is gone, the link was taken off from outside, or given another program.
 */
export interface AttachedInterface {
  slot: number
  name: string
  ifindex: number
  mac: string
  mode: 'native' | 'generic'
  /** Its program takes frames of several buffers. */
  multiBuffer: boolean
  attached: boolean
  /** Why it is not attached. */
  fault?: string
  /** Its link is there, and somebody has put the program of this id into it. */
  otherProgram?: number
}

/** The name of a program where this process may know it: that takes CAP_SYS_ADMIN. */
const programName = (native: Native, id: number): string => {
  try {
    const name = native.programInfo(id)?.name ?? ''
    return name === '' ? '' : `${name}, `
  } catch (error) {
    if (hasCode(error, 'EPERM')) return ''
    throw error
  }
}

const faultOf = (
  native: Native,
  pins: string,
  name: string,
  ifindex: number,
): Pick<AttachedInterface, 'fault' | 'otherProgram'> => {
  const link = native.openLink(linkPin(pins, ifindex))
  const { ifindex: linked, programId: id } = link.info
  link.close()
  if (linked === ifindex) {
    if (isOwnProgram(native, pins, ifindex, id)) return {}
    return { fault: `another program (${programName(native, id)}id ${id}) was put into its XDP link`, otherProgram: id }
  }
  const now = native.netlink.interfaces().find((each) => each.name === name)
  if (now === undefined) return { fault: `${name} was deleted` }
  return { fault: now.ifindex === ifindex ? 'its XDP link was detached' : `${name} was deleted and made again` }
}

/** Where a slot's record stands in `root`. */
const recordAt = (slot: number): number => Root.offset.interface + slot * InterfaceRecord.size

/** Slots with a record: most have none, and to read one makes an object of it, and a text. */
function* slotsInUse(root: DataView): Generator<number> {
  for (let slot = 0; slot < InterfaceLimit.INTERFACES_MAX; slot++) {
    if (root.getUint32(recordAt(slot) + InterfaceRecord.offset.ifindex, true) !== 0) yield slot
  }
}

/** Bits of a MAC's word below the MAC. */
const MAC_SHIFT = 16n

/** Every interface with a pinned link, in the order of slots. */
export const attachedInterfaces = (native: Native, pins: string, memory: PlaneMemory): AttachedInterface[] => {
  const view = viewOf(memory, 'root')
  const found: AttachedInterface[] = []
  for (const slot of slotsInUse(view)) {
    const record = InterfaceRecord.read(view, recordAt(slot))
    // Without a pinned link it is the rest of an attach that was killed, or of a detach.
    if (!existsSync(linkPin(pins, record.ifindex))) continue
    const faults = faultOf(native, pins, record.name, record.ifindex)
    found.push({
      slot,
      name: record.name,
      ifindex: record.ifindex,
      mac: formatMac(record.macHigh >> MAC_SHIFT),
      mode: record.generic === 1 ? 'generic' : 'native',
      multiBuffer: record.multiBuffer === 1,
      attached: faults.fault === undefined,
      ...faults,
    })
  }
  return found
}

/** An interface without a program, that leads to backends. */
export interface EgressInterface {
  slot: number
  name: string
  ifindex: number
  mac: string
  /** Why no frame leaves there. */
  fault?: string
}

const egressFaultOf = (now: readonly Interface[], name: string, ifindex: number): string | undefined => {
  const found = now.find((each) => each.name === name)
  if (found === undefined) return `${name} was deleted`
  return found.ifindex === ifindex ? undefined : `${name} was deleted and made again`
}

/** Every record of that role that is not an attached interface's, in the order of slots. */
export const egressInterfaces = (
  native: Native,
  memory: PlaneMemory,
  attached: readonly AttachedInterface[],
): EgressInterface[] => {
  const view = viewOf(memory, 'root')
  const slots = new Set(attached.map(({ slot }) => slot))
  const found: EgressInterface[] = []
  let now: Interface[] | undefined
  for (const slot of slotsInUse(view)) {
    const { ifindex, role, name, macHigh } = InterfaceRecord.read(view, recordAt(slot))
    if (role !== InterfaceRole.INTERFACE_EGRESS || slots.has(slot)) continue
    now ??= native.netlink.interfaces()
    const fault = egressFaultOf(now, name, ifindex)
    const mac = formatMac(macHigh >> MAC_SHIFT)
    found.push({ slot, name, ifindex, mac, ...(fault === undefined ? {} : { fault }) })
  }
  return found
}

/** An attached interface's slot leads to backends, and does so when its program is gone. */
export const keepAsEgress = (memory: PlaneMemory, slot: number): void => {
  const view = viewOf(memory, 'root')
  view.setUint8(recordAt(slot) + InterfaceRecord.offset.role, InterfaceRole.INTERFACE_EGRESS)
}

/** The lowest slot that none of these has; -1 where all are taken. */
export const freeSlot = (known: readonly { slot: number }[]): number => {
  const used = new Set(known.map(({ slot }) => slot))
  for (let slot = 0; slot < InterfaceLimit.INTERFACES_MAX; slot++) if (!used.has(slot)) return slot
  return -1
}

/** An interface as it is written down; `mac` is parseMac's. */
export interface WrittenInterface {
  mac: bigint
  ifindex: number
  generic: 0 | 1
  /** Attached, where it is left out. */
  role?: number
  multiBuffer?: 0 | 1
  name: string
}

/** Packets can be redirected to the interface from then on. @throws NativeError where the kernel knows no such interface */
export const writeInterface = (memory: PlaneMemory, slot: number, { mac, ...record }: WrittenInterface): void => {
  InterfaceRecord.write(viewOf(memory, 'root'), recordAt(slot), {
    role: InterfaceRole.INTERFACE_ATTACHED,
    multiBuffer: 0,
    ...record,
    macHigh: mac << MAC_SHIFT,
  })
  memory.kernelMap('egress').update(egressKey(slot), egressValue(record.ifindex))
}

export const clearInterface = (memory: PlaneMemory, slot: number): void => {
  memory.kernelMap('egress').delete(egressKey(slot))
  const nothing = { macHigh: 0n, ifindex: 0, generic: 0, role: 0, multiBuffer: 0, name: '' }
  InterfaceRecord.write(viewOf(memory, 'root'), recordAt(slot), nothing)
}

/** Notices that an attached interface has got another MAC: one store each. */
export const refreshInterfaceMacs = (
  memory: PlaneMemory,
  attached: readonly AttachedInterface[],
  now: readonly Interface[],
  parseMac: (text: string) => bigint,
): void => {
  const words = new BigUint64Array(memory.buffer('root'))
  for (const each of attached) {
    const mac = now.find(({ ifindex }) => ifindex === each.ifindex)?.mac
    if (each.attached && mac !== undefined && mac !== '' && mac !== each.mac) {
      Atomics.store(words, recordAt(each.slot) / 8, parseMac(mac) << MAC_SHIFT)
    }
  }
}
