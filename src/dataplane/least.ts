// SPDX-License-Identifier: Apache-2.0
// Who would get a new flow of a tracked service: bpf/choose.h, for the controller. Nothing is written: no turn is taken, and what is
// found full is not noted.
import {
  Backend,
  Choice,
  ConnectionCounts,
  ConnectionLimit,
  Connections,
  RingSlot,
  ServiceFlag,
  type Service as ServiceRecord,
} from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { slotsAt, viewOf } from './views.ts'

/** What a backend has to do at present, as schedulers see it. */
export interface Load {
  active: number
  inactive: number
}

/** Index of the backend; undefined: none takes it, and whether because all that would are full. */
export interface Taker {
  backend: number | undefined
  full: boolean
  /** The destination's note names it. */
  byNote: boolean
}

/** turns that next_not_full takes before it looks at all backends in a row: TURNS_MAX of bpf/choose.h. */
const TURNS_MAX = 16

export const readConnections = (memory: Pick<PlaneMemory, 'buffer'>, counter: number): Load => {
  const counts = viewOf(memory, 'connections').getBigUint64(counter * Connections.size, true)
  const inactive = BigInt.asIntN(32, counts)
  const active = BigInt.asIntN(32, (counts - inactive) >> BigInt(ConnectionCounts.COUNTS_ACTIVE_SHIFT))
  return { active: Number(active), inactive: Number(inactive) }
}

interface Candidate extends Load {
  index: number
  weight: number
  full: boolean
}

/** is_full, noting nothing. */
const isFull = (memory: PlaneMemory, record: number, counter: number, { active, inactive }: Load): boolean => {
  const { upper, reopens } = ConnectionLimit.read(viewOf(memory, 'connection_limits'), record * ConnectionLimit.size)
  const { full } = Connections.read(viewOf(memory, 'connections'), counter * Connections.size)
  return upper > 0 && active + inactive >= (full === 0 ? upper : reopens)
}

const candidateAt = (memory: PlaneMemory, service: ServiceRecord, index: number): Candidate => {
  const record = service.backendBase + index
  const { counter, weight } = Backend.read(viewOf(memory, 'backends'), record * Backend.size)
  const load = readConnections(memory, counter)
  const limited = (service.flags & ServiceFlag.SERVICE_LIMITED) !== 0
  return { index, weight, ...load, full: limited && isFull(memory, record, counter, load) }
}

/** Does a backend take no new flow because it has as many connections as it may? */
export const isFullNow = (memory: PlaneMemory, service: ServiceRecord, index: number): boolean =>
  candidateAt(memory, service, index).full

/** weigh: load and weight; the less of load / weight is taken. */
const costOf = (choice: number, { active, inactive, weight }: Candidate): { load: bigint; weight: bigint } => ({
  load: BigInt(Math.max(0, choice >= Choice.CHOICE_SED ? active + 1 : 256 * active + inactive)),
  weight: BigInt(choice === Choice.CHOICE_LC ? 1 : weight),
})

/** Do destinations' notes say who gets a new flow? */
export const remembers = ({ choice }: Pick<ServiceRecord, 'choice'>): boolean =>
  choice === Choice.CHOICE_LBLC || choice === Choice.CHOICE_LBLCR

/** least_loaded. */
const leastLoaded = (choice: number, candidates: readonly Candidate[]): number | undefined => {
  const able = candidates.filter(({ weight, full }) => weight > 0 && !full)
  const idle = choice === Choice.CHOICE_NQ ? able.find(({ active }) => active <= 0) : undefined
  if (idle !== undefined) return idle.index
  let best: { index: number; load: bigint; weight: bigint } | undefined
  for (const candidate of able) {
    const cost = costOf(choice, candidate)
    if (best === undefined || best.load * cost.weight > cost.load * best.weight)
      best = { index: candidate.index, ...cost }
  }
  return best?.index
}

/** next_not_full. */
const nextNotFull = (schedule: Uint16Array, cursor: bigint, candidates: readonly Candidate[]): number | undefined => {
  const takes = (index: number): boolean => {
    const candidate = candidates[index]
    return candidate !== undefined && candidate.weight > 0 && !candidate.full
  }
  let index = 0
  for (let turn = 0; turn < TURNS_MAX + candidates.length; turn++) {
    index =
      turn < TURNS_MAX
        ? (schedule[Number((cursor + BigInt(turn)) % BigInt(schedule.length))] ?? 0) & RingSlot.SLOT_BACKEND_MASK
        : (index + 1) % candidates.length
    if (takes(index)) return index
  }
  return undefined
}

/** leave_overloaded. A removed backend's record has no weight, and the counts of nobody. */
const isOverloaded = ({ active, weight }: Candidate, candidates: readonly Candidate[]): boolean =>
  active > weight && candidates.some((other) => other.weight > 0 && !other.full && other.active * 2 < other.weight)

/** The first half of choose_by_destination: who gets the flow of those that the destination's flows went to. */
const leastNoted = (noted: readonly number[], candidates: readonly Candidate[]): number | undefined => {
  const own = noted.flatMap((index) => candidates[index] ?? [])
  const least = leastLoaded(Choice.CHOICE_WLC, own)
  return own.some((candidate) => candidate.index === least && !isOverloaded(candidate, candidates)) ? least : undefined
}

/** choose_for_new, of a service that goes by loads, or has limits. @param noted backends of the destination's note */
export const takerOf = (memory: PlaneMemory, service: ServiceRecord, noted: readonly number[] = []): Taker => {
  const candidates = Array.from({ length: service.backendCount }, (_, index) => candidateAt(memory, service, index))
  const byTurn = service.choice === Choice.CHOICE_TURN
  const kept = leastNoted(noted, candidates)
  if (byTurn && service.scheduleSize === 0) return { backend: undefined, full: false, byNote: false }
  const backend = byTurn
    ? nextNotFull(
        slotsAt(memory, service.scheduleLine, service.scheduleSize),
        Atomics.load(new BigUint64Array(memory.buffer('cursors')), service.id),
        candidates,
      )
    : (kept ?? leastLoaded(remembers(service) ? Choice.CHOICE_WLC : service.choice, candidates))
  const full = backend === undefined && candidates.some(({ weight, full }) => weight > 0 && full)
  return { backend, full, byNote: kept !== undefined }
}
