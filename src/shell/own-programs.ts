// SPDX-License-Identifier: Apache-2.0
// Which program each attached interface has of xlb: pinned beside its link, so that who may not open a program by its id (that
// takes CAP_SYS_ADMIN) knows it all the same, and notices another one in its place.
//
// A link and a pin cannot be changed in one step. So the next program is pinned first, the link updated, and then the pin renamed:
// killed between any two, the interface's program is that of one of its pins.
import { renameSync, rmSync } from 'node:fs'
import type { BpfProgram, Native, ProgramInfo } from '../dataplane/native.ts'
import { giveToOwner, linkPin, programPin } from './instance.ts'
import { capturingPin } from './left-capture.ts'
import { hasCode } from './programs.ts'

const nextPin = (pins: string, ifindex: number): string => `${programPin(pins, ifindex)}~next`

/** What is known of a pinned program; undefined: there is none. */
const infoAt = (native: Native, pin: string): ProgramInfo | undefined => {
  let program: BpfProgram
  try {
    program = native.openProgram(pin)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
  const { info } = program
  program.close()
  return info
}

const linkedProgram = (native: Native, pins: string, ifindex: number): number => {
  const link = native.openLink(linkPin(pins, ifindex))
  try {
    return link.info.programId
  } finally {
    link.close()
  }
}

const pinAt = (program: BpfProgram, pin: string): void => {
  rmSync(pin, { force: true })
  program.pin(pin)
  giveToOwner(pin)
}

/** The interface's link has this program from now on, and no other. Under the instance's lock, as all that follows. */
export const pinProgram = (pins: string, ifindex: number, program: BpfProgram): void => {
  rmSync(nextPin(pins, ifindex), { force: true })
  pinAt(program, programPin(pins, ifindex))
}

export const unpinProgram = (pins: string, ifindex: number): void => {
  for (const pin of [programPin(pins, ifindex), nextPin(pins, ifindex)]) rmSync(pin, { force: true })
}

/** Before its link is updated. */
export const pinNextProgram = (native: Native, pins: string, ifindex: number, program: BpfProgram): void => {
  settleProgram(native, pins, ifindex)
  pinAt(program, nextPin(pins, ifindex))
}

/** After its link was updated, or was not. */
export const settleProgram = (native: Native, pins: string, ifindex: number): void => {
  const next = infoAt(native, nextPin(pins, ifindex))
  if (next === undefined) return
  if (next.id === linkedProgram(native, pins, ifindex)) renameSync(nextPin(pins, ifindex), programPin(pins, ifindex))
  else rmSync(nextPin(pins, ifindex))
}

/** What the interface's own program has done, where it is in its link now. A capture's, in its place, is not its own. */
export const ownProgram = (native: Native, pins: string, ifindex: number): ProgramInfo | undefined => {
  const id = linkedProgram(native, pins, ifindex)
  for (const pin of [programPin(pins, ifindex), nextPin(pins, ifindex)]) {
    const info = infoAt(native, pin)
    if (info?.id === id) return info
  }
  return undefined
}

/**
 * Is the program in the interface's link one of xlb's, or a capture's? Where an earlier build attached it, and pinned nothing, nobody
 * can tell: then it is.
 */
export const isOwnProgram = (native: Native, pins: string, ifindex: number, id: number): boolean => {
  const own = infoAt(native, programPin(pins, ifindex))
  if (own === undefined || own.id === id) return true
  return [nextPin(pins, ifindex), capturingPin(pins, ifindex)].some((pin) => infoAt(native, pin)?.id === id)
}
