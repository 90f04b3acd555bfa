// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import test from 'ava'
import { VERSION } from '../../src/core/version.ts'

test('the version is that of the package', (t) => {
  const read = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  t.is(VERSION, JSON.parse(read).version)
})
