// SPDX-License-Identifier: Apache-2.0
// The flow table's unexpired entries, as connections of live services. Packets go on meanwhile: each entry is told as it was when
// it was read.
import { formatEndpoint, type Ports, type Protocol, type SourceRange, swap16, swap32 } from '../core/address.ts'
import { type ConnectionState, STATE_NAMES } from '../core/connection-states.ts'
import { hashMixLow } from '../core/hash.ts'
import { readEntry } from './flow-entry.ts'
import { Flow, FlowValue, Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { type LiveService, viewOf } from './reader.ts'

/** What the packet path's unit of age is worth. */
export const secondsOfAges = (ages: number, settings: Pick<Settings, 'ageShift' | 'jiffiesPerSecond'>): number =>
  (ages * 2 ** settings.ageShift) / settings.jiffiesPerSecond

/** Of whom connections are wanted; what is undefined may be anything. */
export interface Wanted {
  service?: string
  /** Address of the backend. */
  backend?: string
  source?: SourceRange
  state?: ConnectionState
}

export interface Connection {
  protocol: Protocol
  /** Until the entry expires, unless a packet comes; less than a unit of age too short. */
  secondsLeft: number
  state: ConnectionState
  /** `ADDRESS:PORT` all three. */
  source: string
  virtual: string
  destination: string
}

/** What is needed of a service to tell its entries. */
interface Owner {
  protocol: Protocol
  vip: string
  ports: Ports
  /** Addresses by index of the backend; undefined: removed. */
  backends: (string | undefined)[]
}

const CHUNK_ENTRIES = 65536
const WORDS = Flow.size / 4
/**
 * The clock is read before the table is, and an entry that a packet refreshes in between is of a later age: it must not be taken for
 * one that was idle for 4,095 units. So many of them a scan never takes.
 */
const SCAN_AGES_MAX = 16

/**
 * Connections, kept as the 16 octets of each entry. Made under the instance's lock, while services and their ids hold still;
 * told after.
 */
export class Connections {
  /** Entries that are wanted and not told, because their service or backend was removed. */
  leftOver = 0
  count = 0
  readonly #chunks: BigUint64Array[] = []
  readonly #owners: (Owner | undefined)[] = new Array(65536)
  readonly #settings: Settings
  readonly #seedLow: number
  readonly #seedHigh: number
  readonly #now: number
  readonly #wanted: Wanted

  constructor(memory: PlaneMemory, services: Iterable<LiveService>, wanted: Wanted = {}) {
    this.#settings = Settings.read(viewOf(memory, 'settings'), 0)
    this.#seedLow = Number(this.#settings.flowSeed & 0xffffffffn)
    this.#seedHigh = Number(this.#settings.flowSeed >> 32n)
    this.#wanted = wanted
    this.#now = memory.age()
    this.#scan(memory, services)
  }

  *[Symbol.iterator](): Generator<Connection> {
    let left = this.count
    for (const chunk of this.#chunks) {
      const words = new Uint32Array(chunk.buffer)
      const end = Math.min(left, CHUNK_ENTRIES) * WORDS
      for (let at = 0; at < end; at += WORDS) yield this.#connection(words, at)
      left -= CHUNK_ENTRIES
    }
  }

  #connection(words: Uint32Array, at: number): Connection {
    const portAndId = words[at + 1] ?? 0
    const low = words[at + 2] ?? 0
    const owner = this.#owners[portAndId >>> 16]
    const state = STATE_NAMES[stateOf(low)]
    const backend = owner?.backends[backendOf(low)]
    if (owner === undefined || state === undefined || backend === undefined) throw new Error('unreachable: scanned')
    // Direct server return keeps the packet's port.
    const port = portOf(low)
    return {
      protocol: owner.protocol,
      secondsLeft: secondsOfAges(this.#agesLeft(words, at), this.#settings),
      state,
      source: formatEndpoint({ address: swap32(words[at] ?? 0), port: swap16(portAndId & 0xffff) }),
      virtual: `${owner.vip}:${port}`,
      destination: `${backend}:${port}`,
    }
  }

  /** Negative: it has expired. */
  #agesLeft(words: Uint32Array, at: number): number {
    const idle = (this.#now - (words[at + 3] ?? 0)) & FlowValue.FLOW_AGE_MASK
    const since = idle > FlowValue.FLOW_AGE_MASK - SCAN_AGES_MAX ? 0 : idle
    return (this.#settings.timeout[stateOf(words[at + 2] ?? 0)] ?? 0) - since
  }

  /** Entries are looked at first as they come, word by word; what seems to be wanted is then read as packets read it. */
  #scan(memory: PlaneMemory, services: Iterable<LiveService>): void {
    const byId: (LiveService | undefined)[] = new Array(65536)
    for (const service of services) byId[service.service.id] = service
    const table = new BigUint64Array(memory.buffer('flows'))
    const words = new Uint32Array(memory.buffer('flows'))
    const read = new BigUint64Array(2)
    const readWords = new Uint32Array(read.buffer)
    const matches = matcher(this.#wanted)
    for (let at = 0; at < words.length; at += WORDS) {
      if (!matches(words, at)) continue
      const entry = readEntry(table, at / WORDS)
      // It changed hands in this moment.
      if (entry === undefined) continue
      read[0] = entry.key
      read[1] = entry.value
      if (matches(readWords, 0) && this.#isTold(readWords, byId)) this.#keep(read)
    }
  }

  #isTold(words: Uint32Array, byId: readonly (LiveService | undefined)[]): boolean {
    if (this.#agesLeft(words, 0) < 0) return false
    const wanted = this.#wanted
    const id = (words[1] ?? 0) >>> 16
    const service = byId[id]
    if (wanted.service !== undefined && service?.name !== wanted.service) return false
    if (service === undefined) {
      if (wanted.backend === undefined) this.leftOver++
      return false
    }
    this.#owners[id] ??= ownerOf(service)
    const owner = this.#owners[id]
    if (!this.#isOwn(words, owner)) return false
    const backend = owner.backends[backendOf(words[2] ?? 0)]
    if (backend === undefined && wanted.backend === undefined) this.leftOver++
    return backend !== undefined && (wanted.backend === undefined || backend === wanted.backend)
  }

  /** Port and check bits are those of a flow of this service that the key names: else the value was another's. */
  #isOwn(words: Uint32Array, { ports }: Owner): boolean {
    const low = words[2] ?? 0
    const port = portOf(low)
    if (port < ports.port || port > ports.lastPort) return false
    // flow_locate's seed for the port.
    const seedLow = this.#seedLow + 2 * (low & 0xffff)
    const seedHigh = this.#seedHigh + (seedLow >= 2 ** 32 ? 1 : 0)
    const hash = hashMixLow(words[0] ?? 0, words[1] ?? 0, seedLow >>> 0, seedHigh >>> 0)
    return hash << (FlowValue.FLOW_CHECK_SHIFT - 32) === ((words[3] ?? 0) & ~FlowValue.FLOW_AGE_MASK)
  }

  #keep(entry: BigUint64Array): void {
    const place = this.count++ % CHUNK_ENTRIES
    if (place === 0) this.#chunks.push(new BigUint64Array(2 * CHUNK_ENTRIES))
    this.#chunks.at(-1)?.set(entry, 2 * place)
  }
}

const stateOf = (low: number): number => (low >>> FlowValue.FLOW_STATE_SHIFT) & FlowValue.FLOW_STATE_MASK
const backendOf = (low: number): number => (low >>> FlowValue.FLOW_BACKEND_SHIFT) & FlowValue.FLOW_BACKEND_MASK

/** The destination port; a value has it in network order. */
const portOf = (low: number): number => swap16(low & 0xffff)

/** What can be told of an entry by itself, without its service. */
const matcher = ({ source, state }: Wanted): ((words: Uint32Array, at: number) => boolean) => {
  const wantedState = state === undefined ? undefined : STATE_NAMES.indexOf(state)
  const address = source === undefined ? 0 : swap32(source.address)
  const mask = source === undefined ? 0 : swap32(source.mask)
  const port = source?.port === undefined ? undefined : swap16(source.port)
  return (words, at) => {
    const found = stateOf(words[at + 2] ?? 0)
    if (STATE_NAMES[found] === undefined || (wantedState !== undefined && found !== wantedState)) return false
    if (((words[at] ?? 0) & mask) >>> 0 !== address) return false
    return port === undefined || ((words[at + 1] ?? 0) & 0xffff) === port
  }
}

const ownerOf = ({ want, backends }: LiveService): Owner => {
  const addresses: (string | undefined)[] = []
  for (const { index, want: backend } of backends) addresses[index] = backend.address
  return { protocol: want.protocol, vip: want.vip, ports: want, backends: addresses }
}
