// SPDX-License-Identifier: Apache-2.0
// Files with faults: each fault is told with its place in the text, its path, what is wrong and how to mend it; and no other.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { FaultyConfig } from '../../src/config/faults.ts'
import { readConfig } from '../../src/config/read.ts'
import { BACKENDS } from './faulty/backends.ts'
import { CHECKS } from './faulty/checks.ts'
import { MORE } from './faulty/more.ts'
import { POLICIES } from './faulty/policies.ts'
import { SERVICES } from './faulty/services.ts'
import { TOP } from './faulty/top.ts'
import { YAML } from './faulty/yaml.ts'

const SECRET = 'tell-nobody'
const ENVIRONMENT = { XLB_TEST_EMPTY: '', XLB_TEST_SECRET: SECRET }

const folder = mkdtempSync(join(tmpdir(), 'xlb-faulty-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

let files = 0

const refused = (text: string): FaultyConfig | undefined => {
  const file = join(folder, `${files++}.yaml`)
  writeFileSync(file, text)
  try {
    readConfig(file, ENVIRONMENT)
    return undefined
  } catch (error) {
    if (error instanceof FaultyConfig) return error
    throw error
  }
}

for (const { name, text, faults } of [...YAML, ...TOP, ...SERVICES, ...POLICIES, ...CHECKS, ...BACKENDS, ...MORE]) {
  test(`refused: ${name}`, (t) => {
    const error = refused(text)
    const told = (error?.faults ?? []).map(({ line, column, path, what, mend }) => ({
      place: `${line}:${column}`,
      path,
      what: what.replaceAll(`${folder}/`, ''),
      mend,
    }))
    t.deepEqual(
      told.map(({ place, path, what }) => [place, path, what]),
      faults.map(([place, path, what]) => [place, path, what]),
    )
    for (const [i, [, , , mend]] of faults.entries())
      t.true(told[i]?.mend.startsWith(mend), `${told[i]?.mend}: ${mend}`)
    for (const fault of error?.faults ?? []) t.regex(fault.file, /\/\d+\.yaml$/)
    t.false(JSON.stringify([error?.message, error?.faults]).includes(SECRET), 'a secret is never shown')
  })
}
