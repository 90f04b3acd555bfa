// SPDX-License-Identifier: Apache-2.0
// Random verbs, each carried out twice: by src/core/verbs.ts, and by a naive reference that changes a Map in place.
import fc from 'fast-check'
import { backendPort, formatService, type ServiceAddress } from '../../src/core/address.ts'
import { type DesiredState, HASH_INPUTS, type Path, SCHEDULERS, type Service } from '../../src/core/desired.ts'
import { type Health, withHealth } from '../../src/core/health.ts'
import { FLOW_FATES, type FlowFate, removeBackend } from '../../src/core/leaving.ts'
import {
  addService,
  drainBackend,
  existing,
  maintBackend,
  removeService,
  type ServiceOptions,
  setBackend,
  setService,
  withService,
} from '../../src/core/verbs.ts'
import {
  ADDRESSES,
  backendAddress,
  desiredState,
  isLawful,
  path,
  rangesOverlap,
  ringSize,
  seed,
  weight,
} from '../core/states.ts'

export type Verb =
  | { verb: 'add'; service: ServiceAddress; options: ServiceOptions }
  | { verb: 'set'; service: ServiceAddress; options: ServiceOptions }
  | { verb: 'rm'; service: ServiceAddress }
  | { verb: 'backend'; service: ServiceAddress; backend: string; weight: number; path: Path }
  | { verb: 'drain'; service: ServiceAddress; backend: string }
  | { verb: 'maint'; service: ServiceAddress; backend: string }
  | { verb: 'health'; service: ServiceAddress; backend: string; health: Health }
  | { verb: 'remove'; service: ServiceAddress; backend: string; flows: FlowFate }
  | { verb: 'clear' }
  | { verb: 'restore'; state: DesiredState }
  | { verb: 'wait'; ages: number }

const service = fc.constantFrom(...ADDRESSES.slice(0, 4 * 16))
const backend = fc.integer({ min: 1, max: 8 }).map(backendAddress)
const options = fc.record<ServiceOptions>(
  {
    scheduler: fc.constantFrom(...SCHEDULERS),
    hash: fc.constantFrom(...HASH_INPUTS),
    ringSize,
    seed,
    ops: fc.boolean(),
  },
  { requiredKeys: [] },
)

/** As a daemon finds a backend; in the maps it has whole seconds. */
const health: fc.Arbitrary<Health> = fc.oneof(
  fc.record({
    alive: fc.constant(true),
    percent: fc.integer({ min: 0, max: 100 }),
    sinceMs: fc.constant(1_800_000_001_000),
  }),
  fc.record({ alive: fc.constant(false), percent: fc.constant(0), sinceMs: fc.constant(1_800_000_002_000) }),
)

const verb: fc.Arbitrary<Verb> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ verb: fc.constant('add' as const), service, options }) },
  { weight: 3, arbitrary: fc.record({ verb: fc.constant('set' as const), service, options }) },
  { weight: 1, arbitrary: fc.record({ verb: fc.constant('rm' as const), service }) },
  { weight: 10, arbitrary: fc.record({ verb: fc.constant('backend' as const), service, backend, weight, path }) },
  { weight: 2, arbitrary: fc.record({ verb: fc.constant('drain' as const), service, backend }) },
  { weight: 2, arbitrary: fc.record({ verb: fc.constant('maint' as const), service, backend }) },
  { weight: 4, arbitrary: fc.record({ verb: fc.constant('health' as const), service, backend, health }) },
  {
    weight: 3,
    arbitrary: fc.record({
      verb: fc.constant('remove' as const),
      service,
      backend,
      flows: fc.constantFrom(...FLOW_FATES),
    }),
  },
  { weight: 1, arbitrary: fc.constant<Verb>({ verb: 'clear' }) },
  { weight: 2, arbitrary: fc.record({ verb: fc.constant('restore' as const), state: desiredState }) },
  { weight: 3, arbitrary: fc.record({ verb: fc.constant('wait' as const), ages: fc.integer({ min: 1, max: 120 }) }) },
)

export const verbs = (maxLength: number): fc.Arbitrary<Verb[]> =>
  fc.tuple(desiredState, fc.array(verb, { maxLength })).map(([state, rest]) => [{ verb: 'restore', state }, ...rest])

const HOSTS = [1, 2, 3, 4, 5, 6, 7, 8].map(backendAddress)

/** A plan of which every verb changes something: by chance few do. */
export const busyVerbs = (): Verb[] => {
  const [service] = ADDRESSES
  if (service === undefined) return []
  const path: Path = { kind: 'link', mac: 7n, interfaceSlot: 0 }
  return [
    { verb: 'add', service, options: {} },
    ...[1, 2].flatMap((weight) => HOSTS.map((backend): Verb => ({ verb: 'backend', service, backend, weight, path }))),
    ...HOSTS.map((backend): Verb => ({ verb: 'drain', service, backend })),
    ...HOSTS.map((backend): Verb => ({ verb: 'maint', service, backend })),
    ...HOSTS.map((backend): Verb => ({ verb: 'remove', service, backend, flows: 'move' })),
  ]
}

const DRAWN = 99n

/** As the commands do it. @throws Refusal */
export const carryOut = (state: DesiredState, verb: Verb): DesiredState => {
  switch (verb.verb) {
    case 'add':
      return addService(state, verb.service, verb.options, DRAWN)
    case 'set':
      return setService(state, verb.service, verb.options)
    case 'rm':
      return removeService(state, verb.service)
    case 'backend': {
      const address = { address: verb.backend, port: backendPort(verb.service) }
      return setBackend(state, verb.service, address, { weight: verb.weight, path: verb.path })
    }
    case 'drain':
      return drainBackend(state, verb.service, { address: verb.backend, port: backendPort(verb.service) })
    case 'maint':
      return maintBackend(state, verb.service, { address: verb.backend, port: backendPort(verb.service) })
    case 'health':
      return withService(state, withHealth(existing(state, verb.service), new Map([[verb.backend, verb.health]])))
    case 'remove':
      return removeBackend(state, verb.service, { address: verb.backend, port: backendPort(verb.service) }, verb.flows)
    case 'clear':
      return new Map()
    case 'restore':
      return verb.state
    case 'wait':
      return state
  }
}

type NaiveBackend = { port: number; weight: number; admin: string; path: string; alive: boolean; percent: number }
export type NaiveService = Omit<Service, 'backends'> & { backends: Map<string, NaiveBackend> }
export type Naive = Map<string, NaiveService>

/** A path's text: why one is unresolved is not stored. */
const pathText = (path: Path): string => (path.kind === 'link' ? `link ${path.mac} ${path.interfaceSlot}` : path.kind)

/** Since when it is so is told of what was changed last alone. */
const healthNow = (health: Health | undefined) => ({ alive: health?.alive ?? true, percent: health?.percent ?? 100 })

export const naiveOf = (state: DesiredState): Naive =>
  new Map(
    [...state].map(([name, service]): [string, NaiveService] => [
      name,
      {
        ...service,
        backends: new Map(
          service.backends.map(({ address, port, weight, admin, path, health }) => [
            address,
            { port, weight, admin, path: pathText(path), ...healthNow(health) },
          ]),
        ),
      },
    ]),
  )

const defaults = (scheduler: string) =>
  ['dh', 'lblc', 'lblcr'].includes(scheduler) ? 'destination' : scheduler === 'sh' ? 'source' : 'source-port'

/** What a person expects of a verb, written down once more. @returns false where it has to be refused */
export const naively = (state: Naive, verb: Verb): boolean => {
  if (verb.verb === 'clear') {
    state.clear()
    return true
  }
  if (verb.verb === 'restore') {
    state.clear()
    for (const [name, service] of naiveOf(verb.state)) state.set(name, service)
    return true
  }
  if (verb.verb === 'wait') return true
  const name = formatService(verb.service)
  const service = state.get(name)
  if (verb.verb === 'add') {
    const { scheduler = 'wrr', hash = defaults(scheduler), ringSize = 0, seed, ops = false } = verb.options
    if (ops && verb.service.protocol === 'tcp') return false
    if ([...state.values()].some((other) => rangesOverlap(other, verb.service))) return false
    const added = {
      ...verb.service,
      scheduler,
      hash,
      ringSize,
      seed: seed ?? DRAWN,
      ops,
      forward: 'dsr' as const,
      backends: new Map(),
    }
    if (!isLawful(added)) return false
    if (service === undefined) state.set(name, added)
    return service === undefined
  }
  if (service === undefined) return false
  if (verb.verb === 'rm') return state.delete(name)
  if (verb.verb === 'set') {
    const { scheduler, hash, ops } = verb.options
    if (ops === true && service.protocol === 'tcp') return false
    if (scheduler !== undefined && scheduler !== service.scheduler && hash === undefined) {
      service.hash = defaults(scheduler)
    }
    Object.assign(service, verb.options)
    return isLawful(service)
  }
  const existing = service.backends.get(verb.backend)
  if (verb.verb === 'backend') {
    const { weight, path } = verb
    const isKnown = existing !== undefined && existing.admin !== 'leaving' && existing.admin !== 'cut'
    const { alive, percent } = isKnown ? existing : healthNow(undefined)
    service.backends.set(verb.backend, {
      port: backendPort(service),
      weight,
      admin: 'up',
      path: pathText(path),
      alive,
      percent,
    })
    return true
  }
  if (verb.verb === 'health') {
    if (existing !== undefined) Object.assign(existing, healthNow(verb.health))
    return true
  }
  if (existing === undefined) return false
  if (verb.verb === 'drain' || verb.verb === 'maint') {
    if (existing.admin === 'leaving' || existing.admin === 'cut') return false
    existing.admin = verb.verb
    return true
  }
  if (verb.flows === 'cut' && service.protocol === 'udp' && ['mh', 'sh', 'dh'].includes(service.scheduler)) return false
  if (verb.flows === 'move' || service.ops || (verb.flows === 'keep' && existing.path === 'unresolved')) {
    return service.backends.delete(verb.backend)
  }
  existing.admin = verb.flows === 'keep' ? 'leaving' : 'cut'
  return true
}

/** The weight by which new flows come, written down once more. */
export const naiveWeight = (service: NaiveService, address: string): number => {
  const backend = service.backends.get(address)
  if (backend === undefined || backend.admin !== 'up' || backend.path === 'unresolved' || !backend.alive) return 0
  if (backend.weight === 0 || backend.percent === 0) return 0
  return service.scheduler === 'rr' ? 1 : Math.max(1, Math.round((backend.weight * backend.percent) / 100))
}
