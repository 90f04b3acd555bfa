// SPDX-License-Identifier: Apache-2.0
// What remains of one backend's flows: those in the flow table, and for how long others may go there that are recorded nowhere.
import { isTracked } from '../core/desired.ts'
import { lastMarkOf } from '../core/marks.ts'
import { secondsOfAges } from './connections.ts'
import { backendOf, eachLiveFlow, idleOf, stateOf, WORD } from './flow-tables.ts'
import type { FlowTally } from './flows.ts'
import { FlowState, ServiceFlag, Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import type { LiveService } from './reader.ts'
import { slotsAt, viewOf } from './views.ts'

/** Ages after which a connection whose client has closed its half is taken for ended; its entry lasts longer. */
const CLOSED_IDLE_AGES = 5

export interface RemainingFlows {
  /** Unexpired entries. */
  entries: number
  /** Of these, connections that are under way: not closed, nor closing and silent for some seconds. */
  underWay: number
}

/** Entries of one backend, by service id and index. */
export const remainingFlows = (memory: PlaneMemory, id: number, index: number): RemainingFlows => {
  const now = memory.age()
  const { FLOW_CLOSED, FLOW_CLOSING } = FlowState
  const counts: RemainingFlows = { entries: 0, underWay: 0 }
  eachLiveFlow(memory, now, (words, flow) => {
    if ((words[flow + WORD.portAndId] ?? 0) >>> 16 !== id) return
    const low = words[flow + WORD.valueLow] ?? 0
    if (backendOf(low) !== index) return
    const state = stateOf(low)
    const isOver = state === FLOW_CLOSING && idleOf(words[flow + WORD.valueHigh] ?? 0, now) > CLOSED_IDLE_AGES
    counts.entries++
    if (state !== FLOW_CLOSED && !isOver) counts.underWay++
  })
  return counts
}

/**
 * Seconds until no packet goes to this backend, which gets no new flows, but for those with an entry. 0 in a tracked service,
 * which records flows when they begin. A hashed one leads packets there by the marks of its ring.
 */
export const unseenSeconds = (memory: PlaneMemory, { service, want }: LiveService, index: number): number => {
  if (isTracked(want) || (service.flags & ServiceFlag.SERVICE_MARKED) === 0) return 0
  const settings = Settings.read(viewOf(memory, 'settings'), 0)
  const last = lastMarkOf(index, {
    current: {
      ring: slotsAt(memory, service.ringLine, service.ringSize),
      before: slotsAt(memory, service.beforeLine, service.beforeSize),
    },
    now: memory.age(),
    written: service.written,
    timeout: settings.timeout[want.protocol === 'udp' ? FlowState.FLOW_UDP : FlowState.FLOW_ESTABLISHED] ?? 0,
    markShift: service.markShift,
  })
  return secondsOfAges(last, settings)
}

/** Is a leaving backend still there for anybody? @param flows counted after the backend's removal was committed */
export const isNeeded = (memory: PlaneMemory, flows: FlowTally, service: LiveService, index: number): boolean => {
  const { active, inactive } = flows.of(service.service.id, index)
  return active + inactive > 0 || unseenSeconds(memory, service, index) > 0
}
