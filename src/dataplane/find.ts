// SPDX-License-Identifier: Apache-2.0
// How one packet finds its service: bpf/directory.h, for the controller. reader.ts reads the same tables as a whole.
import { Directory, Live, Root, Target, TargetBucket, TargetFlag } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { liveVips, type TargetTable, viewOf } from './reader.ts'

/** What the directory says of an address and a port. */
export interface Found {
  isVip: boolean
  /** Undefined: no service is at this port. */
  target: Target | undefined
}

const shifted = (product: bigint, shift: bigint | number): number =>
  Number(BigInt.asUintN(64, product) >> BigInt(shift))

function* targetsOf(memory: PlaneMemory, table: TargetTable, bucket: number): Generator<Target> {
  const view = viewOf(memory, table)
  for (let at = bucket * TargetBucket.size; at < (bucket + 1) * TargetBucket.size; at += Target.size) {
    yield Target.read(view, at)
  }
}

/**
 * What a packet finds in the directory that is live.
 *
 * @param key struct target's: address and port in network order as a little-endian machine loads them, and the protocol
 */
export const findTarget = (memory: PlaneMemory, key: bigint): Found => {
  const root = viewOf(memory, 'root')
  const word = root.getBigUint64(Root.offset.live, true)
  const { live, base } = liveVips(memory, word)
  const address = BigInt.asUintN(32, key)
  const vipBucket = base + shifted(address * word, word & BigInt(Live.LIVE_SHIFT_MASK))
  const inVipBucket = [...targetsOf(memory, 'vip_buckets', vipBucket)]
  const target = inVipBucket.find((each) => each.key === key)
  if (target !== undefined) return { isVip: true, target }

  const vip = inVipBucket.find((each) => BigInt.asUintN(32, each.key) === address)
  // 0.0.0.0 is the address of a free place too.
  if (vip === undefined || vip.key === 0n) return { isVip: false, target: undefined }
  if ((vip.flags & TargetFlag.TARGET_MORE) === 0) return { isVip: true, target: undefined }
  const further = Directory.read(root, Root.offset.directory + live * Directory.size)
  const bucket = further.serviceBase + shifted(key * further.serviceMultiplier, further.serviceShift)
  const found = [...targetsOf(memory, 'service_buckets', bucket)].find((each) => each.key === key)
  return { isVip: true, target: found }
}
