// SPDX-License-Identifier: Apache-2.0
// What every backend counts and is, at one moment, in columns: a director may have 100,000 of them, and making an object of each
// would stop everything else for longer than a change of MAC may take.
import { BACKEND_STATES, type BackendState, stateWord } from '../core/backend-words.ts'
import { SCHEDULERS, type Scheduler } from '../core/desired.ts'
import { type AddressKey, formatAddressKey } from '../core/ip.ts'
import { adminOf, type BackendScan, scanBackends } from './backend-records.ts'
import { countReader } from './counters.ts'
import type { FlowTally } from './flows.ts'
import { BackendFlag, ServiceDetail, ServiceFlag } from './layout.gen.ts'
import { isFullNow } from './least.ts'
import type { PlaneMemory } from './memory.ts'
import type { LiveService, LiveState } from './reader.ts'
import { isNeeded } from './remaining.ts'
import { viewOf } from './views.ts'

/** A service, and where its backends stand in the columns: from `first` to `end`, exclusive. */
export interface ServiceSample {
  service: string
  /** What people call it; '' where they do not. */
  name: string
  scheduler: Scheduler
  /** Its flows are recorded, so that its connections are known. */
  tracked: boolean
  first: number
  end: number
}

/** One element for each backend in each column. */
export interface BackendColumns {
  address: AddressKey[]
  packets: Float64Array
  bytes: Float64Array
  flows: Float64Array
  active: Uint32Array
  inactive: Uint32Array
  weight: Uint16Array
  effectiveWeight: Uint16Array
  /** In BACKEND_STATES. */
  state: Uint8Array
}

export interface Samples {
  services: ServiceSample[]
  backends: BackendColumns
}

export const addressAt = (backends: BackendColumns, at: number): string => formatAddressKey(backends.address[at] ?? 0)

export const stateAt = (backends: BackendColumns, at: number): BackendState =>
  BACKEND_STATES[backends.state[at] ?? 0] ?? 'up'

/** Room for all backends that there can be. */
const makeColumns = (most: number): BackendColumns => ({
  address: [],
  packets: new Float64Array(most),
  bytes: new Float64Array(most),
  flows: new Float64Array(most),
  active: new Uint32Array(most),
  inactive: new Uint32Array(most),
  weight: new Uint16Array(most),
  effectiveWeight: new Uint16Array(most),
  state: new Uint8Array(most),
})

/** Services without backends come last. */
export const readSamples = (memory: PlaneMemory, live: LiveState, tally: FlowTally): Samples => {
  const reading = new Reading(memory, live, tally)
  scanBackends(memory, live, (scan) => reading.take(scan))
  return reading.end()
}

class Reading {
  readonly #memory: PlaneMemory
  readonly #live: LiveState
  readonly #tally: FlowTally
  readonly #details: DataView
  readonly #countsOf: ReturnType<typeof countReader>
  readonly #backends: BackendColumns
  readonly #services = new Map<string, ServiceSample>()
  /** The service whose backends come now. */
  #service: LiveService | undefined
  #sample: ServiceSample | undefined
  #read = 0

  constructor(memory: PlaneMemory, live: LiveState, tally: FlowTally) {
    this.#memory = memory
    this.#live = live
    this.#tally = tally
    this.#details = viewOf(memory, 'service_details')
    this.#countsOf = countReader(memory)
    let most = 0
    for (const { service } of live.services.values()) most += service.backendCount
    this.#backends = makeColumns(most)
  }

  take(scan: BackendScan): void {
    if (this.#service?.name !== scan.name) this.#begin(this.#live.services.get(scan.name))
    if (this.#service === undefined || this.#sample === undefined) return
    const { service } = this.#service
    const admin = adminOf(scan.admin)
    const isLeaving = admin === 'leaving' || admin === 'cut'
    if (isLeaving && !isNeeded(this.#memory, this.#tally, this.#service, scan.index)) return
    const { weight, alive, percent } = scan
    const limited = (service.flags & ServiceFlag.SERVICE_LIMITED) !== 0
    const full = limited && isFullNow(this.#memory, service, scan.index)
    const state = stateWord({ admin, weight, path: pathOf(scan), alive, percent, full })
    const counts = this.#countsOf(scan.counter)
    const { active, inactive } = this.#tally.of(service.id, scan.index)
    const at = this.#read++
    const columns = this.#backends
    columns.address.push(scan.address)
    columns.packets[at] = counts.packets
    columns.bytes[at] = counts.bytes
    columns.flows[at] = counts.flows
    columns.active[at] = active
    columns.inactive[at] = inactive
    columns.weight[at] = weight
    columns.effectiveWeight[at] = scan.effectiveWeight
    columns.state[at] = BACKEND_STATES.indexOf(state)
    this.#sample.end = this.#read
  }

  #begin(service: LiveService | undefined): void {
    this.#service = service
    if (service === undefined) return
    const { scheduler, name } = ServiceDetail.read(this.#details, service.record * ServiceDetail.size)
    const { SERVICE_TRACKED, SERVICE_OPS } = ServiceFlag
    this.#sample = {
      service: service.name,
      name,
      scheduler: SCHEDULERS[scheduler] ?? 'wrr',
      tracked: (service.service.flags & (SERVICE_TRACKED | SERVICE_OPS)) === SERVICE_TRACKED,
      first: this.#read,
      end: this.#read,
    }
    this.#services.set(service.name, this.#sample)
  }

  end(): Samples {
    for (const service of this.#live.services.values()) if (!this.#services.has(service.name)) this.#begin(service)
    return { services: [...this.#services.values()], backends: this.#backends }
  }
}

/** As a backend that is read whole has it. */
const pathOf = ({ flags, macLow, macHigh }: BackendScan): 'link' | 'local' | 'unresolved' => {
  if ((flags & BackendFlag.BACKEND_LOCAL) !== 0) return 'local'
  return (flags & BackendFlag.BACKEND_ALIVE) === 0 && macLow === 0 && macHigh === 0 ? 'unresolved' : 'link'
}
