// SPDX-License-Identifier: Apache-2.0
// One service, built anew where no packet looks yet: its records, ring, ring before and schedule. What a change leaves as it is
// (a ring whose weights are the same) is shared with the record that packets see, not written again.
import { formatService } from '../core/address.ts'
import { Arena } from '../core/arena.ts'
import {
  type Backend,
  effectiveWeight,
  HASH_INPUTS,
  isHashed,
  isLeaving,
  isTracked,
  SCHEDULERS,
  type Scheduler,
  type Service,
  takesTurns,
} from '../core/desired.ts'
import { expandSeed, hashAddress6, hashMix } from '../core/hash.ts'
import { AF, address6, addressOctets, familyOf, parseIpv4, writeAddress } from '../core/ip.ts'
import { defaultRingSize, maglevRing } from '../core/maglev.ts'
import { changeRing, hasFreshMarks, type MarkedRing, markShift, type NextRing } from '../core/marks.ts'
import { reopensAt, sameMaxConns } from '../core/max-conns.ts'
import { isPrefix, splitPrefix } from '../core/prefix.ts'
import { Refusal } from '../core/refusal.ts'
import { smoothSchedule } from '../core/schedule.ts'
import { type FilterSpace, freeFilterSpace, writeFilter } from './filters.ts'
import {
  BackendDetail,
  BackendFlag,
  Backend as BackendRecord,
  BackendWord,
  Choice,
  ConnectionLimit,
  DrainPersistence,
  FlowState,
  RingLimit,
  RingSlot,
  ServiceDetail,
  ServiceFlag,
  ServicePolicy,
  Service as ServiceRecord,
  Settings,
  VlanChoice,
} from './layout.gen.ts'
import { countersPerCpu, type PlaneMemory, SCHEDULE_TURNS } from './memory.ts'
import { isPersistent, type Persistences, persistFields, persistSlotCount } from './persistence.ts'
import {
  ADMIN_STATES,
  INDICES,
  type LiveService,
  type LiveState,
  linesFor,
  scanBackends,
  slotsAt,
  viewOf,
} from './reader.ts'

/** What is free in the maps, given what is live. */
export interface Space {
  records: Arena
  backends: Arena
  lines: Arena
  ids: Arena
  /** Read from the maps when they are first asked for: a change of weights alone need not look at every backend. */
  counters: () => Arena
  /** Likewise. */
  filters: () => FilterSpace
}

export const freeSpace = (memory: PlaneMemory, live: LiveState): Space => {
  const space: Space = {
    records: new Arena(memory.size('services') / ServiceRecord.size),
    backends: new Arena(memory.size('backends') / BackendRecord.size),
    lines: new Arena(memory.size('rings') / (RingLimit.SLOTS_PER_LINE * 2)),
    ids: new Arena(65536),
    counters: once(() => freeCounters(memory, live)),
    filters: once(() =>
      freeFilterSpace(memory, [live.filter, ...[...live.services.values()].map(({ filter }) => filter)]),
    ),
  }
  for (const found of live.services.values()) {
    const { record, service } = found
    space.records.use(record, 1)
    space.ids.use(service.id, 1)
    space.backends.use(service.backendBase, service.backendCount)
    space.lines.use(service.ringLine, linesFor(service.ringSize))
    space.lines.use(service.scheduleLine, linesFor(service.scheduleSize))
    if (service.flags & ServiceFlag.SERVICE_MARKED) space.lines.use(service.beforeLine, linesFor(service.beforeSize))
    if (isPersistent(found)) space.lines.use(found.policy.persistLine, linesFor(persistSlotCount(found)))
  }
  return space
}

const freeCounters = (memory: PlaneMemory, live: LiveState): Arena => {
  const counters = new Arena(countersPerCpu(memory))
  // Nobody's: records of backends that are not there lead to it.
  counters.use(0, 1)
  scanBackends(memory, live, ({ counter }) => counters.use(counter, 1))
  return counters
}

const once = <T>(make: () => T): (() => T) => {
  let made: T | undefined
  return () => {
    made ??= make()
    return made
  }
}

/** What a build needs beside the service itself. */
export interface BuildContext {
  memory: PlaneMemory
  space: Space
  /** Age now, in the packet path's units. */
  age: number
  nowMs: number
  /** Slots of hashed services of which the flow table deviates, by service id. */
  deviating: ReadonlyMap<number, ReadonlySet<number>>
  persistences: Persistences
}

export interface Built {
  record: number
  id: number
  /** The id was not this service's before: entries that bear it are somebody else's. */
  newId: boolean
  /** Indices that were not in use before: likewise. */
  newIndices: Set<number>
  newCounters: number[]
  /** Another scheduler than before: what that one remembered is of no use. */
  rescheduled: boolean
  /** Of backends that have another limit than before: whether they are full is to be seen anew. */
  relimited: number[]
}

interface Placed {
  index: number
  counter: number
  want: Backend
  sinceMs: number
}

const take = (arena: Arena, length: number, what: string, option: string): number => {
  const start = arena.take(length)
  if (start < 0) {
    throw new Refusal(
      `the table of ${what} is full: ${length} more are needed in a row, ${arena.free} of ${arena.capacity} are free`,
      `nothing was changed; save, detach, and attach again with a larger ${option}`,
    )
  }
  return start
}

/** Each backend's index: its own as before, or one that no live backend has. */
const placeBackends = (want: Service, have: LiveService | undefined, context: BuildContext, built: Built): Placed[] => {
  const before = new Map(have?.backends.map((backend) => [backend.want.address, backend]))
  const indices = new Arena(INDICES)
  for (const backend of before.values()) indices.use(backend.index, 1)
  const placed = want.backends.map((backend): Placed => {
    const known = before.get(backend.address)
    if (known !== undefined) {
      if (!sameMaxConns(known.want.maxConns, backend.maxConns)) built.relimited.push(known.counter)
      const same = known.want.weight === backend.weight && known.want.admin === backend.admin
      return {
        index: known.index,
        counter: known.counter,
        want: backend,
        sinceMs: same ? known.sinceMs : context.nowMs,
      }
    }
    const index = indices.take(1)
    if (index < 0) {
      throw new Refusal(
        `service ${formatService(want)}: more than ${INDICES} backends take part in this change, those that go included`,
        'remove backends in one step and add the new ones in the next',
      )
    }
    const counter = take(context.space.counters(), 1, 'counters', '--backends')
    built.newIndices.add(index)
    built.newCounters.push(counter)
    return { index, counter, want: backend, sinceMs: context.nowMs }
  })
  return placed.sort((a, b) => a.index - b.index)
}

/** struct backend's word. */
const wordOf = ({ path, admin }: Backend): bigint => {
  const takes = admin === 'cut' ? BackendFlag.BACKEND_CUT : BackendFlag.BACKEND_ALIVE
  switch (path.kind) {
    case 'link':
      return (
        (path.mac << BigInt(BackendWord.BACKEND_MAC_SHIFT)) |
        (BigInt(path.interfaceSlot) << BigInt(BackendWord.BACKEND_INTERFACE_SHIFT)) |
        BigInt(takes | (path.vlan === undefined ? 0 : BackendFlag.BACKEND_TAGGED))
      )
    case 'local':
      return BigInt(takes | BackendFlag.BACKEND_LOCAL)
    case 'unresolved':
      return admin === 'cut' ? BigInt(takes) : 0n
  }
}

/** Field by field, over zeros: the codec makes an array of each address, and a restore writes a hundred thousand. */
const writeDetail = (view: DataView, at: number, want: Backend, admin: number, sinceMs: number): void => {
  const { offset } = BackendDetail
  writeAddress(view, at + offset.address, want.address)
  view.setUint16(at + offset.port, want.port)
  view.setUint8(at + offset.family, AF[familyOf(want.address)])
  view.setUint8(at + offset.admin, admin)
  view.setUint32(at + offset.weight, want.weight, true)
  view.setUint16(at + offset.vlan, want.vlan === 'none' ? VlanChoice.VLAN_NONE : (want.vlan ?? 0), true)
  view.setBigUint64(at + offset.sinceMs, BigInt(sinceMs), true)
  view.setUint32(at + offset.upper, want.maxConns?.upper ?? 0, true)
  view.setUint32(at + offset.lower, want.maxConns?.lower ?? 0, true)
}

const writeBackends = (
  memory: PlaneMemory,
  service: Service,
  base: number,
  count: number,
  placed: readonly Placed[],
): void => {
  const records = viewOf(memory, 'backends')
  const details = viewOf(memory, 'backend_details')
  new Uint8Array(memory.buffer('backends'), base * BackendRecord.size, count * BackendRecord.size).fill(0)
  new Uint8Array(memory.buffer('backend_details'), base * BackendDetail.size, count * BackendDetail.size).fill(0)
  const limits = viewOf(memory, 'connection_limits')
  for (const { index, counter, want, sinceMs } of placed) {
    const { maxConns } = want
    ConnectionLimit.write(limits, (base + index) * ConnectionLimit.size, {
      upper: maxConns?.upper ?? 0,
      reopens: maxConns === undefined ? 0 : reopensAt(maxConns),
    })
    BackendRecord.write(records, (base + index) * BackendRecord.size, {
      word: wordOf(want),
      counter,
      vlan: want.path.kind === 'link' ? (want.path.vlan ?? 0) : 0,
      weight: effectiveWeight(service, want),
    })
    writeDetail(details, (base + index) * BackendDetail.size, want, ADMIN_STATES[want.admin], sinceMs)
  }
}

/** What a ring is built from: where two of these are equal, so are the rings. */
const ringInput = (service: Service, backends: readonly { index: number; want: Backend }[]) => ({
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

const CHOICES: Partial<Record<Scheduler, number>> = {
  lc: Choice.CHOICE_LC,
  wlc: Choice.CHOICE_WLC,
  sed: Choice.CHOICE_SED,
  nq: Choice.CHOICE_NQ,
  lblc: Choice.CHOICE_LBLC,
  lblcr: Choice.CHOICE_LBLCR,
}

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
    current: currentRing(context.memory, have),
    fresh,
    now: context.age,
    written: have.service.written,
    timeout,
    markShift: have.service.markShift,
    deviating: context.deviating.get(have.service.id) ?? new Set<number>(),
    removed: new Set(have.backends.map(({ index }) => index).filter((index) => !staying.has(index))),
    markAll: isTracked(have.want) && !isTracked(want),
    rehashed: have.want.seed !== want.seed || have.want.hash !== want.hash,
    foreignBefore: hasForeignBefore(have),
  }
  if (change.rehashed && have.backends.length > 0 && hasFreshMarks(change)) {
    throw new Refusal(
      `service ${formatService(want)}: its ring changed less than ${timeout} s ago, and flows from before that change are still found by the old hash`,
      'change --seed or --hash later, or remove and add the service',
    )
  }
  return changeRing(change)
}

const writeSlots = (context: BuildContext, slots: Uint16Array): number => {
  if (slots.length === 0) return 0
  const line = take(context.space.lines, linesFor(slots.length), 'ring lines', '--backends')
  slotsAt(context.memory, line, slots.length).set(slots)
  return line
}

const scheduleOf = (service: Service, input: RingInput): Uint16Array => {
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

const persistenceDetail = ({ persistence }: Service) => ({
  persistSeconds: persistence?.seconds ?? 0,
  persistPrefix: persistence?.prefix ?? 0,
  persistPrefix6: persistence?.prefix6 ?? 0,
  drainPersistence:
    persistence?.drain === 'cut' ? DrainPersistence.DRAIN_CUTS_CLIENTS : DrainPersistence.DRAIN_KEEPS_CLIENTS,
  group: persistence?.group ?? '',
})

const buildRing = (
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

/** What packets need of it that is not in its record. */
const writePolicy = (
  want: Service,
  have: LiveService | undefined,
  placed: readonly Placed[],
  record: number,
  context: BuildContext,
): void => {
  const { memory, space } = context
  const settings = Settings.read(viewOf(memory, 'settings'), 0)
  const { fields, slots } = persistFields(formatService(want), want, placed, context.persistences, settings)
  const before = { record: have?.filter ?? 0, asked: have?.want ?? {} }
  const at = record * ServicePolicy.size
  new Uint8Array(memory.buffer('service_policies'), at, ServicePolicy.size).fill(0)
  ServicePolicy.write(viewOf(memory, 'service_policies'), at, {
    filter: writeFilter(memory, space.filters, want, before),
    ...fields,
    persistLine: writeSlots(context, slots),
  })
}

/**
 * Writes a service's new state into free places.
 * @returns where it stands; nothing leads there yet.
 * @throws Refusal where a table is full: what was written so far is free again with the next change.
 */
export const buildService = (want: Service, have: LiveService | undefined, context: BuildContext): Built => {
  const { memory, space } = context
  const id = have?.service.id ?? take(space.ids, 1, 'service ids', '--services')
  const record = take(space.records, 1, 'services', '--services')
  const built: Built = {
    record,
    id,
    newId: have === undefined,
    newIndices: new Set(),
    newCounters: [],
    rescheduled: have !== undefined && have.want.scheduler !== want.scheduler,
    relimited: [],
  }
  const placed = placeBackends(want, have, context, built)
  const count = Math.max(0, ...placed.map(({ index }) => index + 1))
  const base = count === 0 ? 0 : take(space.backends, count, 'backends', '--backends')
  writeBackends(memory, want, base, count, placed)
  // The schedulers that go by load have no turns.
  const schedule = scheduleOf(want, ringInput(want, placed))
  ServiceRecord.write(viewOf(memory, 'services'), record * ServiceRecord.size, {
    settled: want.protocol === 'udp' ? FlowState.FLOW_UDP : FlowState.FLOW_ESTABLISHED,
    ...buildRing(want, have, placed, context),
    scheduleLine: writeSlots(context, schedule),
    scheduleSize: schedule.length,
    backendBase: base,
    backendCount: count,
    choice: CHOICES[want.scheduler] ?? Choice.CHOICE_TURN,
    id,
  })
  writePolicy(want, have, placed, record, context)
  ServiceDetail.write(viewOf(memory, 'service_details'), record * ServiceDetail.size, {
    vip: addressOctets(isPrefix(want) ? splitPrefix(want.vip).address : want.vip),
    prefixBits: isPrefix(want) ? splitPrefix(want.vip).bits : 0,
    port: want.port,
    lastPort: want.lastPort,
    family: AF[familyOf(want.vip)],
    protocol: want.protocol === 'tcp' ? 6 : 17,
    scheduler: SCHEDULERS.indexOf(want.scheduler),
    forward: 0,
    hashInput: HASH_INPUTS.indexOf(want.hash),
    ops: want.ops ? 1 : 0,
    ringSize: want.ringSize,
    seed: want.seed,
    name: want.label ?? '',
    changedMs: BigInt(context.nowMs),
    ...persistenceDetail(want),
  })
  return built
}
