// SPDX-License-Identifier: Apache-2.0
// What would become of a packet, and why: its way through bpf/xlb.bpf.c, schedule.h and forward.h, walked from the maps alone.
// Nothing is written: no turn is taken, no entry refreshed. test/packet/explain.test.ts holds it against the program.
import { findTarget } from './find.ts'
import { entriesOf, type FlowEntry, hasRoom } from './flow-entry.ts'
import { Cpu, FlowState, type Reason, type Service as ServiceRecord, Settings } from './layout.gen.ts'
import { liveDirectory } from './live-directory.ts'
import { egressKey, type PlaneMemory } from './memory.ts'
import { lookAtSource, type SourceLook } from './source-look.ts'
import { viewOf } from './views.ts'
import {
  type BackendLook,
  type BeforeLook,
  type Budget,
  type Circumstances,
  type DestinationLook,
  type NoteLook,
  type RingLook,
  type TracedPacket,
  type TurnLook,
  Way,
} from './way.ts'

/** Why an entry does not speak for the packet. */
export type Lapse = 'ended' | 'expired' | 'backend-down'

export interface FlowLook {
  /** The two candidate buckets. */
  buckets: readonly [number, number]
  /** Undefined: the flow has none. */
  entry: FlowEntry | undefined
  /** Undefined: the entry holds, or there is none. */
  lapse: Lapse | undefined
}

/**
 * Who names the backend: the ring's slot, the slot of the ring before, the flow's entry, the client's note, the next turn of rr or
 * wrr, what the backends have to do (lc, wlc, sed, nq), or where the destination's flows went (lblc, lblcr).
 */
export type Chooser = 'ring' | 'ring-before' | 'entry' | 'note' | 'schedule' | 'load' | 'destination'

export interface Choice {
  by: Chooser
  /** Index within the service; undefined: none takes it. */
  backend: number | undefined
  /** None does, because those that would are full. */
  full?: true
}

type ReasonName = keyof typeof Reason

/** What is known of a packet that is for a service. */
export interface ServiceLook {
  /** Index into `services`. */
  record: number
  service: ServiceRecord
  tracked: boolean
  ring: RingLook
  /** Undefined: the slot is not marked. */
  before: BeforeLook | undefined
  /** Undefined: the flow table is not asked. */
  flow: FlowLook | undefined
  /** Undefined for a hashed service, and where no backend takes turns. */
  turn: TurnLook | undefined
  /** Undefined: the service has no persistence. */
  note: NoteLook | undefined
  /** Undefined: the scheduler remembers no destinations. */
  destination: DestinationLook | undefined
  choice: Choice
  /** Counted beside the verdict's reason: whether the flow is recorded, or why not. Undefined: it is not to be. */
  recorded: 'FLOW_INSERTED' | 'FLOW_REFUSED_FULL' | 'FLOW_REFUSED_BUDGET' | undefined
  /** Likewise: whether the client is noted. */
  noted: 'CLIENT_NOTED' | 'CLIENT_REFUSED_FULL' | undefined
  /** Likewise, where the destination is not: there is no room. */
  unremembered: 'DESTINATION_REFUSED_FULL' | undefined
  /** Undefined: there is no such backend. */
  backend: BackendLook | undefined
}

export interface Explanation {
  /** The destination is a VIP, or in a prefix that has services. */
  isVip: boolean
  /** That prefix: the longest that holds it. */
  prefix: string | undefined
  /** What filters say of its source; undefined: none is asked. */
  source: SourceLook | undefined
  /** Its service's record; undefined: it is for none. */
  service?: number
  /** Undefined: it is for no service, or its source is refused. */
  look: ServiceLook | undefined
  verdict: 'XDP_PASS' | 'XDP_DROP' | 'XDP_TX' | 'XDP_REDIRECT'
  reason: ReasonName
}

/** budget_left, counting nothing. */
export const budgetOf = (memory: PlaneMemory, cpu: number, now: number): Budget => {
  const { floodHold } = Settings.read(viewOf(memory, 'settings'), 0)
  const { newFlows } = liveDirectory(memory)
  const { budgetAge, budgetUsed, floodAge, flooded } = Cpu.read(viewOf(memory, 'cpus'), cpu * Cpu.size)
  if ((budgetAge === now >>> 0 ? budgetUsed : 0) >= newFlows) return 'spent'
  return flooded !== 0 && (now - floodAge) >>> 0 <= floodHold ? 'flooded' : 'left'
}

const byNote = (way: Way): Choice | undefined => {
  const backend = way.note?.backend
  return backend === undefined ? undefined : { by: 'note', backend }
}

/** backend_by_ring: where packets go that have no entry. @param cutCounts to a backend that is cut too, where it is dropped */
const byRing = (way: Way, cutCounts = false): Choice => {
  const noted = byNote(way)
  if (noted !== undefined) return noted
  const before = way.isMarked ? way.before : undefined
  if (cutCounts && before?.cut === true) return { by: 'ring-before', backend: before.backend }
  if (before?.alive === true && before.counts) return { by: 'ring-before', backend: before.backend }
  return { by: 'ring', backend: way.ring.backend }
}

/** entry_holds, the other way round. */
const lapseOf = (way: Way, entry: FlowEntry): Lapse | undefined => {
  const { opens } = way.packet
  const ended = entry.state === FlowState.FLOW_CLOSING || entry.state === FlowState.FLOW_CLOSED
  if (opens && ended) return 'ended'
  const staysPastTimeout = way.is('SERVICE_TRACKED') && !way.is('SERVICE_UDP') && !opens
  if (!staysPastTimeout && entry.expired) return 'expired'
  const backend = way.backend(entry.backend)
  if (backend?.alive === true || (backend?.cut === true && !opens && !entry.expired)) return undefined
  return 'backend-down'
}

/** The entry that speaks for the packet, of those that the flow has. */
const flowLook = (way: Way): FlowLook => {
  const { place, service, packet, at } = way
  const entries = entriesOf(way.memory, way.settings, place, at.now)
  // settled_backend looks for a fresh settled entry in both buckets before any other, and only for what leaves where it came in.
  const settled = entries.find(({ state, idle, backend }) => {
    if (packet.opens || !way.is('SERVICE_TRACKED') || state !== service.settled || idle !== 0) return false
    const found = way.backend(backend)
    return found?.alive === true && !found.local && found.vlan === undefined && found.interfaceSlot === at.interfaceSlot
  })
  const entry = settled ?? entries[0]
  return { buckets: place.buckets, entry, lapse: entry === undefined ? undefined : lapseOf(way, entry) }
}

type Chosen = Pick<ServiceLook, 'flow' | 'choice' | 'recorded'> & Partial<Pick<ServiceLook, 'noted' | 'unremembered'>>

/** choose_for_new. */
const scheduledBackend = (way: Way): Choice => {
  const { taker } = way
  if (taker === undefined) return { by: 'schedule', backend: way.turn?.backend }
  const by = taker.byNote ? 'destination' : way.isByLoad ? 'load' : 'schedule'
  return { by, backend: taker.backend, ...(taker.full ? { full: true } : {}) }
}

/** scheduled_backend. */
const byScheduler = (way: Way): Choice => {
  const schedules = way.is('SERVICE_TRACKED') && !way.is('SERVICE_BY_RING')
  return schedules && way.at.budget === 'left' ? scheduledBackend(way) : { by: 'ring', backend: way.ring.backend }
}

/** backend_for_new. */
const chooseForNew = (way: Way): Pick<Chosen, 'choice' | 'noted' | 'unremembered'> => {
  const noted = byNote(way)
  if (noted !== undefined) return { choice: noted }
  const choice = byScheduler(way)
  const notes = way.is('SERVICE_PERSISTENT') && choice.backend !== undefined
  return {
    choice,
    ...(notes ? { noted: way.noting } : {}),
    ...(choice.by === 'load' && choice.backend !== undefined ? { unremembered: way.remembering } : {}),
  }
}

/** backend_without_entry: a packet without an entry that holds. */
const chooseAnew = (way: Way, flow: FlowLook): Chosen => {
  const isNew = way.packet.opens || way.is('SERVICE_UDP')
  const chosen = isNew ? chooseForNew(way) : { choice: byRing(way, true) }
  const { backend } = chosen.choice
  if (backend === undefined || (!isNew && way.backend(backend)?.cut === true)) {
    return { flow, ...chosen, recorded: undefined }
  }
  if (flow.entry !== undefined || hasRoom(way.memory, way.settings, way.place, way.at.now)) {
    return { flow, ...chosen, recorded: 'FLOW_INSERTED' }
  }
  // What is not recorded goes where the client's note leads, which may have been written just now.
  const stays = chosen.noted === 'CLIENT_NOTED'
  return { flow, ...chosen, ...(stays ? {} : { choice: byRing(way) }), recorded: 'FLOW_REFUSED_FULL' }
}

/** choose_backend. */
const choose = (way: Way): Chosen => {
  const tracked = way.is('SERVICE_TRACKED')
  if (!tracked && !way.isMarked) return { flow: undefined, choice: byRing(way), recorded: undefined }
  if (way.is('SERVICE_OPS')) {
    return { flow: undefined, choice: { by: 'schedule', backend: way.turn?.backend }, recorded: undefined }
  }
  const isSpent = way.at.budget === 'spent'
  const hashedUdp = !tracked && way.is('SERVICE_UDP')
  // A flood of SYNs does not reach the table.
  if (way.packet.opens && isSpent) return { flow: undefined, choice: byRing(way), recorded: 'FLOW_REFUSED_BUDGET' }
  const flow = flowLook(way)
  if (flow.entry !== undefined && flow.lapse === undefined) {
    return { flow, choice: { by: 'entry', backend: flow.entry.backend }, recorded: undefined }
  }
  if (hashedUdp) return { flow, choice: byRing(way), recorded: undefined }
  if (isSpent) return { flow, choice: byRing(way), recorded: 'FLOW_REFUSED_BUDGET' }
  return chooseAnew(way, flow)
}

/** forward: the verdict for what was chosen. */
const verdictOf = (
  memory: PlaneMemory,
  backend: BackendLook | undefined,
  { full }: Choice,
  interfaceSlot: number,
): Pick<Explanation, 'verdict' | 'reason'> => {
  if (backend === undefined) {
    return { verdict: 'XDP_DROP', reason: full === true ? 'DROP_BACKENDS_FULL' : 'DROP_NO_BACKEND' }
  }
  if (backend.cut) return { verdict: 'XDP_DROP', reason: 'DROP_BACKEND_CUT' }
  if (!backend.alive) return { verdict: 'XDP_DROP', reason: 'DROP_BACKEND_DOWN' }
  if (backend.local) return { verdict: 'XDP_PASS', reason: 'PASS_LOCAL' }
  if (backend.interfaceSlot === interfaceSlot) return { verdict: 'XDP_TX', reason: 'TX_FORWARDED' }
  if (memory.kernelMap('egress').lookup(egressKey(backend.interfaceSlot)) === undefined) {
    return { verdict: 'XDP_DROP', reason: 'DROP_NO_EGRESS' }
  }
  return { verdict: 'XDP_REDIRECT', reason: 'TX_REDIRECTED' }
}

/** asks_for_flow. */
const asksForFlow = (way: Way): boolean => {
  if (!way.is('SERVICE_UDP')) return way.packet.opens
  if (!way.is('SERVICE_TRACKED') || way.is('SERVICE_OPS')) return true
  const { entry, lapse } = flowLook(way)
  return entry === undefined || lapse !== undefined
}

/** Every decision that a packet would meet now. */
export const explain = (memory: PlaneMemory, packet: TracedPacket, at: Circumstances): Explanation => {
  const { isVip, prefix, target } = findTarget(memory, packet)
  if (target === undefined) {
    return {
      isVip,
      prefix,
      source: undefined,
      look: undefined,
      verdict: 'XDP_PASS',
      reason: isVip ? 'PASS_NO_SERVICE' : 'PASS_NOT_VIP',
    }
  }
  const way = new Way(memory, packet, at, target)
  const source = lookAtSource(way, () => asksForFlow(way))
  if (source?.refused !== undefined) {
    return {
      isVip,
      prefix,
      source,
      look: undefined,
      service: target.service,
      verdict: 'XDP_DROP',
      reason: source.refused,
    }
  }
  const chosen = choose(way)
  const backend = way.backend(chosen.choice.backend)
  const look: ServiceLook = {
    record: target.service,
    service: way.service,
    tracked: way.is('SERVICE_TRACKED'),
    ring: way.ring,
    before: way.isMarked ? way.before : undefined,
    turn: way.turn,
    note: way.note,
    noted: undefined,
    destination: way.destination,
    unremembered: undefined,
    ...chosen,
    backend,
  }
  return {
    isVip,
    prefix,
    source,
    look,
    service: target.service,
    ...verdictOf(memory, backend, chosen.choice, at.interfaceSlot),
  }
}
