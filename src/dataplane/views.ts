// SPDX-License-Identifier: Apache-2.0
// Tables as views of memory.
import { RingLimit } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'

/** A view of a whole map. */
export const viewOf = (memory: Pick<PlaneMemory, 'buffer'>, name: Parameters<PlaneMemory['buffer']>[0]): DataView =>
  new DataView(memory.buffer(name))

/** Lines that `slots` slots take. */
export const linesFor = (slots: number): number => Math.ceil(slots / RingLimit.SLOTS_PER_LINE)

/** The slots of a run of ring lines, as they stand in the map: a view, not a copy. */
export const slotsAt = (memory: PlaneMemory, line: number, slots: number): Uint16Array => {
  if (slots === 0) return new Uint16Array(0)
  const { buffer, byteOffset } = memory.part('rings', line * RingLimit.SLOTS_PER_LINE * 2, slots * 2)
  return new Uint16Array(buffer, byteOffset, slots)
}
