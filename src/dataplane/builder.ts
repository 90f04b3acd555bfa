// SPDX-License-Identifier: Apache-2.0
// One service, built anew where no packet looks yet: its records, ring, ring before and schedule. What a change leaves as it is
// (a ring whose weights are the same) is shared with the record that packets see, not written again.
import { formatService } from '../core/address.ts'
import { Arena } from '../core/arena.ts'
import { type Backend, HASH_INPUTS, SCHEDULERS, type Scheduler, type Service } from '../core/desired.ts'
import { AF, addressOctets, familyOf } from '../core/ip.ts'
import { sameMaxConns } from '../core/max-conns.ts'
import { isPrefix, splitPrefix } from '../core/prefix.ts'
import { Refusal } from '../core/refusal.ts'
import { type Placed, writeBackends } from './backend-records.ts'
import { writeFilter } from './filters.ts'
import {
  BackendLimit,
  Choice,
  DrainPersistence,
  FlowState,
  ServiceDetail,
  ServicePolicy,
  Service as ServiceRecord,
  Settings,
} from './layout.gen.ts'
import { persistFields } from './persistence.ts'
import type { LiveService } from './reader.ts'
import { buildRing, ringInput, scheduleOf, writeSlots } from './rings.ts'
import { type BuildContext, take } from './space.ts'
import { viewOf } from './views.ts'

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

/** Indices of a service's backends that may be given out: 0 to this, exclusive. */
const INDICES = BackendLimit.BACKENDS_PER_SERVICE_MAX

/** What a person made of it: since when it is so, is kept. Another weight is no other state, unless it is 0 or was. */
const saidOf = ({ admin, weight }: Backend): string => (admin === 'up' && weight === 0 ? 'weight 0' : admin)

/** Each backend's index: its own as before, or one that no live backend has. */
const placeBackends = (want: Service, have: LiveService | undefined, context: BuildContext, built: Built): Placed[] => {
  const before = new Map(have?.backends.map((backend) => [backend.want.address, backend]))
  const indices = new Arena(INDICES)
  for (const backend of before.values()) indices.use(backend.index, 1)
  const placed = want.backends.map((backend): Placed => {
    const known = before.get(backend.address)
    if (known !== undefined) {
      if (!sameMaxConns(known.want.maxConns, backend.maxConns)) built.relimited.push(known.counter)
      const sinceMs = saidOf(known.want) === saidOf(backend) ? known.sinceMs : context.nowMs
      return { index: known.index, counter: known.counter, want: backend, sinceMs }
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

const CHOICES: Partial<Record<Scheduler, number>> = {
  lc: Choice.CHOICE_LC,
  wlc: Choice.CHOICE_WLC,
  sed: Choice.CHOICE_SED,
  nq: Choice.CHOICE_NQ,
  lblc: Choice.CHOICE_LBLC,
  lblcr: Choice.CHOICE_LBLCR,
}

const persistenceDetail = ({ persistence }: Service) => ({
  persistSeconds: persistence?.seconds ?? 0,
  persistPrefix: persistence?.prefix ?? 0,
  persistPrefix6: persistence?.prefix6 ?? 0,
  drainPersistence:
    persistence?.drain === 'cut' ? DrainPersistence.DRAIN_CUTS_CLIENTS : DrainPersistence.DRAIN_KEEPS_CLIENTS,
  group: persistence?.group ?? '',
})

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
    filter: writeFilter(memory, space.filters, want, before, context.random),
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
