// SPDX-License-Identifier: Apache-2.0
// The live state, read from the maps: what packets go by, and what people said.
import { type DesiredState, type Globals, HASH_INPUTS, SCHEDULERS, type Service } from '../core/desired.ts'
import { readAddress } from '../core/ip.ts'
import { type Persistence, persisting } from '../core/persistence.ts'
import { ChangedState, LazyState } from '../core/state-map.ts'
import { type LiveBackend, readBackends } from './backend-records.ts'
import { type Asked, readFilter } from './filters.ts'
import {
  Directory,
  DrainPersistence,
  Root,
  ServiceDetail,
  ServiceFlag,
  ServicePolicy,
  Service as ServiceRecord,
} from './layout.gen.ts'
import { liveTargets, liveVips, type TargetPlace } from './live-directory.ts'
import type { PlaneMemory } from './memory.ts'
import { nameOf } from './service-key.ts'
import { viewOf } from './views.ts'

/** A service as it stands in the maps. What people said of it, and its backends, are read when they are asked for. */
export interface LiveService {
  readonly name: string
  /** Index into `services` and `service_details`. */
  record: number
  /** The directory's target that leads to it. */
  target: TargetPlace
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

export interface LiveState {
  /** Which of the two directories packets use. */
  live: 0 | 1
  neighboursMs: number
  services: ReadonlyMap<string, LiveService>
  desired: DesiredState
  /** The record in `filters` of that of all services; 0: none. */
  filter: number
  /** What people said for all services. Read when it is asked for. */
  readonly globals: Globals
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

const viewsOf = (memory: PlaneMemory): Views => ({
  memory,
  records: viewOf(memory, 'services'),
  policies: viewOf(memory, 'service_policies'),
  serviceDetails: viewOf(memory, 'service_details'),
  backends: viewOf(memory, 'backends'),
  details: viewOf(memory, 'backend_details'),
})

export const readLive = (memory: PlaneMemory): LiveState => {
  // Field by field: the codec makes an object, and a text, of each of 64 interfaces.
  const root = viewOf(memory, 'root')
  const { live, ...vips } = liveVips(memory, root.getBigUint64(Root.offset.live, true))
  const directory = Directory.read(root, Root.offset.directory + live * Directory.size)
  const views = viewsOf(memory)
  const services = new Map<string, LiveService>()
  for (const { target, key, record, lastPort } of liveTargets(memory, vips, directory)) {
    const name = nameOf(memory, key, lastPort)
    services.set(name, new ReadService(views, name, target, record))
  }
  const { filter, newFlows } = directory
  return {
    live,
    neighboursMs: Number(root.getBigUint64(Root.offset.neighboursMs, true)),
    services,
    desired: new LazyState(services),
    filter,
    globals: new ReadGlobals(memory, filter, newFlows),
  }
}

/** So many changes are looked up beside what they change. */
const CHANGES_MAX = 256

const flat = (services: LiveState['services']): LiveState['services'] =>
  services instanceof ChangedState && services.changes.size >= CHANGES_MAX ? new Map(services) : services

/** `live` after a commit that gave one service another record, and nothing else. */
export const withRecord = (memory: PlaneMemory, live: LiveState, name: string, record: number): LiveState => {
  const before = live.services.get(name)
  if (before === undefined) throw new Error(`${name} is not in the maps`)
  const services = ChangedState.of(flat(live.services), [
    [name, new ReadService(viewsOf(memory), name, before.target, record)],
  ])
  return { ...live, services, desired: new LazyState(services) }
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
