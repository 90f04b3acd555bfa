// SPDX-License-Identifier: Apache-2.0
// Attach and detach. An instance comes to be, and ends, by one rename: its folder of pins is built aside and taken apart aside.
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseMac } from '../core/address.ts'
import { isLeaving } from '../core/desired.ts'
import { chooseModes, needsMultiBuffer, preflight } from '../core/preflight.ts'
import type { AttachMode, Finding } from '../core/preflight-facts.ts'
import { Refusal } from '../core/refusal.ts'
import { countFlows } from '../dataplane/flows.ts'
import type { KernelPlane } from '../dataplane/kernel.ts'
import { InterfaceRole, Settings } from '../dataplane/layout.gen.ts'
import { type Capacity, type MapName, TYPED_MAP_NAMES } from '../dataplane/memory.ts'
import type { BpfLink, BpfMap, BpfObject, BpfProgram, Native, NativeError } from '../dataplane/native.ts'
import { readLive } from '../dataplane/reader.ts'
import { isNeeded } from '../dataplane/remaining.ts'
import { viewOf } from '../dataplane/views.ts'
import {
  clockPin,
  demandPrivilege,
  giveToOwner,
  type InstancePaths,
  linkPin,
  mapPin,
  prepareBpfFs,
  publishPins,
  removePins,
  retirePins,
} from './instance.ts'
import {
  type AttachedInterface,
  attachedInterfaces,
  clearInterface,
  egressInterfaces,
  freeSlot,
  keepAsEgress,
  writeInterface,
} from './interfaces.ts'
import {
  checkCapacity,
  DEFAULT_CAPACITY,
  DEFAULT_NEW_FLOWS,
  formatPlane,
  loadProgram,
  loadSweep,
  makeMaps,
  makeSettings,
  newFlowsPerAge,
  startSweep,
} from './load.ts'
import { endLink, finishDetach, openPlaneAt, withLock } from './lock.ts'
import { pinNextProgram, pinProgram, settleProgram, unpinProgram } from './own-programs.ts'
import { collectFacts } from './preflight.ts'

const buildFile = (name: string): string => fileURLToPath(new URL(`../../build/bpf/${name}`, import.meta.url))
export const PASS_FILE = buildFile('pass.bpf.o')

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

const pinAll = (maps: ReadonlyMap<MapName, BpfMap>, object: BpfObject, pins: string): void => {
  for (const folder of ['maps', 'programs', 'links']) mkdirSync(join(pins, folder), { recursive: true, mode: 0o700 })
  for (const [name, map] of maps) map.pin(mapPin(pins, name))
  object.program('xlb_clock').pin(clockPin(pins))
}

const tryModes = (
  native: Native,
  program: BpfProgram,
  ifindex: number,
  modes: ReturnType<typeof chooseModes>,
  interfaceName: string,
): { link: BpfLink; mode: 'native' | 'generic'; reason: string } => {
  let refused = ''
  for (const { mode, reason } of modes) {
    try {
      return { link: native.attachXdp(program, ifindex, mode), mode, reason }
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

/** How to attach. */
interface Manner {
  modes: ReturnType<typeof chooseModes>
  multiBuffer: boolean
}

/** Writes the interface's record where no program reads it yet, attaches, and pins the link. */
const attachTo = (
  native: Native,
  plane: KernelPlane,
  pins: string,
  object: BpfObject,
  { slot, role }: { slot: number; role: number },
  options: AttachOptions,
  { modes, multiBuffer }: Manner,
): Omit<Attached, 'warnings'> => {
  const { interfaceName } = options
  const found = native.netlink.interfaces().find(({ name }) => name === interfaceName)
  if (found === undefined) throw new Refusal(`interface ${interfaceName} does not exist`, 'see: ip link')
  const record = {
    mac: parseMac(found.mac),
    ifindex: found.ifindex,
    name: interfaceName,
    multiBuffer: multiBuffer ? 1 : 0,
  } as const
  // Until its link is pinned, what leads to backends without a program stays that.
  writeInterface(plane, slot, { ...record, generic: 0, role })
  const program = object.program('xlb')
  const { link, mode, reason } = tryModes(native, program, found.ifindex, modes, interfaceName)
  const generic = mode === 'generic' ? 1 : 0
  writeInterface(plane, slot, { ...record, generic, role })
  pinProgram(pins, found.ifindex, program)
  program.close()
  link.pin(linkPin(pins, found.ifindex))
  giveToOwner(linkPin(pins, found.ifindex))
  writeInterface(plane, slot, { ...record, generic })
  link.close()
  return { interfaceName, ifindex: found.ifindex, mode, reason }
}

/** Somebody has put another program into its link: a link update puts a copy of xlb's there, and no packet meets an interface without. */
const takeBack = (
  native: Native,
  plane: KernelPlane,
  pins: string,
  object: BpfObject,
  { slot, name, ifindex, mac, mode }: AttachedInterface,
  multiBuffer: boolean,
): Omit<Attached, 'warnings'> => {
  const program = object.program('xlb')
  const link = native.openLink(linkPin(pins, ifindex))
  try {
    pinNextProgram(native, pins, ifindex, program)
    link.update(program)
  } finally {
    settleProgram(native, pins, ifindex)
    link.close()
    program.close()
  }
  const generic = mode === 'generic' ? 1 : 0
  writeInterface(plane, slot, { mac: parseMac(mac), ifindex, name, generic, multiBuffer: multiBuffer ? 1 : 0 })
  return { interfaceName: name, ifindex, mode, reason: 'its link has a program of xlb again' }
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

const attachFirst = (native: Native, paths: InstancePaths, options: AttachOptions, manner: Manner) => {
  const capacity = checkCapacity({ ...DEFAULT_CAPACITY, ...options.capacity }, native.system.possibleCpus())
  const settings = makeSettings(native, capacity)
  const newFlows = newFlowsPerAge(options.newFlows ?? DEFAULT_NEW_FLOWS, settings)
  const maps = makeMaps(native, capacity)
  const object = loadProgram(native, maps, 0, settings, manner)
  const sweep = loadSweep(native, maps, settings)
  for (const name of TYPED_MAP_NAMES) maps.set(name, sweep.map(name))
  try {
    formatPlane(maps, settings, newFlows)
    pinAll(maps, object, paths.building)
    startSweep(sweep)
    const plane = openPlaneAt(native, paths.building)
    try {
      const attached = attachTo(
        native,
        plane,
        paths.building,
        object,
        { slot: 0, role: InterfaceRole.INTERFACE_ATTACHED },
        options,
        manner,
      )
      publishPins(paths)
      return attached
    } finally {
      plane.close()
    }
  } catch (error) {
    removePins(paths.building)
    throw error
  } finally {
    sweep.close()
    object.close()
    for (const map of maps.values()) {
      map.unmap()
      map.close()
    }
  }
}

const attachFurther = (native: Native, paths: InstancePaths, options: AttachOptions, manner: Manner) => {
  if (Object.keys(options.capacity).length > 0 || options.newFlows !== undefined) {
    throw new Refusal(
      '--services, --backends, --flows, --flows6, --prefix-flows6, --prefixes, --clients, --destinations and --new-flows are taken when the first interface is attached',
      'leave them out, or save, detach --all, and attach anew; --new-flows alone: xlb limits --new-flows N',
    )
  }
  const plane = openPlaneAt(native, paths.pins)
  try {
    const attached = attachedInterfaces(native, paths.pins, plane)
    const stale = attached.find(({ name, attached: works }) => name === options.interfaceName && !works)
    const egress = egressInterfaces(native, plane, attached)
    const leading = egress.find(({ name }) => name === options.interfaceName)
    const slot = stale?.slot ?? leading?.slot ?? freeSlot([...attached, ...egress])
    if (slot < 0) throw new Refusal('every slot for an interface is taken', 'detach one first')
    const settings = Settings.read(viewOf(plane, 'settings'), 0)
    const object = loadProgram(native, { get: (name) => plane.map(name) }, slot, settings, manner)
    try {
      if (stale?.otherProgram !== undefined && (options.mode === 'auto' || options.mode === stale.mode)) {
        return takeBack(native, plane, paths.pins, object, stale, manner.multiBuffer)
      }
      if (stale !== undefined) {
        keepAsEgress(plane, slot)
        endLink(native, linkPin(paths.pins, stale.ifindex))
        unpinProgram(paths.pins, stale.ifindex)
      }
      const { INTERFACE_ATTACHED, INTERFACE_EGRESS } = InterfaceRole
      const role = stale === undefined && leading === undefined ? INTERFACE_ATTACHED : INTERFACE_EGRESS
      return attachTo(native, plane, paths.pins, object, { slot, role }, options, manner)
    } finally {
      object.close()
    }
  } finally {
    plane.close()
  }
}

/**
 * @returns the program that somebody has put into xlb's link there; 0: none
 * @throws Refusal where xlb is attached there
 */
const refuseAttachedTwice = (native: Native, paths: InstancePaths, interfaceName: string): number => {
  const plane = openPlaneAt(native, paths.pins)
  try {
    const found = attachedInterfaces(native, paths.pins, plane).find(({ name }) => name === interfaceName)
    if (found === undefined || !found.attached) return found?.otherProgram ?? 0
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
  demandPrivilege()
  prepareBpfFs(native)
  return withLock(native, paths, () => {
    const first = !existsSync(paths.pins)
    const facts = collectFacts(native, options.interfaceName, {
      ownProgramId: first ? 0 : refuseAttachedTwice(native, paths, options.interfaceName),
      passObject: PASS_FILE,
    })
    const findings = preflight(options.mode, facts)
    refuseErrors(options.interfaceName, findings)
    const manner = { modes: chooseModes(options.mode, facts), multiBuffer: needsMultiBuffer(facts) }
    const attached = (first ? attachFirst : attachFurther)(native, paths, options, manner)
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
    const flows = countFlows(plane, plane.age())
    const through = [...readLive(plane).services.values()]
      .flatMap((service) => service.backends.map((backend) => ({ service, ...backend })))
      .filter(({ want: { path } }) => path.kind === 'link' && path.interfaceSlot === found.slot)
      .filter(({ service, index, want }) => !isLeaving(want) || isNeeded(plane, flows, service, index))
      .map(({ want }) => want)
    if (through.length > 0) {
      throw new Refusal(
        `${interfaceName}: ${through.length} backends are reached through it (${through[0]?.address}${through.length > 1 ? ', ...' : ''})`,
        'remove them first, or end all: xlb detach --all',
      )
    }
    endLink(native, linkPin(paths.pins, found.ifindex))
    unpinProgram(paths.pins, found.ifindex)
    clearInterface(plane, found.slot)
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
  demandPrivilege()
  if (!existsSync(paths.pins) && !existsSync(paths.leaving) && !existsSync(paths.building)) {
    throw new Refusal(`xlb is not attached to ${interfaceName ?? 'any interface'}`, 'nothing is to be done')
  }
  return withLock(native, paths, () => {
    if (!existsSync(paths.pins)) return { interfaces: [], services: 0 }
    return interfaceName === undefined ? detachAll(native, paths) : detachOne(native, paths, interfaceName)
  })
}
