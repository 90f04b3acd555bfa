// SPDX-License-Identifier: Apache-2.0
// How one packet finds its service: bpf/directory.h, for the controller. reader.ts reads the same tables as a whole.

import { type Protocol, swap16, swap32 } from '../core/address.ts'
import { address6, familyOf, parseIpv4 } from '../core/ip.ts'
import { formatVip, formatVip6, prefixesOf, prefixesOf6 } from '../core/prefix.ts'
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
import { liveVips, type TargetTable } from './live-directory.ts'
import type { PlaneMemory } from './memory.ts'
import { KEY_VIP_MASK, serviceKey, type VipKind } from './service-key.ts'
import { viewOf } from './views.ts'

/** What the directory says of an address and a port. */
export interface Found {
  /** The address is a VIP, or in a prefix that has services. */
  isVip: boolean
  /** The prefix that decides: the longest that holds the address. */
  prefix?: string
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

/** find_vip6: the number by which the directory knows an IPv6 address that stands there; undefined: it does not. */
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

/** A VIP, or a prefix in its place, as the directory has it. */
interface Vip {
  kind: VipKind
  number: number
}

/** What leads to the services of a VIP, from root.live as it was read once. */
class VipLook {
  readonly #memory: PlaneMemory
  readonly #word: bigint
  readonly #vip: Vip
  readonly #inBucket: Placed[]

  constructor(memory: PlaneMemory, word: bigint, vip: Vip) {
    this.#memory = memory
    this.#word = word
    this.#vip = vip
    const product = BigInt(swap32(vip.number)) * word
    const bucket = liveVips(memory, word).base + shifted(product, word & BigInt(Live.LIVE_SHIFT_MASK))
    this.#inBucket = bucketOf(memory, 'vip_buckets', bucket)
  }

  /** The first target of it. */
  get first(): Target | undefined {
    const vip = serviceKey({ protocol: 'tcp', port: 0, kind: this.#vip.kind }, this.#vip.number) & KEY_VIP_MASK
    const target = this.#inBucket.find(({ target: { key } }) => (key & KEY_VIP_MASK) === vip)?.target
    // 0.0.0.0 is the address of a free place too.
    return target?.key === 0n ? undefined : target
  }

  /** The service of a port, or of a range, or of every port. */
  target(wanted: Pick<Wanted, 'protocol' | 'port'>): Target | undefined {
    const key = serviceKey({ ...wanted, kind: this.#vip.kind }, this.#vip.number)
    const everyPort = key & ~PORT_MASK
    const run = this.#find(everyPort | (1n << BigInt(ServiceKey.KEY_RUN_SHIFT)))
    const ofRange = run === undefined ? undefined : inRun(this.#memory, run, wanted.port)
    return this.#find(key)?.target ?? ofRange ?? this.#find(everyPort)?.target
  }

  #find(wanted: bigint): Placed | undefined {
    const first = this.#inBucket.find(({ target }) => target.key === wanted)
    if (first !== undefined || ((this.first?.flags ?? 0) & TargetFlag.TARGET_MORE) === 0) return first
    const further = directoryOf(this.#memory, this.#word)
    const bucket = further.serviceBase + shifted(wanted * further.serviceMultiplier, further.serviceShift)
    return bucketOf(this.#memory, 'service_buckets', bucket).find(({ target }) => target.key === wanted)
  }
}

const directoryOf = (memory: PlaneMemory, word: bigint): Directory =>
  Directory.read(viewOf(memory, 'root'), Root.offset.directory + liveVips(memory, word).live * Directory.size)

/** A prefix that was found, and what it is called. */
interface FoundPrefix extends Vip {
  prefix: string
}

/** find_prefix: the longest prefix that holds an address. */
const findPrefix = (memory: PlaneMemory, word: bigint, address: number): FoundPrefix | undefined => {
  for (const number of prefixesOf(address, directoryOf(memory, word).prefixes)) {
    const vip = { kind: 'prefix', number, prefix: formatVip({ word: number, isPrefix: true }) } as const
    if (new VipLook(memory, word, vip).first !== undefined) return vip
  }
  return undefined
}

/** find_prefix6. */
const findPrefix6 = (memory: PlaneMemory, word: bigint, address: string): FoundPrefix | undefined => {
  for (const standing of prefixesOf6(address, directoryOf(memory, word))) {
    const number = findVip6(memory, liveVips(memory, word).live, standing)
    if (number === undefined) continue
    const vip = { kind: 'prefix6', number, prefix: formatVip6(standing, true) } as const
    if (new VipLook(memory, word, vip).first !== undefined) return vip
  }
  return undefined
}

/**
 * What a packet finds in the directory that is live: the service of its port, or of a range, or of every port; of its
 * destination, or else of the longest prefix that holds it.
 */
export const findTarget = (memory: PlaneMemory, wanted: Wanted): Found => {
  const word = viewOf(memory, 'root').getBigUint64(Root.offset.live, true)
  const family = familyOf(wanted.vip)
  const number = family === 'ipv4' ? parseIpv4(wanted.vip) : findVip6(memory, liveVips(memory, word).live, wanted.vip)
  const own = number === undefined ? undefined : new VipLook(memory, word, { kind: family, number })
  if (own?.first !== undefined) return { isVip: true, target: own.target(wanted) }
  const prefix = family === 'ipv4' ? findPrefix(memory, word, number ?? 0) : findPrefix6(memory, word, wanted.vip)
  if (prefix === undefined) return { isVip: false, target: undefined }
  return { isVip: true, prefix: prefix.prefix, target: new VipLook(memory, word, prefix).target(wanted) }
}
