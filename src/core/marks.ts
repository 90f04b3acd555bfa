// SPDX-License-Identifier: Apache-2.0
// A ring that changes under living flows (bpf/ring.h and bpf/schedule.h are the other half). A slot whose backend changed is marked: packets of
// it ask the flow table first, and what has no entry there goes to the backend that the slot had before. A mark remembers the
// oldest backend that may still have flows, so that successive changes need no second mark. It ends when the timeout has
// passed (older flows are recorded by then, or gone) and no entry of the flow table deviates from the ring.
import { BeforeSlot, RingSlot } from '../dataplane/layout.gen.ts'

const { SLOT_BACKEND_MASK, SLOT_MARKED, SLOT_NONE } = RingSlot
const { BEFORE_EPOCH_MASK, BEFORE_EPOCH_SHIFT, MARK_EPOCHS } = BeforeSlot

/** A ring as packets see it. Slots of `ring` are of enum ring_slot, those of `before` of enum before_slot. */
export interface MarkedRing {
  ring: Uint16Array
  /** Absent where no slot is marked. May differ from `ring` in size. */
  before?: Uint16Array
}

/** What packets shall see. */
export interface NextRing extends MarkedRing {
  /** The ring before is the one that was there already, and is found by the hash that it was found by. */
  beforeStays: boolean
}

export interface RingChange {
  /** What packets see now. */
  current: MarkedRing
  /** What they shall see: backends by slot, unmarked; may differ from the current ring in size. */
  fresh: Uint16Array
  /** Ages (units of the packet path's clock) now, and when the current ring was written. */
  now: number
  written: number
  /** Ages for which a mark has to last: UDP's timeout, or that of established TCP flows. */
  timeout: number
  markShift: number
  /** Slots of the current ring of which the flow table has an entry that names another backend. */
  deviating: ReadonlySet<number>
  /** Backends that are removed with this change: no mark leads to one. */
  removed: ReadonlySet<number>
  /** Every slot is to be marked: flows may stand in the table that the ring knows nothing of (rr became mh). */
  markAll: boolean
  /** Slots are found by another hash from now on: no slot of the new ring answers to one of the old. */
  rehashed: boolean
  /** That was so at an earlier change: the ring before is found by another hash than the current one. */
  foreignBefore: boolean
}

/** The smallest shift with which MARK_EPOCHS epochs outlast the timeout. */
export const markShift = (timeout: number): number => {
  let shift = 0
  while (MARK_EPOCHS * 2 ** shift < timeout) shift++
  return shift
}

const epochOf = (age: number, shift: number): number => Math.floor(age / 2 ** shift) & BEFORE_EPOCH_MASK

/** What tells whether a mark is still within its timeout, at one moment. */
interface Moment {
  /** All marks are past their timeout. */
  past: boolean
  /** The timeout was raised since they were made, and their epochs do not reach as far: none is, until all are. */
  raised: boolean
  epoch: number
}

const momentOf = (change: Pick<RingChange, 'now' | 'written' | 'timeout' | 'markShift'>): Moment => ({
  past: change.now - change.written > change.timeout,
  raised: change.timeout > MARK_EPOCHS * 2 ** change.markShift,
  epoch: epochOf(change.now, change.markShift),
})

/** Is the mark at a slot of the ring before still within its timeout? */
const isFresh = ({ past, raised, epoch }: Moment, beforeSlot: number): boolean =>
  !past && (raised || ((epoch - (beforeSlot >> BEFORE_EPOCH_SHIFT)) & BEFORE_EPOCH_MASK) <= MARK_EPOCHS)

/** First and last slot of a ring of `of` slots whose share of the hash space overlaps slot `slot` of a ring of `size`. */
const firstOverlap = (slot: number, size: number, of: number): number => Math.floor((slot * of) / size)
const lastOverlap = (slot: number, size: number, of: number): number =>
  Math.min(of - 1, Math.ceil(((slot + 1) * of) / size) - 1)

/** Is any mark of the current ring still within its timeout? Where not, its marks stand for deviating entries alone. */
export const hasFreshMarks = (
  change: Pick<RingChange, 'current' | 'now' | 'written' | 'timeout' | 'markShift' | 'foreignBefore'>,
): boolean => {
  const moment = momentOf(change)
  const { before, ring } = change.current
  if (before === undefined || change.now - change.written > change.timeout) return false
  // Found by another hash, it may lead any slot's packets anywhere: all of it counts, of whatever size.
  if (change.foreignBefore) return before.some((slot) => isFresh(moment, slot))
  if (before.length !== ring.length) return true
  return before.some((slot, i) => ((ring[i] ?? 0) & SLOT_MARKED) !== 0 && isFresh(moment, slot))
}

/**
 * Is there a mark that lasts only if an entry of the flow table deviates? While there is none, the table need not be looked
 * through: every mark stays by its age.
 */
export const hasPastMarks = (
  change: Pick<RingChange, 'current' | 'now' | 'written' | 'timeout' | 'markShift' | 'foreignBefore'>,
): boolean => {
  const { before, ring } = change.current
  if (before === undefined) return false
  const moment = momentOf(change)
  if (moment.past || before.length !== ring.length || change.foreignBefore) return true
  return before.some((slot, i) => ((ring[i] ?? 0) & SLOT_MARKED) !== 0 && !isFresh(moment, slot))
}

/**
 * Ages, from now, for which a mark within its timeout leads to a backend; 0: none does. The backend takes no new flows, so that
 * what goes there by the ring goes by a mark.
 */
export const lastMarkOf = (
  backend: number,
  change: Pick<RingChange, 'current' | 'now' | 'written' | 'timeout' | 'markShift'>,
): number => {
  const { ring, before } = change.current
  const moment = momentOf(change)
  if (before === undefined || moment.past) return 0
  let youngest = MARK_EPOCHS + 1
  for (const [i, slot] of before.entries()) {
    if ((slot & SLOT_BACKEND_MASK) !== backend) continue
    if (before.length === ring.length && ((ring[i] ?? 0) & SLOT_MARKED) === 0) continue
    youngest = Math.min(youngest, (moment.epoch - (slot >> BEFORE_EPOCH_SHIFT)) & BEFORE_EPOCH_MASK)
  }
  if (youngest > MARK_EPOCHS) return 0
  const epoch = 2 ** change.markShift
  const epochEnds = (MARK_EPOCHS + 1 - youngest) * epoch - (change.now % epoch)
  return Math.min(epochEnds, change.written + change.timeout + 1 - change.now)
}

/** The slots of the current ring that have to stay marked, whatever their backend becomes. */
const lasting = (change: RingChange, freshAtAll: boolean): Uint8Array => {
  const moment = momentOf(change)
  const { ring, before } = change.current
  const stay = new Uint8Array(ring.length)
  // A ring before that another hash finds may lead any slot's packets anywhere.
  if (change.markAll || change.rehashed || (change.foreignBefore && freshAtAll)) return stay.fill(1)
  for (const slot of change.deviating) stay[slot] = 1
  if (before === undefined || !freshAtAll) return stay
  const sameSize = before.length === ring.length
  for (let i = 0; i < ring.length; i++) {
    if (((ring[i] ?? 0) & SLOT_MARKED) !== 0 && (!sameSize || isFresh(moment, before[i] ?? 0))) stay[i] = 1
  }
  return stay
}

/** No mark is within its timeout: the current ring becomes the ring before. */
const beforeOfUnmarked = (change: RingChange, epoch: number): Uint16Array => {
  const { ring } = change.current
  const next = new Uint16Array(ring.length)
  for (let i = 0; i < ring.length; i++) {
    const backend = (ring[i] as number) & SLOT_BACKEND_MASK
    next[i] = (isGone(change, backend) ? SLOT_NONE : backend) | epoch
  }
  return next
}

/** The current ring becomes the ring before; where it has a mark within its timeout, that mark's backend stays. */
const beforeOfSameSize = (change: RingChange, before: Uint16Array, epoch: number): Uint16Array => {
  const moment = momentOf(change)
  const { ring } = change.current
  // With another timeout epochs may have another length.
  const epochsStay = change.fresh.length === ring.length && markShift(change.timeout) === change.markShift
  const next = new Uint16Array(ring.length)
  for (let i = 0; i < ring.length; i++) {
    const now = ring[i] as number
    const old = before[i] as number
    // The oldest backend, unless an earlier change removed it: packets have gone to the present one since.
    const keeps = (now & SLOT_MARKED) !== 0 && (old & SLOT_BACKEND_MASK) !== SLOT_NONE && isFresh(moment, old)
    const backend = (keeps ? old : now) & SLOT_BACKEND_MASK
    next[i] = (isGone(change, backend) ? SLOT_NONE : backend) | (keeps && epochsStay ? old & ~SLOT_BACKEND_MASK : epoch)
  }
  return next
}

const isGone = ({ removed }: RingChange, backend: number): boolean =>
  backend === SLOT_NONE || (removed.size > 0 && removed.has(backend))

/**
 * Some marks are in force and the ring before has another size: it stays, slot by slot. Where no mark overlaps a slot, its
 * backend is the current ring's too, and the mark to come is of now; where some do, their mark lasts as long as the new one.
 * A mark that is past stands for nothing any more: the current ring's backend takes its place. Where a slot overlaps several
 * of the current ring's, that can be one backend only; then, and only then, a flow of UDP may change its backend early.
 */
const beforeOfOtherSize = (change: RingChange, before: Uint16Array, epoch: number): Uint16Array => {
  const { ring } = change.current
  return before.map((slot, i) => {
    const first = firstOverlap(i, before.length, ring.length)
    const last = lastOverlap(i, before.length, ring.length)
    let unmarked = -1
    for (let j = last; j >= first; j--) if (((ring[j] ?? 0) & SLOT_MARKED) === 0) unmarked = j
    const keeps = (slot & SLOT_BACKEND_MASK) !== SLOT_NONE
    // An unmarked slot's flows have nobody else to tell of their backend.
    const backend = (keeps ? slot : (ring[unmarked < 0 ? first : unmarked] ?? SLOT_NONE)) & SLOT_BACKEND_MASK
    return (isGone(change, backend) ? SLOT_NONE : backend) | epoch
  })
}

/** Another hash finds it: none of its slots answers to one of the current ring. */
const foreignBefore = (change: RingChange, before: Uint16Array): Uint16Array =>
  before.map((slot) => (isGone(change, slot & SLOT_BACKEND_MASK) ? SLOT_NONE | (slot & ~SLOT_BACKEND_MASK) : slot))

/** The ring before, as it is after this change: the oldest backend of each slot, and when it was marked. */
const nextBefore = (change: RingChange, freshAtAll: boolean): Uint16Array => {
  const { ring, before } = change.current
  const epoch = epochOf(change.now, change.markShift) << BEFORE_EPOCH_SHIFT
  if (before === undefined || !freshAtAll) return beforeOfUnmarked(change, epoch)
  if (change.foreignBefore) return foreignBefore(change, before)
  return before.length === ring.length
    ? beforeOfSameSize(change, before, epoch)
    : beforeOfOtherSize(change, before, epoch)
}

/** Marks the slots of `next` (the fresh ring) that need it. @returns how many */
const mark = (change: RingChange, stay: Uint8Array, next: Uint16Array, resized: boolean): number => {
  const { ring } = change.current
  if (next.length === ring.length) return markSameSize(ring, stay, next, resized)
  let marks = 0
  for (let slot = 0; slot < next.length; slot++) {
    const backend = next[slot] ?? SLOT_NONE
    const last = lastOverlap(slot, next.length, ring.length)
    for (let old = firstOverlap(slot, next.length, ring.length); old <= last; old++) {
      const before = (ring[old] ?? SLOT_NONE) & SLOT_BACKEND_MASK
      if (stay[old] === 0 && (before === backend || (before === SLOT_NONE && !resized))) continue
      next[slot] = backend | SLOT_MARKED
      marks++
      break
    }
  }
  return marks
}

/** As mark, slot by slot; without branches, as nobody could predict which slots change. */
const markSameSize = (ring: Uint16Array, stay: Uint8Array, next: Uint16Array, resized: boolean): number => {
  const fromNobody = resized ? 1 : 0
  let marks = 0
  for (let slot = 0; slot < next.length; slot++) {
    const backend = next[slot] as number
    const before = (ring[slot] as number) & SLOT_BACKEND_MASK
    const differs = -(before ^ backend) >>> 31
    const marked = (stay[slot] as number) | (differs & (before === SLOT_NONE ? fromNobody : 1))
    next[slot] = backend | (marked * SLOT_MARKED)
    marks += marked
  }
  return marks
}

/**
 * The ring that packets shall see: `fresh`, with a mark on every slot of which older flows may live.
 *
 * A rehashed ring is marked throughout; the caller has made sure that no mark is within its timeout then, because the ring
 * before can be found by one hash only.
 */
export const changeRing = (change: RingChange): NextRing => {
  const freshAtAll = !change.rehashed && hasFreshMarks(change)
  const ring = change.fresh.slice()
  const stay = lasting(change, freshAtAll)
  const { length } = change.current.ring
  // A ring before of another size cannot tell a slot that had nobody from its neighbours: such slots are marked too.
  const resized = stay.includes(1) && (ring.length !== length || (change.current.before ?? ring).length !== length)
  const marks = mark(change, stay, ring, resized)
  if (marks === 0) return { ring, beforeStays: false }
  return { ring, before: nextBefore(change, freshAtAll), beforeStays: freshAtAll && change.foreignBefore }
}
