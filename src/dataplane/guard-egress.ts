// SPDX-License-Identifier: Apache-2.0
// The device of each slot of root's interfaces, in the map that the kernel looks up in when a frame is redirected. It needs no copy: the
// records of the interfaces say what it shall be.
import { Interface, InterfaceLimit, Root } from './layout.gen.ts'
import { egressKey, egressValue, type PlaneMemory } from './memory.ts'
import { viewOf } from './views.ts'

const IFINDEX_SIZE = 4

/**
 * Makes each entry lead where its record says. One whose device is gone the kernel has taken out by itself, and takes no more: that is no
 * edit, and ends when the interface is there again.
 * @returns octets of entries that led elsewhere, or nowhere
 */
export const mendEgress = (memory: PlaneMemory): number => {
  const map = memory.kernelMap('egress')
  const root = viewOf(memory, 'root')
  let mended = 0
  for (let slot = 0; slot < InterfaceLimit.INTERFACES_MAX; slot++) {
    const at = Root.offset.interface + slot * Interface.size + Interface.offset.ifindex
    const wanted = root.getUint32(at, true)
    const now = map.lookup(egressKey(slot))?.readUInt32LE() ?? 0
    if (now === wanted) continue
    if (wanted === 0) map.delete(egressKey(slot))
    else if (!isTaken(() => map.update(egressKey(slot), egressValue(wanted)))) continue
    mended += IFINDEX_SIZE
  }
  return mended
}

/** The kernel knows no such device (any more). */
const isTaken = (update: () => void): boolean => {
  try {
    update()
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && ['EINVAL', 'ENODEV'].includes(String(error.code))) return false
    throw error
  }
}
