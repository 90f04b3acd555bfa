// SPDX-License-Identifier: Apache-2.0
// What a person wants: services and their backends, as plain values, and what follows from them. Verbs (verbs.ts) make the next state of one.
import type { BackendAddress, ServiceAddress } from './address.ts'
import { type Health, healthyWeight } from './health.ts'
import type { MaxConns } from './max-conns.ts'
import type { Persistence } from './persistence.ts'
import type { Filter } from './prefixes.ts'
import type { SourceRate } from './source-rate.ts'
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
