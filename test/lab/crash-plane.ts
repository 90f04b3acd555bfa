// SPDX-License-Identifier: Apache-2.0
// Is what packets go by sound? A packet of each service must find it, what it finds must lead to backends that are there, and
// no two services may own the same place.
import { effectiveWeight } from '../../src/core/desired.ts'
import { findTarget } from '../../src/dataplane/find.ts'
import { RingSlot, ServiceFlag } from '../../src/dataplane/layout.gen.ts'
import type { PlaneMemory } from '../../src/dataplane/memory.ts'
import type { LiveService, LiveState } from '../../src/dataplane/reader.ts'
import { slotsAt } from '../../src/dataplane/views.ts'
import { findOverlap, occupants, ownedExtents } from '../dataplane/extents.ts'
import { findService, packetTo } from '../dataplane/packets.ts'

const { SLOT_BACKEND_MASK, SLOT_MARKED, SLOT_NONE } = RingSlot

/** The record that a packet for a service finds; one of a prefix goes to an address of it. */
const found = (memory: PlaneMemory, { want }: LiveService): number | undefined => {
  if (!want.vip.includes(':')) return findService(memory, packetTo(want, 0, 0))
  return findTarget(memory, { ...want, vip: want.vip.replace(/\/.*/, '9') }).target?.service
}

function* directoryFaults(memory: PlaneMemory, live: LiveState): Generator<string> {
  for (const service of live.services.values()) {
    const { name, record } = service
    const reached = found(memory, service)
    if (reached !== record) yield `${name}: a packet finds record ${reached}, not ${record}`
  }
  const targets = occupants(memory).length
  if (targets !== live.services.size) yield `the directory has ${targets} targets for ${live.services.size} services`
}

function* slotFaults(memory: PlaneMemory, live: LiveService): Generator<string> {
  const { name, want, service, backends } = live
  const known = new Set(backends.map(({ index }) => index))
  const takers = new Set(backends.filter((each) => effectiveWeight(want, each.want) > 0).map(({ index }) => index))
  /** The first slot that names nobody, or somebody else than it may. */
  const wrong = (slots: Uint16Array, allowed: ReadonlySet<number>, mayBeEmpty: boolean): number =>
    slots.findIndex((slot) => {
      const backend = slot & SLOT_BACKEND_MASK
      return backend === SLOT_NONE ? !mayBeEmpty : !allowed.has(backend)
    })
  const ring = slotsAt(memory, service.ringLine, service.ringSize)
  const inRing = wrong(ring, takers, takers.size === 0)
  if (inRing >= 0) yield `${name}: slot ${inRing} of its ring holds ${ring[inRing]}`
  const schedule = slotsAt(memory, service.scheduleLine, service.scheduleSize)
  const inSchedule = wrong(schedule, takers, false)
  if (inSchedule >= 0) yield `${name}: turn ${inSchedule} of its schedule holds ${schedule[inSchedule]}`
  if ((service.flags & ServiceFlag.SERVICE_MARKED) === 0) {
    if (ring.some((slot) => (slot & SLOT_MARKED) !== 0)) yield `${name}: marks without a ring before`
    return
  }
  const before = slotsAt(memory, service.beforeLine, service.beforeSize)
  const inBefore = wrong(before, known, true)
  if (inBefore >= 0) yield `${name}: slot ${inBefore} of the ring before holds ${before[inBefore]}`
}

function* sharedFaults(memory: PlaneMemory, live: LiveState): Generator<string> {
  const overlap = findOverlap(memory, ownedExtents(memory))
  if (overlap !== undefined) yield overlap
  const services = [...live.services.values()]
  const ids = services.map(({ service }) => service.id)
  if (new Set(ids).size !== ids.length) yield `services share an id: ${ids}`
  const counters = services.flatMap(({ backends }) => backends.map(({ counter }) => counter))
  if (new Set(counters).size !== counters.length) yield `backends share counters: ${counters}`
}

/** What is unsound; empty where all is well. */
export const planeFaults = (memory: PlaneMemory, live: LiveState): string[] => [
  ...directoryFaults(memory, live),
  ...[...live.services.values()].flatMap((service) => [...slotFaults(memory, service)]),
  ...sharedFaults(memory, live),
]
