// SPDX-License-Identifier: Apache-2.0
// A service's ring, the ring before and its schedule, built anew. A ring whose weights are the same is shared with the record that
// packets see, not written again.
import { formatService } from '../core/address.ts'
import {
  type Backend,
  effectiveWeight,
  isHashed,
  isLeaving,
  isTracked,
  type Service,
  takesTurns,
} from '../core/desired.ts'
import { expandSeed, hashAddress6, hashMix } from '../core/hash.ts'
import { address6, familyOf, parseIpv4 } from '../core/ip.ts'
import { defaultRingSize, maglevRing } from '../core/maglev.ts'
import { changeRing, hasFreshMarks, hasPastMarks, type MarkedRing, markShift, type NextRing } from '../core/marks.ts'
import { Refusal } from '../core/refusal.ts'
import { smoothSchedule } from '../core/schedule.ts'
import type { Placed } from './backend-records.ts'
import { FlowState, RingSlot, ServiceFlag, type Service as ServiceRecord, Settings } from './layout.gen.ts'
import { type PlaneMemory, SCHEDULE_TURNS } from './memory.ts'
import type { LiveService } from './reader.ts'
import { type BuildContext, take } from './space.ts'
import { linesFor, slotsAt, viewOf } from './views.ts'

/** What a ring is built from: where two of these are equal, so are the rings. */
export const ringInput = (service: Service, backends: readonly { index: number; want: Backend }[]) => ({
  // Without those that leave: another director, or this one later, shall come to the same ring.
  size: service.ringSize === 0 ? defaultRingSize(Math.max(1, present(backends))) : service.ringSize,
  weights: backends.map(({ index, want }) => ({ index, want, weight: effectiveWeight(service, want) })),
})

const present = (backends: readonly { want: Backend }[]): number =>
  backends.filter(({ want }) => !isLeaving(want)).length

type RingInput = ReturnType<typeof ringInput>

const sameInput = (a: RingInput, b: RingInput): boolean => {
  const weighted = (input: RingInput) => input.weights.filter(({ weight }) => weight > 0)
  const others = weighted(b)
  const mine = weighted(a)
  return (
    a.size === b.size &&
    mine.length === others.length &&
    mine.every(({ index, weight }, i) => others[i]?.index === index && others[i]?.weight === weight)
  )
}

/** What makes a backend the same on every director. Of IPv6, 144 bits become 64: no two of 4,000 are alike but by a chance of 2^-40. */
const identityOf = ({ address, port }: Backend): bigint => {
  if (familyOf(address) === 'ipv4') return BigInt(parseIpv4(address) ?? 0) * 65536n + BigInt(port)
  return hashMix(hashAddress6(address6(address), IDENTITY_SEED) + BigInt(port), IDENTITY_SEED)
}

/** Any odd number: directors have to agree on it, and nobody gains by knowing it. */
const IDENTITY_SEED = 0x9e3779b97f4a7c15n

const freshRing = (service: Service, input: RingInput): Uint16Array =>
  maglevRing(
    input.weights.map(({ index, want, weight }) => ({
      identity: identityOf(want),
      weight,
      index,
    })),
    input.size,
    service.seed,
    RingSlot.SLOT_NONE,
  )

/** Timeout in ages that a mark of this service has to outlive. */
const markTimeout = (memory: PlaneMemory, service: Service): number => {
  const { timeout } = Settings.read(viewOf(memory, 'settings'), 0)
  return timeout[service.protocol === 'udp' ? FlowState.FLOW_UDP : FlowState.FLOW_ESTABLISHED] ?? 0
}

/** What flags say of the hash by which the ring before is asked. */
const BEFORE_HASH: Readonly<Record<Service['hash'], number>> = {
  source: 0,
  'source-port': ServiceFlag.SERVICE_BEFORE_HASH_PORT,
  destination: ServiceFlag.SERVICE_BEFORE_HASH_DESTINATION,
}

const BEFORE_HASHES = ServiceFlag.SERVICE_BEFORE_HASH_PORT | ServiceFlag.SERVICE_BEFORE_HASH_DESTINATION

/** The ring that packets see now, as copies. */
const currentRing = (memory: PlaneMemory, { service }: LiveService): MarkedRing => {
  const ring = slotsAt(memory, service.ringLine, service.ringSize).slice()
  if ((service.flags & ServiceFlag.SERVICE_MARKED) === 0) return { ring }
  return { ring, before: slotsAt(memory, service.beforeLine, service.beforeSize).slice() }
}

/** Its seed or hash changed, and the ring before is of the time before that. */
const hasForeignBefore = ({ service, want }: LiveService): boolean =>
  (service.flags & ServiceFlag.SERVICE_MARKED) !== 0 &&
  (service.beforeSeed !== expandSeed(want.seed) || (service.flags & BEFORE_HASHES) !== BEFORE_HASH[want.hash])

/** What is known of a service's marks now. */
const markedNow = (memory: PlaneMemory, have: LiveService, now: number) => ({
  current: currentRing(memory, have),
  now,
  written: have.service.written,
  timeout: markTimeout(memory, have.want),
  markShift: have.service.markShift,
  foreignBefore: hasForeignBefore(have),
})

/** Does a mark of this service last only if an entry of the flow table deviates from the ring? */
export const mayDeviate = (memory: PlaneMemory, have: LiveService, age: number): boolean =>
  (have.service.flags & ServiceFlag.SERVICE_MARKED) !== 0 && hasPastMarks(markedNow(memory, have, age))

const nextRing = (
  want: Service,
  have: LiveService,
  fresh: Uint16Array,
  placed: readonly Placed[],
  context: BuildContext,
): NextRing => {
  const timeout = markTimeout(context.memory, want)
  const staying = new Set(placed.map(({ index }) => index))
  const change = {
    ...markedNow(context.memory, have, context.age),
    timeout,
    fresh,
    deviating: context.deviating.get(have.service.id) ?? new Set<number>(),
    removed: new Set(have.backends.map(({ index }) => index).filter((index) => !staying.has(index))),
    markAll: isTracked(have.want) && !isTracked(want),
    rehashed: have.want.seed !== want.seed || have.want.hash !== want.hash,
  }
  if (change.rehashed && have.backends.length > 0 && hasFreshMarks(change)) {
    throw new Refusal(
      `service ${formatService(want)}: its ring changed less than ${timeout} s ago, and flows from before that change are still found by the old hash`,
      'change --seed or --hash later, or remove and add the service',
    )
  }
  return changeRing(change)
}

export const writeSlots = (context: BuildContext, slots: Uint16Array): number => {
  if (slots.length === 0) return 0
  const line = take(context.space.lines, linesFor(slots.length), 'ring lines', '--backends')
  slotsAt(context.memory, line, slots.length).set(slots)
  return line
}

export const scheduleOf = (service: Service, input: RingInput): Uint16Array => {
  if (!takesTurns(service)) return new Uint16Array(0)
  const turns = Math.max(SCHEDULE_TURNS, 2 * input.weights.length)
  return smoothSchedule(
    input.weights.map(({ weight }) => weight),
    turns,
  ).map((position) => input.weights[position]?.index ?? RingSlot.SLOT_NONE)
}

type RingFields = Pick<
  ServiceRecord,
  'ringLine' | 'ringSize' | 'beforeLine' | 'beforeSize' | 'written' | 'marksEnd' | 'markShift' | 'beforeSeed' | 'flags'
>

const ringFieldsOf = (service: ServiceRecord): RingFields => {
  const { ringLine, ringSize, beforeLine, beforeSize, written, marksEnd, markShift, beforeSeed, flags } = service
  return { ringLine, ringSize, beforeLine, beforeSize, written, marksEnd, markShift, beforeSeed, flags }
}

const persistenceFlags = (want: Service): number =>
  want.persistence === undefined
    ? 0
    : ServiceFlag.SERVICE_PERSISTENT | (isHashed(want) ? ServiceFlag.SERVICE_BY_RING : 0)

export const buildRing = (
  want: Service,
  have: LiveService | undefined,
  placed: readonly Placed[],
  context: BuildContext,
): RingFields => {
  const input = ringInput(want, placed)
  const timeout = markTimeout(context.memory, want)
  const flags =
    (isTracked(want) ? ServiceFlag.SERVICE_TRACKED : 0) |
    (want.backends.some(({ path }) => path.kind === 'local') ? ServiceFlag.SERVICE_LOCAL : 0) |
    (want.protocol === 'udp' ? ServiceFlag.SERVICE_UDP : 0) |
    (want.ops ? ServiceFlag.SERVICE_OPS : 0) |
    (want.backends.some(({ maxConns }) => maxConns !== undefined) ? ServiceFlag.SERVICE_LIMITED : 0) |
    (want.filter !== undefined || want.sourceRate !== undefined ? ServiceFlag.SERVICE_POLICY : 0) |
    persistenceFlags(want)
  const same =
    have !== undefined &&
    sameInput(input, ringInput(have.want, have.backends)) &&
    have.want.seed === want.seed &&
    have.want.hash === want.hash &&
    isTracked(have.want) === isTracked(want) &&
    have.want.ops === want.ops &&
    have.backends.every(({ index }) => placed.some((backend) => backend.index === index))
  if (same) {
    const kept = ServiceFlag.SERVICE_MARKED | BEFORE_HASHES
    return { ...ringFieldsOf(have.service), flags: flags | (have.service.flags & kept) }
  }
  const fresh = freshRing(want, input)
  // Marks keep flows where they were; of one-packet scheduling there are none.
  const next =
    have === undefined || want.ops ? { ring: fresh, beforeStays: false } : nextRing(want, have, fresh, placed, context)
  return {
    ringLine: writeSlots(context, next.ring),
    ringSize: next.ring.length,
    ...writeBefore(have, next, context),
    written: context.age % 2 ** 32,
    marksEnd: (context.age + timeout) % 2 ** 32,
    markShift: markShift(timeout),
    flags: flags | beforeFlags(have, next),
  }
}

const writeBefore = (have: LiveService | undefined, { before, beforeStays }: NextRing, context: BuildContext) => ({
  beforeLine: writeSlots(context, before ?? new Uint16Array(0)),
  beforeSize: before?.length ?? 0,
  beforeSeed: have === undefined ? 0n : beforeStays ? have.service.beforeSeed : expandSeed(have.want.seed),
})

const beforeFlags = (have: LiveService | undefined, { before, beforeStays }: NextRing): number => {
  if (have === undefined || before === undefined) return 0
  return ServiceFlag.SERVICE_MARKED | (beforeStays ? have.service.flags & BEFORE_HASHES : BEFORE_HASH[have.want.hash])
}
