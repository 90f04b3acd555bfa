// SPDX-License-Identifier: Apache-2.0
// Lays out the directory that packets do not use (struct directory in bpf/xlb.h): the tables of buckets, and the runs of ranges.
// IPv6 VIPs and prefixes come first: where they stand in their table gives each the number by which the others know it. One store of
// what writeDirectory answers then makes it the one that they use.
import { isEveryPort, isRange, type Protocol, swap32 } from '../core/address.ts'
import { planDirectory, planWords } from '../core/directory.ts'
import { type Address6, address6, familyOf, writeAddress } from '../core/ip.ts'
import { prefixLengths, vipNumber6, vipWord } from '../core/prefix.ts'
import {
  Address6 as Address6Words,
  BucketLimit,
  Directory,
  Handle,
  Live,
  Root,
  Run,
  ServiceKey,
  Target,
  TargetBucket,
  TargetFlag,
  Vip6Bucket,
  Vip6Limit,
} from './layout.gen.ts'
import { bucketsPerDirectory, type TargetTable } from './live-directory.ts'
import type { PlaneMemory } from './memory.ts'
import type { LiveState } from './reader.ts'
import { KEY_VIP_MASK, serviceKey, vipKind } from './service-key.ts'
import { viewOf } from './views.ts'

/** A service, as a directory leads to it. */
export interface Entry {
  protocol: Protocol
  vip: string
  /** The first one; 0: every port. */
  port: number
  lastPort: number
  record: number
  seed: bigint
  mask: bigint
}

/** With its key. */
interface KeyedEntry extends Omit<Entry, 'vip'> {
  key: bigint
}

/** What stands in a bucket: a service of one port or of every port, or a run of ranges. */
interface Standing {
  key: bigint
  /** What its key has of its VIP. */
  vip: bigint
  /** TARGET_RANGES or TARGET_EVERY_PORT: what its VIP has by it. */
  gives: number
  write: (view: DataView, at: number, flags: number) => void
}

interface Placed {
  standing: Standing
  bucket: number
}

const PORT_MASK = 0xffffn << BigInt(ServiceKey.KEY_PORT_SHIFT)

const targetOf = ({ key, seed, mask, record, lastPort }: KeyedEntry, flags: number): Target => ({
  key,
  ringSeed: seed,
  hashMask: mask,
  service: record,
  flags,
  lastPort,
})

const single = (entry: KeyedEntry): Standing => ({
  key: entry.key,
  vip: entry.key & KEY_VIP_MASK,
  gives: isEveryPort(entry) ? TargetFlag.TARGET_EVERY_PORT : 0,
  write: (view, at, flags) => Target.write(view, at, targetOf(entry, flags)),
})

/** Writes the runs of ranges, from element `base` of range_targets on. @returns what leads to each */
const writeRuns = (memory: PlaneMemory, base: number, ranges: readonly KeyedEntry[]): Standing[] => {
  const view = viewOf(memory, 'range_targets')
  const runs = new Map<bigint, KeyedEntry[]>()
  for (const range of ranges) {
    const key = (range.key & ~PORT_MASK) | (1n << BigInt(ServiceKey.KEY_RUN_SHIFT))
    const others = runs.get(key)
    if (others === undefined) runs.set(key, [range])
    else others.push(range)
  }
  let next = base
  return [...runs].map(([key, entries]) => {
    const first = next
    for (const entry of entries.toSorted((a, b) => a.port - b.port)) {
      Target.write(view, next++ * Target.size, targetOf(entry, 0))
    }
    return {
      key,
      vip: key & KEY_VIP_MASK,
      gives: TargetFlag.TARGET_RANGES,
      write: (buckets, at, flags) => Run.write(buckets, at, { key, count: BigInt(entries.length), first, flags }),
    }
  })
}

/**
 * Who stands in its VIP's bucket, and who in the second table: each VIP has one target in the first at least, and further ones
 * while there is room.
 */
const shareOut = (standings: readonly Standing[], buckets: number, bucketOf: (vip: bigint) => number) => {
  const filled = new Uint8Array(buckets)
  const first: Placed[] = []
  const others: Standing[] = []
  const seen = new Set<bigint>()
  for (const standing of standings) {
    if (seen.has(standing.vip)) {
      others.push(standing)
      continue
    }
    seen.add(standing.vip)
    const bucket = bucketOf(standing.vip)
    filled[bucket] = (filled[bucket] ?? 0) + 1
    first.push({ standing, bucket })
  }
  const second: Standing[] = []
  for (const standing of others) {
    const bucket = bucketOf(standing.vip)
    const places = filled[bucket] ?? 0
    if (places < BucketLimit.TARGETS_PER_BUCKET) {
      filled[bucket] = places + 1
      first.push({ standing, bucket })
    } else second.push(standing)
  }
  return { first, second }
}

/** Writes one table: `placed` into buckets from `base` on, everything else free. */
const writeTable = (
  memory: PlaneMemory,
  table: TargetTable,
  base: number,
  buckets: number,
  placed: readonly Placed[],
  flagsOf: (vip: bigint) => number,
): void => {
  new Uint8Array(memory.buffer(table), base * TargetBucket.size, buckets * TargetBucket.size).fill(0)
  const view = viewOf(memory, table)
  const filled = new Uint8Array(buckets)
  for (const { standing, bucket } of placed) {
    const place = filled[bucket] ?? 0
    filled[bucket] = place + 1
    standing.write(view, (base + bucket) * TargetBucket.size + place * Target.size, flagsOf(standing.vip))
  }
}

/** enum target_flag, by VIP. */
const vipFlags = (spare: 0 | 1, standings: readonly Standing[], second: readonly Standing[]) => {
  const flags = new Map<bigint, number>()
  const add = (vip: bigint, flag: number) => flags.set(vip, (flags.get(vip) ?? 0) | flag)
  for (const { vip, gives } of standings) add(vip, gives | (spare === 1 ? TargetFlag.TARGET_DIRECTORY_1 : 0))
  for (const { vip } of second) add(vip, TargetFlag.TARGET_MORE)
  return (vip: bigint): number => flags.get(vip) ?? 0
}

/** fold_address6 of bpf/directory.h. */
export const foldAddress6 = ({ high, low }: Address6): bigint => BigInt.asUintN(64, low + high * 0xffffffff9e3779b1n)

/**
 * Writes the table of IPv6 VIPs of the directory that packets do not use.
 * @param vips as vipNumber6 has them, each once
 * @returns the word by which it is searched, and the number of each VIP
 */
const writeVips6 = (memory: PlaneMemory, spare: 0 | 1, vips: readonly string[], random: () => bigint) => {
  const capacity = bucketsPerDirectory(memory)
  const addresses = vips.map(address6)
  const plan = planWords(addresses.map(foldAddress6), Vip6Limit.VIP6_PER_BUCKET, capacity, (shift) =>
    liveWord(random(), { live: spare, half: capacity, shift }),
  )
  const base = spare * capacity
  const view = viewOf(memory, 'vip6_buckets')
  new Uint8Array(view.buffer, base * Vip6Bucket.size, plan.buckets * Vip6Bucket.size).fill(0)
  const filled = new Uint8Array(plan.buckets)
  const numbers = new Map<string, number>()
  for (const [i, vip] of vips.entries()) {
    const bucket = plan.bucketOf[i] ?? 0
    const within = filled[bucket] ?? 0
    filled[bucket] = within + 1
    const place = (base + bucket) * Vip6Limit.VIP6_PER_BUCKET + within
    writeAddress(view, place * Address6Words.size, vip)
    numbers.set(vip, swap32((place + 1) << Handle.HANDLE_SHIFT))
  }
  return { word: plan.multiplier, numbers }
}

/** Writes all tables of the directory that packets do not use. @returns the root.live that makes them live */
export const writeDirectory = (
  memory: PlaneMemory,
  live: LiveState,
  wanted: readonly Entry[],
  globals: Pick<Directory, 'filter' | 'newFlows'>,
  random: () => bigint,
): bigint => {
  const spare = live.live === 0 ? 1 : 0
  const capacity = bucketsPerDirectory(memory)
  const base = spare * capacity
  const perBucket = BucketLimit.TARGETS_PER_BUCKET

  const isIpv6 = (vip: string) => familyOf(vip) === 'ipv6'
  const vips6 = new Set(wanted.flatMap(({ vip }) => (isIpv6(vip) ? [vipNumber6(vip)] : [])))
  const handles = writeVips6(memory, spare, [...vips6], random)
  const numberOf = (vip: string) => (isIpv6(vip) ? handles.numbers.get(vipNumber6(vip)) : vipWord(vip).word) ?? 0
  const entries = wanted.map(
    (entry): KeyedEntry => ({
      ...entry,
      key: serviceKey({ ...entry, kind: vipKind(entry.vip) }, numberOf(entry.vip)),
    }),
  )

  const rangesBase = (spare * memory.buffer('range_targets').byteLength) / Target.size / 2
  const runs = writeRuns(memory, rangesBase, entries.filter(isRange))
  // Single ports first: they have the shortest way where they stand in their VIP's bucket.
  const singles = entries.filter((entry) => !isRange(entry)).map(single)
  const standings = [
    ...singles.filter(({ gives }) => gives === 0),
    ...singles.filter(({ gives }) => gives !== 0),
    ...runs,
  ]

  const vips = [...new Set(standings.map(({ vip }) => vip))]
  const lengths = prefixLengths(wanted.map(({ vip }) => vip))
  const hasPrefixes = Object.values(lengths).some(Boolean)
  const plan = planWords(
    vips.map((vip) => BigInt.asUintN(32, vip)),
    perBucket,
    capacity,
    (shift) => liveWord(random(), { live: spare, half: capacity, shift, prefixes: hasPrefixes }),
  )
  const bucketOfVip = new Map(vips.map((vip, i) => [vip, plan.bucketOf[i] ?? 0]))
  const { first, second } = shareOut(standings, plan.buckets, (vip) => bucketOfVip.get(vip) ?? 0)
  const flagsOf = vipFlags(spare, standings, second)
  writeTable(memory, 'vip_buckets', base, plan.buckets, first, flagsOf)

  const services = planDirectory(
    second.map(({ key }) => key),
    perBucket,
    capacity,
    random,
  )
  const placed = second.map((standing, i) => ({ standing, bucket: services.bucketOf[i] ?? 0 }))
  writeTable(memory, 'service_buckets', base, services.buckets, placed, () => 0)
  Directory.write(viewOf(memory, 'root'), Root.offset.directory + spare * Directory.size, {
    vip6: handles.word,
    serviceMultiplier: services.multiplier,
    serviceBase: base,
    serviceShift: services.shift,
    ...globals,
    ...lengths,
  })
  return plan.multiplier
}

interface LiveParts {
  live: 0 | 1
  half: number
  shift: number
  /** There are some. */
  prefixes?: boolean
}

/** root.live for a directory with `half` buckets of which VIPs use 2^(64 - shift). */
export const liveWord = (random: bigint, { live, half, shift, prefixes = false }: LiveParts): bigint => {
  const fixed = BigInt(half) | BigInt(Live.LIVE_SHIFT_MASK) | BigInt(Live.LIVE_PREFIXES)
  const flag = prefixes ? BigInt(Live.LIVE_PREFIXES) : 0n
  return (BigInt.asUintN(64, random) & ~fixed) | BigInt(live * half) | flag | BigInt(shift)
}
