// SPDX-License-Identifier: Apache-2.0
// How one packet finds its service: bpf/directory.h, for the controller. reader.ts reads the same tables as a whole.

import { type Protocol, swap16, swap32 } from '../core/address.ts'
import { address6, familyOf, parseIpv4 } from '../core/ip.ts'
import { foldAddress6 } from './directory.ts'
import {
  Address6,
  Directory,
  Handle,
  Live,
  Root,
  Run,
  ServiceKey,
  Target,
  TargetBucket,
  TargetFlag,
  Vip6Limit,
} from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { liveVips, serviceKey, type TargetTable, viewOf } from './reader.ts'

/** What the directory says of an address and a port. */
export interface Found {
  isVip: boolean
  /** Undefined: no service is at this port. */
  target: Target | undefined
}

const shifted = (product: bigint, shift: bigint | number): number =>
  Number(BigInt.asUintN(64, product) >> BigInt(shift))

interface Placed {
  at: number
  table: TargetTable
  target: Target
}

const bucketOf = (memory: PlaneMemory, table: TargetTable, bucket: number): Placed[] => {
  const view = viewOf(memory, table)
  const placed: Placed[] = []
  for (let at = bucket * TargetBucket.size; at < (bucket + 1) * TargetBucket.size; at += Target.size) {
    placed.push({ at, table, target: Target.read(view, at) })
  }
  return placed
}

const PORT_MASK = 0xffffn << BigInt(ServiceKey.KEY_PORT_SHIFT)

/** The range of a run that a port lies in: no two have a port in common. */
const inRun = (memory: PlaneMemory, { table, at }: Placed, port: number): Target | undefined => {
  const run = Run.read(viewOf(memory, table), at)
  const ranges = viewOf(memory, 'range_targets')
  for (let i = 0; i < Number(run.count); i++) {
    const range = Target.read(ranges, (run.first + i) * Target.size)
    const first = swap16(Number((range.key >> BigInt(ServiceKey.KEY_PORT_SHIFT)) & 0xffffn))
    if (first <= port && port <= range.lastPort) return range
  }
  return undefined
}

/** What a packet is for. */
export interface Wanted {
  protocol: Protocol
  vip: string
  port: number
}

/** find_vip6: the number by which the directory knows an IPv6 VIP; undefined: the address is none. */
const findVip6 = (memory: PlaneMemory, live: 0 | 1, vip: string): number | undefined => {
  const root = viewOf(memory, 'root')
  const { vip6: word } = Directory.read(root, Root.offset.directory + live * Directory.size)
  const wanted = address6(vip)
  const { base } = liveVips(memory, word)
  const bucket = base + shifted(foldAddress6(wanted) * word, word & BigInt(Live.LIVE_SHIFT_MASK))
  const view = viewOf(memory, 'vip6_buckets')
  for (let i = 0; i < Vip6Limit.VIP6_PER_BUCKET; i++) {
    const place = bucket * Vip6Limit.VIP6_PER_BUCKET + i
    const { high, low } = Address6.read(view, place * Address6.size)
    if (high === wanted.high && low === wanted.low) return swap32((place + 1) << Handle.HANDLE_SHIFT)
  }
  return undefined
}

/** What a packet finds in the directory that is live: the service of its port, or of a range, or of every port. */
export const findTarget = (memory: PlaneMemory, wanted: Wanted): Found => {
  const root = viewOf(memory, 'root')
  const word = root.getBigUint64(Root.offset.live, true)
  const { live, base } = liveVips(memory, word)
  const family = familyOf(wanted.vip)
  const number = family === 'ipv4' ? parseIpv4(wanted.vip) : findVip6(memory, live, wanted.vip)
  if (number === undefined) return { isVip: false, target: undefined }
  const key = serviceKey({ ...wanted, family }, number)
  const address = BigInt.asUintN(32, key)
  const vipBucket = base + shifted(address * word, word & BigInt(Live.LIVE_SHIFT_MASK))
  const inVipBucket = bucketOf(memory, 'vip_buckets', vipBucket)
  const vip = inVipBucket.find(({ target }) => BigInt.asUintN(32, target.key) === address)?.target
  // 0.0.0.0 is the address of a free place too.
  if (vip === undefined || vip.key === 0n) return { isVip: false, target: undefined }

  const find = (wanted: bigint): Placed | undefined => {
    const first = inVipBucket.find(({ target }) => target.key === wanted)
    if (first !== undefined || (vip.flags & TargetFlag.TARGET_MORE) === 0) return first
    const further = Directory.read(root, Root.offset.directory + live * Directory.size)
    const bucket = further.serviceBase + shifted(wanted * further.serviceMultiplier, further.serviceShift)
    return bucketOf(memory, 'service_buckets', bucket).find(({ target }) => target.key === wanted)
  }
  const everyPort = key & ~PORT_MASK
  const run = find(everyPort | (1n << BigInt(ServiceKey.KEY_RUN_SHIFT)))
  const port = swap16(Number((key & PORT_MASK) >> BigInt(ServiceKey.KEY_PORT_SHIFT)))
  const target =
    find(key)?.target ?? (run === undefined ? undefined : inRun(memory, run, port)) ?? find(everyPort)?.target
  return { isVip: true, target }
}
