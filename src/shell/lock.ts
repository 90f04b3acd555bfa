// SPDX-License-Identifier: Apache-2.0
// Verbs of one instance take turns; and who has the turn first clears away what a killed attach or detach left behind.
import { existsSync, fstatSync, mkdirSync, readdirSync, rmSync, statSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type AddressKey, formatAddressKey } from '../core/ip.ts'
import { Refusal } from '../core/refusal.ts'
import { scanBackends } from '../dataplane/backend-records.ts'
import { KernelPlane, pinSource } from '../dataplane/kernel.ts'
import type { Native } from '../dataplane/native.ts'
import { readLive } from '../dataplane/reader.ts'
import { clockPin, type InstancePaths, mapPin, removePins, runFolder } from './instance.ts'
import { attachedInterfaces, egressInterfaces } from './interfaces.ts'
import { endLeftCapture } from './left-capture.ts'
import { Neighbours } from './neighbours.ts'

const LOCK_WAIT_MS = 30_000

const sleep = (milliseconds: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** Is the locked file still the one at its path? Whoever ended the instance removed it while others waited for it. */
const isCurrent = (descriptor: number, path: string): boolean =>
  existsSync(path) && fstatSync(descriptor).ino === statSync(path).ino

const takeLock = (native: Native, paths: InstancePaths): number => {
  const end = Date.now() + LOCK_WAIT_MS
  for (;;) {
    mkdirSync(runFolder(paths), { recursive: true, mode: 0o755 })
    const descriptor = native.system.tryLock(paths.lock)
    if (descriptor >= 0) {
      if (isCurrent(descriptor, paths.lock)) return descriptor
      native.system.unlock(descriptor)
      continue
    }
    if (Date.now() > end) {
      throw new Refusal(
        `another xlb command has held ${paths.lock} for ${LOCK_WAIT_MS / 1000} s`,
        `find it with: fuser ${paths.lock}`,
      )
    }
    sleep(5)
  }
}

/** The pins of an instance as a plane; `pins` is where they are. */
export const openPlaneAt = (native: Native, pins: string): KernelPlane =>
  new KernelPlane(native, pinSource(native, { map: (name) => mapPin(pins, name), clock: clockPin(pins) }))

/** Ends a pinned link, and with it the attachment. */
export const endLink = (native: Native, pin: string): void => {
  const link = native.openLink(pin)
  try {
    unlinkSync(pin)
    // Closing the last reference would detach it too, but some time after.
    if (link.info.ifindex !== 0) link.detach()
  } finally {
    link.close()
  }
}

const releaseNeighbours = (native: Native, pins: string): void => {
  const plane = openPlaneAt(native, pins)
  try {
    const addresses = new Set<AddressKey>()
    scanBackends(plane, readLive(plane), ({ address }) => addresses.add(address))
    const attached = attachedInterfaces(native, pins, plane)
    const reached = [...attached, ...egressInterfaces(native, plane, attached)]
    new Neighbours(native, reached).release([...addresses].map(formatAddressKey))
  } finally {
    plane.close()
  }
}

/** Takes apart what a detach has renamed away: neighbours, links, then all pins. Neighbours need the links: they go first. */
export const finishDetach = (native: Native, paths: InstancePaths): void => {
  if (!existsSync(paths.leaving)) return
  // Maps go last: where they are not all there, an earlier run came this far.
  if (existsSync(join(paths.leaving, 'links'))) {
    releaseNeighbours(native, paths.leaving)
    for (const name of readdirSync(join(paths.leaving, 'links'))) endLink(native, join(paths.leaving, 'links', name))
    removePins(join(paths.leaving, 'links'))
  }
  removePins(paths.leaving)
}

/** But for the socket of a daemon that waits for its interfaces. */
const removeRunFolder = (paths: InstancePaths): void => {
  rmSync(paths.lock, { force: true })
  if (readdirSync(runFolder(paths)).length === 0) rmSync(runFolder(paths), { recursive: true })
}

/**
 * Runs `action` while nobody else changes the instance. Where there is no instance afterwards, nothing of it is left.
 * @throws Refusal where another command holds the lock for half a minute
 */
export const withLock = <T>(native: Native, paths: InstancePaths, action: () => T): T => {
  const descriptor = takeLock(native, paths)
  try {
    removePins(paths.building)
    finishDetach(native, paths)
    endLeftCapture(native, paths)
    return action()
  } finally {
    if (!existsSync(paths.pins)) removeRunFolder(paths)
    native.system.unlock(descriptor)
  }
}

/** As withLock, but does not wait: undefined where another command changes the instance just now, or it is gone. */
export const withFreeLock = <T>(native: Native, paths: InstancePaths, action: () => T): T | undefined => {
  if (!existsSync(paths.lock)) return undefined
  const descriptor = native.system.tryLock(paths.lock)
  if (descriptor < 0) return undefined
  try {
    return isCurrent(descriptor, paths.lock) ? action() : undefined
  } finally {
    native.system.unlock(descriptor)
  }
}
