// SPDX-License-Identifier: Apache-2.0
// Applies a plan: writes everything new where no packet looks, then commits by one aligned store. Killed before that store
// a command has changed nothing; after it, everything. What it leaves behind is free again for the next one, because free is
// whatever the live state does not use.
import { parseIpv4, swap32 } from '../core/address.ts'
import { isTracked, type Service } from '../core/desired.ts'
import { planDirectory, planVips } from '../core/directory.ts'
import { expandSeed } from '../core/hash.ts'
import type { Change } from '../core/plan.ts'
import { Refusal } from '../core/refusal.ts'
import { type BuildContext, type Built, buildService, freeSpace } from './builder.ts'
import { clearCounts } from './counters.ts'
import { deviatingSlots, sweepFlows } from './flows.ts'
import {
  BucketLimit,
  Directory,
  HashedBits,
  type Interface,
  InterfaceLimit,
  Live,
  Root,
  ServiceFlag,
  Target,
  TargetBucket,
  TargetFlag,
} from './layout.gen.ts'
import { capacityOf, type PlaneMemory } from './memory.ts'
import {
  bucketsPerDirectory,
  type LiveService,
  type LiveState,
  scanBackends,
  serviceKey,
  slotsAt,
  type TargetTable,
  viewOf,
} from './reader.ts'

export interface ApplyOptions {
  /** Unix time now, milliseconds. */
  nowMs: number
  /** 64 random bits at each call. */
  random: () => bigint
  /** Called just before the one write that commits: a test stops here. */
  beforeCommit?: () => void
}

interface Entry {
  key: bigint
  vip: number
  record: number
  seed: bigint
  mask: bigint
}

interface Placed {
  entry: Entry
  bucket: number
}

/**
 * Who stands in its VIP's bucket, and who in the second table: each VIP has one target in the first at least, and further ones
 * while there is room.
 */
const shareOut = (entries: readonly Entry[], buckets: number, bucketOf: (vip: number) => number) => {
  const filled = new Uint8Array(buckets)
  const first: Placed[] = []
  const others: Entry[] = []
  const seen = new Set<number>()
  for (const entry of entries) {
    if (seen.has(entry.vip)) {
      others.push(entry)
      continue
    }
    seen.add(entry.vip)
    const bucket = bucketOf(entry.vip)
    filled[bucket] = (filled[bucket] ?? 0) + 1
    first.push({ entry, bucket })
  }
  const second: Entry[] = []
  for (const entry of others) {
    const bucket = bucketOf(entry.vip)
    const places = filled[bucket] ?? 0
    if (places < BucketLimit.TARGETS_PER_BUCKET) {
      filled[bucket] = places + 1
      first.push({ entry, bucket })
    } else second.push(entry)
  }
  return { first, second }
}

/** Writes one table: `placed` into buckets from `base` on, everything else free. */
const writeTable = (
  memory: PlaneMemory,
  table: TargetTable,
  base: number,
  buckets: number,
  placed: readonly Placed[],
  flagsOf: (entry: Entry) => number,
): void => {
  new Uint8Array(memory.buffer(table), base * TargetBucket.size, buckets * TargetBucket.size).fill(0)
  const view = viewOf(memory, table)
  const filled = new Uint8Array(buckets)
  for (const { entry, bucket } of placed) {
    const place = filled[bucket] ?? 0
    filled[bucket] = place + 1
    Target.write(view, (base + bucket) * TargetBucket.size + place * Target.size, {
      key: entry.key,
      ringSeed: entry.seed,
      hashMask: entry.mask,
      service: entry.record,
      flags: flagsOf(entry),
    })
  }
}

/** Writes both tables of the directory that packets do not use. @returns the root.live that makes them live */
const writeDirectory = (
  memory: PlaneMemory,
  live: LiveState,
  entries: readonly Entry[],
  random: () => bigint,
): bigint => {
  const spare = live.live === 0 ? 1 : 0
  const capacity = bucketsPerDirectory(memory)
  const base = spare * capacity
  const perBucket = BucketLimit.TARGETS_PER_BUCKET

  const vips = [...new Set(entries.map(({ vip }) => vip))]
  const plan = planVips(vips.map(swap32), perBucket, capacity, (shift) => liveWord(random(), spare, capacity, shift))
  const bucketOfVip = new Map(vips.map((vip, i) => [vip, plan.bucketOf[i] ?? 0]))
  const { first, second } = shareOut(entries, plan.buckets, (vip) => bucketOfVip.get(vip) ?? 0)
  const withMore = new Set(second.map(({ vip }) => vip))
  writeTable(memory, 'vip_buckets', base, plan.buckets, first, ({ vip }) =>
    withMore.has(vip) ? TargetFlag.TARGET_MORE : 0,
  )

  const services = planDirectory(
    second.map(({ key }) => key),
    perBucket,
    capacity,
    random,
  )
  const placed = second.map((entry, i) => ({ entry, bucket: services.bucketOf[i] ?? 0 }))
  writeTable(memory, 'service_buckets', base, services.buckets, placed, () => 0)
  Directory.write(viewOf(memory, 'root'), Root.offset.directory + spare * Directory.size, {
    serviceMultiplier: services.multiplier,
    serviceBase: base,
    serviceShift: services.shift,
  })
  return plan.multiplier
}

/** root.live for a directory with `half` buckets of which VIPs use 2^(64 - shift). */
const liveWord = (random: bigint, live: 0 | 1, half: number, shift: number): bigint => {
  const fixed = BigInt(half) | BigInt(Live.LIVE_SHIFT_MASK)
  return (BigInt.asUintN(64, random) & ~fixed) | BigInt(live * half) | BigInt(shift)
}

const store32 = (buffer: ArrayBuffer, offset: number, value: number): void => {
  Atomics.store(new Uint32Array(buffer), offset / 4, value)
}

/** Hashed services with marks, among those that change: their slots' marks last while flows deviate. */
const findDeviating = (memory: PlaneMemory, changed: readonly LiveService[], age: number) => {
  const asked = changed.filter(({ service, want }) => service.flags & ServiceFlag.SERVICE_MARKED && !isTracked(want))
  if (asked.length === 0) return new Map<number, Set<number>>()
  return deviatingSlots(
    memory,
    asked.map(({ service, want }) => ({
      id: service.id,
      ring: slotsAt(memory, service.ringLine, service.ringSize),
      seed: expandSeed(want.seed),
      withPort: want.hash === 'source-port',
    })),
    age,
  )
}

const buildAll = (changes: readonly Change[], live: LiveState, context: BuildContext): Map<string, Built> => {
  const built = new Map<string, Built>()
  for (const change of changes) {
    if (change.kind === 'remove') continue
    built.set(change.name, buildService(change.want, live.services.get(change.name), context))
  }
  return built
}

/** struct target's hash_mask. */
const hashMask = ({ hash }: Service): bigint =>
  (1n << BigInt(hash === 'source' ? HashedBits.HASHED_SOURCE : HashedBits.HASHED_SOURCE_PORT)) - 1n

const entriesAfter = (
  memory: PlaneMemory,
  changes: readonly Change[],
  live: LiveState,
  built: ReadonlyMap<string, Built>,
): Entry[] => {
  const after = new Map<string, Entry>()
  for (const { name, target, record } of live.services.values()) {
    const { key, ringSeed, hashMask } = Target.read(viewOf(memory, target.table), target.at)
    after.set(name, { key, vip: swap32(Number(key & 0xffffffffn)), record, seed: ringSeed, mask: hashMask })
  }
  for (const change of changes) {
    const record = built.get(change.name)?.record
    if (change.kind === 'remove' || record === undefined) {
      after.delete(change.name)
      continue
    }
    const vip = parseIpv4(change.want.vip) ?? 0
    const hashed = { seed: expandSeed(change.want.seed), mask: hashMask(change.want) }
    after.set(change.name, { key: serviceKey(change.want, vip), vip, record, ...hashed })
  }
  return [...after.values()]
}

/** How many backends a change adds to a service, or takes from it. */
const backendsAdded = (change: Change): number =>
  (change.kind === 'remove' ? 0 : change.want.backends.length) -
  (change.kind === 'add' ? 0 : change.have.backends.length)

const servicesAdded = ({ kind }: Change): number => (kind === 'add' ? 1 : kind === 'remove' ? -1 : 0)

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)

const countBackends = (memory: PlaneMemory, live: LiveState): number => {
  let count = 0
  scanBackends(memory, live, () => {
    count++
  })
  return count
}

const checkCapacity = (memory: PlaneMemory, live: LiveState, changes: readonly Change[]): void => {
  const capacity = capacityOf(memory)
  const added = sum(changes.map(backendsAdded))
  const wanted = {
    services: live.services.size + sum(changes.map(servicesAdded)),
    // Those that were there fit: they need counting only where more come.
    backends: added > 0 ? countBackends(memory, live) + added : 0,
  }
  for (const table of ['services', 'backends'] as const) {
    if (wanted[table] <= capacity[table]) continue
    throw new Refusal(
      `the table of ${table} is full: ${wanted[table]} are wanted, and it holds ${capacity[table]}`,
      `nothing was changed; save, detach, and attach again with a larger --${table}`,
    )
  }
}

/**
 * Makes the maps hold what the plan wants, whole or not at all.
 *
 * @param live what readLive answered; nobody else may change the maps in between (the instance's lock)
 * @throws Refusal where a table is full; nothing is changed then
 */
export const applyChanges = (
  memory: PlaneMemory,
  live: LiveState,
  changes: readonly Change[],
  options: ApplyOptions,
): void => {
  if (changes.length === 0) return
  // Whatever an earlier command retired may still be under the eyes of a packet that came before its commit.
  memory.waitForPrograms()
  const age = memory.age()
  const changed = changes.flatMap(({ name }) => live.services.get(name) ?? [])
  const context: BuildContext = {
    memory,
    space: freeSpace(memory, live),
    age,
    nowMs: options.nowMs,
    deviating: findDeviating(memory, changed, age),
  }
  checkCapacity(memory, live, changes)
  const built = buildAll(changes, live, context)
  forgetFlows(memory, [...built.values()])

  const [only] = changes
  // What is hashed, and by which seed, stands in the target too: a change of these takes a new directory.
  const rehashed = only?.kind === 'change' && (only.have.seed !== only.want.seed || only.have.hash !== only.want.hash)
  if (changes.length === 1 && only?.kind === 'change' && !rehashed) {
    const target = live.services.get(only.name)
    const record = built.get(only.name)?.record
    if (target === undefined || record === undefined) throw new Error(`${only.name} is not in the maps`)
    options.beforeCommit?.()
    store32(memory.buffer(target.target.table), target.target.at + Target.offset.service, record)
    return
  }
  const next = writeDirectory(memory, live, entriesAfter(memory, changes, live, built), options.random)
  options.beforeCommit?.()
  Atomics.store(new BigUint64Array(memory.buffer('root'), 0, Root.size / 8), Root.offset.live / 8, next)
}

/** Ids, indices and counters that are given out anew carry nothing of whoever had them before. */
const forgetFlows = (memory: PlaneMemory, built: readonly Built[]): void => {
  const services = new Set(built.filter(({ newId }) => newId).map(({ id }) => id))
  const backends = new Map(
    built
      .filter(({ newId, newIndices }) => !newId && newIndices.size > 0)
      .map(({ id, newIndices }) => [id, newIndices]),
  )
  if (services.size > 0 || backends.size > 0) {
    sweepFlows(memory, { services, backends })
    // Datagrams under way are few, and their notes do not name the service: all go.
    new BigUint64Array(memory.buffer('fragments')).fill(0n)
  }
  const cursors = new BigUint64Array(memory.buffer('cursors'))
  for (const id of services) cursors[id] = 0n
  clearCounts(
    memory,
    built.flatMap(({ newCounters }) => newCounters),
  )
}

const NO_INTERFACE: Interface = { macHigh: 0n, ifindex: 0, generic: 0, name: '' }

/** An empty data plane: two empty directories, the first of them live. For freshly made maps. */
export const formatRoot = (memory: Pick<PlaneMemory, 'buffer'>, contract: number): void => {
  const capacity = bucketsPerDirectory(memory)
  const directory = (half: number): Directory => ({
    serviceMultiplier: 1n,
    serviceBase: half * capacity,
    serviceShift: 63,
  })
  Root.write(viewOf(memory, 'root'), 0, {
    live: liveWord(0n, 0, capacity, 63),
    neighboursMs: 0n,
    forwardedBefore: 0n,
    interface: Array.from({ length: InterfaceLimit.INTERFACES_MAX }, () => NO_INTERFACE),
    contract,
    directory: [directory(0), directory(1)],
  })
}
