// SPDX-License-Identifier: Apache-2.0
// Other versions of the packet path's program: variant.bpf.c, compiled as bpf/Makefile compiles bpf/xlb.bpf.c.
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' }).trim()

/** Compiles the packet path with `variant` (above 0) in it. @returns the object's file */
export const compileVariant = (variant: number): string => {
  const folder = join(root, 'build/test')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `variant-${variant}.bpf.o`)
  const beside = `${file}.${process.pid}`
  const include = ['-I', join(root, 'bpf'), '-I', `/usr/include/${run('gcc', '-print-multiarch')}`]
  const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror', `-DVARIANT=${variant}`]
  run('clang', ...flags, ...include, '-c', join(root, 'test/lab/variant.bpf.c'), '-o', beside)
  run('llvm-strip', '-g', beside)
  renameSync(beside, file)
  return file
}
