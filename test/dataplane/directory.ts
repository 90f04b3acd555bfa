// SPDX-License-Identifier: Apache-2.0
// How a packet finds its service, as bpf/directory.h does it: word for word, over DataView. Whoever changes the layout of the
// directory changes this file, and none else here.
import { formatIpv4, parseIpv4, type ServiceAddress, swap16, swap32 } from '../../src/core/address.ts'
import { Directory, Live, Root, Service, Target, TargetBucket, TargetFlag } from '../../src/dataplane/layout.gen.ts'
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

type Place = { table: 'vip_buckets' | 'service_buckets'; at: number }

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

const vipBucket = (memory: PlaneMemory, vip: number): number => {
  const { word, base, shift } = liveDirectory(memory)
  return base + Number(BigInt.asUintN(64, BigInt(swap32(vip)) * word) >> shift)
}

/** The first target of a VIP; 0.0.0.0 is the address of a free place too. */
const findVip = (memory: PlaneMemory, vip: number): Place | undefined => {
  const isOf = (key: bigint) => BigInt.asUintN(32, key) === BigInt(swap32(vip))
  const place = inBucket(memory, 'vip_buckets', vipBucket(memory, vip), isOf)
  return place === undefined || keyAt(memory, place) === 0n ? undefined : place
}

export const isVip = (memory: PlaneMemory, vip: number): boolean => findVip(memory, vip) !== undefined

const findTarget = (memory: PlaneMemory, { protocol, port }: ServiceAddress, vip: number): Place | undefined => {
  const first = findVip(memory, vip)
  if (first === undefined) return undefined
  const key = BigInt(swap32(vip)) | (BigInt(swap16(port)) << 32n) | ((protocol === 'tcp' ? 6n : 17n) << 48n)
  const found = inBucket(memory, 'vip_buckets', vipBucket(memory, vip), (each) => each === key)
  const flags = view(memory, first.table).getUint32(first.at + Target.offset.flags, true)
  if (found !== undefined || (flags & TargetFlag.TARGET_MORE) === 0) return found
  const { serviceBase, serviceMultiplier, serviceShift } = liveDirectory(memory).further
  const place = Number(BigInt.asUintN(64, key * serviceMultiplier) >> BigInt(serviceShift))
  return inBucket(memory, 'service_buckets', serviceBase + place, (each) => each === key)
}

const reach = (memory: PlaneMemory, { table, at }: Place): Reached => {
  const target = Target.read(view(memory, table), at)
  const service = Service.read(view(memory, 'services'), target.service * Service.size)
  return { record: target.service, service, seed: target.ringSeed, mask: target.hashMask }
}

/** What a packet for this address finds; undefined where that is no service. */
export const reachService = (memory: PlaneMemory, address: ServiceAddress): Reached | undefined => {
  const place = findTarget(memory, address, parseIpv4(address.vip) ?? 0)
  return place && reach(memory, place)
}

/** The buckets of the live directory. */
const liveTables = (memory: PlaneMemory): { table: Place['table']; base: number; buckets: number }[] => {
  const { base, shift, further } = liveDirectory(memory)
  return [
    { table: 'vip_buckets', base, buckets: 2 ** (64 - Number(shift)) },
    { table: 'service_buckets', base: further.serviceBase, buckets: 2 ** (64 - further.serviceShift) },
  ]
}

/** Every service that the live directory leads to, by its key's name: `tcp://198.51.100.1:80`. */
export const occupants = (memory: PlaneMemory): (Reached & { name: string })[] =>
  liveTables(memory).flatMap(({ table, base, buckets }) => {
    const targets = view(memory, table)
    return Array.from({ length: buckets * PER_BUCKET }, (_, i) => base * TargetBucket.size + i * Target.size)
      .filter((at) => keyAt(memory, { table, at }) !== 0n)
      .map((at) => {
        const protocol = targets.getUint8(at + 6) === 6 ? 'tcp' : 'udp'
        const name = `${protocol}://${formatIpv4(targets.getUint32(at))}:${targets.getUint16(at + 4)}`
        return { name, ...reach(memory, { table, at }) }
      })
  })

/** What of root and of the buckets a packet or a reader may look at. */
export const directoryExtents = (memory: PlaneMemory): Extent[] => {
  const { at } = liveDirectory(memory)
  return [
    { map: 'root', start: 0, end: Root.offset.directory, owner: 'root' },
    { map: 'root', start: at, end: at + Directory.size, owner: 'directory' },
    ...liveTables(memory).map(
      ({ table, base, buckets }): Extent => ({
        map: table,
        start: base * TargetBucket.size,
        end: (base + buckets) * TargetBucket.size,
        owner: 'directory',
      }),
    ),
  ]
}

/** The stores that commit: of a directory, or of one service. */
export const COMMITTING: readonly MappedName[] = ['root', 'vip_buckets', 'service_buckets']
