// SPDX-License-Identifier: Apache-2.0
// A file that is read again: what has not changed is not read anew, and nobody can tell by what the reading says.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { load } from 'js-yaml'
import { FaultyConfig } from '../../src/config/faults.ts'
import { piecesOf } from '../../src/config/pieces.ts'
import { readConfig } from '../../src/config/read.ts'
import { ReadBefore } from '../../src/config/read-before.ts'
import type { Config } from '../../src/config/reading.ts'
import { memoryFolder } from './memory-folder.ts'

const folder = memoryFolder(test, 'xlb-reread-')

const file = join(folder, 'xlb.yaml')

/** Lists that are indented by nothing, by some spaces, and by more; entries in rows and in braces; what looks like an entry in texts. */
const TEXTS = [
  `# The first line.
interfaces: [eth0]
defaults: { scheduler: wrr }
services: # all of them
# web
- service: tcp://192.0.2.10:80
  name: web
  backends:
  - address: 192.0.2.21
    weight: 2
  - { address: 192.0.2.22 }

- { service: tcp://192.0.2.11:80,
    backends: [{ address: 192.0.2.21 }] }
timeouts: { udp: 10m }
`,
  `interfaces:
  - eth0
services:
  # web
  - service: tcp://192.0.2.10:80
    name: |
      web
    seed: "\${SEED}"
    backends: &all
      - { address: 192.0.2.21, weight: 2 }
  - service: "tcp://192.0.2.11\\
      :8000-8099"
    backends: [{ address: 192.0.2.21 }]
# between
  - service: >-
      tcp://192.0.2.12:80

    source-rate: { rate: 5 }
    backends:
      - address: 192.0.2.22
filter:
  deny:
    - 203.0.113.0/24
`,
  `services:
    - service: udp://192.0.2.10:53
      slow-start: 10s
      backends:
          - address: 192.0.2.21
    - service: udp://192.0.2.11:*
    - service: udp://192.0.2.12:53
      backends: []`,
]

const SIGNS = [
  ...'{}[]:,-*&!|>\'"#%@` \t\n\r$~0aé',
  '- ',
  '\n- ',
  '\n  - ',
  '\n    - ',
  '\n ',
  '\n#\n',
  ': ',
  '*all',
  '&x ',
  'services:\n',
  '\nservices: ',
  '---\n',
  '\n...\n',
  '|\n',
  '"\n',
  "'\n",
  '{\n',
  '\u2028',
]

const edits = (text: string) =>
  fc.array(
    fc.record({
      at: fc.nat(text.length),
      length: fc.oneof(fc.constant(0), fc.nat(10)),
      put: fc.oneof(
        fc.constantFrom(...SIGNS),
        fc.nat(text.length).map((from) => text.slice(from, from + 20)),
      ),
    }),
    { minLength: 1, maxLength: 3 },
  )

const edited = fc
  .constantFrom(...TEXTS)
  .chain((text) =>
    edits(text).map((list) =>
      list.reduce((now, { at, length, put }) => now.slice(0, at) + put + now.slice(at + length), text),
    ),
  )

test('what is read in pieces is what the whole says, whatever was edited; where the whole is no YAML, no pieces are read', (t) => {
  let cut = 0
  const check = (text: string): void => {
    const value = new ReadBefore().parse(text)
    if (value === undefined) return
    cut++
    assert.deepEqual(value, load(text), text)
  }
  for (const text of TEXTS) {
    t.truthy(piecesOf(text))
    check(text)
  }
  fc.assert(fc.property(edited, check), { numRuns: 2000 })
  t.true(cut > 100)
})

test('an entry is one piece, with what stands above the next one', (t) => {
  const pieces = TEXTS.map((text) => piecesOf(text)?.services ?? [])
  t.deepEqual(
    pieces.map(({ length }) => length),
    [2, 3, 3],
  )
  t.true(pieces[1]?.[1]?.endsWith('# between\n'))
  t.is(piecesOf('services: []\n'), undefined)
  t.is(piecesOf('{ services: [] }\n'), undefined)
  // No comment: it is a part of the key.
  t.is(piecesOf('services:#\n  - service: tcp://192.0.2.10:80\n'), undefined)
})

/** What a reading says: all that whoever asked for it goes by, or its faults. */
const saidBy = (read: () => Config): unknown => {
  try {
    const { desired, services, policies, ...rest } = read()
    const have = new Map([...services].slice(0, 1).map(([name, service]) => [name, { ...service, seed: 7n }]))
    const wanted = desired(have, () => 5n)
    return { ...rest, services: [...services], policies: [...policies], wanted: [...wanted] }
  } catch (error) {
    if (error instanceof FaultyConfig) return error.faults
    throw error
  }
}

test('a file that is edited again and again says each time what it would say if it were read for the first time', (t) => {
  let right = 0
  let faulty = 0
  // Edits that are mostly right: else every reading is the first one again.
  const change = fc.record({
    of: fc.nat(TEXTS.length - 1),
    weight: fc.constantFrom('2', '3', '70000'),
    scheduler: fc.constantFrom('wrr', 'rr', 'mh'),
    seed: fc.constantFrom('0x1', '0x2'),
    address: fc.constantFrom('192.0.2.21', '192.0.2.12', '192.0.2.10'),
    twice: fc.boolean(),
    json: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(change, { minLength: 2, maxLength: 8 }), (changes) => {
      const before = new ReadBefore()
      for (const { of, weight, scheduler, seed, address, twice, json } of changes) {
        const text = (TEXTS[of] ?? '')
          .replaceAll('weight: 2', `weight: ${weight}`)
          .replace('scheduler: wrr', `scheduler: ${scheduler}`)
          .replace('address: 192.0.2.21', `address: ${address}`)
        const edited = twice ? text.replace('192.0.2.11:', '192.0.2.10:') : text
        writeFileSync(file, json ? JSON.stringify(load(edited)) : edited)
        const environment = { SEED: seed }
        const again = saidBy(() => readConfig(file, environment, { before }))
        assert.deepEqual(
          again,
          saidBy(() => readConfig(file, environment)),
        )
        if (Array.isArray(again)) faulty++
        else right++
      }
    }),
    { numRuns: 300 },
  )
  t.true(right > 200)
  t.true(faulty > 200)
})

const BOTH = (weight: number, scheduler = 'wrr'): string => `defaults: { scheduler: ${scheduler} }
services:
  - service: tcp://192.0.2.10:80
    backends: [{ address: 192.0.2.21, weight: ${weight} }]
  - service: tcp://192.0.2.11:80
    seed: "0x1"
    backends: [{ address: 192.0.2.21 }]
  - service: tcp://192.0.2.12:80
    backends: [{ address: 192.0.2.21 }]
`

/** The services as they shall be, where none is there yet. */
const wantedOf = (before: ReadBefore, text: string) => {
  writeFileSync(file, text)
  return [
    ...readConfig(file, {}, { before })
      .desired(new Map(), () => 5n)
      .values(),
  ]
}

test('what is written as it was is the same object; other defaults make all of it anew', (t) => {
  const before = new ReadBefore()
  const first = wantedOf(before, BOTH(1))
  const second = wantedOf(before, BOTH(2))
  t.deepEqual(
    second.map((service, i) => service === first[i]),
    [false, true, true],
  )
  t.is(second[0]?.backends[0]?.weight, 2)
  const third = wantedOf(before, BOTH(2, 'rr'))
  t.deepEqual(
    third.map(({ scheduler }) => scheduler),
    ['rr', 'rr', 'rr'],
  )
})

const CHECKED = (expires: string, more = ''): string => `checks:
  app: { type: report, expires: ${expires} }
defaults: { check: app }
services:
  - service: tcp://192.0.2.10:80
  - service: tcp://192.0.2.11:80
    check: none
${more}`

test('other checks make all of it anew: a service that is written as it was is checked by what its check is now', (t) => {
  const before = new ReadBefore()
  const read = (text: string) => {
    writeFileSync(file, text)
    return readConfig(file, {}, { before })
  }
  const expiresMs = (config: Config) => [...config.policies].map(([name, { check }]) => [name, check?.expiresMs])
  const first = read(CHECKED('30s'))
  const second = read(CHECKED('30s', '  - service: tcp://192.0.2.12:80\n'))
  t.is(
    second.services.get('tcp://192.0.2.10:80'),
    first.services.get('tcp://192.0.2.10:80'),
    'else it is not read again',
  )
  const third = read(CHECKED('40s', '  - service: tcp://192.0.2.12:80\n'))
  t.deepEqual([first, second, third].map(expiresMs), [
    [['tcp://192.0.2.10:80', 30_000]],
    [
      ['tcp://192.0.2.10:80', 30_000],
      ['tcp://192.0.2.12:80', 30_000],
    ],
    [
      ['tcp://192.0.2.10:80', 40_000],
      ['tcp://192.0.2.12:80', 40_000],
    ],
  ])
  const error = t.throws(() => read(CHECKED('40s').replace('app:', 'web:')), { instanceOf: FaultyConfig })
  t.deepEqual(
    error?.faults.map(({ path, what }) => [path, what]),
    [['defaults.check', "there is no check 'app'"]],
  )
})

test('of JSON too an entry that says what it said is the same object', (t) => {
  const before = new ReadBefore()
  const json = (weight: number) => JSON.stringify(load(BOTH(weight)), null, weight)
  const first = wantedOf(before, json(1))
  const second = wantedOf(before, json(2))
  t.deepEqual(
    second.map((service, i) => service === first[i]),
    [false, true, true],
  )
  t.is(second[0]?.backends[0]?.weight, 2)
})

test('a reading with a fault is not remembered, and takes nothing of what was', (t) => {
  const before = new ReadBefore()
  const first = wantedOf(before, BOTH(1))
  t.throws(() => wantedOf(before, BOTH(70000)), { instanceOf: FaultyConfig })
  t.throws(() => wantedOf(before, `${BOTH(1)} nothing`), { instanceOf: FaultyConfig })
  const second = wantedOf(before, BOTH(1))
  t.true(second.every((service, i) => service === first[i]))
})

test('a backend that a new service makes a VIP is found in a service that is as it was', (t) => {
  const before = new ReadBefore()
  wantedOf(before, BOTH(1))
  const error = t.throws(() => wantedOf(before, `${BOTH(1)}  - service: tcp://192.0.2.21:443\n    backends: []\n`), {
    instanceOf: FaultyConfig,
  })
  t.deepEqual(
    error?.faults.map(({ line, path }) => [line, path]),
    [
      [4, 'services[0].backends[0]'],
      [7, 'services[1].backends[0]'],
      [9, 'services[2].backends[0]'],
    ],
  )
})
