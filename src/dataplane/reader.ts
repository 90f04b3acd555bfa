// SPDX-License-Identifier: Apache-2.0
// The live state, read from the maps: what packets go by, and what people said.
import { formatService, type Protocol, swap16, swap32 } from '../core/address.ts'
import {
  type Admin,
  type Backend,
  type DesiredState,
  type Globals,
  HASH_INPUTS,
  type Path,
  SCHEDULERS,
  type Service,
} from '../core/desired.ts'
import { type AddressKey, AF, type Family, familyOf, readAddress, readAddressKey } from '../core/ip.ts'
import { type Persistence, persisting } from '../core/persistence.ts'
import { formatVip, isPrefix } from '../core/prefix.ts'
import { LazyState } from '../core/state-map.ts'
import { type Asked, readFilter } from './filters.ts'
import {
  Address6,
  AdminState,
  BackendDetail,
  BackendFlag,
  BackendLimit,
  Backend as BackendRecord,
  BackendWord,
  Directory,
  DrainPersistence,
  Handle,
  Live,
  RingLimit,
  Root,
  Run,
  ServiceDetail,
  ServiceFlag,
  ServiceKey,
  ServicePolicy,
  Service as ServiceRecord,
  Target,
  TargetBucket,
  VlanChoice,
} from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'

/** A backend as it stands in the maps. `index` is its index within the service, `counter` that of its counters. */
export interface LiveBackend {
  index: number
  counter: number
  sinceMs: number
  want: Backend
}

/** A service as it stands in the maps. What people said of it, and its backends, are read when they are asked for. */
export interface LiveService {
  readonly name: string
  /** Index into `services` and `service_details`. */
  record: number
  /** The directory's target that leads to it: in which table, and at which octet. */
  target: { table: TargetTable; at: number }
  readonly service: ServiceRecord
  /** Its record in `filters`; 0: none. */
  readonly filter: number
  readonly policy: ServicePolicy
  readonly want: Service
  /** Of its persistence; undefined: it is in none. */
  readonly group: string | undefined
  readonly changedMs: number
  readonly backends: LiveBackend[]
}

/** The tables in which a directory has targets (struct directory in bpf/xlb.h). */
export type TargetTable = 'vip_buckets' | 'service_buckets' | 'range_targets'

export interface LiveState {
  /** Which of the two directories packets use. */
  live: 0 | 1
  neighboursMs: number
  services: Map<string, LiveService>
  desired: DesiredState
  /** The record in `filters` of that of all services; 0: none. */
  filter: number
  /** What people said for all services. Read when it is asked for. */
  readonly globals: Globals
}

export const ADMIN_STATES: Readonly<Record<Admin, number>> = {
  up: AdminState.ADMIN_UP,
  drain: AdminState.ADMIN_DRAIN,
  leaving: AdminState.ADMIN_LEAVING,
  cut: AdminState.ADMIN_CUT,
}
const ADMINS = new Map(Object.entries(ADMIN_STATES).map(([admin, state]) => [state, admin as Admin]))

const pathOf = (word: bigint, vlan: number): Path => {
  const flags = Number(word & BigInt(BackendWord.BACKEND_FLAGS_MASK))
  if ((flags & BackendFlag.BACKEND_LOCAL) !== 0) return { kind: 'local' }
  const mac = word >> BigInt(BackendWord.BACKEND_MAC_SHIFT)
  if ((flags & BackendFlag.BACKEND_ALIVE) === 0 && mac === 0n) return { kind: 'unresolved', why: 'its MAC is unknown' }
  const interfaceSlot = Number((word >> BigInt(BackendWord.BACKEND_INTERFACE_SHIFT)) & 0xffn)
  const tagged = (flags & BackendFlag.BACKEND_TAGGED) !== 0
  return { kind: 'link', mac, interfaceSlot, ...(tagged ? { vlan } : {}) }
}

/** struct backend_detail's choice; nothing of it where the route decides. */
const vlanOf = (choice: number): Pick<Backend, 'vlan'> => {
  if (choice === VlanChoice.VLAN_BY_ROUTE) return {}
  return { vlan: choice === VlanChoice.VLAN_NONE ? 'none' : choice }
}

/** A view of a whole map. */
export const viewOf = (memory: Pick<PlaneMemory, 'buffer'>, name: Parameters<PlaneMemory['buffer']>[0]): DataView =>
  new DataView(memory.buffer(name))

const readBackends = (views: { backends: DataView; details: DataView }, service: ServiceRecord): LiveBackend[] => {
  const backends: LiveBackend[] = []
  for (let index = 0; index < service.backendCount; index++) {
    const at = (service.backendBase + index) * BackendRecord.size
    const detailAt = (service.backendBase + index) * BackendDetail.size
    const { details } = views
    const admin = details.getUint8(detailAt + BackendDetail.offset.admin)
    if (admin === AdminState.ADMIN_REMOVED) continue
    const word = views.backends.getBigUint64(at + BackendRecord.offset.word, true)
    backends.push({
      index,
      counter: views.backends.getUint32(at + BackendRecord.offset.counter, true),
      sinceMs: Number(details.getBigUint64(detailAt + BackendDetail.offset.sinceMs, true)),
      want: {
        address: readAddress(
          details,
          detailAt + BackendDetail.offset.address,
          details.getUint8(detailAt + BackendDetail.offset.family),
        ),
        port: details.getUint16(detailAt + BackendDetail.offset.port),
        weight: details.getUint32(detailAt + BackendDetail.offset.weight, true),
        admin: ADMINS.get(admin) ?? 'up',
        ...vlanOf(details.getUint16(detailAt + BackendDetail.offset.vlan, true)),
        ...maxConnsOf(details, detailAt),
        path: pathOf(word, views.backends.getUint16(at + BackendRecord.offset.vlan, true)),
      },
    })
  }
  return backends
}

/** Nothing of it where there is no limit. */
const maxConnsOf = (details: DataView, at: number): Pick<Backend, 'maxConns'> => {
  const upper = details.getUint32(at + BackendDetail.offset.upper, true)
  return upper === 0 ? {} : { maxConns: { upper, lower: details.getUint32(at + BackendDetail.offset.lower, true) } }
}

const vipText = ({ vip, family, prefixBits }: ServiceDetail): string => {
  const address = readAddress(new DataView(vip.buffer, vip.byteOffset), 0, family)
  return prefixBits === 0 ? address : `${address}/${prefixBits}`
}

const groupOf = ({ persistSeconds, group }: ServiceDetail): string | undefined =>
  persistSeconds === 0 || group === '' ? undefined : group

const persistenceOf = (detail: ServiceDetail): Persistence | undefined =>
  detail.persistSeconds === 0
    ? undefined
    : {
        seconds: detail.persistSeconds,
        prefix: detail.persistPrefix,
        prefix6: detail.persistPrefix6,
        drain: detail.drainPersistence === DrainPersistence.DRAIN_CUTS_CLIENTS ? 'cut' : 'keep',
        group: groupOf(detail),
      }

const wantOf = (detail: ServiceDetail, backends: readonly LiveBackend[], asked: Asked): Service => ({
  protocol: detail.protocol === 6 ? 'tcp' : 'udp',
  vip: vipText(detail),
  port: detail.port,
  lastPort: detail.lastPort,
  scheduler: SCHEDULERS[detail.scheduler] ?? 'wrr',
  forward: 'dsr',
  hash: HASH_INPUTS[detail.hashInput] ?? 'source-port',
  ringSize: detail.ringSize,
  seed: detail.seed,
  ops: detail.ops !== 0,
  ...(detail.name === '' ? {} : { label: detail.name }),
  ...asked,
  ...persisting(persistenceOf(detail)),
  backends: backends.map((backend) => backend.want),
})

/** Buckets that a table of a directory uses, from its shift. */
export const bucketsOf = (shift: number): number => 2 ** (64 - shift)

/** Buckets of one directory's tables: half of a map. */
export const bucketsPerDirectory = (memory: Pick<PlaneMemory, 'buffer'>): number =>
  memory.buffer('vip_buckets').byteLength / TargetBucket.size / 2

/** root.live, taken apart: which directory it is, and where its VIPs lie. */
export const liveVips = (memory: PlaneMemory, word: bigint): { live: 0 | 1; base: number; buckets: number } => {
  const half = bucketsPerDirectory(memory)
  const live = (word & BigInt(half)) === 0n ? 0 : 1
  return { live, base: live * half, buckets: bucketsOf(Number(word & BigInt(Live.LIVE_SHIFT_MASK))) }
}

/** A key that leads to a run of ranges, told by the upper half of it. */
const RUN_BIT = 1 << (ServiceKey.KEY_RUN_SHIFT - 32)
const IPV6_BIT = 1 << (ServiceKey.KEY_IPV6_SHIFT - 32)
const PREFIX_BIT = 1 << (ServiceKey.KEY_PREFIX_SHIFT - 32)

interface FoundTarget {
  target: LiveService['target']
  key: { low: number; high: number }
  record: number
  lastPort: number
}

/** The targets of a run of ranges. @param at octet of its struct run */
function* runTargets(memory: PlaneMemory, view: DataView, at: number): Generator<FoundTarget> {
  const { first, count } = Run.read(view, at)
  const ranges = viewOf(memory, 'range_targets')
  for (let place = first; place < first + Number(count); place++) {
    yield foundTarget(ranges, 'range_targets', place * Target.size)
  }
}

const foundTarget = (view: DataView, table: TargetTable, at: number): FoundTarget => ({
  target: { table, at },
  key: {
    low: view.getUint32(at + Target.offset.key, true),
    high: view.getUint32(at + Target.offset.key + 4, true),
  },
  record: view.getUint32(at + Target.offset.service, true),
  lastPort: view.getUint16(at + Target.offset.lastPort, true),
})

/** Every target of the live directory, and the service record that it leads to. */
function* liveTargets(
  memory: PlaneMemory,
  vips: { base: number; buckets: number },
  directory: Directory,
): Generator<FoundTarget> {
  const tables = [
    { table: 'vip_buckets', base: vips.base, buckets: vips.buckets },
    { table: 'service_buckets', base: directory.serviceBase, buckets: bucketsOf(directory.serviceShift) },
  ] as const
  for (const { table, base, buckets } of tables) {
    const view = viewOf(memory, table)
    const end = (base + buckets) * TargetBucket.size
    for (let at = base * TargetBucket.size; at < end; at += Target.size) {
      // A key has its protocol in the upper half, so that this word tells a free place.
      const high = view.getUint32(at + Target.offset.key + 4, true)
      if (high === 0) continue
      if ((high & RUN_BIT) !== 0) yield* runTargets(memory, view, at)
      else yield foundTarget(view, table, at)
    }
  }
}

export const readLive = (memory: PlaneMemory): LiveState => {
  const root = Root.read(viewOf(memory, 'root'), 0)
  const { live, ...vips } = liveVips(memory, root.live)
  const directory = root.directory[live]
  if (directory === undefined) throw new Error('unreachable: a root has two directories')
  const views: Views = {
    memory,
    records: viewOf(memory, 'services'),
    policies: viewOf(memory, 'service_policies'),
    serviceDetails: viewOf(memory, 'service_details'),
    backends: viewOf(memory, 'backends'),
    details: viewOf(memory, 'backend_details'),
  }
  const services = new Map<string, LiveService>()
  for (const { target, key, record, lastPort } of liveTargets(memory, vips, directory)) {
    const name = nameOf(memory, key, lastPort)
    services.set(name, new ReadService(views, name, target, record))
  }
  const { filter, newFlows } = directory
  return {
    live,
    neighboursMs: Number(root.neighboursMs),
    services,
    desired: new LazyState(services),
    filter,
    globals: new ReadGlobals(memory, filter, newFlows),
  }
}

class ReadGlobals implements Globals {
  readonly newFlows: number
  readonly #memory: PlaneMemory
  readonly #record: number
  #asked: Asked | undefined

  constructor(memory: PlaneMemory, record: number, newFlows: number) {
    this.newFlows = newFlows
    this.#memory = memory
    this.#record = record
  }

  get filter(): Globals['filter'] {
    this.#asked ??= readFilter(this.#memory, this.#record)
    return this.#asked.filter
  }
}

/** The directory that packets use. */
export const liveDirectory = (memory: PlaneMemory): Directory => {
  const view = viewOf(memory, 'root')
  const { live } = liveVips(memory, view.getBigUint64(Root.offset.live, true))
  return Directory.read(view, Root.offset.directory + live * Directory.size)
}

interface Views {
  memory: PlaneMemory
  records: DataView
  policies: DataView
  serviceDetails: DataView
  backends: DataView
  details: DataView
}

class ReadService implements LiveService {
  readonly name: string
  readonly target: LiveService['target']
  readonly record: number
  readonly service: ServiceRecord
  readonly #views: Views
  #backends: LiveBackend[] | undefined
  #want: Service | undefined

  constructor(views: Views, name: string, target: LiveService['target'], record: number) {
    this.#views = views
    this.name = name
    this.target = target
    this.record = record
    this.service = ServiceRecord.read(views.records, record * ServiceRecord.size)
  }

  get backends(): LiveBackend[] {
    this.#backends ??= readBackends(this.#views, this.service)
    return this.#backends
  }

  get policy(): ServicePolicy {
    return ServicePolicy.read(this.#views.policies, this.record * ServicePolicy.size)
  }

  get group(): string | undefined {
    return groupOf(this.#detail())
  }

  get want(): Service {
    this.#want ??= wantOf(this.#detail(), this.backends, readFilter(this.#views.memory, this.filter))
    return this.#want
  }

  get filter(): number {
    if ((this.service.flags & ServiceFlag.SERVICE_POLICY) === 0) return 0
    return this.policy.filter
  }

  get changedMs(): number {
    return Number(this.#detail().changedMs)
  }

  #detail(): ServiceDetail {
    return ServiceDetail.read(this.#views.serviceDetails, this.record * ServiceDetail.size)
  }
}

/** formatService of a target's key, given as its two halves. */
const nameOf = (memory: PlaneMemory, { low, high }: FoundTarget['key'], lastPort: number): string => {
  const protocol = ((high >>> 16) & 0xff) === 6 ? 'tcp' : 'udp'
  const vip =
    (high & IPV6_BIT) === 0
      ? formatVip({ word: swap32(low), isPrefix: (high & PREFIX_BIT) !== 0 })
      : vipOfHandle(memory, low)
  return formatService({ protocol, vip, port: swap16(high & 0xffff), lastPort })
}

/** The IPv6 VIP that a handle stands for (enum handle of bpf/xlb.h). */
const vipOfHandle = (memory: PlaneMemory, handle: number): string => {
  const place = (handle >>> Handle.HANDLE_SHIFT) - 1
  return readAddress(viewOf(memory, 'vip6_buckets'), place * Address6.size, AF.ipv6)
}

/** What packets go by of every backend, without making an object of each. */
export interface BackendScan {
  name: string
  address: AddressKey
  /** Octets of the MAC as struct backend holds them: the first four, the other two. */
  macLow: number
  macHigh: number
  flags: number
  /** It is reached through `interfaceSlot`. */
  isLink: boolean
  interfaceSlot: number
  /** 0: untagged. */
  vlan: number
  counter: number
  /** enum admin_state */
  admin: number
}

/** Calls `visit` for every backend that was not removed, of every live service; the object it gets is the same each time. */
export const scanBackends = (memory: PlaneMemory, live: LiveState, visit: (backend: BackendScan) => void): void => {
  const words = new Uint32Array(memory.buffer('backends'))
  const details = viewOf(memory, 'backend_details')
  const scan: BackendScan = {
    name: '',
    address: 0,
    macLow: 0,
    macHigh: 0,
    flags: 0,
    isLink: false,
    interfaceSlot: 0,
    vlan: 0,
    counter: 0,
    admin: 0,
  }
  const { BACKEND_ALIVE, BACKEND_LOCAL, BACKEND_TAGGED } = BackendFlag
  for (const { name, service } of live.services.values()) {
    scan.name = name
    const end = service.backendBase + service.backendCount
    for (let record = service.backendBase; record < end; record++) {
      const detailAt = record * BackendDetail.size
      scan.admin = details.getUint8(detailAt + BackendDetail.offset.admin)
      if (scan.admin === AdminState.ADMIN_REMOVED) continue
      const at = (record * BackendRecord.size) / 4
      scan.address = readAddressKey(
        details,
        detailAt + BackendDetail.offset.address,
        details.getUint8(detailAt + BackendDetail.offset.family),
      )
      const low = words[at] ?? 0
      const high = words[at + 1] ?? 0
      scan.macLow = ((low >>> 16) | (high << 16)) >>> 0
      scan.macHigh = high >>> 16
      scan.flags = low & BackendWord.BACKEND_FLAGS_MASK
      scan.isLink = (scan.flags & (BACKEND_ALIVE | BACKEND_LOCAL)) === BACKEND_ALIVE
      scan.vlan = (scan.flags & BACKEND_TAGGED) === 0 ? 0 : (words[at + BackendRecord.offset.vlan / 4] ?? 0) & 0xffff
      scan.interfaceSlot = (low >>> BackendWord.BACKEND_INTERFACE_SHIFT) & 0xff
      scan.counter = words[at + BackendRecord.offset.counter / 4] ?? 0
      visit(scan)
    }
  }
}

/** Lines that `slots` slots take. */
export const linesFor = (slots: number): number => Math.ceil(slots / RingLimit.SLOTS_PER_LINE)

/** The slots of a run of ring lines, as they stand in the map: a view, not a copy. */
export const slotsAt = (memory: PlaneMemory, line: number, slots: number): Uint16Array => {
  if (slots === 0) return new Uint16Array(0)
  const { buffer, byteOffset } = memory.part('rings', line * RingLimit.SLOTS_PER_LINE * 2, slots * 2)
  return new Uint16Array(buffer, byteOffset, slots)
}

/** What the 32 bits of a VIP in a key are. */
export type VipKind = Family | 'prefix'

export const vipKind = (vip: string): VipKind => (isPrefix({ vip }) ? 'prefix' : familyOf(vip))

const KIND_BITS: Readonly<Record<VipKind, bigint>> = {
  ipv4: 0n,
  ipv6: 1n << BigInt(ServiceKey.KEY_IPV6_SHIFT),
  prefix: 1n << BigInt(ServiceKey.KEY_PREFIX_SHIFT),
}

/** What of a key says which VIP or prefix it is of. */
export const KEY_VIP_MASK = KIND_BITS.ipv6 | KIND_BITS.prefix | 0xffffffffn

/**
 * struct target's key: VIP and first port in network order as a little-endian machine loads them, and the protocol.
 *
 * @param vip the VIP's number, most significant octet first; of IPv6 its handle's, of a prefix its word, likewise
 */
export const serviceKey = (
  { protocol, port, kind }: { protocol: Protocol; port: number; kind: VipKind },
  vip: number,
): bigint =>
  BigInt(swap32(vip)) |
  (BigInt(swap16(port)) << BigInt(ServiceKey.KEY_PORT_SHIFT)) |
  (BigInt(protocol === 'tcp' ? 6 : 17) << BigInt(ServiceKey.KEY_PROTOCOL_SHIFT)) |
  KIND_BITS[kind]

/** Indices of a service's backends that may be given out: 0 to this, exclusive. */
export const INDICES = BackendLimit.BACKENDS_PER_SERVICE_MAX

/** HASHED_DESTINATION of bpf/xlb.h, whose enums have 31 bits. */
export const HASHED_DESTINATION = 1n << 63n
