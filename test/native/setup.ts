// SPDX-License-Identifier: Apache-2.0
// What the tests of the native addon stand on: the fixture object, a bpffs of their own, veth pairs of their own.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { type BpfObject, loadNative, type NativeError } from '../../src/dataplane/native.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

export const native = loadNative()
export const fixturePath = join(root, 'build/test/fixture.bpf.o')

export const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

export const compileFixture = (): void => {
  mkdirSync(join(root, 'build/test'), { recursive: true })
  const multiarch = `/usr/include/${run('gcc', '-print-multiarch').trim()}`
  const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror', '-I', multiarch]
  // Several test files do so at a time: each finds a whole object at the path.
  const own = `${fixturePath}.${process.pid}`
  run('clang', ...flags, '-c', join(root, 'test/native/fixture.bpf.c'), '-o', own)
  renameSync(own, fixturePath)
}

/** The fixture, open, without the program that the verifier refuses. */
export const openFixture = (t: ExecutionContext): BpfObject => {
  const object = native.openObject(fixturePath)
  t.teardown(() => object.close())
  object.setAutoload('refused', false)
  return object
}

export const loadFixture = (t: ExecutionContext): BpfObject => {
  const object = openFixture(t)
  object.load()
  return object
}

export const temporaryDirectory = (t: ExecutionContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'xlbn-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A bpffs mounted on a directory of its own until the test ends. */
export const bpfFileSystem = (t: ExecutionContext): string => {
  const directory = temporaryDirectory(t)
  native.system.mountBpf(directory)
  t.teardown(() => run('umount', directory)) // Runs before the directory's own removal: last in, first out.
  return directory
}

export interface Veth {
  name: string
  ifindex: number
  namespace: string
  /** The far end's hardware address. */
  peerMac: string
  remove: () => void
}

let vethsMade = 0

/** A veth here (198.51.100.1/24, no traffic but its own) whose far end (198.51.100.2) is in a namespace of its own. */
export const makeVeth = (t: ExecutionContext): Veth => {
  const name = `xlbn${process.pid}n${++vethsMade}`
  const remove = (): void => {
    try {
      run('ip', 'link', 'del', name)
    } catch {
      // The test deleted it.
    }
  }
  run('ip', 'netns', 'add', name)
  t.teardown(() => run('ip', 'netns', 'del', name))
  run('ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'far', 'netns', name)
  t.teardown(remove)
  run('ip', 'address', 'add', '198.51.100.1/24', 'dev', name)
  run('ip', 'link', 'set', name, 'up')
  run('ip', '-n', name, 'address', 'add', '198.51.100.2/24', 'dev', 'far')
  run('ip', '-n', name, 'link', 'set', 'far', 'up')
  const near = JSON.parse(run('ip', '-j', 'link', 'show', name))[0]
  const far = JSON.parse(run('ip', '-j', '-n', name, 'link', 'show', 'far'))[0]
  return { name, ifindex: near.ifindex, namespace: name, peerMac: far.address, remove }
}

export const u32 = (...numbers: number[]): Buffer => Buffer.from(Uint32Array.from(numbers).buffer)

/** The NativeError that `call` throws. */
export const failureOf = (t: ExecutionContext, call: () => unknown): NativeError =>
  t.throws(call, { instanceOf: Error }) as NativeError
