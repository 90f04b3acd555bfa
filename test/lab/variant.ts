// SPDX-License-Identifier: Apache-2.0
// Programs that tests compile: other versions of the packet path's, and one for hosts in a VLAN.
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))

const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' }).trim()

/** Compiles one of this folder's programs, as bpf/Makefile compiles the product's. @returns the object's file */
const compile = (source: string, define: string, name: string): string => {
  const folder = join(root, 'build/test')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${name}.bpf.o`)
  const beside = `${file}.${process.pid}`
  const include = ['-I', join(root, 'bpf'), '-I', `/usr/include/${run('gcc', '-print-multiarch')}`]
  const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror', `-D${define}`]
  run('clang', ...flags, ...include, '-c', join(root, 'test/lab', source), '-o', beside)
  run('llvm-strip', '-g', beside)
  renameSync(beside, file)
  return file
}

/** Compiles the packet path with `variant` (above 0) in it. @returns the object's file */
export const compileVariant = (variant: number): string =>
  compile('variant.bpf.c', `VARIANT=${variant}`, `variant-${variant}`)

/** Compiles segment.bpf.c for a VLAN. @returns the object's file */
export const compileSegment = (vlan: number): string => compile('segment.bpf.c', `VLAN=${vlan}`, `segment-${vlan}`)
