// SPDX-License-Identifier: Apache-2.0
// What one packet finds in the maps: its service, slots, turn, place in the flow table, backends. explain.ts decides by it.
import { type Protocol, swap16, swap32 } from '../core/address.ts'
import { type HashedSource, hashSlot, hashSource } from '../core/hash.ts'
import { address6, familyOf, leadingBits, parseIpv4 } from '../core/ip.ts'
import { type ClientPlace, findNote, hasClientRoom, locateClient } from './clients.ts'
import { type DestinationName, type DestinationNote, findDestination, hasDestinationRoom } from './destinations.ts'
import { type FlowPlace, locateFlow } from './flow-entry.ts'
import {
  BackendFlag,
  Backend as BackendRecord,
  BackendWord,
  BeforeSlot,
  Choice,
  HashedBits,
  RingSlot,
  ServiceFlag,
  ServiceKey,
  ServicePolicy,
  Service as ServiceRecord,
  Settings,
  type Target,
} from './layout.gen.ts'
import { remembers, type Taker, takerOf } from './least.ts'
import type { PlaneMemory } from './memory.ts'
import { HASHED_DESTINATION } from './service-key.ts'
import { slotsAt, viewOf } from './views.ts'

/** A whole, unfragmented packet for the MAC of the interface that it comes in by. */
export interface TracedPacket {
  protocol: Protocol
  source: string
  sourcePort: number
  vip: string
  port: number
  /** TCP: a SYN without ACK, a client's first segment. */
  opens: boolean
}

/** What a CPU may still record of new flows (enum budget of bpf/budget.h). */
export type Budget = 'left' | 'flooded' | 'spent'

export interface Circumstances {
  /** The packet path's clock. */
  now: number
  /** Likewise, in jiffies; left out: nothing is said of rates. */
  jiffies?: bigint
  /** The record in root of the interface that it comes in by. */
  interfaceSlot: number
  /** Of the CPU that it comes in on. */
  budget: Budget
}

/** A slot of a ring, and the index of its backend within the service. Undefined: no backend takes it. */
export interface RingLook {
  slot: number
  size: number
  backend: number | undefined
}

/** What a marked slot remembers. */
export interface BeforeLook extends RingLook {
  /** May packets be sent to its backend? */
  alive: boolean
  /** Were its backend's flows cut, less than a timeout ago? Packets of older flows are dropped then. */
  cut: boolean
  /** False: the UDP timeout has passed since the mark was made, and it means nothing any more. */
  counts: boolean
}

export interface BackendLook {
  index: number
  alive: boolean
  /** Removed, and its flows' packets are dropped. */
  cut: boolean
  local: boolean
  /** As struct backend holds it: the first octet lowest. */
  mac: bigint
  interfaceSlot: number
  /** The VLAN that frames leave in; undefined: untagged. */
  vlan: number | undefined
}

/** The turn that the next new flow takes. */
export interface TurnLook {
  next: number
  of: number
  backend: number | undefined
}

/** What the note of a packet's client says, in a service with persistence. */
export interface NoteLook {
  /** The client's address, as far as it tells it from others, and how many bits that is. */
  address: string
  prefix: number
  /** Undefined: there is no note. Negative ages: it has ended. */
  agesLeft: number | undefined
  /** Index of the backend that it leads to; undefined: none here takes the client. */
  backend: number | undefined
}

/** What is remembered of a packet's destination, in a service with lblc or lblcr. */
export interface DestinationLook {
  address: string
  /** Undefined: nothing, or not any more. */
  note: DestinationNote | undefined
}

/** An index, unless it is SLOT_NONE. */
const backendOf = (slot: number): number | undefined => {
  const backend = slot & RingSlot.SLOT_BACKEND_MASK
  return backend === RingSlot.SLOT_NONE ? undefined : backend
}

/** As the packet path has it: packet_source, and the address where it is IPv6. */
export const hashedSource = ({
  source,
  sourcePort,
  vip,
}: Pick<TracedPacket, 'source' | 'sourcePort'> & { vip?: string }): HashedSource => {
  const port = BigInt(swap16(sourcePort)) << BigInt(HashedBits.HASHED_SOURCE)
  if (familyOf(source) === 'ipv6') {
    return { address6: address6(source), word: port, ...(vip === undefined ? {} : { destination6: address6(vip) }) }
  }
  return {
    address6: undefined,
    destination: BigInt(swap32(parseIpv4(vip ?? '') ?? 0)),
    word: BigInt(swap32(parseIpv4(source) ?? 0)) | port,
  }
}

/** What all steps look at. */
export class Way {
  readonly memory: PlaneMemory
  readonly packet: TracedPacket
  readonly at: Circumstances
  readonly settings: Settings
  readonly target: Target
  readonly service: ServiceRecord
  readonly source: HashedSource
  readonly #slot: number
  readonly #ringSlot: number

  constructor(memory: PlaneMemory, packet: TracedPacket, at: Circumstances, target: Target) {
    this.memory = memory
    this.packet = packet
    this.at = at
    this.target = target
    this.settings = Settings.read(viewOf(memory, 'settings'), 0)
    this.service = ServiceRecord.read(viewOf(memory, 'services'), target.service * ServiceRecord.size)
    this.source = hashedSource(packet)
    this.#slot = hashSlot(hashSource(this.source, target.hashMask, target.ringSeed), this.service.ringSize)
    this.#ringSlot = this.#slotAt(this.service.ringLine, this.service.ringSize, this.#slot)
  }

  is(flag: keyof typeof ServiceFlag): boolean {
    return (this.service.flags & ServiceFlag[flag]) !== 0
  }

  get ring(): RingLook {
    return { slot: this.#slot, size: this.service.ringSize, backend: backendOf(this.#ringSlot) }
  }

  get isMarked(): boolean {
    return (this.#ringSlot & RingSlot.SLOT_MARKED) !== 0
  }

  /** What a marked slot had before: the first half of backend_before. */
  get before(): BeforeLook {
    const { beforeLine, beforeSize, beforeSeed, marksEnd, markShift } = this.service
    const bits = this.is('SERVICE_BEFORE_HASH_PORT') ? HashedBits.HASHED_SOURCE_PORT : HashedBits.HASHED_SOURCE
    const mask = this.is('SERVICE_BEFORE_HASH_DESTINATION') ? HASHED_DESTINATION : (1n << BigInt(bits)) - 1n
    const slot = hashSlot(hashSource(this.source, mask, beforeSeed), beforeSize)
    const entry = this.#slotAt(beforeLine, beforeSize, slot)
    const backend = backendOf(entry)
    const epoch = Math.floor(this.at.now / 2 ** (markShift & 31))
    const epochs = (epoch - (entry >> BeforeSlot.BEFORE_EPOCH_SHIFT)) & BeforeSlot.BEFORE_EPOCH_MASK
    const past = ((marksEnd - this.at.now) | 0) < 0 || epochs > BeforeSlot.MARK_EPOCHS
    const found = this.backend(backend)
    return {
      slot,
      size: beforeSize,
      backend,
      alive: found?.alive === true,
      cut: found?.cut === true && !past,
      counts: !(this.is('SERVICE_UDP') && past),
    }
  }

  /** A backend of the service, those that were removed included. */
  backend(index: number | undefined): BackendLook | undefined {
    if (index === undefined || index >= this.service.backendCount) return undefined
    const at = (this.service.backendBase + index) * BackendRecord.size
    const { word, vlan } = BackendRecord.read(viewOf(this.memory, 'backends'), at)
    const flags = Number(word & BigInt(BackendWord.BACKEND_FLAGS_MASK))
    return {
      index,
      alive: (flags & BackendFlag.BACKEND_ALIVE) !== 0,
      cut: (flags & BackendFlag.BACKEND_CUT) !== 0,
      local: (flags & BackendFlag.BACKEND_LOCAL) !== 0,
      mac: word >> BigInt(BackendWord.BACKEND_MAC_SHIFT),
      interfaceSlot: Number((word >> BigInt(BackendWord.BACKEND_INTERFACE_SHIFT)) & 0xffn),
      vlan: (flags & BackendFlag.BACKEND_TAGGED) !== 0 ? vlan : undefined,
    }
  }

  /** next_in_schedule, without taking the turn. */
  get turn(): TurnLook | undefined {
    const { scheduleLine, scheduleSize, id } = this.service
    if (!this.is('SERVICE_TRACKED') || scheduleSize === 0) return undefined
    const cursor = Atomics.load(new BigUint64Array(this.memory.buffer('cursors')), id)
    const next = Number(cursor % BigInt(scheduleSize))
    return { next, of: scheduleSize, backend: backendOf(this.#slotAt(scheduleLine, scheduleSize, next)) }
  }

  /** Whom the scheduler would give a new flow, where that is not simply the next turn. */
  get taker(): Taker | undefined {
    if (!this.is('SERVICE_TRACKED')) return undefined
    const isPlain = this.service.choice === Choice.CHOICE_TURN && !this.is('SERVICE_LIMITED')
    return isPlain ? undefined : takerOf(this.memory, this.service, this.destination?.note?.backends)
  }

  get #destinationName(): DestinationName {
    return { service: this.service.id, address: this.packet.vip }
  }

  /** recall_destination, using nothing. Undefined: the scheduler remembers no destinations. */
  get destination(): DestinationLook | undefined {
    if (!remembers(this.service)) return undefined
    const { address } = this.#destinationName
    return { address, note: findDestination(this.memory, this.#destinationName, this.at.now) }
  }

  /** What noting the destination would count as, beside. */
  get remembering(): 'DESTINATION_REFUSED_FULL' | undefined {
    const { destination } = this
    if (destination === undefined || destination.note !== undefined) return undefined
    return hasDestinationRoom(this.memory, this.#destinationName, this.at.now) ? undefined : 'DESTINATION_REFUSED_FULL'
  }

  /** Does the scheduler go by what backends have to do? */
  get isByLoad(): boolean {
    return this.service.choice !== Choice.CHOICE_TURN
  }

  get #policy(): ServicePolicy {
    return ServicePolicy.read(viewOf(this.memory, 'service_policies'), this.target.service * ServicePolicy.size)
  }

  get #clientPlace(): ClientPlace {
    const { persistId, persistPrefix } = this.#policy
    const address = leadingBits(this.packet.source, persistPrefix)
    return locateClient(this.memory, this.settings, { id: persistId, address, prefix: persistPrefix })
  }

  /** follow_note, prolonging nothing. Undefined: a service without persistence. */
  get note(): NoteLook | undefined {
    if (!this.is('SERVICE_PERSISTENT')) return undefined
    const { persistPrefix: prefix, persistLine, persistServers } = this.#policy
    const address = leadingBits(this.packet.source, prefix)
    const found = findNote(this.memory, this.#clientPlace, this.at.now)
    if (found === undefined) return { address, prefix, agesLeft: undefined, backend: undefined }
    const { agesLeft, server } = found
    const named = server < persistServers ? backendOf(this.#slotAt(persistLine, persistServers, server)) : undefined
    const holds = agesLeft >= 0 && this.backend(named)?.alive === true
    return { address, prefix, agesLeft, backend: holds ? named : undefined }
  }

  /** What noting the client would count as. */
  get noting(): 'CLIENT_NOTED' | 'CLIENT_REFUSED_FULL' {
    const place = this.#clientPlace
    const known = findNote(this.memory, place, this.at.now) !== undefined
    return known || hasClientRoom(this.memory, place, this.at.now) ? 'CLIENT_NOTED' : 'CLIENT_REFUSED_FULL'
  }

  get place(): FlowPlace {
    const { id } = this.service
    return locateFlow(this.memory, this.settings, {
      source: this.source,
      portBe: swap16(this.packet.port),
      ofPrefix: (this.target.key & (1n << BigInt(ServiceKey.KEY_PREFIX_SHIFT))) !== 0n,
      service: id,
    })
  }

  #slotAt(line: number, size: number, slot: number): number {
    return slotsAt(this.memory, line, size)[slot] ?? RingSlot.SLOT_NONE
  }
}
