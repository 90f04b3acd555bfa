// SPDX-License-Identifier: Apache-2.0
// How a packet finds its service, as bpf/directory.h does it: word for word, over DataView. Whoever changes the layout of the
// directory changes this file, and none else here.
import { formatService, type ServiceAddress, swap16, swap32 } from '../../src/core/address.ts'
import { parseIpv4 } from '../../src/core/ip.ts'
import { formatVip, vipWord } from '../../src/core/prefix.ts'
import {
  Directory,
  Live,
  Root,
  Run,
  RunLimit,
  Service,
  Target,
  TargetBucket,
  TargetFlag,
} from '../../src/dataplane/layout.gen.ts'
import type { MappedName, PlaneMemory } from '../../src/dataplane/memory.ts'

/** A service as packets come to it. */
export interface Reached {
  /** Index into `services`. */
  record: number
  service: Service
  /** Of the hash by which its ring is looked up. */
  seed: bigint
  /** Of the source: what is hashed. */
  mask: bigint
}

/** Octets `start` to `end` of a map. */
export interface Extent {
  map: MappedName
  start: number
  end: number
  owner: string
}

type Place = { table: 'vip_buckets' | 'service_buckets' | 'range_targets'; at: number }

/** Whom a packet is for. */
export type To = Pick<ServiceAddress, 'protocol' | 'vip' | 'port'>

/** A key that leads to a run of ranges. */
const RUN_BIT = 1n << 56n
/** A key of a prefix; its lower 32 bits are no address then. */
const PREFIX_BIT = 1n << 58n
const VIP_MASK = PREFIX_BIT | 0xffff_ffffn
const PORT_MASK = 0xffffn << 32n

export const view = (memory: PlaneMemory, map: MappedName): DataView => new DataView(memory.buffer(map))

const PER_BUCKET = TargetBucket.size / Target.size

/** root.live, taken apart, and the directory that goes with it. */
const liveDirectory = (memory: PlaneMemory) => {
  const root = view(memory, 'root')
  const word = root.getBigUint64(Root.offset.live, true)
  const half = memory.buffer('vip_buckets').byteLength / TargetBucket.size / 2
  const live = (word & BigInt(half)) === 0n ? 0 : 1
  const at = Root.offset.directory + live * Directory.size
  return {
    word,
    base: live * half,
    shift: word & BigInt(Live.LIVE_SHIFT_MASK),
    at,
    further: Directory.read(root, at),
  }
}

const keyAt = (memory: PlaneMemory, { table, at }: Place): bigint =>
  view(memory, table).getBigUint64(at + Target.offset.key, true)

/** The first target of a bucket whose key `matches`. */
const inBucket = (
  memory: PlaneMemory,
  table: Place['table'],
  bucket: number,
  matches: (key: bigint) => boolean,
): Place | undefined =>
  Array.from({ length: PER_BUCKET }, (_, i) => ({ table, at: bucket * TargetBucket.size + i * Target.size })).find(
    (place) => matches(keyAt(memory, place)),
  )

/** @param vip as keys have it */
const vipBucket = (memory: PlaneMemory, vip: bigint): number => {
  const { word, base, shift } = liveDirectory(memory)
  return base + Number(BigInt.asUintN(64, BigInt.asUintN(32, vip) * word) >> shift)
}

/** The first target of a VIP; 0.0.0.0 is the address of a free place too. */
const findVip = (memory: PlaneMemory, vip: bigint): Place | undefined => {
  const place = inBucket(memory, 'vip_buckets', vipBucket(memory, vip), (key) => (key & VIP_MASK) === vip)
  return place === undefined || keyAt(memory, place) === 0n ? undefined : place
}

/** The VIP of an address, as keys have it: its own, or that of the longest prefix that has services. */
const vipOf = (memory: PlaneMemory, address: number): bigint | undefined => {
  const own = BigInt(swap32(address))
  if (findVip(memory, own) !== undefined) return own
  const { word, further } = liveDirectory(memory)
  if ((word & BigInt(Live.LIVE_PREFIXES)) === 0n) return undefined
  for (let bits = 31; bits >= 8; bits--) {
    const behind = 2 ** (31 - bits)
    const prefix = Math.floor(address / (2 * behind)) * 2 * behind + behind
    const key = PREFIX_BIT | BigInt(swap32(prefix))
    if (findVip(memory, key) === undefined) continue
    if ((further.prefixes & behind) === 0) throw new Error(`prefixes of ${bits} bits are not looked for`)
    return key
  }
  return undefined
}

export const isVip = (memory: PlaneMemory, address: number): boolean => vipOf(memory, address) !== undefined

/** The target of a key in the second table of the directory that a VIP's target says it belongs to. */
const inSecond = (memory: PlaneMemory, flags: number, key: bigint): Place | undefined => {
  const half = (flags & TargetFlag.TARGET_DIRECTORY_1) === 0 ? 0 : 1
  const at = Root.offset.directory + half * Directory.size
  const { serviceBase, serviceMultiplier, serviceShift } = Directory.read(view(memory, 'root'), at)
  const place = Number(BigInt.asUintN(64, key * serviceMultiplier) >> BigInt(serviceShift))
  return inBucket(memory, 'service_buckets', serviceBase + place, (each) => each === key)
}

/** The first range that does not end before the port, found by halving, if it holds the port. */
const findRange = (memory: PlaneMemory, { table, at: runAt }: Place, port: number): Place | undefined => {
  const { first, count } = Run.read(view(memory, table), runAt)
  const ranges = view(memory, 'range_targets')
  const range = (i: number): Place => ({ table: 'range_targets', at: (first + i) * Target.size })
  const lastPort = (i: number) => ranges.getUint16(range(i).at + Target.offset.lastPort, true)
  let passed = 0
  for (let step = RunLimit.RANGES_PER_RUN_MAX / 2; step >= 1; step /= 2) {
    if (passed + step < Number(count) && lastPort(passed + step - 1) < port) passed += step
  }
  const firstPort = ranges.getUint16(range(passed).at + 4)
  return firstPort <= port && port <= lastPort(passed) ? range(passed) : undefined
}

const findTarget = (memory: PlaneMemory, { protocol, port }: To, vip: bigint): Place | undefined => {
  const first = findVip(memory, vip)
  if (first === undefined) return undefined
  const key = vip | (BigInt(swap16(port)) << 32n) | ((protocol === 'tcp' ? 6n : 17n) << 48n)
  const inVips = (wanted: bigint) => inBucket(memory, 'vip_buckets', vipBucket(memory, vip), (each) => each === wanted)
  const flags = view(memory, first.table).getUint16(first.at + Target.offset.flags, true)
  const has = (flag: number) => (flags & flag) !== 0
  const anywhere = (wanted: bigint) =>
    inVips(wanted) ?? (has(TargetFlag.TARGET_MORE) ? inSecond(memory, flags, wanted) : undefined)
  const exact = anywhere(key)
  if (exact !== undefined) return exact
  const run = has(TargetFlag.TARGET_RANGES) ? anywhere((key & ~PORT_MASK) | RUN_BIT) : undefined
  const range = run && findRange(memory, run, port)
  if (range !== undefined) return range
  return has(TargetFlag.TARGET_EVERY_PORT) ? anywhere(key & ~PORT_MASK) : undefined
}

const reach = (memory: PlaneMemory, { table, at }: Place): Reached => {
  const target = Target.read(view(memory, table), at)
  const service = Service.read(view(memory, 'services'), target.service * Service.size)
  return { record: target.service, service, seed: target.ringSeed, mask: target.hashMask }
}

/** What a packet for this address finds, or one for a prefix by its name; undefined where that is no service. */
export const reachService = (memory: PlaneMemory, to: To): Reached | undefined => {
  const vip = to.vip.includes('/')
    ? PREFIX_BIT | BigInt(swap32(vipWord(to.vip).word))
    : vipOf(memory, parseIpv4(to.vip) ?? 0)
  const place = vip === undefined ? undefined : findTarget(memory, to, vip)
  return place && reach(memory, place)
}

/** The buckets of the live directory. */
const liveTables = (
  memory: PlaneMemory,
): { table: 'vip_buckets' | 'service_buckets'; base: number; buckets: number }[] => {
  const { base, shift, further } = liveDirectory(memory)
  return [
    { table: 'vip_buckets', base, buckets: 2 ** (64 - Number(shift)) },
    { table: 'service_buckets', base: further.serviceBase, buckets: 2 ** (64 - further.serviceShift) },
  ]
}

/** Every place in the live directory's buckets that is not free. */
const standing = (memory: PlaneMemory): Place[] =>
  liveTables(memory).flatMap(({ table, base, buckets }) =>
    Array.from({ length: buckets * PER_BUCKET }, (_, i) => ({
      table,
      at: base * TargetBucket.size + i * Target.size,
    })).filter((place) => keyAt(memory, place) !== 0n),
  )

const isRun = (memory: PlaneMemory, place: Place): boolean => (keyAt(memory, place) & RUN_BIT) !== 0n

const runAt = (memory: PlaneMemory, { table, at }: Place): Run => Run.read(view(memory, table), at)

/** The places of a run's ranges. */
const rangesOf = (memory: PlaneMemory, place: Place): Place[] => {
  const { first, count } = runAt(memory, place)
  return Array.from({ length: Number(count) }, (_, i) => ({ table: 'range_targets', at: (first + i) * Target.size }))
}

/** Every service that the live directory leads to, by its key's name: `tcp://198.51.100.1:80`. */
export const occupants = (memory: PlaneMemory): (Reached & { name: string })[] =>
  standing(memory)
    .flatMap((place) => (isRun(memory, place) ? rangesOf(memory, place) : [place]))
    .map(({ table, at }) => {
      const targets = view(memory, table)
      const name = formatService({
        protocol: targets.getUint8(at + 6) === 6 ? 'tcp' : 'udp',
        vip: formatVip({ word: targets.getUint32(at), isPrefix: (targets.getUint8(at + 7) & 4) !== 0 }),
        port: targets.getUint16(at + 4),
        lastPort: targets.getUint16(at + Target.offset.lastPort, true),
      })
      return { name, ...reach(memory, { table, at }) }
    })

/** What of root and of the buckets a packet or a reader may look at. */
export const directoryExtents = (memory: PlaneMemory): Extent[] => {
  const { at } = liveDirectory(memory)
  return [
    { map: 'root', start: 0, end: Root.offset.swept, owner: 'root' },
    { map: 'root', start: at, end: at + Directory.size, owner: 'directory' },
    ...liveTables(memory).map(
      ({ table, base, buckets }): Extent => ({
        map: table,
        start: base * TargetBucket.size,
        end: (base + buckets) * TargetBucket.size,
        owner: 'directory',
      }),
    ),
    ...standing(memory)
      .filter((place) => isRun(memory, place))
      .map((place) => runAt(memory, place))
      .map(
        ({ first, count }): Extent => ({
          map: 'range_targets',
          start: first * Target.size,
          end: (first + Number(count)) * Target.size,
          owner: 'run',
        }),
      ),
  ]
}

/** The stores that commit: of a directory, or of one service. */
export const COMMITTING: readonly MappedName[] = ['root', 'vip_buckets', 'service_buckets', 'range_targets']
