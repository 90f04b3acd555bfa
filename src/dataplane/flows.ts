// SPDX-License-Identifier: Apache-2.0
// Whole scans of the flow table, through 32-bit words: 2 million entries take a few milliseconds. Entry i (struct flow) is
// words 4i to 4i + 3: source address; source port and service id; port, backend and state; age and check bits.
import { hashMixHigh, slotOfHigh } from '../core/hash.ts'
import { FlowState, FlowValue, RingSlot, Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { viewOf } from './reader.ts'

const WORDS = 4

const stateOf = (valueLow: number): number => (valueLow >>> FlowValue.FLOW_STATE_SHIFT) & FlowValue.FLOW_STATE_MASK
const backendOf = (valueLow: number): number =>
  (valueLow >>> FlowValue.FLOW_BACKEND_SHIFT) & FlowValue.FLOW_BACKEND_MASK
/** Age stands in the lowest bits of the value's upper word. */
const idleOf = (valueHigh: number, now: number): number => (now - valueHigh) & FlowValue.FLOW_AGE_MASK

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
  const words = new Uint32Array(memory.buffer('flows'))
  const values = new BigUint64Array(memory.buffer('flows'))
  // By service id: 0 stays, 1 goes, 2 depends on the backend.
  const fate = new Uint8Array(65536)
  for (const id of sweep.services) fate[id] = 1
  for (const id of sweep.backends.keys()) fate[id] = 2
  let swept = 0
  for (let at = 0; at < words.length; at += WORDS) {
    const low = words[at + 2] ?? 0
    if (low === 0 || stateOf(low) <= FlowState.FLOW_CLAIMED) continue
    const id = (words[at + 1] ?? 0) >>> 16
    const what = fate[id]
    if (what === 0) continue
    if (what === 2 && sweep.backends.get(id)?.has(backendOf(low)) !== true) continue
    const place = at / 2 + 1
    const seen = Atomics.load(values, place)
    // A packet may have written it since: what is freed is what is judged.
    if ((words[at + 1] ?? 0) >>> 16 !== id) continue
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
  withPort: boolean
}

/** For each of the services: the slots of its ring of which a live entry names another backend than the ring does. */
export const deviatingSlots = (
  memory: PlaneMemory,
  services: readonly HashedService[],
  now: number,
): Map<number, Set<number>> => {
  const words = new Uint32Array(memory.buffer('flows'))
  const { timeout } = Settings.read(viewOf(memory, 'settings'), 0)
  const found = new Map(services.map((service) => [service.id, new Set<number>()]))
  const byId = new Map(services.map((service) => [service.id, service]))
  const asked = new Uint8Array(65536)
  for (const { id } of services) asked[id] = 1
  for (let at = 0; at < words.length; at += WORDS) {
    const portAndId = words[at + 1] ?? 0
    if (asked[portAndId >>> 16] === 0) continue
    const low = words[at + 2] ?? 0
    const state = stateOf(low)
    if (state <= FlowState.FLOW_CLAIMED || idleOf(words[at + 3] ?? 0, now) > (timeout[state] ?? 0)) continue
    const service = byId.get(portAndId >>> 16)
    if (service === undefined) continue
    const seedLow = Number(service.seed & 0xffffffffn)
    const seedHigh = Number(service.seed >> 32n)
    const high = hashMixHigh(words[at] ?? 0, service.withPort ? portAndId & 0xffff : 0, seedLow, seedHigh)
    const slot = slotOfHigh(high, service.ring.length)
    if (((service.ring[slot] ?? 0) & RingSlot.SLOT_BACKEND_MASK) !== backendOf(low)) found.get(service.id)?.add(slot)
  }
  return found
}

/** Live entries of one backend: established (and UDP seen again) flows, and the rest. */
export interface FlowCounts {
  active: number
  inactive: number
}

/** Counts the table's unexpired entries: by service id and backend index, and in all. */
export const countFlows = (
  memory: PlaneMemory,
  now: number,
): { of: (service: number, backend: number) => FlowCounts; total: number; capacity: number } => {
  const words = new Uint32Array(memory.buffer('flows'))
  const { timeout } = Settings.read(viewOf(memory, 'settings'), 0)
  const counts = new Map<number, FlowCounts>()
  let total = 0
  for (let at = 0; at < words.length; at += WORDS) {
    const low = words[at + 2] ?? 0
    const state = stateOf(low)
    if (state <= FlowState.FLOW_CLAIMED || idleOf(words[at + 3] ?? 0, now) > (timeout[state] ?? 0)) continue
    total++
    const key = ((words[at + 1] ?? 0) >>> 16) * 4096 + backendOf(low)
    let count = counts.get(key)
    if (count === undefined) {
      count = { active: 0, inactive: 0 }
      counts.set(key, count)
    }
    if (state === FlowState.FLOW_ESTABLISHED || state === FlowState.FLOW_UDP) count.active++
    else count.inactive++
  }
  return {
    of: (service, backend) => counts.get(service * 4096 + backend) ?? { active: 0, inactive: 0 },
    total,
    capacity: words.length / WORDS,
  }
}
