// SPDX-License-Identifier: Apache-2.0
// Loading: fresh maps for a capacity, and a copy of the program over them, with its constants.
import { fileURLToPath } from 'node:url'
import { CAPACITY, NEW_FLOWS } from '../core/capacity.ts'
import { Refusal } from '../core/refusal.ts'
import { DEFAULT_TIMEOUTS } from '../core/timeouts.ts'
import { BPF_F_MMAPABLE, BPF_MAP_TYPE_ARRAY } from '../dataplane/contract.ts'
import {
  BackendFlag,
  BackendWord,
  Constant,
  Contract,
  Interface,
  RingLimit,
  Root,
  Settings,
} from '../dataplane/layout.gen.ts'
import {
  type Capacity,
  DETAILS,
  elementsFor,
  KERNEL_MAP_NAMES,
  KERNEL_MAPS,
  type KernelMapShape,
  MAPPED,
  MAPPED_NAMES,
  type MapName,
  type MappedName,
  TYPED_MAP_NAMES,
} from '../dataplane/memory.ts'
import type { BpfMap, BpfObject, Native } from '../dataplane/native.ts'
import { timeoutAges } from '../dataplane/timeouts.ts'
import { formatRoot } from '../dataplane/writer.ts'
import { random64 } from './session.ts'

const buildFile = (name: string): string => fileURLToPath(new URL(`../../build/bpf/${name}`, import.meta.url))
export const PROGRAM_FILE = buildFile('xlb.bpf.o')
const SWEEP_FILE = buildFile('sweep.bpf.o')
export const CAPTURE_FILE = buildFile('capture.bpf.o')

/** A SYN is repeated 1, 3 and 7 s after the first (RFC 6298): the ring decides for as long after a flood. */
const FLOOD_HOLD_SECONDS = 8

/** Linux gives up reassembly after 30 s (net.ipv4.ipfrag_time): no fragment comes later and is of use. */
const FRAGMENT_SECONDS = 30

export const DEFAULT_CAPACITY: Required<Capacity> = {
  services: CAPACITY.services.fallback,
  backends: CAPACITY.backends.fallback,
  flows: CAPACITY.flows.fallback,
  flows6: CAPACITY.flows6.fallback,
  prefixFlows6: CAPACITY.prefixFlows6.fallback,
  prefixes: CAPACITY.prefixes.fallback,
  clients: CAPACITY.clients.fallback,
  destinations: CAPACITY.destinations.fallback,
}
export const DEFAULT_NEW_FLOWS = NEW_FLOWS.fallback
export const NEW_FLOWS_MAX = NEW_FLOWS.most

/** The unit of age is the power of two of jiffies that is nearest to a second from above, or just below it. */
const clockOf = (jiffiesPerSecond: number): { shift: number; ages: (seconds: number) => number } => {
  const shift = Math.round(Math.log2(jiffiesPerSecond))
  return { shift, ages: (seconds) => Math.ceil((seconds * jiffiesPerSecond) / 2 ** shift) }
}

/** BPF_MAX_VAR_OFF of the kernel's verifier. */
const REACH = 2 ** 29

/** @throws Refusal for a capacity that no maps can be made for */
export const checkCapacity = (capacity: Required<Capacity>, cpus: number): Capacity => {
  for (const [name, { least: low, most: high, fallback }] of Object.entries(CAPACITY)) {
    const value = capacity[name as keyof typeof CAPACITY] ?? fallback
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new Refusal(
        `--${name} ${value}: is not a whole number from ${low} to ${high}`,
        `choose ${low} to ${high}`,
        {
          usage: true,
        },
      )
    }
  }
  for (const [name, elements] of Object.entries(elementsFor(capacity, cpus))) {
    const bytes = elements * MAPPED[name as MappedName]
    if (bytes <= REACH) continue
    throw new Refusal(
      `the table ${name} would take ${Math.ceil(bytes / 2 ** 20)} MiB, and a program reaches ${REACH / 2 ** 20} from an address`,
      'choose fewer --services or --backends',
      { usage: true },
    )
  }
  return capacity
}

/** Fresh maps for a capacity: each table is the one value of an ARRAY (bpf/maps.h says why). */
export const makeMaps = (native: Native, capacity: Capacity): Map<MapName, BpfMap> => {
  const cpus = native.system.possibleCpus()
  const elements = elementsFor(capacity, cpus)
  const maps = new Map<MapName, BpfMap>()
  for (const name of MAPPED_NAMES) {
    const octets = elements[name] * MAPPED[name]
    maps.set(name, native.createMap(name, BPF_MAP_TYPE_ARRAY, 4, octets, 1, BPF_F_MMAPABLE))
  }
  for (const name of KERNEL_MAP_NAMES) {
    const { type, keySize, valueSize, flags, entries }: KernelMapShape = KERNEL_MAPS[name]
    maps.set(name, native.createMap(name, type, keySize, valueSize, entries(capacity, cpus), flags))
  }
  return maps
}

type ConstantName = Exclude<keyof typeof Constant, 'CONSTANT_FIRST' | 'CONSTANT_END'>

/** The value of every constant of the packet path, for one slot of root's interfaces. */
const constantsOf = (
  elements: (name: MappedName) => number,
  slot: number,
  settings: Settings,
): Record<ConstantName, number | bigint> => ({
  CONSTANT_OWN_INTERFACE: Root.offset.interface + slot * Interface.size,
  CONSTANT_OWN_PATH: BackendFlag.BACKEND_ALIVE | (slot << BackendWord.BACKEND_INTERFACE_SHIFT),
  CONSTANT_OWN_SLOT: slot,
  CONSTANT_COUNTERS_PER_CPU: elements('counters') / elements('cpus'),
  CONSTANT_DIRECTORY_BUCKETS: elements('vip_buckets') / 2,
  CONSTANT_AGE_SHIFT: settings.ageShift,
  CONSTANT_FLOW_SEED: settings.flowSeed,
  CONSTANT_MASK_vip_buckets: elements('vip_buckets') - 1,
  CONSTANT_MASK_service_buckets: elements('service_buckets') - 1,
  CONSTANT_MASK_vip6_buckets: elements('vip6_buckets') - 1,
  CONSTANT_MASK_range_targets: elements('range_targets') - 1,
  CONSTANT_MASK_services: elements('services') - 1,
  CONSTANT_MASK_service_policies: elements('service_policies') - 1,
  CONSTANT_MASK_rings: elements('rings') * RingLimit.SLOTS_PER_LINE - 1,
  CONSTANT_MASK_backends: elements('backends') - 1,
  CONSTANT_MASK_flows: elements('flows') - 1,
  CONSTANT_MASK_flows6: elements('flows6') - 1,
  CONSTANT_MASK_prefix_flows6: elements('prefix_flows6') - 1,
  CONSTANT_MASK_fragments: elements('fragments') - 1,
  CONSTANT_MASK_clients: elements('clients') - 1,
  CONSTANT_MASK_destinations: elements('destinations') - 1,
  CONSTANT_MASK_cpus: elements('cpus') - 1,
  CONSTANT_MASK_counters: elements('counters') - 1,
  CONSTANT_MASK_flow_changes: elements('flow_changes') - 1,
  CONSTANT_MASK_cursors: elements('cursors') - 1,
  CONSTANT_MASK_filters: elements('filters') - 1,
  CONSTANT_MASK_filter_bounds: elements('filter_bounds') - 1,
  CONSTANT_MASK_source_rates: elements('source_rates') - 1,
  CONSTANT_MASK_connection_limits: elements('connection_limits') - 1,
  CONSTANT_MASK_backend_runs: elements('backend_runs') - 1,
  CONSTANT_MASK_connections: elements('connections') - 1,
})

/** The section of global variables that stands for a table in the object. */
const sectionOf = (name: MappedName): string => `.data.${name}`

/** Where loading gets the instance's maps from. A typed map that is not there is made, and the object has it. */
export interface MapSource {
  get: (name: MapName) => BpfMap | undefined
}

export interface LoadOptions {
  /** Another object than this build's. */
  programFile?: string
  /** The program takes frames of several buffers, as an MTU needs that is larger than one holds. */
  multiBuffer?: boolean
  /** Sets what else the object asks for. */
  prepare?: (object: BpfObject) => void
}

/** The programs that an interface may have. */
const XDP_PROGRAMS = ['xlb', 'xlb_capture']

/** Loads a copy of the program for one slot of root's interfaces, over these maps. */
export const loadProgram = (
  native: Native,
  maps: MapSource,
  slot: number,
  settings: Settings,
  { programFile = PROGRAM_FILE, multiBuffer = false, prepare }: LoadOptions = {},
): BpfObject => {
  const object = native.openObject(programFile)
  if (multiBuffer) for (const name of object.programNames) if (XDP_PROGRAMS.includes(name)) object.setMultiBuffer(name)
  const mapOf = (name: MapName): BpfMap => {
    const map = maps.get(name)
    if (map === undefined) throw new Error(`no map ${name}`)
    return map
  }
  for (const name of MAPPED_NAMES) {
    if (!DETAILS.includes(name)) object.reuseMap(sectionOf(name), mapOf(name))
  }
  for (const name of KERNEL_MAP_NAMES) object.reuseMap(name, mapOf(name))
  for (const name of TYPED_MAP_NAMES) {
    const map = object.mapNames.includes(name) ? maps.get(name) : undefined
    if (map !== undefined) object.reuseMap(name, map)
  }
  const constants = constantsOf((name) => mapOf(name).info.valueSize / MAPPED[name], slot, settings)
  for (const [name, value] of Object.entries(constants)) {
    object.fillPlaceholder(Constant[name as ConstantName], BigInt(value))
  }
  prepare?.(object)
  object.load()
  return object
}

/** The instance's one sweeper (bpf/sweep.bpf.c), of no interface. startSweep sets it going. */
export const loadSweep = (native: Native, maps: MapSource, settings: Settings): BpfObject =>
  loadProgram(native, maps, 0, settings, { programFile: SWEEP_FILE })

/** Sets the timer going, in place of an earlier sweeper's. It runs until nothing holds its map. */
export const startSweep = (object: BpfObject): void => {
  const program = object.program('xlb_sweep_start')
  try {
    const { returned } = program.run({ context: new Uint8Array(8) })
    if (returned !== 0) throw new Error(`the kernel refuses the timer that frees expired flows (${returned})`)
  } finally {
    program.close()
  }
}

/** What the packet path reads off its hit path, for a fresh instance. */
export const makeSettings = (native: Native, capacity: Capacity): Settings => {
  const jiffiesPerSecond = native.system.jiffiesPerSecond()
  const { shift, ages } = clockOf(jiffiesPerSecond)
  return {
    timeout: timeoutAges(DEFAULT_TIMEOUTS, { ageShift: shift, jiffiesPerSecond }),
    destinationTimeout: ages(DEFAULT_TIMEOUTS.destination),
    floodHold: ages(FLOOD_HOLD_SECONDS),
    ageShift: shift,
    jiffiesPerSecond,
    flowSeed: random64() | 1n,
    fragmentTimeout: ages(FRAGMENT_SECONDS),
    flowBuckets: elementsFor(capacity, 1).flows,
  }
}

type Clock = Pick<Settings, 'ageShift' | 'jiffiesPerSecond'>

/** A bound on new flows in a second, in one unit of age. @throws Refusal where it is none */
export const newFlowsPerAge = (perSecond: number, { ageShift, jiffiesPerSecond }: Clock): number => {
  if (!Number.isInteger(perSecond) || perSecond < 1 || perSecond > NEW_FLOWS_MAX) {
    throw new Refusal(
      `--new-flows ${perSecond}: is not a whole number from 1 to ${NEW_FLOWS_MAX}`,
      `choose 1 to ${NEW_FLOWS_MAX}`,
      { usage: true },
    )
  }
  return Math.max(1, Math.floor((perSecond * 2 ** ageShift) / jiffiesPerSecond))
}

/** The reverse of newFlowsPerAge. */
export const newFlowsPerSecond = (perAge: number, { ageShift, jiffiesPerSecond }: Clock): number =>
  Math.ceil((perAge * jiffiesPerSecond) / 2 ** ageShift)

/** Makes fresh maps an empty data plane: only then can they be opened as one. `newFlows` is in one unit of age. */
export const formatPlane = (
  maps: ReadonlyMap<MapName, BpfMap>,
  settings: Settings,
  newFlows = newFlowsPerAge(DEFAULT_NEW_FLOWS, settings),
): void => {
  const fresh = {
    buffer: (name: MappedName): ArrayBuffer => {
      const map = maps.get(name)
      if (map === undefined) throw new Error(`no map ${name}`)
      return map.mmap()
    },
  }
  formatRoot(fresh, Contract.CONTRACT_VERSION, newFlows)
  Settings.write(new DataView(fresh.buffer('settings')), 0, settings)
}
