// SPDX-License-Identifier: Apache-2.0
// An instance's places on this host: pins in bpffs, and the lock that makes verbs take turns.
import {
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Refusal } from '../core/refusal.ts'
import type { Native } from '../dataplane/native.ts'
import { missingCapabilities } from './capabilities.ts'

const BPF_FS = '/sys/fs/bpf'
const PIN_ROOT = join(BPF_FS, 'xlb')
const RUN_ROOT = '/run/xlb'
const STATE_ROOT = '/var/lib/xlb'

/** `--instance`, or the environment's XLB_INSTANCE, or `default`. @throws Refusal for a name that no path may hold. */
export const instanceName = (given: string | undefined): string => {
  const name = given ?? process.env.XLB_INSTANCE ?? 'default'
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name)) {
    throw new Refusal(`instance '${name}': is not a name`, 'use 1 to 64 of the characters A-Z a-z 0-9 _ -', {
      usage: true,
    })
  }
  return name
}

export interface InstancePaths {
  name: string
  /** What is pinned; it exists from the moment that `attach` renames it here until `detach` renames it away. */
  pins: string
  /** Where attach builds it, and where detach takes it apart. A `~` is in no instance's name. */
  building: string
  leaving: string
  lock: string
  /** Where its daemon listens. */
  socket: string
  /** What its daemon remembers beyond a restart of the host. */
  state: string
}

export const pathsOf = (name: string): InstancePaths => ({
  name,
  pins: join(PIN_ROOT, name),
  building: join(PIN_ROOT, `${name}~building`),
  leaving: join(PIN_ROOT, `${name}~leaving`),
  lock: join(RUN_ROOT, name, 'lock'),
  socket: join(RUN_ROOT, name, 'api.sock'),
  state: join(STATE_ROOT, name),
})

export const mapPin = (pins: string, map: string): string => join(pins, 'maps', map)
export const clockPin = (pins: string): string => join(pins, 'programs', 'clock')
/** Where another clock program waits until it takes that place. */
export const nextClockPin = (pins: string): string => `${clockPin(pins)}~next`
/** bpffs refuses dots in names and interfaces have them: links are named by ifindex. */
export const linkPin = (pins: string, ifindex: number): string => join(pins, 'links', String(ifindex))
/** The program that is in this link. */
export const programPin = (pins: string, ifindex: number): string => join(pins, 'programs', String(ifindex))

/** Is there something at the path; undefined: this user may not look. */
const isThere = (path: string): boolean | undefined => {
  try {
    statSync(path)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EACCES' ? undefined : false
  }
}

/**
 * Whatever reads or changes what is pinned asks first. Root is not what it takes, but for capabilities that root has: the
 * service's own user has them too, and pins of its own.
 * @throws Refusal where they are missing, or the pins are another user's
 */
export const demandPrivilege = (): void => {
  const missing = missingCapabilities(['BPF', 'NET_ADMIN'])
  if (missing.length > 0) {
    throw new Refusal(
      `xlb needs ${missing.map((name) => `CAP_${name}`).join(' and ')}: it reads and writes BPF maps, and keeps neighbours resolved`,
      process.geteuid?.() === 0 ? 'root lacks it here: give it to this container or service' : 'run it with sudo',
    )
  }
  if (isThere(join(PIN_ROOT, 'any')) !== undefined) return
  throw new Refusal(
    `${PIN_ROOT} may not be entered by user ${process.geteuid?.()}: pins and maps are those of who attached xlb`,
    'run it with sudo',
  )
}

/** Mounts bpffs where it is not, and makes the folder for pins. */
export const prepareBpfFs = (native: Native): void => {
  if (!existsSync(BPF_FS)) {
    throw new Refusal(
      `${BPF_FS} does not exist`,
      'mount sysfs (mount -t sysfs sysfs /sys) on a kernel with CONFIG_BPF_SYSCALL',
    )
  }
  if (!native.system.isBpfFileSystem(BPF_FS)) native.system.mountBpf(BPF_FS)
  mkdirSync(PIN_ROOT, { recursive: true, mode: 0o700 })
}

/** What root makes in another user's folder of pins is that user's: the daemon's, whose pins they are. */
export const giveToOwner = (path: string): void => {
  const { uid, gid } = statSync(dirname(path))
  if (process.geteuid?.() !== 0 || uid === 0) return
  lchownSync(path, uid, gid)
  if (lstatSync(path).isDirectory()) for (const entry of readdirSync(path)) giveToOwner(join(path, entry))
}

/** Removes a folder of pins. What only these pins kept alive ends with them. */
export const removePins = (path: string): void => {
  if (!existsSync(path)) return
  for (const entry of readdirSync(path)) {
    const child = join(path, entry)
    // No link is followed: the folder may be that of another user than whoever removes it.
    if (lstatSync(child).isDirectory()) removePins(child)
    else unlinkSync(child)
  }
  rmdirSync(path)
}

/** Moves a built folder to where commands look for it: the one step that makes an instance be. */
export const publishPins = (paths: InstancePaths): void => {
  giveToOwner(paths.building)
  renameSync(paths.building, paths.pins)
}

/** The one step that ends an instance; its pins are then taken apart. */
export const retirePins = (paths: InstancePaths): void => renameSync(paths.pins, paths.leaving)

/** The instance's folder under /run, with the lock in it. */
export const runFolder = (paths: InstancePaths): string => join(RUN_ROOT, paths.name)

/** Names of the instances that are attached, for messages. */
export const attachedInstances = (): string[] =>
  existsSync(PIN_ROOT) ? readdirSync(PIN_ROOT).filter((name) => !name.includes('~')) : []
