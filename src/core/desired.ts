// SPDX-License-Identifier: Apache-2.0
// What a person wants: services and their backends, as plain values. Verbs are functions from one desired state to the next;
// they throw a Refusal and leave the old one where they cannot.
import { type BackendAddress, formatService, type ServiceAddress, vipOf } from './address.ts'
import { type Health, healthyWeight } from './health.ts'
import { labelFaults, nextLabel } from './label.ts'
import { isPrime } from './maglev.ts'
import { type MaxConns, maxConnsFaults } from './max-conns.ts'
import {
  nextPersistence,
  type Persistence,
  type PersistenceOptions,
  persistenceFaults,
  persisting,
  withGroup,
} from './persistence.ts'
import { holds, isPrefix, prefixAround } from './prefix.ts'
import type { Filter } from './prefixes.ts'
import { checkRanges } from './ranges.ts'
import { Refusal, type StateFault } from './refusal.ts'
import { changedRate, rateFaults, type SourceRate, type SourceRateOptions } from './source-rate.ts'
import { ChangedState } from './state-map.ts'
import type { Vlan } from './vlan.ts'

/** In the order of enum scheduler (bpf/xlb.h). */
export const SCHEDULERS = ['rr', 'wrr', 'mh', 'sh', 'dh', 'lc', 'wlc', 'sed', 'nq', 'lblc', 'lblcr'] as const
export type Scheduler = (typeof SCHEDULERS)[number]
export const HASH_INPUTS = ['source', 'source-port', 'destination'] as const
export type HashInput = (typeof HASH_INPUTS)[number]
export const FORWARDS = ['dsr'] as const
export type Forward = (typeof FORWARDS)[number]
/**
 * `drain`: no new flows; `maint`: nor those that it has. The last two are of removed backends: one that keeps its flows until they
 * end, and one whose flows are cut.
 */
export type Admin = 'up' | 'drain' | 'maint' | 'leaving' | 'cut'

export const WEIGHT_MAX = 65535
export const BACKENDS_PER_SERVICE_MAX = 4000
/** A ring of 2^20 slots is 2 MiB. */
export const RING_SIZE_MAX = 1048573
export const DEFAULT_SCHEDULER: Scheduler = 'wrr'

/**
 * Where packets for a backend go: through an interface (its slot in `interfaces`) to a MAC, with a VLAN tag or, where `vlan`
 * is absent, without; to this host itself; or nowhere, and why.
 */
export type Path =
  | { kind: 'link'; mac: bigint; interfaceSlot: number; vlan?: number }
  | { kind: 'local' }
  | { kind: 'unresolved'; why: string }

export interface Backend extends BackendAddress {
  weight: number
  admin: Admin
  /** As configured; absent: by the route. What packets get is in `path`. */
  vlan?: Vlan
  /** How many connections it takes; absent: any number. */
  maxConns?: MaxConns
  /** What a daemon found out of it; absent: nobody has. No person says this, so that no verb changes it. */
  health?: Health
  path: Path
}

export interface Service extends ServiceAddress {
  scheduler: Scheduler
  forward: Forward
  hash: HashInput
  /** Slots of the ring; 0: from the number of backends. */
  ringSize: number
  /** The ring's secret seed, 64 bits. Directors that share a VIP need the same. */
  seed: bigint
  /** One-packet scheduling, for UDP: each datagram is scheduled by itself, and no flow is recorded. */
  ops: boolean
  /** What people call it. */
  label?: string
  /** Which sources it hears; left out: all. */
  filter?: Filter
  /** How many connections a source may open; left out: as many as it likes. */
  sourceRate?: SourceRate
  /** Absent: each connection is scheduled by itself. */
  persistence?: Persistence
  backends: readonly Backend[]
}

/** What holds for all services. */
export interface Globals {
  /** Asked before a service's own; what it allows, the service's own may still deny. */
  filter: Filter | undefined
  /** New tracked flows that a CPU may record in one unit of age. */
  newFlows: number
}

/** By formatService's text. */
export type DesiredState = ReadonlyMap<string, Service>

/** Removed, and still there for its flows' sake alone. */
export const isLeaving = ({ admin }: Pick<Backend, 'admin'>): boolean => admin === 'leaving' || admin === 'cut'

/** Do live counts of connections decide who gets a new flow? */
export const isByLoad = (service: Pick<Service, 'scheduler'>): boolean =>
  ['lc', 'wlc', 'sed', 'nq'].includes(service.scheduler) || remembersDestinations(service)

/** Does a destination's note say who gets a new flow to it, unless that one is overloaded? */
export const remembersDestinations = ({ scheduler }: Pick<Service, 'scheduler'>): boolean =>
  scheduler === 'lblc' || scheduler === 'lblcr'

/** Does the ring say who gets a new flow? Else backends take turns, or who has least to do gets it. */
export const isHashed = ({ scheduler }: Pick<Service, 'scheduler'>): boolean =>
  scheduler === 'mh' || scheduler === 'sh' || scheduler === 'dh'

/** Do backends take turns? */
export const takesTurns = (service: Pick<Service, 'scheduler'>): boolean =>
  service.scheduler === 'rr' || service.scheduler === 'wrr'

/** Does the flow table name the backend? With persistence it does, whatever the scheduler. */
export const isTracked = (service: Pick<Service, 'scheduler' | 'persistence'>): boolean =>
  !isHashed(service) || service.persistence !== undefined

/** Does it choose by a packet's destination, so that it asks for a service of a prefix? */
export const choosesByDestination = (service: Pick<Service, 'scheduler'>): boolean =>
  service.scheduler === 'dh' || remembersDestinations(service)

/** `mh` takes the port in, `sh` does not; for those that record flows the ring is where packets without an entry go. */
export const defaultHash = (scheduler: Scheduler): HashInput =>
  choosesByDestination({ scheduler }) ? 'destination' : scheduler === 'sh' ? 'source' : 'source-port'

/** May packets be sent to it? Else flows that it has are scheduled anew. */
export const isAlive = ({ admin, path, health }: Pick<Backend, 'admin' | 'path' | 'health'>): boolean =>
  admin !== 'maint' && admin !== 'cut' && path.kind !== 'unresolved' && health?.alive !== false

/**
 * What the schedulers go by: the configured weight, or that share of it which its health leaves it; 0 while the backend is
 * drained, in maintenance, leaving, down, or cannot be reached.
 */
export const effectiveWeight = (service: Pick<Service, 'scheduler'>, backend: Backend): number => {
  if (backend.admin !== 'up' || !isAlive(backend)) return 0
  const weight = healthyWeight(backend.weight, backend.health?.percent ?? 100)
  // ipvsadm(8): rr treats all real servers equally, whatever their weight; one of weight 0 gets no new connection.
  return service.scheduler === 'rr' ? Math.min(1, weight) : weight
}

export interface ServiceOptions extends SourceRateOptions, PersistenceOptions {
  scheduler?: Scheduler
  forward?: Forward
  hash?: HashInput
  ringSize?: number
  seed?: bigint
  ops?: boolean
  /** A label; false takes it away. */
  name?: string | false
}

export const withService = (state: DesiredState, service: Service): DesiredState =>
  ChangedState.of(state, [[formatService(service), service]])

const checked = (state: DesiredState, service: Service): DesiredState => {
  checkService(service)
  return withService(state, service)
}

export const existing = (state: DesiredState, address: ServiceAddress): Service => {
  const service = state.get(formatService(address))
  if (service === undefined) {
    throw new Refusal(
      `service ${formatService(address)} does not exist`,
      state.size === 0 ? `add it: xlb service add ${formatService(address)}` : '`xlb list` shows the services that do',
    )
  }
  return service
}

function* ringSizeFaults(service: Service): Generator<Refusal> {
  if (service.ringSize === 0) return
  const where = `service ${formatService(service)}: ring size ${service.ringSize}`
  const backends = service.backends.filter((backend) => !isLeaving(backend)).length
  if (service.ringSize > RING_SIZE_MAX) {
    yield new Refusal(`${where} exceeds ${RING_SIZE_MAX}`, 'choose a smaller prime, such as 65537', { usage: true })
  } else if (!isPrime(service.ringSize)) {
    yield new Refusal(`${where} is not a prime`, 'choose a prime, such as 4093, 16381 or 65537', { usage: true })
  } else if (service.ringSize < backends) {
    yield new Refusal(
      `${where} is smaller than its ${backends} backends`,
      'choose a prime of at least 100 x backends, or 0 to let xlb choose',
    )
  }
}

function* backendFaults(service: Service): Generator<PartFault> {
  const of = formatService(service)
  if (service.backends.length > BACKENDS_PER_SERVICE_MAX) {
    yield {
      keys: ['backends'],
      refusal: new Refusal(
        `service ${of}: ${service.backends.length} backends exceed ${BACKENDS_PER_SERVICE_MAX}`,
        'spread them over several services',
      ),
    }
  }
  const seen = new Set<string>()
  let i = -1
  for (const { address, weight } of service.backends) {
    i++
    if (!Number.isInteger(weight) || weight < 0 || weight > WEIGHT_MAX) {
      const refusal = new Refusal(
        `backend ${address} of ${of}: weight ${weight} is not a whole number from 0 to ${WEIGHT_MAX}`,
        'choose 0 to 65535',
        { usage: true },
      )
      yield { keys: ['backends', i, 'weight'], refusal }
    }
    if (seen.has(address)) {
      const refusal = new Refusal(
        `backend ${address} of ${of}: is there twice`,
        'name it once, with the sum of the weights',
      )
      yield { keys: ['backends', i], refusal }
    }
    seen.add(address)
  }
}

function* opsFaults(service: Service): Generator<Refusal> {
  if (!service.ops) return
  if (isByLoad(service)) {
    yield new Refusal(
      `service ${formatService(service)}: one-packet scheduling records no flow, and ${service.scheduler} goes by the flows that are recorded: all would go to one backend`,
      'leave ops out, or choose --scheduler rr or wrr',
      { usage: true },
    )
  }
  if (service.protocol === 'udp') return
  yield new Refusal(
    `service ${formatService(service)}: one-packet scheduling would spread the segments of one TCP connection over backends`,
    'leave ops out, or choose a udp:// service',
    { usage: true },
  )
}

/** The service, of a prefix that its address is in. */
const example = (service: Service): string => formatService({ ...service, vip: prefixAround(service.vip) })

function* prefixFaults(service: Service): Generator<Refusal> {
  const where = `service ${formatService(service)}`
  const { scheduler, hash } = service
  const byDestination = choosesByDestination(service)
  if (byDestination && !isPrefix(service)) {
    yield new Refusal(
      `${where}: ${scheduler} chooses by the destination, and a single VIP is the only one that its packets have`,
      `choose rr, wrr, mh or sh; or make it a service of a prefix: ${example(service)}`,
      { usage: true },
    )
  }
  if (byDestination !== (hash === 'destination')) {
    yield new Refusal(
      byDestination
        ? `${where}: ${scheduler} hashes the destination, not ${hash}`
        : `${where}: ${scheduler} does not hash the destination`,
      byDestination
        ? 'leave hash out, or choose mh or sh'
        : 'choose source or source-port; or a prefix, and dh, lblc or lblcr',
      { usage: true },
    )
  }
}

/** What is wrong with a part of one service. */
type PartFault = Pick<StateFault, 'keys' | 'refusal'>

function* about(key: string, refusals: Iterable<Refusal>): Generator<PartFault> {
  for (const refusal of refusals) yield { keys: [key], refusal }
}

/** Whatever is wrong with one service by itself. */
export function* serviceFaults(service: Service): Generator<PartFault> {
  yield* about('name', labelFaults(service))
  yield* about('ops', opsFaults(service))
  yield* about('scheduler', prefixFaults(service))
  yield* about('persist', persistenceFaults(service))
  yield* about('ring-size', ringSizeFaults(service))
  yield* about('source-rate', rateFaults(service, service.sourceRate))
  yield* backendFaults(service)
  for (const refusal of maxConnsFaults(service, isHashed(service))) {
    const limited = service.backends.findIndex(({ maxConns }) => maxConns !== undefined)
    yield { keys: ['backends', limited, 'max-conns'], refusal }
  }
}

/** @throws Refusal, the first of serviceFaults */
export const checkService = (service: Service): void => {
  for (const { refusal } of serviceFaults(service)) throw refusal
}

const circle = (service: ServiceAddress, address: string): Refusal =>
  new Refusal(
    `backend ${address} of ${formatService(service)}: is a VIP itself: packets would go round in a circle`,
    'name the real server by its own address',
  )

const within = (service: ServiceAddress, address: string, prefix: string): Refusal =>
  new Refusal(
    `backend ${address} of ${formatService(service)}: is in ${prefix}, which is a service: packets for its own address would be balanced`,
    'name a real server outside of it, or make the prefix longer',
  )

/** Backends that are VIPs too, of whichever service, or that a prefix holds. */
export function* circleFaults(state: DesiredState): Generator<StateFault> {
  const vips = new Set([...state.keys()].map(vipOf))
  const prefixes = [...vips].filter((vip) => isPrefix({ vip }))
  for (const [name, service] of state) {
    let i = -1
    for (const { address } of service.backends) {
      i++
      const prefix = prefixes.length === 0 ? undefined : prefixes.find((each) => holds(each, address))
      if (!vips.has(address) && prefix === undefined) continue
      const refusal = prefix === undefined ? circle(service, address) : within(service, address, prefix)
      yield { service: name, keys: ['backends', i], refusal }
    }
  }
}

/** @throws Refusal, the first of circleFaults */
export const checkCircles = (state: DesiredState): void => {
  for (const { refusal } of circleFaults(state)) throw refusal
}

const withRate = (sourceRate: SourceRate | undefined) => (sourceRate === undefined ? {} : { sourceRate })

/** As checkCircles, for one backend that is new. */
const checkCircle = (state: DesiredState, service: Service, address: string): void => {
  for (const name of state.keys()) {
    const vip = vipOf(name)
    if (vip === address) throw circle(service, address)
    if (isPrefix({ vip }) && holds(vip, address)) throw within(service, address, vip)
  }
}

/** `xlb service add`. `drawnSeed` is the ring's seed where none is configured. */
export const addService = (
  state: DesiredState,
  address: ServiceAddress,
  options: ServiceOptions,
  drawnSeed: bigint,
): DesiredState => {
  if (state.has(formatService(address))) {
    throw new Refusal(
      `service ${formatService(address)} exists already`,
      `change it with: xlb service set ${formatService(address)}`,
    )
  }
  const scheduler = options.scheduler ?? DEFAULT_SCHEDULER
  const service: Service = {
    ...address,
    scheduler,
    forward: options.forward ?? 'dsr',
    hash: options.hash ?? defaultHash(scheduler),
    ringSize: options.ringSize ?? 0,
    seed: options.seed ?? drawnSeed,
    ops: options.ops ?? false,
    ...nextLabel(state, formatService(address), undefined, options.name),
    ...withRate(changedRate(address, undefined, options)),
    ...persisting(nextPersistence(state, address, undefined, options)),
    backends: [],
  }
  const next = checked(state, service)
  checkRanges(next.keys())
  checkCircles(next)
  return next
}

/** `xlb service set`: what is not named stays. A new scheduler brings its own hash input unless one is named. */
export const setService = (state: DesiredState, address: ServiceAddress, options: ServiceOptions): DesiredState => {
  const { sourceRate, persistence, label, ...service } = existing(state, address)
  const scheduler = options.scheduler ?? service.scheduler
  const next: Service = {
    ...service,
    scheduler,
    forward: options.forward ?? service.forward,
    hash: options.hash ?? (scheduler === service.scheduler ? service.hash : defaultHash(scheduler)),
    ringSize: options.ringSize ?? service.ringSize,
    seed: options.seed ?? service.seed,
    ops: options.ops ?? service.ops,
    ...nextLabel(state, formatService(address), label, options.name),
    ...withRate(changedRate(address, sourceRate, options)),
    ...persisting(nextPersistence(state, service, persistence, options)),
  }
  return withGroup(checked(state, next), next)
}

/** `xlb service rm`. */
export const removeService = (state: DesiredState, address: ServiceAddress): DesiredState => {
  existing(state, address)
  return ChangedState.of(state, [[formatService(address), undefined]])
}

/** A path by the route, with the tag that was asked for in place of the route's. */
export const inVlan = (path: Path, vlan: Vlan | undefined): Path => {
  if (path.kind !== 'link' || vlan === undefined) return path
  const { vlan: _, ...untagged } = path
  return vlan === 'none' ? untagged : { ...untagged, vlan }
}

/**
 * `xlb backend set`: adds the backend (weight 1 if not given) or changes it; one that is drained or in maintenance is taken back in. So is one that was
 * removed and keeps flows, but nothing else of it is remembered: else what comes of it would depend on whether flows are left.
 */
export const setBackend = (
  state: DesiredState,
  serviceAddress: ServiceAddress,
  address: BackendAddress,
  change: { weight?: number; vlan?: Vlan | 'auto'; maxConns?: MaxConns | 'none'; path: Path },
): DesiredState => {
  const service = existing(state, serviceAddress)
  const before = service.backends.find((backend) => backend.address === address.address)
  if (before === undefined) checkCircle(state, service, address.address)
  const known = before === undefined || isLeaving(before) ? undefined : before
  const vlan = change.vlan ?? known?.vlan ?? 'auto'
  const maxConns = change.maxConns ?? known?.maxConns ?? 'none'
  const next: Backend = {
    ...address,
    weight: change.weight ?? known?.weight ?? 1,
    admin: 'up',
    ...(maxConns === 'none' ? {} : { maxConns }),
    ...(known?.health === undefined ? {} : { health: known.health }),
    ...(vlan === 'auto' ? { path: change.path } : { vlan, path: inVlan(change.path, vlan) }),
  }
  const backends =
    before === undefined
      ? [...service.backends, next]
      : service.backends.map((backend) => (backend === before ? next : backend))
  return checked(state, { ...service, backends })
}

export const existingBackend = (service: Service, address: BackendAddress): Backend => {
  const backend = service.backends.find((each) => each.address === address.address)
  if (backend === undefined) {
    throw new Refusal(
      `backend ${address.address} of ${formatService(service)} does not exist`,
      service.backends.length === 0
        ? `add it: xlb backend set ${formatService(service)} ${address.address}`
        : `its backends: ${service.backends
            .slice(0, 8)
            .map((each) => each.address)
            .join(', ')}${service.backends.length > 8 ? ', ...' : ''}`,
    )
  }
  return backend
}

const withAdmin = (
  state: DesiredState,
  serviceAddress: ServiceAddress,
  address: BackendAddress,
  admin: 'drain' | 'maint',
): DesiredState => {
  const service = existing(state, serviceAddress)
  const found = existingBackend(service, address)
  if (isLeaving(found)) {
    throw new Refusal(
      `backend ${address.address} of ${formatService(service)} was removed, and is there for its flows alone`,
      `it gets no new ones; to take it back in: xlb backend set ${formatService(service)} ${address.address}`,
    )
  }
  const backends = service.backends.map((each): Backend => (each === found ? { ...each, admin } : each))
  return withService(state, { ...service, backends })
}

/** `xlb backend drain`: no new flows; established ones stay. `xlb backend set` takes it back in. */
export const drainBackend = (state: DesiredState, service: ServiceAddress, address: BackendAddress): DesiredState =>
  withAdmin(state, service, address, 'drain')

/** `xlb backend maint`: no new flows, and those that it has are scheduled anew. `xlb backend set` takes it back in. */
export const maintBackend = (state: DesiredState, service: ServiceAddress, address: BackendAddress): DesiredState =>
  withAdmin(state, service, address, 'maint')

/** Paths of the backends of these services asked anew: what `resolve` answers takes the old path's place. */
export const withPaths = (
  state: DesiredState,
  names: Iterable<string>,
  resolve: (address: string, before: Path) => Path,
): DesiredState => {
  const next: [string, Service][] = []
  for (const name of names) {
    const service = state.get(name)
    if (service === undefined) continue
    const backends = service.backends.map((backend) => {
      const path = inVlan(resolve(backend.address, backend.path), backend.vlan)
      return samePath(path, backend.path) ? backend : { ...backend, path }
    })
    if (backends.some((backend, i) => backend !== service.backends[i])) next.push([name, { ...service, backends }])
  }
  return next.length === 0 ? state : ChangedState.of(state, next)
}

/** Do two paths lead packets the same way? Why a path is unresolved does not matter. */
export const samePath = (a: Path, b: Path): boolean =>
  a.kind === 'link' && b.kind === 'link'
    ? a.mac === b.mac && a.interfaceSlot === b.interfaceSlot && a.vlan === b.vlan
    : a.kind === b.kind
