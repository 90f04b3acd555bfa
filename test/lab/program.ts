// SPDX-License-Identifier: Apache-2.0
// What a lab's instance has attached, seen from outside the command: programs by interface, tables by id. The test's own
// process reads the pins: bpffs knows no network namespaces.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { KernelPlane } from '../../src/dataplane/kernel.ts'
import { type BpfProgram, loadNative, type Native, type ProgramInfo } from '../../src/dataplane/native.ts'
import { clockPin, linkPin, mapPin, pathsOf } from '../../src/shell/instance.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'
import { pinProgram } from '../../src/shell/own-programs.ts'
import { upgrade } from '../../src/shell/upgrade.ts'
import type { Lab } from './lab.ts'

export const native: Native = loadNative()

const pinsOf = (lab: Lab): string => pathsOf(lab.instance()).pins

/** The programs of all pinned links, in the order of ifindex. Undefined: the link is attached to nothing. */
export const programsOf = (lab: Lab): (ProgramInfo | undefined)[] =>
  readdirSync(join(pinsOf(lab), 'links'))
    .map(Number)
    .sort((a, b) => a - b)
    .map((ifindex) => {
      const link = native.openLink(linkPin(pinsOf(lab), ifindex))
      try {
        return link.info.ifindex === ifindex ? native.programInfo(link.info.programId) : undefined
      } finally {
        link.close()
      }
    })

export const tagsOf = (lab: Lab): (string | undefined)[] => programsOf(lab).map((program) => program?.tag)

/** The pinned clock program. */
export const clockOf = (lab: Lab): ProgramInfo => {
  const program = native.openProgram(clockPin(pinsOf(lab)))
  try {
    return program.info
  } finally {
    program.close()
  }
}

/** The kernel's ids of the pinned tables, by name. */
export const tablesOf = (lab: Lab): Record<string, number> =>
  Object.fromEntries(
    readdirSync(join(pinsOf(lab), 'maps')).map((name) => {
      const map = native.openMap(mapPin(pinsOf(lab), name))
      try {
        return [name, map.info.id]
      } finally {
        map.close()
      }
    }),
  )

/** All pins, by path. */
export const pinned = (lab: Lab): string[] => readdirSync(pinsOf(lab), { recursive: true }).map(String).sort()

export const withPlane = <T>(lab: Lab, read: (plane: KernelPlane) => T): T => {
  const plane = openPlaneAt(native, pinsOf(lab))
  try {
    return read(plane)
  } finally {
    plane.close()
  }
}

/**
 * Gives every interface of the instance another version of the program, and keeps it, so that it can be given again at no cost.
 * @returns what gives it again, to links; the clock program stays as it is then
 */
export const useVersion = (lab: Lab, programFile: string): { again: () => void; close: () => void } => {
  upgrade(native, pathsOf(lab.instance()), { check: false, programFile })
  const programs = new Map<number, BpfProgram>()
  for (const name of readdirSync(join(pinsOf(lab), 'links'))) {
    const link = native.openLink(linkPin(pinsOf(lab), Number(name)))
    if (link.info.ifindex !== 0) programs.set(Number(name), native.openProgramById(link.info.programId))
    link.close()
  }
  return {
    again: () => {
      for (const [ifindex, program] of programs) {
        const link = native.openLink(linkPin(pinsOf(lab), ifindex))
        pinProgram(pinsOf(lab), ifindex, program)
        link.update(program)
        link.close()
      }
    },
    close: () => {
      for (const program of programs.values()) program.close()
    },
  }
}

/** The addon, with `around` in place of every link update: it is given the update, and how many there have been with it. */
export const withUpdates = (addon: Native, around: (update: () => void, nth: number) => void): Native => {
  let updates = 0
  return {
    ...addon,
    openLink: (pin) => {
      const link = addon.openLink(pin)
      return {
        get info() {
          return link.info
        },
        update: (program) => {
          updates += 1
          around(() => link.update(program), updates)
        },
        pin: (path) => link.pin(path),
        detach: () => link.detach(),
        close: () => link.close(),
      }
    },
  }
}
