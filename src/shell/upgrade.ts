// SPDX-License-Identifier: Apache-2.0
// Live replacement: each attached interface's copy of the program gives way to this build's, by link update. No packet meets an
// interface without a program, and maps, flows, counters and services stay as they are.
//
// Until the last step all is done aside: every program is loaded, and so verified, before the first link is touched. Killed
// between two links, some interfaces have the old program and others the new one. That is no more than a later `attach` by a
// newer build makes: both are of one contract, over the same tables. The next upgrade does the rest.
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Refusal } from '../core/refusal.ts'
import { MIGRATE, type PinnedTable, tableFaults, versionFault } from '../dataplane/contract.ts'
import type { KernelPlane } from '../dataplane/kernel.ts'
import { Root, Settings } from '../dataplane/layout.gen.ts'
import type { BpfLink, BpfObject, BpfProgram, Native, ProgramInfo } from '../dataplane/native.ts'
import { viewOf } from '../dataplane/views.ts'
import {
  clockPin,
  demandPrivilege,
  giveToOwner,
  type InstancePaths,
  linkPin,
  mapPin,
  nextClockPin,
} from './instance.ts'
import { type AttachedInterface, attachedInterfaces } from './interfaces.ts'
import { loadProgram, loadSweep, PROGRAM_FILE, startSweep } from './load.ts'
import { openPlaneAt, withLock } from './lock.ts'
import { ownProgram, pinNextProgram, pinProgram, settleProgram } from './own-programs.ts'
import { Handles, hasCode, openAttached, sameProgram } from './programs.ts'
import { notAttached } from './session.ts'

export interface UpgradeOptions {
  /** Only say what would be done. */
  check: boolean
  /** The object file of the new program; this build's if absent. */
  programFile?: string
}

/** current: it has this build's program already. outdated: `check` found another, which an upgrade would replace. */
export type Outcome = 'replaced' | 'outdated' | 'current' | 'skipped'

export interface UpgradedInterface {
  name: string
  mode: 'native' | 'generic'
  outcome: Outcome
  /** The program that it had before. */
  loaded?: ProgramInfo
  /** This build's program for it. */
  build?: ProgramInfo
  /** Why it was skipped. */
  fault?: string
}

export interface Upgrade {
  interfaces: UpgradedInterface[]
  /** The program by which verbs read the packet path's clock. */
  clock: Exclude<Outcome, 'skipped'>
}

/** A loaded program beside the one that it is to replace. */
interface Staged {
  interface: AttachedInterface
  link: BpfLink
  old: BpfProgram
  fresh: BpfProgram
  loaded: ProgramInfo
  build: ProgramInfo
  /** They are the same. */
  current: boolean
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** @throws Refusal with everything in which the pins differ from this build's contract */
const refuseOtherContract = (native: Native, paths: InstancePaths): void => {
  const tables = new Map<string, PinnedTable>()
  const faults: string[] = []
  for (const name of readdirSync(join(paths.pins, 'maps'))) {
    const map = native.openMap(mapPin(paths.pins, name))
    try {
      tables.set(name, map.info)
      const root = name === 'root' ? map.lookup(new Uint8Array(4)) : undefined
      const fault =
        root !== undefined && root.length >= Root.offset.contract + 4
          ? versionFault(root.readUInt32LE(Root.offset.contract))
          : undefined
      if (fault !== undefined) faults.push(fault)
    } finally {
      map.close()
    }
  }
  faults.push(...tableFaults(tables))
  if (faults.length === 0) return
  throw new Refusal(
    `instance ${paths.name} is of another contract, and was left as it is${faults.map((fault) => `\n       ${fault}`).join('')}`,
    MIGRATE,
  )
}

const load = (
  native: Native,
  plane: KernelPlane,
  { slot, name, multiBuffer }: Pick<AttachedInterface, 'slot' | 'name' | 'multiBuffer'>,
  programFile: string,
): BpfObject => {
  const settings = Settings.read(viewOf(plane, 'settings'), 0)
  try {
    return loadProgram(native, { get: (table) => plane.map(table) }, slot, settings, { programFile, multiBuffer })
  } catch (error) {
    const refusal = new Refusal(
      `${name}: this build's program cannot be loaded: ${wordsOf(error)}; nothing was replaced`,
      'every interface goes on with the program it has; build this xlb anew (scripts/setup), or stay with the one before',
    )
    const log = error instanceof Error && 'verifierLog' in error ? { verifierLog: error.verifierLog } : {}
    throw Object.assign(refusal, log)
  }
}

/** The interface's link, its program and the one to replace it. Undefined: the interface went away just now. */
const stage = (
  native: Native,
  paths: InstancePaths,
  each: AttachedInterface,
  object: BpfObject,
  handles: Handles,
): Staged | undefined => {
  const link = handles.keep(native.openLink(linkPin(paths.pins, each.ifindex)))
  if (link.info.ifindex === 0) return undefined
  const old = handles.keep(openAttached(native, link.info.programId, 'xlb upgrade'))
  const fresh = handles.keep(object.program('xlb'))
  return { interface: each, link, old, fresh, loaded: old.info, build: fresh.info, current: sameProgram(old, fresh) }
}

/** @returns false where the interface is gone: there is no program to replace */
const updateLink = (link: BpfLink, program: BpfProgram): boolean => {
  try {
    link.update(program)
    return true
  } catch (error) {
    // Its interface is gone.
    if (hasCode(error, 'ENOLINK')) return false
    throw error
  }
}

/** Gives interfaces their old programs again. @returns those that could not be given it */
const putBack = (replaced: readonly Staged[]): string[] =>
  [...replaced].reverse().flatMap(({ interface: { name }, link, old }) => {
    try {
      updateLink(link, old)
      return []
    } catch {
      return [name]
    }
  })

/**
 * Replaces link by link, then takes the `last` step. Where one fails, those before it are put back.
 * @returns whose interface is gone meanwhile
 */
const replaceAll = (staged: readonly Staged[], last: () => void): Set<Staged> => {
  const replaced: Staged[] = []
  const gone = new Set<Staged>()
  let at = 'the clock program'
  try {
    for (const each of staged) {
      at = each.interface.name
      if (updateLink(each.link, each.fresh)) replaced.push(each)
      else gone.add(each)
    }
    at = 'the clock program'
    last()
  } catch (error) {
    const left = putBack(replaced)
    const now =
      left.length === 0
        ? 'every interface has the program that it had'
        : `${left.join(', ')} kept the new program, all others have the one that they had: both are of one contract, and balance packets alike`
    throw new Refusal(
      `${at}: cannot be replaced: ${wordsOf(error)}; ${now}`,
      '`dmesg | tail` may say more of the driver’s reasons; then xlb upgrade again',
    )
  }
  return gone
}

/** The pins of the interfaces' programs follow their links, whatever becomes of these. */
const withPins = <T>(
  native: Native,
  pins: string,
  staged: readonly Staged[],
  replace: (outdated: readonly Staged[]) => T,
): T => {
  const outdated = staged.filter(({ current }) => !current)
  try {
    for (const { interface: each, fresh } of outdated) pinNextProgram(native, pins, each.ifindex, fresh)
    return replace(outdated)
  } finally {
    for (const { interface: each } of outdated) settleProgram(native, pins, each.ifindex)
    // An earlier build pinned none, and a killed upgrade those of before.
    for (const { interface: each, current, old } of staged) {
      if (current && ownProgram(native, pins, each.ifindex) === undefined) pinProgram(pins, each.ifindex, old)
    }
  }
}

/** The pinned clock program beside this build's. */
const isClockCurrent = (native: Native, paths: InstancePaths, fresh: BpfProgram): boolean => {
  if (!existsSync(clockPin(paths.pins))) return false
  const old = native.openProgram(clockPin(paths.pins))
  try {
    return sameProgram(old, fresh)
  } finally {
    old.close()
  }
}

const gone = ({ name, mode }: AttachedInterface, fault = `${name} was deleted meanwhile`): UpgradedInterface => ({
  name,
  mode,
  outcome: 'skipped',
  fault,
})

const upgradeHeld = (
  native: Native,
  paths: InstancePaths,
  plane: KernelPlane,
  options: UpgradeOptions,
  handles: Handles,
): Upgrade => {
  const interfaces = attachedInterfaces(native, paths.pins, plane)
  const objectFor = (each: Pick<AttachedInterface, 'slot' | 'name' | 'multiBuffer'>) =>
    handles.keep(load(native, plane, each, options.programFile ?? PROGRAM_FILE))
  const staged = new Map<AttachedInterface, Staged>()
  let object: BpfObject | undefined
  for (const each of interfaces.filter(({ attached, otherProgram }) => attached || otherProgram !== undefined)) {
    object = objectFor(each)
    const one = stage(native, paths, each, object, handles)
    if (one !== undefined) staged.set(each, one)
  }
  const clock = handles.keep(
    (object ?? objectFor({ slot: 0, name: 'the clock program', multiBuffer: false })).program('xlb_clock'),
  )
  const sweep = handles.keep(
    loadSweep(native, { get: (table) => plane.map(table) }, Settings.read(viewOf(plane, 'settings'), 0)),
  )
  const clockIsCurrent = isClockCurrent(native, paths, clock)
  let goneNow = new Set<Staged>()
  if (!options.check) {
    const next = nextClockPin(paths.pins)
    rmSync(next, { force: true })
    try {
      if (!clockIsCurrent) {
        clock.pin(next)
        giveToOwner(next)
      }
      goneNow = withPins(native, paths.pins, [...staged.values()], (outdated) =>
        replaceAll(outdated, () => clockIsCurrent || renameSync(next, clockPin(paths.pins))),
      )
      // Its timer holds the program that set it going: it goes on with this one.
      startSweep(sweep)
    } finally {
      rmSync(next, { force: true })
    }
  }
  const other = options.check ? 'outdated' : 'replaced'
  return {
    interfaces: interfaces.map((each): UpgradedInterface => {
      const one = staged.get(each)
      if (one === undefined || goneNow.has(one)) return gone(each, each.fault)
      const { loaded, build, current } = one
      return { name: each.name, mode: each.mode, outcome: current ? 'current' : other, loaded, build }
    }),
    clock: clockIsCurrent ? 'current' : other,
  }
}

/**
 * Gives every attached interface this build's program, where it has another.
 * @throws Refusal where the pins are of another contract, or a program cannot be loaded or attached: all is as it was then
 */
export const upgrade = (native: Native, paths: InstancePaths, options: UpgradeOptions): Upgrade => {
  demandPrivilege()
  if (!existsSync(paths.pins) && !existsSync(paths.leaving) && !existsSync(paths.building)) throw notAttached(paths)
  return withLock(native, paths, () => {
    if (!existsSync(paths.pins)) throw notAttached(paths)
    refuseOtherContract(native, paths)
    const plane = openPlaneAt(native, paths.pins)
    const handles = new Handles()
    try {
      return upgradeHeld(native, paths, plane, options, handles)
    } finally {
      handles.close()
      plane.close()
    }
  })
}
