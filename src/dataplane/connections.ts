// SPDX-License-Identifier: Apache-2.0
// The flow table's unexpired entries, as connections of live services. Packets go on meanwhile: each entry is told as it was when
// it was read.
import { type Ports, type Protocol, swap16 } from '../core/address.ts'
import { type ConnectionState, STATE_NAMES } from '../core/connection-states.ts'
import { formatEndpoint, type SourceRange } from '../core/endpoint.ts'
import { type HalfSeed, halvesOf, hashFlow6Low, hashMixLow, hashPrefixFlow6Low } from '../core/hash.ts'
import { beforePort } from '../core/ip.ts'
import { readEntry } from './flow-entry.ts'
import {
  backendOf,
  destinationOf,
  FLOW_TABLES,
  type FlowTable,
  idleOf,
  prefixFlowOf,
  sourceOf,
  stateOf,
  WORD,
} from './flow-tables.ts'
import { FlowValue, Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import type { LiveService } from './reader.ts'
import { viewOf } from './views.ts'

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
  /** Addresses by index of the backend, as they stand before a port; undefined: removed. */
  backends: (string | undefined)[]
}

const CHUNK_ENTRIES = 65536

/** Entries of one table, kept as they stand there. */
class Entries {
  count = 0
  readonly table: FlowTable
  readonly #chunks: BigUint64Array[] = []

  constructor(table: FlowTable) {
    this.table = table
  }

  keep(entry: BigUint64Array): void {
    const place = this.count++ % CHUNK_ENTRIES
    if (place === 0) this.#chunks.push(new BigUint64Array(CHUNK_ENTRIES * entry.length))
    this.#chunks.at(-1)?.set(entry, place * entry.length)
  }

  /** Words, and where a struct flow starts in them. */
  *[Symbol.iterator](): Generator<[Uint32Array, number]> {
    const { words: length, flowAt } = this.table
    let left = this.count
    for (const chunk of this.#chunks) {
      const words = new Uint32Array(chunk.buffer)
      const end = Math.min(left, CHUNK_ENTRIES) * length
      for (let flow = flowAt; flow < end; flow += length) yield [words, flow]
      left -= CHUNK_ENTRIES
    }
  }
}

/** Connections, those of IPv4 first. Made under the instance's lock, while services and their ids hold still; told after. */
export class Connections {
  /** Entries that are wanted and not told, because their service or backend was removed. */
  leftOver = 0
  readonly #entries = Object.values(FLOW_TABLES).map((table) => new Entries(table))
  readonly #owners: (Owner | undefined)[] = new Array(65536)
  readonly #settings: Settings
  readonly #seed: HalfSeed
  readonly #now: number
  readonly #wanted: Wanted

  constructor(memory: PlaneMemory, services: Iterable<LiveService>, wanted: Wanted = {}) {
    this.#settings = Settings.read(viewOf(memory, 'settings'), 0)
    this.#seed = halvesOf(this.#settings.flowSeed)
    this.#wanted = wanted
    this.#now = memory.age()
    const byId: (LiveService | undefined)[] = new Array(65536)
    for (const service of services) byId[service.service.id] = service
    for (const entries of this.#entries) this.#scan(memory, entries, byId)
  }

  get count(): number {
    return this.#entries.reduce((sum, { count }) => sum + count, 0)
  }

  *[Symbol.iterator](): Generator<Connection> {
    for (const entries of this.#entries) {
      for (const [words, flow] of entries) yield this.#connection(entries.table, words, flow)
    }
  }

  #connection(table: FlowTable, words: Uint32Array, flow: number): Connection {
    const portAndId = words[flow + WORD.portAndId] ?? 0
    const low = words[flow + WORD.valueLow] ?? 0
    const owner = this.#owners[portAndId >>> 16]
    const state = STATE_NAMES[stateOf(low)]
    const backend = owner?.backends[backendOf(low)]
    if (owner === undefined || state === undefined || backend === undefined) throw new Error('unreachable: scanned')
    // Direct server return keeps the packet's port.
    const port = portOf(low)
    return {
      protocol: owner.protocol,
      secondsLeft: secondsOfAges(this.#agesLeft(words, flow), this.#settings),
      state,
      source: formatEndpoint({ address: sourceOf(table, words, flow), port: swap16(portAndId & 0xffff) }),
      virtual: `${beforePort(destinationOf(table, words, flow) ?? owner.vip)}:${port}`,
      destination: `${backend}:${port}`,
    }
  }

  /** Negative: it has expired. */
  #agesLeft(words: Uint32Array, flow: number): number {
    const idle = idleOf(words[flow + WORD.valueHigh] ?? 0, this.#now)
    return (this.#settings.timeout[stateOf(words[flow + WORD.valueLow] ?? 0)] ?? 0) - idle
  }

  /** Entries are looked at first as they come, word by word; what seems to be wanted is then read as packets read it. */
  #scan(memory: PlaneMemory, entries: Entries, byId: readonly (LiveService | undefined)[]): void {
    const { table } = entries
    const { flowAt } = table
    const longs = new BigUint64Array(memory.buffer(table.name))
    const words = new Uint32Array(memory.buffer(table.name))
    const read = new BigUint64Array(table.words / 2)
    const readWords = new Uint32Array(read.buffer)
    const matches = matcher(this.#wanted, table)
    for (let flow = flowAt; flow < words.length; flow += table.words) {
      if (!matches(words, flow)) continue
      // False: it changed hands in this moment.
      if (!readEntry(longs, (flow - flowAt) / 2, read)) continue
      if (matches(readWords, flowAt) && this.#isTold(table, readWords, byId)) entries.keep(read)
    }
  }

  #isTold(table: FlowTable, words: Uint32Array, byId: readonly (LiveService | undefined)[]): boolean {
    const { flowAt } = table
    if (this.#agesLeft(words, flowAt) < 0) return false
    const wanted = this.#wanted
    const id = (words[flowAt + WORD.portAndId] ?? 0) >>> 16
    const service = byId[id]
    if (wanted.service !== undefined && service?.name !== wanted.service) return false
    if (service === undefined) {
      if (wanted.backend === undefined) this.leftOver++
      return false
    }
    this.#owners[id] ??= ownerOf(service)
    const owner = this.#owners[id]
    if (!this.#isOwn(table, words, owner)) return false
    const backend = owner.backends[backendOf(words[flowAt + WORD.valueLow] ?? 0)]
    if (backend === undefined && wanted.backend === undefined) this.leftOver++
    return backend !== undefined && (wanted.backend === undefined || backend === beforePort(wanted.backend))
  }

  /** Port and check bits are those of a flow of this service that the key names: else the value was another's. */
  #isOwn(table: FlowTable, words: Uint32Array, { ports }: Owner): boolean {
    const { flowAt } = table
    const low = words[flowAt + WORD.valueLow] ?? 0
    const port = portOf(low)
    if (port < ports.port || port > ports.lastPort) return false
    // flow_locate's seed for the port.
    const seedLow = this.#seed.low + 2 * (low & 0xffff)
    const seed = { low: seedLow >>> 0, high: (this.#seed.high + (seedLow >= 2 ** 32 ? 1 : 0)) >>> 0 }
    const key = { low: words[flowAt] ?? 0, high: words[flowAt + WORD.portAndId] ?? 0 }
    const hash = flowHashLow(table, words, key, seed)
    return (
      hash << (FlowValue.FLOW_CHECK_SHIFT - 32) === ((words[flowAt + WORD.valueHigh] ?? 0) & ~FlowValue.FLOW_AGE_MASK)
    )
  }
}

/** The lower half of the hash by which flow_locate finds an entry, from its words. */
const flowHashLow = ({ name }: FlowTable, words: Uint32Array, key: HalfSeed, seed: HalfSeed): number => {
  switch (name) {
    case 'flows':
      return hashMixLow(key.low, key.high, seed.low, seed.high)
    case 'flows6':
      return hashFlow6Low(words, 0, key, seed)
    case 'prefix_flows6':
      return hashPrefixFlow6Low(words, 0, key, seed)
  }
}

/** The destination port; a value has it in network order. */
const portOf = (low: number): number => swap16(low & 0xffff)

/** What can be told of an entry by itself, without its service. */
const matcher = ({ source, state }: Wanted, table: FlowTable): ((words: Uint32Array, flow: number) => boolean) => {
  const { family, flowAt } = table
  if (source?.family === 'ipv6' && family === 'ipv4') return () => false
  const wantedState = state === undefined ? undefined : STATE_NAMES.indexOf(state)
  const address = source?.words ?? []
  const masks = source?.masks ?? []
  const port = source?.port === undefined ? undefined : swap16(source.port)
  const hasSource = (words: Uint32Array, flow: number): boolean => {
    const ofPrefix = prefixFlowOf(table, words, flow)
    if (ofPrefix !== undefined && source?.family === 'ipv4') {
      return (ofPrefix.source & (masks[0] ?? 0)) >>> 0 === address[0]
    }
    if (source?.family !== family || ofPrefix !== undefined) return false
    for (let i = 0; i < masks.length; i++) {
      if (((words[flow - flowAt + i] ?? 0) & (masks[i] ?? 0)) >>> 0 !== address[i]) return false
    }
    return true
  }
  return (words, flow) => {
    const found = stateOf(words[flow + WORD.valueLow] ?? 0)
    if (STATE_NAMES[found] === undefined || (wantedState !== undefined && found !== wantedState)) return false
    if (masks.length > 0 && !hasSource(words, flow)) return false
    return port === undefined || ((words[flow + WORD.portAndId] ?? 0) & 0xffff) === port
  }
}

const ownerOf = ({ want, backends }: LiveService): Owner => {
  const addresses: (string | undefined)[] = []
  for (const { index, want: backend } of backends) addresses[index] = beforePort(backend.address)
  return { protocol: want.protocol, vip: want.vip, ports: want, backends: addresses }
}
