// SPDX-License-Identifier: Apache-2.0
// Whatever stands in a file: it is read, or refused with faults that have places in it. Nothing else is thrown.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { FaultyConfig } from '../../src/config/faults.ts'
import { readConfig } from '../../src/config/read.ts'
import { configSchema } from '../../src/config/schema.ts'
import { memoryFolder } from './memory-folder.ts'

const folder = memoryFolder(test, 'xlb-random-')

const file = join(folder, 'xlb.yaml')

/** How many faults a text has. Each must have a place within it. */
const faultsOf = (text: string): number => {
  writeFileSync(file, text)
  try {
    readConfig(file, { SEED: '0x1' })
    return 0
  } catch (error) {
    if (!(error instanceof FaultyConfig)) throw error
    const lines = text.split('\n')
    for (const { line = 0, column = 0, what, mend } of error.faults) {
      assert.ok(line >= 1 && line <= lines.length, `line ${line} of ${lines.length}`)
      assert.ok(column >= 1 && column <= (lines[line - 1]?.length ?? 0) + 2, `column ${column} of line ${line}`)
      assert.ok(what.length > 0 && mend.length > 0)
    }
    return error.faults.length
  }
}

const RIGHT = `
interfaces: [eth0, { name: eth1, mode: native }]
limits: { flows: 4096, new-flows: 1000 }
defaults: &d { scheduler: wrr, persist: 5m }
filter: { default: allow, deny: [192.0.2.0/24, "2001:db8::/32"] }
timeouts: { udp: 10m }
services:
  - service: tcp://192.0.2.10:80
    name: web
    seed: "\${SEED}"
    backends: &all
      - { address: 192.0.2.21, weight: 2, vlan: 5 }
      - address: 192.0.2.22
        max-conns: 10:5
  - { service: "tcp://192.0.2.11:8000-8099", source-rate: { rate: 5 }, group: g, backends: *all }
`.trimStart()

test('a right file, and one of which parts were exchanged, repeated or left out', (t) => {
  t.is(faultsOf(RIGHT), 0)
  const signs = [
    ...'{}[]:,-*&!|>\'"#%@` \t\n$~?0aé\u{1f600}',
    '- ',
    ': ',
    '*all',
    '&x ',
    '<<: *d',
    '!!int ',
    `\${X}`,
    '---\n',
    '1e999',
    '.inf',
    '0o7',
    'null',
  ]
  const edit = fc.record({
    at: fc.nat(RIGHT.length),
    length: fc.nat(12),
    put: fc.oneof(
      fc.constantFrom(...signs),
      fc.nat(RIGHT.length).map((from) => RIGHT.slice(from, from + 15)),
    ),
  })
  let faulty = 0
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      const text = edits.reduce((now, { at, length, put }) => now.slice(0, at) + put + now.slice(at + length), RIGHT)
      if (faultsOf(text) > 0) faulty++
    }),
    { numRuns: 3000 },
  )
  t.true(faulty > 1000)
})

const keys = [
  ...Object.keys(configSchema.shape),
  ...[
    'service',
    'backends',
    'address',
    'weight',
    'persist',
    'seed',
    'name',
    'mode',
    'rate',
    'deny',
    'default',
    '__proto__',
    'constructor',
  ],
]
const leaf = fc.oneof(
  fc.constantFrom(
    'tcp://192.0.2.10:80',
    '192.0.2.21',
    'wrr',
    'mh',
    '5m',
    '0x1',
    '$',
    `\${`,
    `\${SEED}`,
    '',
    '-',
    'none',
  ),
  fc.jsonValue({ maxDepth: 0 }),
  fc.integer(),
)
const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5 },
    leaf,
    fc.array(tie('tree'), { maxLength: 4 }),
    fc.dictionary(fc.constantFrom(...keys), tie('tree'), { maxKeys: 5 }),
  ),
}))

test('any JSON, of the keys that there are', (t) => {
  let faulty = 0
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...Object.keys(configSchema.shape)), tree), (value) => {
      if (faultsOf(JSON.stringify(value, null, 1)) > 0) faulty++
    }),
    { numRuns: 1500 },
  )
  t.true(faulty > 500)
})

test('any text', (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme', maxLength: 40 })), (text) => {
      faultsOf(text)
    }),
    { numRuns: 1500 },
  )
  t.pass()
})
