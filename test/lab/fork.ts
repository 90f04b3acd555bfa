// SPDX-License-Identifier: Apache-2.0
// fork.c for TypeScript. Only for a process that runs with --single-threaded.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const ADDON = join(root, 'build/test/fork.node')

interface Addon {
  fork: () => { pid: number; marks: number }
  killAfter: (
    pid: number,
    marks: number,
    mark: number,
    microseconds: number,
  ) => { status: number; marks: string; ns: number }
  exitNow: (code: number) => never
}

/** Compiles fork.c with the headers of the Node that runs this. */
export const compileFork = (): void => {
  mkdirSync(dirname(ADDON), { recursive: true })
  const include = join(dirname(process.execPath), '../include/node')
  const flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-isystem', include]
  const beside = `${ADDON}.${process.pid}`
  execFileSync('gcc', [...flags, '-o', beside, join(root, 'test/lab/fork.c')], { stdio: 'pipe' })
  execFileSync('mv', [beside, ADDON])
}

const load = (): Addon => createRequire(import.meta.url)(ADDON) as Addon

export interface ChildEnd {
  /** The exit code; undefined where SIGKILL ended it. */
  code: number | undefined
  /** What the child has marked. */
  marks: string
  /** Microseconds from the mark that was waited for to its end. */
  microseconds: number
}

export interface Kill {
  /** The mark to wait for; '' is none. */
  mark: string
  /** Then so long; undefined lets the child end by itself. */
  microseconds: number | undefined
}

/** Runs `action` in a child process, and kills that as told. `mark` takes one letter. */
export const inChild = (action: (mark: (letter: string) => void) => number, kill: Kill): ChildEnd => {
  const addon = load()
  const { pid, marks } = addon.fork()
  if (pid === 0) {
    let code = 70
    try {
      code = action((letter) => writeSync(marks, letter))
    } catch (error) {
      writeSync(2, `${error instanceof Error ? error.stack : error}\n`)
    }
    addon.exitNow(code)
  }
  const ended = addon.killAfter(pid, marks, kill.mark.charCodeAt(0) || 0, kill.microseconds ?? -1)
  const signal = ended.status & 0x7f
  if (signal !== 0 && signal !== 9) throw new Error(`the child ended by signal ${signal}`)
  return {
    code: signal === 0 ? ended.status >> 8 : undefined,
    marks: ended.marks,
    microseconds: ended.ns / 1000,
  }
}
