// SPDX-License-Identifier: Apache-2.0
// The way of a packet through a service, as bpf/schedule.h goes it: word for word, over DataView. Of the controller's code it
// uses the generated layouts and the hash (which test/packet compares with the program's), no more.
import { swap16, swap32 } from '../../src/core/address.ts'
import { hashMix, hashSlot } from '../../src/core/hash.ts'
import { formatIpv4 } from '../../src/core/ip.ts'
import {
  Backend,
  BackendDetail,
  BeforeSlot,
  Choice,
  RingSlot,
  type Service,
  ServiceFlag,
} from '../../src/dataplane/layout.gen.ts'
import type { PlaneMemory } from '../../src/dataplane/memory.ts'
import { type Reached, reachService, type To, view } from './directory.ts'

/** Where a packet comes from. */
export interface Client {
  source: number
  sourcePort: number
  /** Of a service that hashes destinations; 0 if absent. */
  destination?: number
}

export type Packet = To & Client

export const packetTo = (to: To, source: number, sourcePort: number): Packet => ({
  ...to,
  source,
  sourcePort,
})

/** Index into `services` of a packet's service; undefined where it finds none. */
export const findService = (memory: PlaneMemory, packet: Packet): number | undefined =>
  reachService(memory, packet)?.record

/** A backend as its frames are sent: to a MAC behind an interface, or to this host. */
export interface Found {
  index: number
  address: string
  mac: bigint
  interfaceSlot: number
  alive: boolean
  local: boolean
}

export const NONE = RingSlot.SLOT_NONE

const lineSlot = (memory: PlaneMemory, line: number, slot: number): number =>
  view(memory, 'rings').getUint16((line * 32 + slot) * 2, true)

const ringHash = ({ source, sourcePort, destination = 0 }: Client, mask: bigint, seed: bigint): bigint =>
  mask === 1n << 63n
    ? hashMix(BigInt(swap32(destination)), seed)
    : hashMix((BigInt(swap32(source)) | (BigInt(swap16(sourcePort)) << 32n)) & mask, seed)

export const backendAt = (memory: PlaneMemory, service: Service, index: number): Found | undefined => {
  if (index >= service.backendCount) return undefined
  const record = view(memory, 'backends')
  const at = (service.backendBase + index) * Backend.size
  const word = record.getBigUint64(at + Backend.offset.word, true)
  const detail = (service.backendBase + index) * BackendDetail.size + BackendDetail.offset.address
  return {
    index,
    address: formatIpv4(view(memory, 'backend_details').getUint32(detail)),
    mac: word >> 16n,
    interfaceSlot: Number((word >> 8n) & 0xffn),
    alive: (word & 1n) !== 0n,
    local: (word & 2n) !== 0n,
  }
}

const ringSlot = (memory: PlaneMemory, { service, seed, mask }: Reached, client: Client): number => {
  const hash = ringHash(client, mask, seed)
  return lineSlot(memory, service.ringLine, hashSlot(hash, service.ringSize))
}

/** A mark of a slot: what it remembers, and whether it counts for UDP at this age. Undefined where there is none. */
export const markOf = (
  memory: PlaneMemory,
  reached: Reached,
  client: Client,
  age: number,
): { before: number; fresh: boolean } | undefined => {
  if ((ringSlot(memory, reached, client) & RingSlot.SLOT_MARKED) === 0) return undefined
  const { service } = reached
  const withPort = (service.flags & ServiceFlag.SERVICE_BEFORE_HASH_PORT) !== 0
  const byDestination = (service.flags & ServiceFlag.SERVICE_BEFORE_HASH_DESTINATION) !== 0
  const mask = byDestination ? 1n << 63n : withPort ? 0xffff_ffff_ffffn : 0xffff_ffffn
  const hash = ringHash(client, mask, service.beforeSeed)
  const slot = lineSlot(memory, service.beforeLine, hashSlot(hash, service.beforeSize))
  const epochs = (Math.floor(age / 2 ** service.markShift) - (slot >> BeforeSlot.BEFORE_EPOCH_SHIFT)) & 0xf
  return {
    before: slot & RingSlot.SLOT_BACKEND_MASK,
    fresh: ((service.marksEnd - age) | 0) >= 0 && epochs <= BeforeSlot.MARK_EPOCHS,
  }
}

/** least_loaded, while nobody has anything to do: the first of those that can, but for sed the heaviest. */
const leastLoaded = (memory: PlaneMemory, { backendBase, backendCount, choice }: Service): number => {
  const able = Array.from({ length: backendCount }, (_, index) => ({
    index,
    weight: view(memory, 'backends').getUint16((backendBase + index) * Backend.size + Backend.offset.weight, true),
  })).filter(({ weight }) => weight > 0)
  const heaviest = Math.max(...able.map(({ weight }) => weight))
  const found = choice === Choice.CHOICE_SED ? able.find(({ weight }) => weight === heaviest) : able[0]
  return found?.index ?? NONE
}

/** backend_for_new: index of the backend that a new flow gets, by the schedule if there is one, or the ring. */
export const newFlow = (memory: PlaneMemory, reached: Reached, client: Client, turn: number): number => {
  const { service } = reached
  if ((service.flags & ServiceFlag.SERVICE_TRACKED) === 0) {
    return ringSlot(memory, reached, client) & RingSlot.SLOT_BACKEND_MASK
  }
  if (service.choice !== Choice.CHOICE_TURN) return leastLoaded(memory, service)
  if (service.scheduleSize === 0) return NONE
  return lineSlot(memory, service.scheduleLine, turn % service.scheduleSize) & RingSlot.SLOT_BACKEND_MASK
}

/** backend_by_ring: index of the backend that a packet without an entry goes to. */
export const byRing = (memory: PlaneMemory, reached: Reached, client: Client, age: number): number => {
  const now = ringSlot(memory, reached, client) & RingSlot.SLOT_BACKEND_MASK
  const mark = markOf(memory, reached, client, age)
  if (mark === undefined) return now
  if ((reached.service.flags & ServiceFlag.SERVICE_UDP) !== 0 && !mark.fresh) return now
  return backendAt(memory, reached.service, mark.before)?.alive === true ? mark.before : now
}
