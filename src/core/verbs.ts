// SPDX-License-Identifier: Apache-2.0
// Verbs of services and backends: functions from one desired state to the next; they throw a Refusal and leave the old one where they cannot.
import { type BackendAddress, formatService, type ServiceAddress } from './address.ts'
import {
  type Backend,
  DEFAULT_SCHEDULER,
  type DesiredState,
  defaultHash,
  type Forward,
  type HashInput,
  isLeaving,
  type Path,
  type Scheduler,
  type Service,
} from './desired.ts'
import { nextLabel } from './label.ts'
import type { MaxConns } from './max-conns.ts'
import { inVlan } from './paths.ts'
import { nextPersistence, type PersistenceOptions, persisting, withGroup } from './persistence.ts'
import { checkRanges } from './ranges.ts'
import { Refusal } from './refusal.ts'
import { changedRate, type SourceRate, type SourceRateOptions } from './source-rate.ts'
import { checkCircle, checkCircles, checkService } from './state-faults.ts'
import { ChangedState } from './state-map.ts'
import type { Vlan } from './vlan.ts'

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

const withRate = (sourceRate: SourceRate | undefined) => (sourceRate === undefined ? {} : { sourceRate })

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
