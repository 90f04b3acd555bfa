// SPDX-License-Identifier: Apache-2.0
// Where the backends of each service id stand: how an entry of the flow table leads to the counts of its backend (backend_runs and
// connections in bpf/xlb.h). The packet path keeps the counts; here they are cleared for new backends, and mended after a kill.
import { backendOf, FLOW_TABLES, isActive, stateOf, WORD } from './flow-tables.ts'
import {
  Backend,
  ConnectionCounts,
  Connections,
  FlowState,
  Root,
  RunFlag,
  Service as ServiceRecord,
} from './layout.gen.ts'
import { type PlaneMemory, SERVICE_IDS } from './memory.ts'
import type { LiveService, LiveState } from './reader.ts'
import { isSwept, totalsOf } from './totals.ts'
import { viewOf } from './views.ts'

/** struct backend_run, as two words. */
const runOf = (service: ServiceRecord): [low: number, high: number] => [
  service.backendBase,
  service.backendCount | ((isSwept(service) ? RunFlag.RUN_SWEPT : 0) << 16),
]

/** One store: base and count belong together. */
const storeRun = (memory: PlaneMemory, id: number, [low, high]: [number, number]): void => {
  const runs = new BigUint64Array(memory.buffer('backend_runs'))
  Atomics.store(runs, id, (BigInt(high) << 32n) | BigInt(low))
}

export const readService = (memory: PlaneMemory, record: number): ServiceRecord =>
  ServiceRecord.read(viewOf(memory, 'services'), record * ServiceRecord.size)

/** Before the change is committed: has entries lead to the records that it brings. */
export const writeRuns = (memory: PlaneMemory, services: readonly ServiceRecord[]): void => {
  for (const service of services) storeRun(memory, service.id, runOf(service))
}

/** How many services the sweeper works for: none, and it rests. */
export const storeSwept = (memory: PlaneMemory, swept: number): void => {
  Atomics.store(new Uint32Array(memory.buffer('root')), Root.offset.swept / 4, swept)
}

/** Backends that are new begin with nothing. */
export const clearConnections = (memory: PlaneMemory, counters: readonly number[]): void => {
  if (counters.length === 0) return
  const octets = new Uint8Array(memory.buffer('connections'))
  for (const counter of counters) octets.fill(0, counter * Connections.size, (counter + 1) * Connections.size)
}

/** Backends whose limit changed are full by the new one alone. */
export const forgetFull = (memory: PlaneMemory, counters: readonly number[]): void => {
  const view = viewOf(memory, 'connections')
  for (const counter of counters) view.setUint32(counter * Connections.size + Connections.offset.full, 0, true)
}

/**
 * Before a change: makes every id lead where the live state has it, and those of removed services nowhere. Until then the records of
 * what was removed are as they were, so that it does no harm that their entries count.
 *
 * A live service's id leads elsewhere where a command was killed at its commit; what was counted since may have been counted for
 * nobody, and is counted anew from the table. Packets go on: a change that one of them makes while the table is read may be missed.
 */
export const mendRuns = (memory: PlaneMemory, live: LiveState): void => {
  const runs = new Uint32Array(memory.buffer('backend_runs'))
  const wrong: LiveService[] = []
  const ids = new Uint8Array(SERVICE_IDS)
  for (const service of live.services.values()) {
    const { id } = service.service
    const [low, high] = runOf(service.service)
    ids[id] = 1
    if (runs[2 * id] === low && runs[2 * id + 1] === high) continue
    storeRun(memory, id, [low, high])
    wrong.push(service)
  }
  for (let id = 0; id < SERVICE_IDS; id++) {
    if (ids[id] === 0 && (runs[2 * id + 1] ?? 0) !== 0) storeRun(memory, id, [0, 0])
  }
  if (wrong.length > 0) recount(memory, wrong)
  storeSwept(memory, totalsOf(memory, live).swept)
}

/** counts_as. */
const countOf = (state: number): bigint => (isActive(state) ? 1n << BigInt(ConnectionCounts.COUNTS_ACTIVE_SHIFT) : 1n)

/** Counts the entries of these services from the table, expired ones too: they are yet to be freed. */
export const recount = (memory: PlaneMemory, services: readonly LiveService[]): void => {
  const counts = new Map(services.map(({ service }) => [service.id, new BigUint64Array(service.backendCount)]))
  for (const { name, flowAt, words: step } of Object.values(FLOW_TABLES)) {
    const words = new Uint32Array(memory.buffer(name))
    for (let flow = flowAt; flow < words.length; flow += step) {
      const low = words[flow + WORD.valueLow] ?? 0
      if (stateOf(low) <= FlowState.FLOW_CLAIMED) continue
      const of = counts.get((words[flow + WORD.portAndId] ?? 0) >>> 16)
      const backend = backendOf(low)
      if (of !== undefined && backend < of.length) of[backend] = (of[backend] ?? 0n) + countOf(stateOf(low))
    }
  }
  const backends = viewOf(memory, 'backends')
  const connections = new BigUint64Array(memory.buffer('connections'))
  for (const { service } of services) {
    counts.get(service.id)?.forEach((count, index) => {
      const counter = backends.getUint32((service.backendBase + index) * Backend.size + Backend.offset.counter, true)
      if (counter !== 0) Atomics.store(connections, (counter * Connections.size) / 8, count)
    })
  }
}
