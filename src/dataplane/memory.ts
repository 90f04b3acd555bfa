// SPDX-License-Identifier: Apache-2.0
// What the data plane is made of: the arrays of bpf/maps.h as plain memory, and the few things that need the kernel. The
// pinned maps are one (kernel.ts), buffers of this process another (makeMemory, for tests): all else is the same code.
import {
  Backend,
  BackendCounters,
  BackendDetail,
  BackendRun,
  ClientBucket,
  ClientLimit,
  ConnectionLimit,
  Connections,
  Cpu,
  DestinationBucket,
  DestinationLimit,
  Filter,
  FilterBound,
  FilterPrefix,
  Flow6Bucket,
  FlowBucket,
  FlowChanges,
  FlowLimit,
  FragmentLimit,
  InterfaceLimit,
  PrefixFlow6Bucket,
  PrefixFlow6Limit,
  RingLimit,
  Root,
  Service,
  ServiceDetail,
  ServicePolicy,
  Settings,
  SourceRate,
  Target,
  TargetBucket,
  Vip6Bucket,
} from './layout.gen.ts'
import type { BpfMap } from './native.ts'

/** The tables of bpf/maps.h and those beside them that packets do not read (_details), with the size of one element. */
export const MAPPED = {
  root: Root.size,
  settings: Settings.size,
  vip_buckets: TargetBucket.size,
  service_buckets: TargetBucket.size,
  vip6_buckets: Vip6Bucket.size,
  range_targets: Target.size,
  services: Service.size,
  service_policies: ServicePolicy.size,
  service_details: ServiceDetail.size,
  filters: Filter.size,
  filter_bounds: FilterBound.size,
  filter_prefixes: FilterPrefix.size,
  source_rates: SourceRate.size,
  rings: RingLimit.SLOTS_PER_LINE * 2,
  backends: Backend.size,
  backend_details: BackendDetail.size,
  connection_limits: ConnectionLimit.size,
  backend_runs: BackendRun.size,
  connections: Connections.size,
  flows: FlowBucket.size,
  flows6: Flow6Bucket.size,
  prefix_flows6: PrefixFlow6Bucket.size,
  fragments: FlowBucket.size,
  clients: ClientBucket.size,
  destinations: DestinationBucket.size,
  cursors: 8,
  flow_changes: FlowChanges.size,
  cpus: Cpu.size,
  counters: BackendCounters.size,
} as const

/** Tables that bpf/maps.h does not know: what people said. */
export const DETAILS: readonly MappedName[] = ['service_details', 'backend_details', 'filter_prefixes']

export type MappedName = keyof typeof MAPPED

/** Elements of a table, in a row. */
export interface Extent {
  map: MappedName
  first: number
  count: number
}

/** A map that is no table: the kernel looks up in it itself, by a helper that a packet pays for. */
export interface KernelMapShape {
  /** enum bpf_map_type of linux/bpf.h. */
  type: number
  keySize: number
  valueSize: number
  /** BPF_F_* bits; those that the kernel adds by itself are `implied`. */
  flags: number
  implied: number
  /** For a capacity and a number of possible CPUs. */
  entries: (capacity: Capacity, cpus: number) => number
}

const BPF_MAP_TYPE_DEVMAP = 14
const BPF_F_RDONLY_PROG = 128

/** The maps of bpf/maps.h that are no tables. */
export const KERNEL_MAPS = {
  egress: {
    type: BPF_MAP_TYPE_DEVMAP,
    keySize: 4,
    valueSize: 4,
    flags: 0,
    implied: BPF_F_RDONLY_PROG,
    entries: () => InterfaceLimit.INTERFACES_MAX,
  },
} as const satisfies Record<string, KernelMapShape>

/** Key and value of `egress`: a slot of root.interface, and an ifindex. */
export const egressKey = (slot: number): Uint8Array => new Uint8Array(Uint32Array.of(slot).buffer)
export const egressValue = (ifindex: number): Uint8Array => new Uint8Array(Uint32Array.of(ifindex).buffer)

export type KernelMapName = keyof typeof KERNEL_MAPS
/**
 * Maps whose values hold what the kernel has to know by its type, such as a timer: only an object can make them, that declares
 * them. The first that is loaded does, and every later one is loaded over the same.
 */
export const TYPED_MAP_NAMES = ['sweep'] as const
export type TypedMapName = (typeof TYPED_MAP_NAMES)[number]
/** Whatever is pinned as a map. */
export type MapName = MappedName | KernelMapName | TypedMapName

export const MAPPED_NAMES = Object.keys(MAPPED) as MappedName[]
export const KERNEL_MAP_NAMES = Object.keys(KERNEL_MAPS) as KernelMapName[]

/** What is done with a map that is no table; keys and values are raw octets. */
export type KernelMap = Pick<BpfMap, 'lookup' | 'update' | 'delete'>

export interface PlaneMemory {
  /** The map's memory; element i at i * MAPPED[name]. Shared with the kernel where it is a pinned map. */
  buffer(name: MappedName): ArrayBuffer
  /** Octets of that memory. To ask for them maps nothing. */
  size(name: MappedName): number
  /** Some octets of that memory. Whoever needs little of a large map asks for that, and the rest is not mapped. */
  part(name: MappedName, offset: number, length: number): Uint8Array
  /** A map that is no table, opened when it is first asked for. */
  kernelMap(name: KernelMapName): KernelMap
  /** Returns after every packet has left that came before the last commit: what was retired by it may be written again. */
  waitForPrograms(): void
  /** A commit has retired something: packets that came before it may still look there. */
  retired(): void
  /** The packet path's clock: units of age. */
  age(): number
}

/** How large the maps are made, at least; attach fixes it. */
export interface Capacity {
  services: number
  backends: number
  /** Entries of the flow table of IPv4, at least 8. */
  flows: number
  /** Entries of the flow table of IPv6, at least 8. */
  flows6: number
  /** Entries of the flow table of IPv6 prefixes, at least 8; left out: 8. */
  prefixFlows6?: number
  /** Prefixes of all filters; left out: few. */
  prefixes?: number
  /** Clients of persistent services, at least 4; absent: 8. */
  clients?: number
  /** Destinations that lblc and lblcr remember, at least 2; absent: 8. */
  destinations?: number
}

/** Whatever a change replaces stays until it is committed: so there is room for what is live and what takes its place. */
const GENERATIONS = 2
/** Ids that a service may have: 16 bits of a flow entry. */
export const SERVICE_IDS = 65536
/**
 * A service's backends stand in one run. Those that replace all others get indices behind them, so that the run is twice as
 * long for once.
 */
const RUNS = 2

/** The capacity that maps were made for. */
export const capacityOf = (memory: Pick<PlaneMemory, 'size'>): Required<Capacity> => ({
  services: memory.size('services') / MAPPED.services / GENERATIONS,
  backends: memory.size('backends') / MAPPED.backends / GENERATIONS / RUNS,
  flows: (memory.size('flows') / MAPPED.flows) * FlowLimit.FLOWS_PER_BUCKET,
  flows6: (memory.size('flows6') / MAPPED.flows6) * FlowLimit.FLOWS6_PER_BUCKET,
  prefixFlows6: (memory.size('prefix_flows6') / MAPPED.prefix_flows6) * PrefixFlow6Limit.PREFIX_FLOWS6_PER_BUCKET,
  prefixes: memory.size('filter_prefixes') / MAPPED.filter_prefixes / GENERATIONS,
  clients: (memory.size('clients') / MAPPED.clients) * ClientLimit.CLIENTS_PER_BUCKET,
  destinations: (memory.size('destinations') / MAPPED.destinations) * DestinationLimit.DESTINATIONS_PER_BUCKET,
})

/** Counters of one CPU: one for each backend of each service. */
export const countersPerCpu = (memory: Pick<PlaneMemory, 'size'>): number => capacityOf(memory).backends * GENERATIONS

const FEW_PREFIXES = 1024

/** Whoever expects many flows expects many sources. */
const FLOWS_PER_RATE = 32

export const powerOfTwo = (atLeast: number): number => 2 ** Math.ceil(Math.log2(atLeast))

/** Elements of each map for a capacity: powers of two, as bpf/maps.h demands; what that adds is capacity too. */
export const elementsFor = (capacity: Capacity, cpus: number): Record<MappedName, number> => {
  const services = powerOfTwo(capacity.services)
  const backends = powerOfTwo(capacity.backends)
  const prefixes = powerOfTwo(capacity.prefixes ?? FEW_PREFIXES)
  return {
    root: 1,
    settings: 1,
    vip_buckets: 2 * directoryBuckets(services),
    service_buckets: 2 * directoryBuckets(services),
    vip6_buckets: 2 * directoryBuckets(services),
    range_targets: 2 * services,
    services: GENERATIONS * services,
    service_policies: GENERATIONS * services,
    service_details: GENERATIONS * services,
    // One for each service, one for all, and none at 0.
    filters: GENERATIONS * Math.max(4, 2 * services),
    // A prefix changes the answer at two addresses at most.
    filter_bounds: GENERATIONS * 2 * prefixes,
    filter_prefixes: GENERATIONS * prefixes,
    source_rates: Math.max(64, powerOfTwo(capacity.flows) / FLOWS_PER_RATE),
    rings: powerOfTwo(ringLines({ ...capacity, services, backends })),
    backends: GENERATIONS * RUNS * backends,
    backend_details: GENERATIONS * RUNS * backends,
    connection_limits: GENERATIONS * RUNS * backends,
    backend_runs: SERVICE_IDS,
    connections: GENERATIONS * backends,
    flows: powerOfTwo(capacity.flows) / FlowLimit.FLOWS_PER_BUCKET,
    flows6: powerOfTwo(capacity.flows6) / FlowLimit.FLOWS6_PER_BUCKET,
    prefix_flows6: powerOfTwo(capacity.prefixFlows6 ?? 8) / PrefixFlow6Limit.PREFIX_FLOWS6_PER_BUCKET,
    fragments: FragmentLimit.FRAGMENT_BUCKETS,
    clients: powerOfTwo(capacity.clients ?? 8) / ClientLimit.CLIENTS_PER_BUCKET,
    destinations: powerOfTwo(capacity.destinations ?? 8) / DestinationLimit.DESTINATIONS_PER_BUCKET,
    cursors: SERVICE_IDS,
    flow_changes: powerOfTwo(cpus),
    cpus: powerOfTwo(cpus),
    counters: GENERATIONS * backends * powerOfTwo(cpus),
  }
}

/** Buckets of one of the two directories: four and more for each key. */
const directoryBuckets = (services: number): number => 2 * Math.max(64, 4 * services)

/** What one service has at a time, beside a schedule: its ring and the ring before. */
const RINGS_PER_SERVICE = 2
/** A listed size of at least 100 slots a backend has 164 with 25 of them, and no service less than the smallest size. */
const SLOTS_PER_BACKEND = 164
const SMALLEST_RING = 1021
/** Turns of a schedule at most, or two for each backend, if that is more: beyond that, weights are rounded. */
export const SCHEDULE_TURNS = 1024

const ringLines = (capacity: Capacity): number => {
  const lines = (slots: number) => Math.ceil(slots / RingLimit.SLOTS_PER_LINE)
  const rings = lines(capacity.backends * SLOTS_PER_BACKEND) + capacity.services * lines(SMALLEST_RING)
  const schedules = capacity.services * lines(SCHEDULE_TURNS) + lines(2 * capacity.backends)
  // Of each backend its server, and of each server its backend.
  const persistences = capacity.services + lines(2 * capacity.backends)
  return (rings * RINGS_PER_SERVICE + schedules + persistences) * GENERATIONS
}

/** A map that is no table, in this process: what is put in is found again by its very key. */
const makeKernelMap = (): KernelMap => {
  const values = new Map<string, Buffer>()
  const nameOf = (key: Uint8Array): string => Buffer.from(key).toString('hex')
  return {
    lookup: (key) => values.get(nameOf(key)),
    update: (key, value) => void values.set(nameOf(key), Buffer.from(value)),
    delete: (key) => values.delete(nameOf(key)),
  }
}

/** A data plane in this process's memory, without packets. `age` is what the test wants it to be. */
export const makeMemory = (capacity: Capacity, age: () => number = () => 0): PlaneMemory => {
  const elements = elementsFor(capacity, 1)
  const buffers = new Map<MappedName, ArrayBuffer>()
  for (const name of MAPPED_NAMES) buffers.set(name, new ArrayBuffer(elements[name] * MAPPED[name]))
  const kernelMaps = new Map(KERNEL_MAP_NAMES.map((name) => [name, makeKernelMap()]))
  const bufferOf = (name: MappedName): ArrayBuffer => {
    const buffer = buffers.get(name)
    if (buffer === undefined) throw new Error(`no map ${name}`)
    return buffer
  }
  return {
    buffer: bufferOf,
    size: (name) => bufferOf(name).byteLength,
    part: (name, offset, length) => new Uint8Array(bufferOf(name), offset, length),
    kernelMap: (name) => {
      const map = kernelMaps.get(name)
      if (map === undefined) throw new Error(`no map ${name}`)
      return map
    },
    waitForPrograms: () => {},
    retired: () => {},
    age,
  }
}
