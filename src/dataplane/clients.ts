// SPDX-License-Identifier: Apache-2.0
// The notes of persistence (struct client in bpf/xlb.h): which server a client was given. Whole scans, and one client's note.
import { swap32 } from '../core/address.ts'
import { hashMix } from '../core/hash.ts'
import { type Address6, address6, familyOf, formatAddress6, formatIpv4, parseIpv4 } from '../core/ip.ts'
import {
  ClientBucket,
  ClientLimit,
  ClientOwner,
  Client as ClientRecord,
  ClientState,
  ClientValue,
  type Settings,
} from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import type { ForgottenClients } from './persistence.ts'

const WORDS = ClientRecord.size / 8

const PREFIX_SHIFT = BigInt(ClientOwner.CLIENT_PREFIX_SHIFT)

/** Offsets of an entry's words, in 64-bit words. */
const AT = {
  high: ClientRecord.offset.name / 8,
  low: ClientRecord.offset.name / 8 + 1,
  owner: ClientRecord.offset.name / 8 + 2,
  value: ClientRecord.offset.value / 8,
} as const

/** A client as a persistence tells it from others. */
export interface ClientName {
  id: number
  /** The source's leading bits, the others 0. */
  address: string
  /** How many bits these are. */
  prefix: number
}

/** A note at one moment of the packet path's clock. */
export interface Note extends ClientName {
  server: number
  /** enum client_state */
  state: number
  /** Units of age until it ends; negative: it has ended. */
  agesLeft: number
}

const stateOf = (low: number): number => (low >>> ClientValue.CLIENT_STATE_SHIFT) & ClientValue.CLIENT_STATE_MASK
const serverOf = (low: number): number => low & ClientValue.CLIENT_SERVER_MASK

/** Ages have 24 bits: what is more than PERSIST_AGES_MAX ahead has passed. */
const agesLeft = (value: bigint, now: number): number => {
  const until = Number((value >> BigInt(ClientValue.CLIENT_AGE_SHIFT)) & BigInt(ClientValue.CLIENT_AGE_MASK))
  const left = (until - now) & ClientValue.CLIENT_AGE_MASK
  return left > ClientLimit.PERSIST_AGES_MAX ? left - ClientValue.CLIENT_AGE_MASK - 1 : left
}

/** The words of an entry that did not change hands while they were read: name, value, name, as bpf/persist.h says it. */
const readName = (words: BigUint64Array, at: number): [bigint, bigint, bigint] => [
  Atomics.load(words, at + AT.high),
  Atomics.load(words, at + AT.low),
  Atomics.load(words, at + AT.owner),
]

const readEntry = (
  words: BigUint64Array,
  at: number,
): { name: [bigint, bigint, bigint]; value: bigint } | undefined => {
  const name = readName(words, at)
  const value = Atomics.load(words, at + AT.value)
  const again = readName(words, at)
  return name.every((word, i) => word === again[i]) ? { name, value } : undefined
}

/**
 * Frees every note of these persistences, and those that name one of these servers. Packets go on meanwhile: a note is freed only
 * if it is still what was read.
 */
export const forgetClients = (memory: Pick<PlaneMemory, 'buffer'>, { ids, servers }: ForgottenClients): number => {
  if (ids.size === 0 && servers.size === 0) return 0
  const values = new BigUint64Array(memory.buffer('clients'))
  const words = new Uint32Array(memory.buffer('clients'))
  let forgotten = 0
  for (let at = 0; at < values.length; at += WORDS) {
    const low = words[2 * (at + AT.value)] ?? 0
    if (stateOf(low) <= ClientState.CLIENT_CLAIMED) continue
    const id = (words[2 * (at + AT.owner)] ?? 0) & 0xffff
    if (!ids.has(id) && servers.get(id)?.has(serverOf(low)) !== true) continue
    const entry = readEntry(values, at)
    if (entry === undefined || Number(entry.name[2] & 0xffffn) !== id) continue
    if (!ids.has(id) && servers.get(id)?.has(serverOf(Number(entry.value & 0xffffffffn))) !== true) continue
    if (Atomics.compareExchange(values, at + AT.value, entry.value, 0n) === entry.value) forgotten++
  }
  return forgotten
}

const IPV6 = 1n << BigInt(ClientOwner.CLIENT_IPV6_SHIFT)

const addressOf = ([high, low, owner]: readonly [bigint, bigint, bigint]): string =>
  (owner & IPV6) === 0n ? formatIpv4(swap32(Number(low & 0xffffffffn))) : formatAddress6({ high, low })

/** An address as a note has it. */
const wordsOf = (address: string): Address6 =>
  familyOf(address) === 'ipv6' ? address6(address) : { high: 0n, low: BigInt(swap32(parseIpv4(address) ?? 0)) }

/** Every note that has not ended. */
export function* readNotes(memory: Pick<PlaneMemory, 'buffer'>, now: number): Generator<Note> {
  const values = new BigUint64Array(memory.buffer('clients'))
  const words = new Uint32Array(memory.buffer('clients'))
  for (let at = 0; at < values.length; at += WORDS) {
    if (stateOf(words[2 * (at + AT.value)] ?? 0) <= ClientState.CLIENT_CLAIMED) continue
    const entry = readEntry(values, at)
    if (entry === undefined) continue
    const { name, value } = entry
    const low = Number(value & 0xffffffffn)
    const left = agesLeft(value, now)
    if (stateOf(low) <= ClientState.CLIENT_CLAIMED || left < 0) continue
    yield {
      id: Number(name[2] & 0xffffn),
      address: addressOf(name),
      prefix: Number((name[2] >> PREFIX_SHIFT) & 0xffn),
      server: serverOf(low),
      state: stateOf(low),
      agesLeft: left,
    }
  }
}

/** Notes that have not ended, and how many the table has room for. */
export const countClients = (memory: Pick<PlaneMemory, 'buffer'>, now: number): { used: number; capacity: number } => {
  let used = 0
  for (const _ of readNotes(memory, now)) used++
  return { used, capacity: memory.buffer('clients').byteLength / ClientRecord.size }
}

const CHECK_SHIFT = BigInt(ClientValue.CLIENT_CHECK_SHIFT)
/** find_client's: what the second bucket's index differs by. */
const SECOND_MULTIPLIER = 0x9e3779b1
const SECOND_SHIFT = 7

/** Where a client's note may stand, and what makes it its own. */
export interface ClientPlace {
  source: Address6
  owner: bigint
  /** Check bits, as they stand in a value. */
  check: bigint
  /** The two candidate buckets, in the order in which packets look. */
  buckets: readonly [number, number]
}

/** The first half of find_client. */
export const locateClient = (
  memory: Pick<PlaneMemory, 'buffer'>,
  { flowSeed }: Pick<Settings, 'flowSeed'>,
  { id, address, prefix }: ClientName,
): ClientPlace => {
  const owner = BigInt(id) | (BigInt(prefix) << PREFIX_SHIFT) | (familyOf(address) === 'ipv6' ? IPV6 : 0n)
  const source = wordsOf(address)
  const hash = hashMix(BigInt.asUintN(64, hashMix(source.high, flowSeed + (owner << 1n)) + source.low), flowSeed)
  const first = Number(hash >> 32n)
  const second = first ^ (Math.imul(Number(hash & 0xffffffffn), SECOND_MULTIPLIER) >>> SECOND_SHIFT)
  const mask = memory.buffer('clients').byteLength / ClientBucket.size - 1
  return { source, owner, check: BigInt.asUintN(64, hash << CHECK_SHIFT), buckets: [first & mask, second & mask] }
}

const placesOf = ({ buckets }: ClientPlace): number[] =>
  buckets.flatMap((bucket) =>
    Array.from({ length: ClientLimit.CLIENTS_PER_BUCKET }, (_, i) => bucket * ClientLimit.CLIENTS_PER_BUCKET + i),
  )

/** find_client: a client's note, ended or not. */
export const findNote = (
  memory: Pick<PlaneMemory, 'buffer'>,
  place: ClientPlace,
  now: number,
): Omit<Note, keyof ClientName> | undefined => {
  const words = new BigUint64Array(memory.buffer('clients'))
  for (const at of placesOf(place)) {
    const entry = readEntry(words, at * WORDS)
    if (entry === undefined) continue
    const { name, value } = entry
    if (name[0] !== place.source.high || name[1] !== place.source.low || name[2] !== place.owner) continue
    const low = Number(value & 0xffffffffn)
    if (stateOf(low) <= ClientState.CLIENT_CLAIMED || (value ^ place.check) >> CHECK_SHIFT !== 0n) continue
    return { server: serverOf(low), state: stateOf(low), agesLeft: agesLeft(value, now) }
  }
  return undefined
}

/** Would a client's first note find a place? */
export const hasClientRoom = (memory: Pick<PlaneMemory, 'buffer'>, place: ClientPlace, now: number): boolean => {
  const words = new BigUint64Array(memory.buffer('clients'))
  return placesOf(place).some((at) => {
    const value = Atomics.load(words, at * WORDS + AT.value)
    const state = stateOf(Number(value & 0xffffffffn))
    if (state === ClientState.CLIENT_FREE || state === ClientState.CLIENT_NEW) return true
    return state !== ClientState.CLIENT_CLAIMED && agesLeft(value, now) < 0
  })
}

/** How people are told of a client: an address, or a network. */
export const formatClient = ({ address, prefix }: Pick<ClientName, 'address' | 'prefix'>): string =>
  prefix === (familyOf(address) === 'ipv6' ? 128 : 32) ? address : `${address}/${prefix}`
