// SPDX-License-Identifier: Apache-2.0
// A data plane in memory, driven as a command drives it: read, plan, apply.
import type { DesiredState } from '../../src/core/desired.ts'
import { plan } from '../../src/core/plan.ts'
import { liveAfter } from '../../src/dataplane/follow.ts'
import { FlowState, Settings } from '../../src/dataplane/layout.gen.ts'
import { type Capacity, MAPPED, type MappedName, makeMemory, type PlaneMemory } from '../../src/dataplane/memory.ts'
import { type LiveState, readLive } from '../../src/dataplane/reader.ts'
import { applyChanges, formatRoot } from '../../src/dataplane/writer.ts'

export interface Plane {
  memory: PlaneMemory
  /** The packet path's clock. */
  age: number
  nowMs: number
  random: () => bigint
  /** After a commit that gave one service another record: what was followed of it; else it is read. */
  live?: LiveState | undefined
}

export const TIMEOUTS = { established: 90, udp: 30 }

/** SplitMix64 (Steele et al. 2014): the same 64-bit numbers in every run. */
const generator = (seed: bigint): (() => bigint) => {
  let state = seed
  return () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n)
    let mixed = BigInt.asUintN(64, (state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n)
    mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn)
    return mixed ^ (mixed >> 31n)
  }
}

/** Room for whatever verbs.ts thinks of. */
export const ROOMY: Capacity = { services: 16, backends: 400, flows: 64, flows6: 64 }

export const makePlane = (capacity: Capacity = ROOMY): Plane => {
  const plane: Omit<Plane, 'memory'> = { age: 1000, nowMs: 1_700_000_000_000, random: generator(1n) }
  const memory = makeMemory(capacity, () => made.age)
  const made: Plane = Object.assign(plane, { memory })
  formatRoot(memory, 1, 1000)
  const timeout = new Array<number>(16).fill(0)
  for (const state of Object.values(FlowState)) timeout[state] = 5 + state
  timeout[FlowState.FLOW_ESTABLISHED] = TIMEOUTS.established
  timeout[FlowState.FLOW_UDP] = TIMEOUTS.udp
  Settings.write(new DataView(memory.buffer('settings')), 0, {
    timeout,
    destinationTimeout: 20,
    floodHold: 8,
    ageShift: 8,
    jiffiesPerSecond: 250,
    flowSeed: 7n,
    flowBuckets: capacity.flows / 4,
    fragmentTimeout: 30,
  })
  return made
}

/**
 * A whole state, or a verb on the state that is there: as src/shell/session.ts does it, for a daemon that follows what it has
 * changed.
 *
 * @throws Refusal as the verb and applyChanges do, and whatever `beforeCommit` throws
 */
export const apply = (
  plane: Plane,
  want: DesiredState | ((have: DesiredState) => DesiredState),
  beforeCommit: () => void = () => {},
): void => {
  const live = plane.live ?? readLive(plane.memory)
  const { nowMs, random } = plane
  const changes = plan(live.desired, typeof want === 'function' ? want(live.desired) : want)
  const replaced = applyChanges(plane.memory, live, changes, { nowMs, random, beforeCommit })
  plane.live = replaced === undefined ? undefined : liveAfter(plane.memory, live, replaced)
}

/** All that is read of the live state, now: readLive itself reads some of it when it is asked. */
export const picture = (memory: PlaneMemory) => {
  const { live, neighboursMs, services } = readLive(memory)
  const all = [...services.values()].map(({ name, record, target, service, want, changedMs, backends }) =>
    structuredClone({ name, record, target, service, want, changedMs, backends }),
  )
  return { live, neighboursMs, all }
}

export const MAPS = Object.keys(MAPPED) as MappedName[]

/** A copy of all memory: by map. */
export const photograph = (memory: PlaneMemory): Map<MappedName, Uint8Array> =>
  new Map(MAPS.map((name) => [name, new Uint8Array(memory.buffer(name)).slice()]))

/**
 * One turn of the event loop. Properties take long and never wait, so that ava would hear nothing of a file's tests until all
 * are done, and take that for a hang: they run one by one, with a turn after each.
 */
export const turn = (): Promise<void> => new Promise((done) => setImmediate(done))

/** So many runs of a property, and no more of shrinking than ava waits for. */
export const runs = (numRuns: number) => ({ numRuns, interruptAfterTimeLimit: 20_000, includeErrorInReport: true })
