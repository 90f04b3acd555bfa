// SPDX-License-Identifier: Apache-2.0
// Whole scans of the flow tables, through 32-bit words: 2 million entries take a few milliseconds.

import type { HashInput } from '../core/desired.ts'
import { type HalfSeed, halvesOf, hashMixHigh, hashSource6High, slotOfHigh } from '../core/hash.ts'
import {
  backendOf,
  eachLiveFlow,
  FLOW_TABLES,
  type FlowTable,
  type FlowTableName,
  isActive,
  prefixFlowOf,
  stateOf,
  WORD,
} from './flow-tables.ts'
import { FlowState, PrefixFlow6, RingSlot } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'

/** What of the table goes when indices are given out anew: every entry of some services, those of some backends of others. */
export interface Sweep {
  services: ReadonlySet<number>
  /** Service id -> backend indices. */
  backends: ReadonlyMap<number, ReadonlySet<number>>
}

/**
 * Frees every entry that names one of these services or backends. Packets go on meanwhile: an entry is freed only if it is
 * still what was read. A place that a packet is just writing is of a service that packets can see, so never one of these.
 */
export const sweepFlows = (memory: PlaneMemory, sweep: Sweep): number => {
  // By service id: 0 stays, 1 goes, 2 depends on the backend.
  const fate = new Uint8Array(65536)
  for (const id of sweep.services) fate[id] = 1
  for (const id of sweep.backends.keys()) fate[id] = 2
  return Object.values(FLOW_TABLES).reduce((swept, table) => swept + sweepTable(memory, table, sweep, fate), 0)
}

const sweepTable = (memory: PlaneMemory, table: FlowTable, sweep: Sweep, fate: Uint8Array): number => {
  const words = new Uint32Array(memory.buffer(table.name))
  const values = new BigUint64Array(memory.buffer(table.name))
  let swept = 0
  for (let flow = table.flowAt; flow < words.length; flow += table.words) {
    const low = words[flow + WORD.valueLow] ?? 0
    if (low === 0 || stateOf(low) <= FlowState.FLOW_CLAIMED) continue
    const id = (words[flow + WORD.portAndId] ?? 0) >>> 16
    const what = fate[id]
    if (what === 0) continue
    if (what === 2 && sweep.backends.get(id)?.has(backendOf(low)) !== true) continue
    const place = (flow + WORD.valueLow) / 2
    const seen = Atomics.load(values, place)
    // A packet may have written it since: what is freed is what is judged.
    if ((words[flow + WORD.portAndId] ?? 0) >>> 16 !== id) continue
    if (what === 2 && sweep.backends.get(id)?.has(backendOf(Number(seen & 0xffffffffn))) !== true) continue
    if (Atomics.compareExchange(values, place, seen, 0n) === seen) swept++
  }
  return swept
}

/** A hashed service, as its ring answers now. */
export interface HashedService {
  id: number
  ring: Uint16Array
  seed: bigint
  hash: HashInput
}

interface AskedService extends HashedService {
  half: HalfSeed
  slots: Set<number>
}

/** The upper half of the hash by which a flow asks the ring. */
const ringHashHigh = (words: Uint32Array, flow: number, table: FlowTable, service: AskedService): number => {
  const port = service.hash === 'source-port' ? (words[flow + WORD.portAndId] ?? 0) & 0xffff : 0
  const { low, high } = service.half
  if (table.family === 'ipv4') return hashMixHigh(words[flow] ?? 0, port, low, high)
  const ofPrefix = prefixFlowOf(table, words, flow)
  if (ofPrefix !== undefined) {
    return service.hash === 'destination'
      ? hashMixHigh(ofPrefix.destination, 0, low, high)
      : hashMixHigh(ofPrefix.source, port, low, high)
  }
  const at = flow - table.flowAt + (service.hash === 'destination' ? PrefixFlow6.offset.destination / 4 : 0)
  return hashSource6High(words, at, port, service.half)
}

/** For each of the services: the slots of its ring of which a live entry names another backend than the ring does. */
export const deviatingSlots = (
  memory: PlaneMemory,
  services: readonly HashedService[],
  now: number,
): Map<number, Set<number>> => {
  const asked = new Array<AskedService | undefined>(65536)
  for (const service of services) {
    asked[service.id] = { ...service, half: halvesOf(service.seed), slots: new Set<number>() }
  }
  eachLiveFlow(memory, now, (words, flow, table) => {
    const service = asked[(words[flow + WORD.portAndId] ?? 0) >>> 16]
    if (service === undefined) return
    const slot = slotOfHigh(ringHashHigh(words, flow, table, service), service.ring.length)
    const backend = (service.ring[slot] ?? 0) & RingSlot.SLOT_BACKEND_MASK
    if (backend !== backendOf(words[flow + WORD.valueLow] ?? 0)) service.slots.add(slot)
  })
  return new Map(services.map(({ id }) => [id, asked[id]?.slots ?? new Set<number>()]))
}

/** Live entries of one backend, as IPVS tells them apart (bpf/connections.h): TCP flows that open or are established, and the rest. */
export interface FlowCounts {
  active: number
  inactive: number
}

/** How full a flow table is. */
export interface TableUse {
  used: number
  capacity: number
}

/** Unexpired entries: of a backend, by service id and index; and in all. */
export interface FlowTally {
  of: (service: number, backend: number) => FlowCounts
  tables: Record<FlowTableName, TableUse>
}

/** Counts the tables' unexpired entries. */
export const countFlows = (memory: PlaneMemory, now: number): FlowTally => {
  const counts = new Map<number, FlowCounts>()
  const used = { flows: 0, flows6: 0, prefix_flows6: 0 }
  eachLiveFlow(memory, now, (words, flow, { name }) => {
    const low = words[flow + WORD.valueLow] ?? 0
    const state = stateOf(low)
    used[name]++
    const key = ((words[flow + WORD.portAndId] ?? 0) >>> 16) * 4096 + backendOf(low)
    let count = counts.get(key)
    if (count === undefined) {
      count = { active: 0, inactive: 0 }
      counts.set(key, count)
    }
    if (isActive(state)) count.active++
    else count.inactive++
  })
  const useOf = ({ name, words }: FlowTable): TableUse => ({
    used: used[name],
    capacity: memory.size(name) / 4 / words,
  })
  return {
    of: (service, backend) => counts.get(service * 4096 + backend) ?? { active: 0, inactive: 0 },
    tables: {
      ipv4: useOf(FLOW_TABLES.ipv4),
      ipv6: useOf(FLOW_TABLES.ipv6),
      prefix6: useOf(FLOW_TABLES.prefix6),
    },
  }
}
