// SPDX-License-Identifier: Apache-2.0
// Attached programs, to be compared with others, and put back.
import { Refusal } from '../core/refusal.ts'
import type { BpfProgram, Native, NativeError } from '../dataplane/native.ts'

/** What is open, closed together. */
export class Handles {
  readonly #open: { close: () => void }[] = []

  keep<T extends { close: () => void }>(handle: T): T {
    this.#open.push(handle)
    return handle
  }

  close(): void {
    for (const handle of this.#open.reverse()) handle.close()
  }
}

/** By their instructions: the tag leaves out what of a table a program reads. */
export const sameProgram = (a: BpfProgram, b: BpfProgram): boolean =>
  a.info.tag === b.info.tag && a.instructions().equals(b.instructions())

export const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && (error as NativeError).code === code

/**
 * The program that is attached now.
 * @throws Refusal without the privilege; `verb` is who needs it, and has changed nothing yet
 */
export const openAttached = (native: Native, id: number, verb: string): BpfProgram => {
  try {
    return native.openProgramById(id)
  } catch (error) {
    if (!hasCode(error, 'EPERM')) throw error
    throw new Refusal(
      'an attached program is opened by its id, which takes CAP_SYS_ADMIN; nothing was replaced',
      `run ${verb} as root with all capabilities, not in a unit that leaves that one out`,
    )
  }
}
