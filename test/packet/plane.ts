// SPDX-License-Identifier: Apache-2.0
// The program under test with maps of its own, without bpffs and without interfaces: frames go in and come out by
// BPF_PROG_TEST_RUN. Backends are numbers: backend 7 is 198.51.100.7 or 2001:db8:be::7, and its MAC ends in 7.
import { formatService, parseBackend, parseMac, parseService, vipOf } from '../../src/core/address.ts'
import type { DesiredState, Globals, Path } from '../../src/core/desired.ts'
import { parseFilterFile, withFilter, withGlobalFilter } from '../../src/core/filter.ts'
import { type Health, withHealth } from '../../src/core/health.ts'
import { type Family, familyOf } from '../../src/core/ip.ts'
import { type FlowFate, removeBackend } from '../../src/core/leaving.ts'
import type { MaxConns } from '../../src/core/max-conns.ts'
import { plan } from '../../src/core/plan.ts'
import { ChangedState } from '../../src/core/state-map.ts'
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
import { type Counts, readCounts, readReasons } from '../../src/dataplane/counters.ts'
import { KernelPlane, ownSource } from '../../src/dataplane/kernel.ts'
import { Reason, type Settings } from '../../src/dataplane/layout.gen.ts'
import { readConnections } from '../../src/dataplane/least.ts'
import type { Capacity } from '../../src/dataplane/memory.ts'
import { type BpfObject, loadNative, type RunResult } from '../../src/dataplane/native.ts'
import { type LiveService, readLive } from '../../src/dataplane/reader.ts'
import { applyChanges } from '../../src/dataplane/writer.ts'
import { writeInterface } from '../../src/shell/interfaces.ts'
import { formatPlane, loadProgram, loadSweep, makeMaps, makeSettings, startSweep } from '../../src/shell/load.ts'
import { random64 } from '../../src/shell/session.ts'
import { OWN_MAC } from './frames.ts'

export const VERDICT = { DROP: 1, PASS: 2, TX: 3, REDIRECT: 4 } as const
export type ReasonName = Exclude<keyof typeof Reason, 'REASONS'>
/** What moved, and by how much; what did not move is absent. */
export type Reasons = Partial<Record<ReasonName, number>>

/** No age passes: what is to be old is made old by editing entries. */
export const FROZEN_CLOCK = 40
/** A unit of age is two jiffies: 8 ms at 250 Hz. (With one it would have more than 32 bits soon after boot.) */
export const FAST_CLOCK = 1
/** A unit of age is about a second at 250 Hz, as `attach` has it. */
export const REAL_CLOCK = 8

export interface BalancerOptions {
  capacity?: Partial<Capacity>
  /** In one unit of age. */
  newFlows?: number
  settings?: Partial<Settings>
  /** Loads another object than the product's, of the same tables. */
  load?: typeof loadProgram
  /** The program of that object that frames go through. */
  program?: string
}

export interface BackendSpec {
  weight?: number
  path?: Path
  drained?: boolean
  maint?: boolean
  health?: Health
  maxConns?: MaxConns | 'none'
}

export interface Sent {
  verdict: number
  frame: Buffer
  reasons: Reasons
  /** The backend whose MAC the frame bears; undefined where it was not sent out. */
  backend: number | undefined
}

/** Its ifindex is the loopback's: a slot leads to a device, and every namespace has that one. */
export const SECOND_INTERFACE = { slot: 1, mac: '02:00:00:00:00:02', ifindex: 1 }
/** A slot that leads to no device, as after its interface was deleted. */
export const GONE_SLOT = 2

export const backendAddress = (backend: number, family: Family = 'ipv4'): string =>
  family === 'ipv4' ? `198.51.${100 + (backend >> 8)}.${backend & 255}` : `2001:db8:be::${backend.toString(16)}`
/** As a backend of a service. */
const addressFor = (service: string, backend: number): string => backendAddress(backend, familyOf(vipOf(service)))
export const backendMac = (backend: number): string => `02:be:00:00:${octet(backend >> 8)}:${octet(backend & 255)}`

const octet = (value: number): string => value.toString(16).padStart(2, '0')

export const linkPath = (backend: number, interfaceSlot = 0, vlan?: number): Path => ({
  kind: 'link',
  mac: parseMac(backendMac(backend)),
  interfaceSlot,
  ...(vlan === undefined ? {} : { vlan }),
})
export const LOCAL: Path = { kind: 'local' }
export const UNRESOLVED: Path = { kind: 'unresolved', why: 'nobody answers' }

const names = Object.entries(Reason).filter(([name]) => name !== 'REASONS') as [ReasonName, number][]

export class Balancer {
  readonly native = loadNative()
  readonly plane: KernelPlane
  readonly object: BpfObject
  readonly maps: ReturnType<typeof makeMaps>
  readonly #program: ReturnType<BpfObject['program']>
  readonly #settings: Settings
  #sweeper: BpfObject | undefined
  #reasons: number[]

  constructor(options: BalancerOptions = {}) {
    const capacity = {
      services: 64,
      backends: 1024,
      flows: 8192,
      flows6: 8192,
      prefixFlows6: 8192,
      ...options.capacity,
    }
    const settings = {
      ...makeSettings(this.native, capacity),
      ageShift: FROZEN_CLOCK,
      ...options.settings,
    }
    this.#settings = settings
    this.maps = makeMaps(this.native, capacity)
    this.object = (options.load ?? loadProgram)(this.native, this.maps, 0, settings)
    formatPlane(this.maps, settings, options.newFlows ?? 2 ** 31)
    this.plane = new KernelPlane(this.native, ownSource(this.maps, this.object))
    this.#writeInterfaces()
    this.#program = this.object.program(options.program ?? 'xlb')
    this.#reasons = this.#readReasons()
  }

  close(): void {
    this.#sweeper?.close()
    this.#program.close()
    this.plane.close()
    this.object.close()
  }

  get state(): DesiredState {
    return readLive(this.plane).desired
  }

  /** As if it had just been loaded: no services, no flows, nothing spent of the bound on new flows. Loading takes longer. */
  reset(): this {
    this.change(() => new Map())
    this.filter(undefined)
    this.#writeInterfaces()
    for (const name of [
      'flows',
      'flows6',
      'prefix_flows6',
      'fragments',
      'cpus',
      'flow_changes',
      'source_rates',
      'destinations',
    ] as const)
      new Uint8Array(this.plane.buffer(name)).fill(0)
    this.#reasons = this.#readReasons()
    return this
  }

  #writeInterfaces(): void {
    const { mac, ifindex } = SECOND_INTERFACE
    writeInterface(this.plane, 0, { mac: parseMac(OWN_MAC), ifindex: 1, generic: 0, name: 'one' })
    writeInterface(this.plane, 1, { mac: parseMac(mac), ifindex, generic: 0, name: 'two' })
  }

  /** The road of every verb: read, plan, apply. */
  change(next: (state: DesiredState) => DesiredState): void {
    const live = readLive(this.plane)
    const changes = plan(live.desired, next(live.desired))
    applyChanges(this.plane, live, changes, { nowMs: Date.now(), random: random64 })
  }

  /** Likewise, for what holds for all services. */
  changeGlobals(next: (globals: Globals) => Globals): void {
    const live = readLive(this.plane)
    applyChanges(this.plane, live, [], { nowMs: Date.now(), random: random64, globals: next(live.globals) })
  }

  /** As filter, but killed just before the commit. @throws 'killed' */
  filterInterrupted(lines: readonly string[]): void {
    const live = readLive(this.plane)
    const globals = withGlobalFilter(live.globals, () => parseFilterFile('test', lines.join('\n')))
    const beforeCommit = (): never => {
      throw new Error('killed')
    }
    applyChanges(this.plane, live, [], { nowMs: Date.now(), random: random64, globals, beforeCommit })
  }

  /** Makes lines such as `deny 198.51.100.0/24` the filter of a service, or of all. */
  filter(service: string | undefined, ...lines: string[]): void {
    const change = () => parseFilterFile('test', lines.join('\n'))
    if (service === undefined) this.changeGlobals((globals) => withGlobalFilter(globals, change))
    else this.change((state) => withFilter(state, parseService(service), change))
  }

  /** Adds a service with backends 1 to n, or those that are given by number, in one change. */
  add(service: string, options: ServiceOptions, backends: number | Record<number, BackendSpec>): void {
    const wanted = typeof backends === 'number' ? numbered(backends) : backends
    const address = parseService(service)
    this.change((state) => {
      const empty = addService(state, address, options, random64())
      const name = formatService(address)
      const made = empty.get(name)
      if (made === undefined) throw new Error(`unreachable: ${name} was added`)
      // Each by itself: a verb looks at all backends that are there, and a test may have thousands.
      const alone = (backend: string, spec: BackendSpec) => withBackend(empty, service, Number(backend), spec).get(name)
      const all = Object.entries(wanted).flatMap(([backend, spec]) => alone(backend, spec)?.backends ?? [])
      return ChangedState.of(empty, [[name, { ...made, backends: all }]])
    })
  }

  set(service: string, options: ServiceOptions): void {
    this.change((state) => setService(state, parseService(service), options))
  }

  remove(service: string): void {
    this.change((state) => removeService(state, parseService(service)))
  }

  setBackend(service: string, backend: number, spec: BackendSpec = {}): void {
    this.change((state) => withBackend(state, service, backend, spec))
  }

  drain(service: string, backend: number): void {
    this.setBackend(service, backend, { drained: true })
  }

  maint(service: string, backend: number): void {
    this.setBackend(service, backend, { maint: true })
  }

  removeBackend(service: string, backend: number, flows?: FlowFate): void {
    const address = parseService(service)
    this.change((state) => removeBackend(state, address, parseBackend(addressFor(service, backend), address), flows))
  }

  live(service: string): LiveService {
    const found = readLive(this.plane).services.get(service)
    if (found === undefined) throw new Error(`${service} is not in the maps`)
    return found
  }

  /** Index of a backend within its service, as flow entries name it. */
  indexOf(service: string, backend: number): number {
    const found = this.live(service).backends.find(({ want }) => want.address === addressFor(service, backend))
    if (found === undefined) throw new Error(`${service} has no backend ${backend}`)
    return found.index
  }

  counters(service: string, backend: number): Counts {
    const found = this.live(service).backends.find(({ want }) => want.address === addressFor(service, backend))
    if (found === undefined) throw new Error(`${service} has no backend ${backend}`)
    return readCounts(this.plane, found.counter)
  }

  /** A backend's live counts, as schedulers go by them. */
  connections(service: string, backend: number): { active: number; inactive: number } {
    const found = this.live(service).backends.find(({ want }) => want.address === addressFor(service, backend))
    if (found === undefined) throw new Error(`${service} has no backend ${backend}`)
    return readConnections(this.plane, found.counter)
  }

  /** The instance's sweeper, as attach loads it. */
  get sweeper(): BpfObject {
    this.#sweeper ??= loadSweep(this.native, this.maps, this.#settings)
    return this.#sweeper
  }

  /** Has the timer sweep from now on. */
  startSweep(): void {
    startSweep(this.sweeper)
  }

  /** Sweeps all flow tables at once. */
  sweep(): void {
    const program = this.sweeper.program('xlb_sweep')
    program.run({ context: new Uint8Array(8) })
    program.close()
  }

  /** Pushes a frame through the program without looking at counters. */
  run(frame: Uint8Array): RunResult {
    return this.#program.run({ data: frame })
  }

  send(frame: Uint8Array): Sent {
    const { returned, data } = this.run(frame)
    const forwarded = returned === VERDICT.TX || returned === VERDICT.REDIRECT
    return { verdict: returned, frame: data, reasons: this.moved(), backend: forwarded ? backendOf(data) : undefined }
  }

  /** The backend that a frame is sent to. */
  to(frame: Uint8Array): number | undefined {
    return this.send(frame).backend
  }

  /** The reasons that moved since this was last asked. */
  moved(): Reasons {
    const now = this.#readReasons()
    const moved: Reasons = {}
    for (const [name, at] of names) {
      const by = (now[at] ?? 0) - (this.#reasons[at] ?? 0)
      if (by !== 0) moved[name] = by
    }
    this.#reasons = now
    return moved
  }

  #readReasons(): number[] {
    return readReasons(this.plane).map(Number)
  }
}

/** Lets ava hear of the tests before: they are synchronous, and without a pause nothing is told until all are done. */
export const breathe = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))

const numbered = (count: number): Record<number, BackendSpec> =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [i + 1, {}]))

export const withBackend = (state: DesiredState, service: string, backend: number, spec: BackendSpec): DesiredState => {
  const address = parseService(service)
  const at = parseBackend(addressFor(service, backend), address)
  if (spec.drained === true || spec.maint === true) {
    const known = state.get(service)?.backends.some((each) => each.address === at.address)
    const plain = { ...spec, drained: false, maint: false }
    const before = known === true ? state : withBackend(state, service, backend, plain)
    return spec.maint === true ? maintBackend(before, address, at) : drainBackend(before, address, at)
  }
  const path = spec.path ?? linkPath(backend)
  const next = setBackend(state, address, at, {
    path,
    ...(spec.weight === undefined ? {} : { weight: spec.weight }),
    ...(spec.maxConns === undefined ? {} : { maxConns: spec.maxConns }),
  })
  if (spec.health === undefined) return next
  return withService(next, withHealth(existing(next, address), new Map([[at.address, spec.health]])))
}

/** By the destination MAC of a frame that was sent out. */
export const backendOf = (frame: Buffer): number => {
  if (frame.readUInt32BE(0) !== 0x02be0000) throw new Error(`no backend has MAC ${frame.toString('hex', 0, 6)}`)
  return frame.readUInt16BE(4)
}
