// SPDX-License-Identifier: Apache-2.0
// Attach and detach. An instance comes to be, and ends, by one rename: its folder of pins is built aside and taken apart aside.
import { existsSync, mkdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseMac } from '../core/address.ts'
import { chooseModes, preflight } from '../core/preflight.ts'
import type { AttachMode, Finding } from '../core/preflight-facts.ts'
import { Refusal } from '../core/refusal.ts'
import type { KernelPlane } from '../dataplane/kernel.ts'
import { Contract, FlowState, RingLimit, Settings } from '../dataplane/layout.gen.ts'
import { type Capacity, DETAILS, elementsFor, MAPPED, type MappedName, type PlaneMemory } from '../dataplane/memory.ts'
import type { BpfLink, BpfMap, BpfObject, Native, NativeError } from '../dataplane/native.ts'
import { readLive, viewOf } from '../dataplane/reader.ts'
import { formatRoot } from '../dataplane/writer.ts'
import {
  clockPin,
  demandRoot,
  type InstancePaths,
  linkPin,
  mapPin,
  prepareBpfFs,
  publishPins,
  removePins,
  retirePins,
} from './instance.ts'
import { attachedInterfaces, freeSlot, writeInterface } from './interfaces.ts'
import { endLink, finishDetach, openPlaneAt, withLock } from './lock.ts'
import { collectFacts } from './preflight.ts'
import { random64 } from './session.ts'

const buildFile = (name: string): string => fileURLToPath(new URL(`../../build/bpf/${name}`, import.meta.url))
export const PROGRAM_FILE = buildFile('xlb.bpf.o')
const PASS_FILE = buildFile('pass.bpf.o')

/** Seconds, by the state of a flow; IPVS's defaults (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_timeouts). */
const TIMEOUT_SECONDS: Partial<Record<keyof typeof FlowState, number>> = {
  FLOW_HALF_OPEN: 60,
  FLOW_ADOPTED: 60,
  FLOW_ESTABLISHED: 900,
  FLOW_CLOSING: 120,
  FLOW_CLOSED: 10,
  FLOW_UDP_ONCE: 300,
  FLOW_UDP: 300,
}

/** A SYN is repeated 1, 3 and 7 s after the first (RFC 6298): the ring decides for as long after a flood. */
const FLOOD_HOLD_SECONDS = 8

export const DEFAULT_CAPACITY: Capacity = { services: 1024, backends: 8192, flows: 2 ** 21 }
export const DEFAULT_NEW_FLOWS = 250_000

export interface AttachOptions {
  interfaceName: string
  mode: AttachMode
  /** Taken when the instance's first interface is attached; refused with a later one. */
  capacity: Partial<Capacity>
  /** New tracked flows that one CPU may record in a second. */
  newFlows?: number
}

export interface Attached {
  interfaceName: string
  ifindex: number
  mode: 'native' | 'generic'
  reason: string
  warnings: Finding[]
}

const errorCode = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error ? String((error as NativeError).code) : undefined

/** The unit of age is the power of two of jiffies that is nearest to a second from above, or just below it. */
const clockOf = (jiffiesPerSecond: number): { shift: number; ages: (seconds: number) => number } => {
  const shift = Math.round(Math.log2(jiffiesPerSecond))
  return { shift, ages: (seconds) => Math.ceil((seconds * jiffiesPerSecond) / 2 ** shift) }
}

/** BPF_MAX_VAR_OFF of the kernel's verifier. */
const REACH = 2 ** 29

const checkCapacity = (capacity: Capacity, cpus: number): Capacity => {
  const check = (name: string, value: number, low: number, high: number) => {
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
  check('services', capacity.services, 1, 32_768)
  check('backends', capacity.backends, 1, 262_144)
  check('flows', capacity.flows, 1024, 2 ** 24)
  const rounded = { ...capacity, flows: 2 ** Math.ceil(Math.log2(capacity.flows)) }
  for (const [name, elements] of Object.entries(elementsFor(rounded, cpus))) {
    const bytes = elements * MAPPED[name as MappedName]
    if (bytes < REACH) continue
    throw new Refusal(
      `the table ${name} would take ${Math.ceil(bytes / 2 ** 20)} MiB, and a program reaches ${REACH / 2 ** 20} from an address`,
      'choose fewer --services or --backends',
      { usage: true },
    )
  }
  return rounded
}

const constant = (value: number | bigint, bytes: 4 | 8): Uint8Array => {
  const buffer = Buffer.alloc(bytes)
  if (bytes === 8) buffer.writeBigUInt64LE(BigInt(value))
  else buffer.writeUInt32LE(Number(value))
  return buffer
}

const BPF_MAP_TYPE_ARRAY = 2
const BPF_F_MMAPABLE = 1024

/** Fresh maps for a capacity: each table is the one value of an ARRAY (bpf/maps.h says why). */
export const makeMaps = (native: Native, capacity: Capacity): Map<MappedName, BpfMap> => {
  const elements = elementsFor(capacity, native.system.possibleCpus())
  const names = Object.keys(MAPPED) as MappedName[]
  return new Map(
    names.map((name) => [
      name,
      native.createMap(name, BPF_MAP_TYPE_ARRAY, 4, elements[name] * MAPPED[name], 1, BPF_F_MMAPABLE),
    ]),
  )
}

/** The section of global variables that stands for a table in the object. */
const sectionOf = (name: MappedName): string => `.data.${name}`

/** Loads a copy of the program for one slot of `interfaces`, over these maps. */
export const loadProgram = (
  native: Native,
  maps: { get: (name: MappedName) => BpfMap | undefined },
  slot: number,
  settings: Settings,
  programFile: string = PROGRAM_FILE,
): BpfObject => {
  const object = native.openObject(programFile)
  const sized = new Map<MappedName, number>()
  for (const name of Object.keys(MAPPED) as MappedName[]) {
    const map = maps.get(name)
    if (map === undefined) throw new Error(`no map ${name}`)
    sized.set(name, map.info.valueSize / MAPPED[name])
    if (DETAILS.includes(name)) continue
    object.reuseMap(sectionOf(name), map)
    // Rings are told in lines here, in slots there.
    const unit = name === 'rings' ? RingLimit.SLOTS_PER_LINE : 1
    object.setConstant(`limit_${name}`, constant((sized.get(name) ?? 0) * unit, 4))
  }
  object.setConstant('counters_per_cpu', constant((sized.get('counters') ?? 0) / (sized.get('cpus') ?? 1), 4))
  object.setConstant('own_slot', constant(slot, 4))
  object.setConstant('flow_seed', constant(settings.flowSeed, 8))
  object.setConstant('vip_multiplier', constant(settings.vipMultiplier, 8))
  object.setConstant('flow_mask', constant(settings.flowBuckets - 1, 4))
  object.setConstant('age_shift', constant(settings.ageShift, 4))
  object.load()
  return object
}

/** What the packet path reads off its hit path, for a fresh instance. */
export const makeSettings = (native: Native, capacity: Capacity, newFlows: number): Settings => {
  const jiffiesPerSecond = native.system.jiffiesPerSecond()
  const { shift, ages } = clockOf(jiffiesPerSecond)
  const timeout = new Array<number>(16).fill(0)
  for (const [state, seconds] of Object.entries(TIMEOUT_SECONDS)) {
    timeout[FlowState[state as keyof typeof FlowState]] = ages(seconds)
  }
  return {
    timeout,
    newFlows: Math.max(1, Math.floor((newFlows * 2 ** shift) / jiffiesPerSecond)),
    floodHold: ages(FLOOD_HOLD_SECONDS),
    ageShift: shift,
    jiffiesPerSecond,
    flowSeed: random64(),
    vipMultiplier: random64() | 1n,
    flowBuckets: capacity.flows / 4,
  }
}

/** The bound on new flows that an instance was attached with, per CPU and second. */
export const newFlowsOf = (memory: Pick<PlaneMemory, 'buffer'>): number => {
  const { newFlows, ageShift, jiffiesPerSecond } = Settings.read(viewOf(memory, 'settings'), 0)
  return Math.ceil((newFlows * jiffiesPerSecond) / 2 ** ageShift)
}

/** Makes fresh maps an empty data plane: only then can they be opened as one. */
export const formatPlane = (maps: ReadonlyMap<MappedName, BpfMap>, settings: Settings): void => {
  const fresh = {
    buffer: (name: MappedName): ArrayBuffer => {
      const map = maps.get(name)
      if (map === undefined) throw new Error(`no map ${name}`)
      return map.mmap()
    },
  }
  formatRoot(fresh, Contract.CONTRACT_VERSION)
  Settings.write(new DataView(fresh.buffer('settings')), 0, settings)
}

const pinAll = (maps: ReadonlyMap<MappedName, BpfMap>, object: BpfObject, pins: string): void => {
  for (const folder of ['maps', 'programs', 'links']) mkdirSync(join(pins, folder), { recursive: true, mode: 0o700 })
  for (const [name, map] of maps) map.pin(mapPin(pins, name))
  object.program('xlb_clock').pin(clockPin(pins))
}

const tryModes = (
  native: Native,
  object: BpfObject,
  ifindex: number,
  modes: ReturnType<typeof chooseModes>,
  interfaceName: string,
): { link: BpfLink; mode: 'native' | 'generic'; reason: string } => {
  let refused = ''
  for (const { mode, reason } of modes) {
    try {
      return { link: native.attachXdp(object.program('xlb'), ifindex, mode), mode, reason }
    } catch (error) {
      const code = errorCode(error)
      refused = `${mode}: ${error instanceof Error ? error.message : error}`
      if (code === 'EBUSY' || code === 'EEXIST') break
    }
  }
  throw new Refusal(
    `${interfaceName}: the kernel refuses XDP (${refused})`,
    'try --mode generic; `dmesg | tail` may say more of the driver’s reasons',
  )
}

/** Writes the interface's record where no program reads it yet, attaches, and pins the link. */
const attachTo = (
  native: Native,
  plane: KernelPlane,
  pins: string,
  object: BpfObject,
  slot: number,
  options: AttachOptions,
  modes: ReturnType<typeof chooseModes>,
): Omit<Attached, 'warnings'> => {
  const { interfaceName } = options
  const found = native.netlink.interfaces().find(({ name }) => name === interfaceName)
  if (found === undefined) throw new Refusal(`interface ${interfaceName} does not exist`, 'see: ip link')
  const record = { mac: parseMac(found.mac), ifindex: found.ifindex, name: interfaceName }
  writeInterface(plane, slot, { ...record, generic: 0 })
  const { link, mode, reason } = tryModes(native, object, found.ifindex, modes, interfaceName)
  writeInterface(plane, slot, { ...record, generic: mode === 'generic' ? 1 : 0 })
  link.pin(linkPin(pins, found.ifindex))
  link.close()
  return { interfaceName, ifindex: found.ifindex, mode, reason }
}

const refuseErrors = (interfaceName: string, findings: readonly Finding[]): void => {
  const errors = findings.filter(({ severity }) => severity === 'error')
  const [first] = errors
  if (first === undefined) return
  throw new Refusal(
    `${interfaceName}: ${errors.map(({ what, why }) => `${what}: ${why}`).join('; ')}`,
    errors.map(({ mend }) => mend).join('; '),
    { usage: first.name === 'unknown-interface' },
  )
}

const attachFirst = (
  native: Native,
  paths: InstancePaths,
  options: AttachOptions,
  modes: ReturnType<typeof chooseModes>,
) => {
  const capacity = checkCapacity({ ...DEFAULT_CAPACITY, ...options.capacity }, native.system.possibleCpus())
  const settings = makeSettings(native, capacity, options.newFlows ?? DEFAULT_NEW_FLOWS)
  const maps = makeMaps(native, capacity)
  const object = loadProgram(native, maps, 0, settings)
  try {
    formatPlane(maps, settings)
    pinAll(maps, object, paths.building)
    const plane = openPlaneAt(native, paths.building)
    try {
      const attached = attachTo(native, plane, paths.building, object, 0, options, modes)
      publishPins(paths)
      return attached
    } finally {
      plane.close()
    }
  } catch (error) {
    removePins(paths.building)
    throw error
  } finally {
    object.close()
    for (const map of maps.values()) {
      map.unmap()
      map.close()
    }
  }
}

const attachFurther = (
  native: Native,
  paths: InstancePaths,
  options: AttachOptions,
  modes: ReturnType<typeof chooseModes>,
) => {
  if (Object.keys(options.capacity).length > 0 || options.newFlows !== undefined) {
    throw new Refusal(
      '--services, --backends, --flows and --new-flows are fixed when the first interface is attached',
      'leave them out, or save, detach --all, and attach anew',
    )
  }
  const plane = openPlaneAt(native, paths.pins)
  try {
    const attached = attachedInterfaces(native, paths.pins, plane)
    const stale = attached.find(({ name, attached: works }) => name === options.interfaceName && !works)
    const slot = stale?.slot ?? freeSlot(attached)
    if (slot < 0) throw new Refusal('every slot for an interface is taken', 'detach one first')
    const settings = Settings.read(viewOf(plane, 'settings'), 0)
    const object = loadProgram(native, { get: (name) => plane.map(name) }, slot, settings)
    try {
      if (stale !== undefined) unlinkSync(linkPin(paths.pins, stale.ifindex))
      return attachTo(native, plane, paths.pins, object, slot, options, modes)
    } finally {
      object.close()
    }
  } finally {
    plane.close()
  }
}

const refuseAttachedTwice = (native: Native, paths: InstancePaths, interfaceName: string): void => {
  const plane = openPlaneAt(native, paths.pins)
  try {
    const found = attachedInterfaces(native, paths.pins, plane).find(
      ({ name, attached }) => name === interfaceName && attached,
    )
    if (found === undefined) return
    throw new Refusal(
      `xlb is attached to ${interfaceName} already (${found.mode} mode)`,
      `to attach it in another mode: xlb detach ${interfaceName}, then xlb attach ${interfaceName} --mode ...`,
    )
  } finally {
    plane.close()
  }
}

/**
 * Attaches an interface; the instance is made if it is the first.
 * @throws Refusal with what the pre-flight found, or why the kernel refuses; nothing is left then
 */
export const attach = (native: Native, paths: InstancePaths, options: AttachOptions): Attached => {
  demandRoot()
  prepareBpfFs(native)
  return withLock(native, paths, () => {
    const first = !existsSync(paths.pins)
    if (!first) refuseAttachedTwice(native, paths, options.interfaceName)
    const facts = collectFacts(native, options.interfaceName, {
      ownProgramId: 0,
      multiBuffer: false,
      passObject: PASS_FILE,
    })
    const findings = preflight(options.mode, facts)
    refuseErrors(options.interfaceName, findings)
    const modes = chooseModes(options.mode, facts)
    const attached = (first ? attachFirst : attachFurther)(native, paths, options, modes)
    return { ...attached, warnings: findings }
  })
}

const detachAll = (native: Native, paths: InstancePaths): { interfaces: string[]; services: number } => {
  const plane = openPlaneAt(native, paths.pins)
  let ended: { interfaces: string[]; services: number }
  try {
    const interfaces = attachedInterfaces(native, paths.pins, plane).map(({ name }) => name)
    ended = { interfaces, services: readLive(plane).services.size }
  } finally {
    plane.close()
  }
  retirePins(paths)
  finishDetach(native, paths)
  return ended
}

const detachOne = (
  native: Native,
  paths: InstancePaths,
  interfaceName: string,
): { interfaces: string[]; services: number } => {
  const plane = openPlaneAt(native, paths.pins)
  try {
    const attached = attachedInterfaces(native, paths.pins, plane)
    const found = attached.find(({ name }) => name === interfaceName)
    if (found === undefined) {
      throw new Refusal(
        `xlb is not attached to ${interfaceName}`,
        `it is attached to: ${attached.map(({ name }) => name).join(', ') || 'nothing'}`,
      )
    }
    if (attached.length === 1) return detachAll(native, paths)
    const through = [...readLive(plane).desired.values()]
      .flatMap((service) => service.backends)
      .filter(({ path }) => path.kind === 'link' && path.interfaceSlot === found.slot)
    if (through.length > 0) {
      throw new Refusal(
        `${interfaceName}: ${through.length} backends are reached through it (${through[0]?.address}${through.length > 1 ? ', ...' : ''})`,
        'remove them first, or end all: xlb detach --all',
      )
    }
    endLink(native, linkPin(paths.pins, found.ifindex))
    writeInterface(plane, found.slot, { mac: 0n, ifindex: 0, generic: 0, name: '' })
    return { interfaces: [interfaceName], services: 0 }
  } finally {
    plane.close()
  }
}

/**
 * Detaches one interface; with the last one, or without a name, the instance ends: its services go with it.
 * @returns what ended
 */
export const detach = (
  native: Native,
  paths: InstancePaths,
  interfaceName: string | undefined,
): { interfaces: string[]; services: number } => {
  demandRoot()
  if (!existsSync(paths.pins) && !existsSync(paths.leaving) && !existsSync(paths.building)) {
    throw new Refusal(`xlb is not attached to ${interfaceName ?? 'any interface'}`, 'nothing is to be done')
  }
  return withLock(native, paths, () => {
    if (!existsSync(paths.pins)) return { interfaces: [], services: 0 }
    return interfaceName === undefined ? detachAll(native, paths) : detachOne(native, paths, interfaceName)
  })
}
