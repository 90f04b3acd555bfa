// SPDX-License-Identifier: Apache-2.0
// The directory that packets use: where its tables lie, and every target in them. find.ts looks up one packet in it.
import { Directory, Live, Root, Run, Target, TargetBucket } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { type KeyHalves, RUN_BIT } from './service-key.ts'
import { viewOf } from './views.ts'

/** The tables in which a directory has targets (struct directory in bpf/xlb.h). */
export type TargetTable = 'vip_buckets' | 'service_buckets' | 'range_targets'

/** Where a target stands: in which table, and at which octet. */
export interface TargetPlace {
  table: TargetTable
  at: number
}

/** Buckets that a table of a directory uses, from its shift. */
export const bucketsOf = (shift: number): number => 2 ** (64 - shift)

/** Buckets of one directory's tables: half of a map. */
export const bucketsPerDirectory = (memory: Pick<PlaneMemory, 'buffer'>): number =>
  memory.buffer('vip_buckets').byteLength / TargetBucket.size / 2

/** root.live, taken apart: which directory it is, and where its VIPs lie. */
export const liveVips = (memory: PlaneMemory, word: bigint): { live: 0 | 1; base: number; buckets: number } => {
  const half = bucketsPerDirectory(memory)
  const live = (word & BigInt(half)) === 0n ? 0 : 1
  return { live, base: live * half, buckets: bucketsOf(Number(word & BigInt(Live.LIVE_SHIFT_MASK))) }
}

export interface FoundTarget {
  target: TargetPlace
  key: KeyHalves
  record: number
  lastPort: number
}

/** The targets of a run of ranges. @param at octet of its struct run */
function* runTargets(memory: PlaneMemory, view: DataView, at: number): Generator<FoundTarget> {
  const { first, count } = Run.read(view, at)
  const ranges = viewOf(memory, 'range_targets')
  for (let place = first; place < first + Number(count); place++) {
    yield foundTarget(ranges, 'range_targets', place * Target.size)
  }
}

const foundTarget = (view: DataView, table: TargetTable, at: number): FoundTarget => ({
  target: { table, at },
  key: {
    low: view.getUint32(at + Target.offset.key, true),
    high: view.getUint32(at + Target.offset.key + 4, true),
  },
  record: view.getUint32(at + Target.offset.service, true),
  lastPort: view.getUint16(at + Target.offset.lastPort, true),
})

/** Every target of the live directory, and the service record that it leads to. */
export function* liveTargets(
  memory: PlaneMemory,
  vips: { base: number; buckets: number },
  directory: Directory,
): Generator<FoundTarget> {
  const tables = [
    { table: 'vip_buckets', base: vips.base, buckets: vips.buckets },
    { table: 'service_buckets', base: directory.serviceBase, buckets: bucketsOf(directory.serviceShift) },
  ] as const
  for (const { table, base, buckets } of tables) {
    const view = viewOf(memory, table)
    const end = (base + buckets) * TargetBucket.size
    for (let at = base * TargetBucket.size; at < end; at += Target.size) {
      // A key has its protocol in the upper half, so that this word tells a free place.
      const high = view.getUint32(at + Target.offset.key + 4, true)
      if (high === 0) continue
      if ((high & RUN_BIT) !== 0) yield* runTargets(memory, view, at)
      else yield foundTarget(view, table, at)
    }
  }
}

/** The directory that packets use. */
export const liveDirectory = (memory: PlaneMemory): Directory => {
  const view = viewOf(memory, 'root')
  const { live } = liveVips(memory, view.getBigUint64(Root.offset.live, true))
  return Directory.read(view, Root.offset.directory + live * Directory.size)
}
