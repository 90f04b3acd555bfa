// SPDX-License-Identifier: Apache-2.0
// What the daemon writes down is there after the host has crashed.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { writeDurably } from '../../src/daemon/state-store.ts'

test.serial('a file is made durable before it is renamed, and its folder after that', (t) => {
  const folder = fs.mkdtempSync(join(tmpdir(), 'xlb-state-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  const file = join(folder, 'loaded.json')
  const done: string[] = []
  const { fsyncSync, renameSync } = fs
  fs.fsyncSync = (descriptor) => {
    done.push(`fsync ${fs.readlinkSync(`/proc/self/fd/${descriptor}`)}`)
    fsyncSync(descriptor)
  }
  fs.renameSync = (from, to) => {
    done.push(`rename ${from} ${to}`)
    renameSync(from, to)
  }
  syncBuiltinESMExports()
  try {
    writeDurably(file, '{}\n')
  } finally {
    Object.assign(fs, { fsyncSync, renameSync })
    syncBuiltinESMExports()
  }
  t.deepEqual(done, [`fsync ${file}.new`, `rename ${file}.new ${file}`, `fsync ${folder}`])
  t.is(fs.readFileSync(file, 'utf8'), '{}\n')
})
