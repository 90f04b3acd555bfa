// SPDX-License-Identifier: Apache-2.0
// A capture puts a program of its own in each interface's place (bpf/capture.bpf.c), and what was there back at its end. What it
// has changed stands in pins, so that the next verb can put it right where the capture was killed.
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { BpfProgram, Native } from '../dataplane/native.ts'
import { giveToOwner, type InstancePaths, linkPin, removePins, runFolder } from './instance.ts'

/** Held by a capture for as long as it lives. */
const captureLock = (paths: InstancePaths): string => join(runFolder(paths), 'capture.lock')

const capturePins = (pins: string): string => join(pins, 'capture')
const beforePin = (pins: string, ifindex: number): string => join(capturePins(pins), `${ifindex}-before`)
export const capturingPin = (pins: string, ifindex: number): string => join(capturePins(pins), `${ifindex}-capturing`)

/** @returns a descriptor that holds the lock; -1 where a capture runs. Under the instance's lock. */
export const takeCaptureLock = (native: Native, paths: InstancePaths): number =>
  native.system.tryLock(captureLock(paths))

/** Gives an interface the capturing program. Both are pinned first: killed at any step, all can be put back. */
export const beginCapture = (
  native: Native,
  pins: string,
  ifindex: number,
  before: BpfProgram,
  capturing: BpfProgram,
): void => {
  mkdirSync(capturePins(pins), { recursive: true, mode: 0o700 })
  before.pin(beforePin(pins, ifindex))
  capturing.pin(capturingPin(pins, ifindex))
  giveToOwner(capturePins(pins))
  const link = native.openLink(linkPin(pins, ifindex))
  try {
    link.update(capturing)
  } finally {
    link.close()
  }
}

const programId = (native: Native, pin: string): number => {
  const program = native.openProgram(pin)
  try {
    return program.info.id
  } finally {
    program.close()
  }
}

/** Has the interface, which may be gone, this pinned program now? */
const hasProgram = (native: Native, pins: string, ifindex: number, pin: string): boolean => {
  if (!existsSync(linkPin(pins, ifindex)) || !existsSync(pin)) return false
  const link = native.openLink(linkPin(pins, ifindex))
  try {
    return link.info.ifindex === ifindex && link.info.programId === programId(native, pin)
  } finally {
    link.close()
  }
}

export const isCapturing = (native: Native, pins: string, ifindex: number): boolean =>
  hasProgram(native, pins, ifindex, capturingPin(pins, ifindex))

const putBack = (native: Native, pins: string, ifindex: number): void => {
  // Another program has taken its place since: an upgrade's. That stays.
  if (!isCapturing(native, pins, ifindex)) return
  const link = native.openLink(linkPin(pins, ifindex))
  const before = native.openProgram(beforePin(pins, ifindex))
  try {
    link.update(before)
  } finally {
    before.close()
    link.close()
  }
}

/** Gives every interface the program back that it had before. Under the instance's lock, by the capture or in its stead. */
export const endCapture = (native: Native, pins: string): void => {
  if (!existsSync(capturePins(pins))) return
  const interfaces = new Set(readdirSync(capturePins(pins)).map((name) => Number.parseInt(name, 10)))
  for (const ifindex of interfaces) putBack(native, pins, ifindex)
  removePins(capturePins(pins))
}

/** Puts right what a killed capture left. One that lives is left alone. */
export const endLeftCapture = (native: Native, paths: InstancePaths): void => {
  if (!existsSync(capturePins(paths.pins))) return
  const descriptor = takeCaptureLock(native, paths)
  if (descriptor < 0) return
  try {
    endCapture(native, paths.pins)
  } finally {
    native.system.unlock(descriptor)
  }
}
