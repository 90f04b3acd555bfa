// SPDX-License-Identifier: Apache-2.0
// What is made of the schema says what the schema says; and the reference page's examples are right.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { z } from 'zod'
import { jsonSchema } from '../../src/config/json-schema.ts'
import { innerSchema, noteOf } from '../../src/config/notes.ts'
import { readConfig } from '../../src/config/read.ts'
import { withTables } from '../../src/config/reference.ts'
import { configSchema } from '../../src/config/schema.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const PAGE = readFileSync(join(root, 'docs/configuration.md'), 'utf8')

test('the tables of the reference page and the JSON Schema are those of the schema (npm run generate)', (t) => {
  t.is(withTables(PAGE), PAGE)
  t.is(readFileSync(join(root, 'packaging/xlb.schema.json'), 'utf8'), `${JSON.stringify(jsonSchema(), null, 2)}\n`)
})

test('every key has a note, which is in the JSON Schema', (t) => {
  const keys: string[] = []
  const visit = (schema: z.core.$ZodType, path: string): void => {
    const inner = innerSchema(schema)
    if (inner instanceof z.ZodArray) visit(inner._zod.def.element, `${path}[]`)
    if (inner instanceof z.ZodUnion) for (const option of inner._zod.def.options) visit(option, path)
    if (!(inner instanceof z.ZodObject)) return
    for (const [key, each] of Object.entries(inner._zod.def.shape)) {
      keys.push(`${path}.${key}`)
      t.truthy(noteOf(each), `${path}.${key}`)
      visit(each, `${path}.${key}`)
    }
  }
  visit(configSchema, '')
  t.true(keys.length > 50)
  const described = JSON.stringify(jsonSchema()).match(/"description":/g)?.length ?? 0
  t.true(described >= keys.length, `${described} descriptions, ${keys.length} keys`)
})

test("a secret's place takes a variable in an editor too", (t) => {
  const text = JSON.stringify(jsonSchema())
  const seed = /"seed":\{[^}]*"anyOf":\[\{"pattern":"([^"]*)"\},\{"pattern":"([^"]*)"\}/.exec(text)
  const [value = '', variable = ''] = (seed ?? []).slice(1).map((each) => JSON.parse(`"${each}"`) as string)
  t.regex('0x2a', new RegExp(value))
  t.regex(`\${XLB_SEED}`, new RegExp(variable))
  t.notRegex('0x2g', new RegExp(`${value}|${variable}`))
})

const examples = [...PAGE.matchAll(/```yaml\n([\s\S]*?)```/g)].map((match) => match[1] ?? '')

test('the examples of the reference page have no faults', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-page-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'conf.d'))
  writeFileSync(join(folder, 'secret.yaml'), 'services: []\n')
  const written = examples.filter((text) => text.split('\n').some((line) => /^[a-z]/.test(line)))
  t.true(written.length >= 5)
  for (const text of written) {
    const file = join(folder, 'xlb.yaml')
    writeFileSync(file, text.replace('/etc/xlb/', ''))
    t.notThrows(() => readConfig(file, { XLB_SEED: '0x2a' }), text)
  }
})
