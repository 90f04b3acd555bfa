// SPDX-License-Identifier: Apache-2.0
// Includes, variables and defaults, where they are right; and faults across files.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { FaultyConfig } from '../../src/config/faults.ts'
import { readConfig } from '../../src/config/read.ts'
import type { Config } from '../../src/config/reading.ts'

const web = (host: number): string => `services: [ { service: tcp://192.0.2.${host}:80 } ]\n`

/** Writes files into a folder of their own. @returns its path */
const folderOf = (t: ExecutionContext, files: Record<string, string>): string => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-config-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

const read = (t: ExecutionContext, files: Record<string, string>, environment = {}): Config =>
  readConfig(join(folderOf(t, files), 'xlb.yaml'), environment)

/** `FILE:LINE PATH: WHAT` of each fault, files without their folder. */
const faultsOf = (folder: string, environment = {}): string[] => {
  try {
    readConfig(join(folder, 'xlb.yaml'), environment)
    return []
  } catch (error) {
    if (!(error instanceof FaultyConfig)) throw error
    return error.faults.map(({ file, line, path, what }) =>
      `${file}:${line} ${path}: ${what}`.replaceAll(`${folder}/`, ''),
    )
  }
}

test('includes are relative to the file that includes, and joined in the order of their names', (t) => {
  const config = read(t, {
    'xlb.yaml': `include: [conf.d/*.yaml, more/all.yaml]\ninterfaces: [eth0]\n${web(1)}`,
    'conf.d/b.yaml': `interfaces: [eth1]\n${web(3)}`,
    'conf.d/a.yaml': web(2),
    'conf.d/.hidden.yaml': 'faulty: 1',
    'conf.d/notes.txt': 'faulty: 1',
    'more/all.yaml': 'include: [one.yaml]\n',
    'more/one.yaml': `limits: { flows: 4096 }\n${web(4)}`,
  })
  t.deepEqual(
    [...config.services.keys()],
    [1, 2, 3, 4].map((host) => `tcp://192.0.2.${host}:80`),
  )
  t.deepEqual(
    config.interfaces.map(({ name }) => name),
    ['eth0', 'eth1'],
  )
  t.deepEqual(config.capacity, { flows: 4096 })
  t.is(config.files.length, 5)
})

test('patterns have sets of letters and single letters, and may find nothing', (t) => {
  const config = read(t, {
    'xlb.yaml':
      'include: ["[a-b].yaml", "?0.yaml", "none*.yaml", "[!x]/y.yaml", "web-(1)+*.{$}^|.yaml", "[]^-]é?.yaml"]\n',
    'web-(1)+x.{$}^|.yaml': web(5),
    '^é😀.yaml': web(6),
    'a.yaml': web(1),
    'b.yaml': web(2),
    'c.yaml': 'faulty: 1',
    'd0.yaml': web(3),
    'e/y.yaml': web(4),
    'x/y.yaml': 'faulty: 1',
  })
  t.is(config.services.size, 6)
})

test('a name with brackets that is there is that file', (t) => {
  t.is(read(t, { 'xlb.yaml': 'include: ["[a].yaml"]\n', '[a].yaml': web(1) }).services.size, 1)
})

test('faults name the included file and its line; those of all files come at once', (t) => {
  const folder = folderOf(t, {
    'xlb.yaml': 'include: [a.yaml, b.yaml, gone.yaml]\nservices:\n  - { service: tcp://192.0.2.1:80, ops: true }\n',
    'a.yaml': 'services:\n\n  - service: tcp://192.0.2.1:80\n  - service: tcp://192.0.2.2:80\n    sheduler: rr\n',
    'b.yaml': 'services: [\n',
  })
  t.deepEqual(faultsOf(folder), [
    'xlb.yaml:1 include[2]: gone.yaml cannot be read: ENOENT',
    'xlb.yaml:3 services[0].ops: service tcp://192.0.2.1:80: one-packet scheduling would spread the segments of one TCP connection over backends',
    'a.yaml:3 services[0].service: tcp://192.0.2.1:80 is there twice, also in xlb.yaml',
    "a.yaml:5 services[1].sheduler: key 'sheduler' is not known",
    'b.yaml:2 : is no YAML: deficient indentation',
  ])
})

test('services of two files may not make circles or overlap', (t) => {
  const folder = folderOf(t, {
    'xlb.yaml': 'include: [a.yaml]\nservices: [ { service: tcp://192.0.2.1:80-90 } ]\n',
    'a.yaml': [
      'services:',
      '  - { service: tcp://192.0.2.1:85-99 }',
      '  - { service: tcp://192.0.2.2:80, backends: [ { address: 192.0.2.1 } ] }',
      '',
    ].join('\n'),
  })
  const [overlap, circle, ...more] = faultsOf(folder)
  t.regex(overlap ?? '', /^a\.yaml:2 services\[0\]\.service: .*overlaps/)
  t.regex(circle ?? '', /^a\.yaml:3 services\[1\]\.backends\[0\]: .*is a VIP itself/)
  t.deepEqual(more, [])
})

test('a file includes no file in a circle, itself or another one that does', (t) => {
  const circle = folderOf(t, {
    'xlb.yaml': 'include: [a.yaml]\n',
    'a.yaml': 'include: [b.yaml]\n',
    'b.yaml': 'include: [./a.yaml, xlb.yaml]\n',
  })
  t.deepEqual(faultsOf(circle), [
    'b.yaml:1 include[0]: a.yaml includes itself in the end',
    'b.yaml:1 include[1]: xlb.yaml includes itself in the end',
  ])
  const itself = folderOf(t, { 'xlb.yaml': 'include: ["*.yaml"]\n' })
  t.deepEqual(faultsOf(itself), ['xlb.yaml:1 include[0]: xlb.yaml includes itself in the end'])
})

test('a file is included once, by whatever name', (t) => {
  const folder = folderOf(t, { 'xlb.yaml': 'include: [a.yaml, b.yaml, a.yaml]\n', 'a.yaml': web(1) })
  symlinkSync(join(folder, 'a.yaml'), join(folder, 'b.yaml'))
  t.deepEqual(faultsOf(folder), [
    'xlb.yaml:1 include[1]: b.yaml is included by xlb.yaml already',
    'xlb.yaml:1 include[2]: a.yaml is included by xlb.yaml already',
  ])
})

test('what is no list is in one file alone', (t) => {
  const folder = folderOf(t, {
    'xlb.yaml': 'include: [a.yaml]\nlimits: { flows: 4096 }\nfilter: { default: allow }\n',
    'a.yaml': 'limits: { flows6: 4096 }\ntimeouts: { udp: 10s }\nfilter: { default: deny }\n',
  })
  t.deepEqual(faultsOf(folder), ['a.yaml:1 limits: is in xlb.yaml too', 'a.yaml:3 filter: is in xlb.yaml too'])
})

test('defaults of one file are those of services in all files; what a service says goes before them', (t) => {
  const { services } = read(t, {
    'xlb.yaml':
      'include: [a.yaml]\ndefaults: { scheduler: mh, hash: source, persist: 5m, persist-mask: 24, drain-persistence: cut }\n',
    'a.yaml': [
      'services:',
      '  - { service: tcp://192.0.2.1:80 }',
      '  - { service: tcp://192.0.2.2:80, scheduler: rr, hash: source-port, persist: 60s, persist-mask: 32 }',
      '  - { service: tcp://192.0.2.3:80, persist: none }',
      '  - { service: tcp://198.51.100.0/24:80, scheduler: dh, persist: none }',
      '',
    ].join('\n'),
  })
  const [first, second, third, fourth] = [...services.values()]
  t.like(first, {
    scheduler: 'mh',
    hash: 'source',
    persistence: { seconds: 300, prefix: 24, prefix6: 128, drain: 'cut' },
  })
  t.like(second, { scheduler: 'rr', hash: 'source-port', persistence: { seconds: 60, prefix: 32, drain: 'cut' } })
  t.like(third, { scheduler: 'mh' })
  t.is(third?.persistence, undefined)
  t.like(fourth, { scheduler: 'dh', hash: 'destination' })
})

test('how backends come back is said by defaults, by a service, or by nobody', (t) => {
  const { policies } = read(t, {
    'xlb.yaml': 'include: [a.yaml]\ndefaults: { rejoin-hold: 10s, slow-start: 1m, slow-start-from: 20 }\n',
    'a.yaml': [
      'services:',
      '  - { service: tcp://192.0.2.1:80 }',
      '  - { service: tcp://192.0.2.2:80, rejoin-hold: 0s, slow-start-from: 50 }',
      '  - { service: tcp://192.0.2.3:80, rejoin-hold: 0, slow-start: 0, slow-start-from: 10 }',
      '',
    ].join('\n'),
  })
  t.deepEqual(
    [...policies],
    [
      ['tcp://192.0.2.1:80', { holdMs: 10_000, slowStartMs: 60_000, slowStartPercent: 20 }],
      ['tcp://192.0.2.2:80', { holdMs: 0, slowStartMs: 60_000, slowStartPercent: 50 }],
    ],
  )
})

const seedOf = (t: ExecutionContext, text: string, environment: Record<string, string>): bigint | undefined => {
  const config = read(t, { 'xlb.yaml': `services: [ { service: tcp://192.0.2.1:80, seed: ${text} } ]\n` }, environment)
  return [...config.services.values()][0]?.seed
}

test('a variable stands for a seed, whole or in part', (t) => {
  t.is(seedOf(t, `"\${SEED}"`, { SEED: '0x2a' }), 42n)
  t.is(seedOf(t, `"0x\${HIGH}\${LOW_4}"`, { HIGH: '00000001', LOW_4: '00000002' }), 0x1_0000_0002n)
})

test('a name that every object has is no variable', (t) => {
  const folder = folderOf(t, {
    'xlb.yaml': `services: [ { service: tcp://192.0.2.1:80, seed: "\${constructor}" } ]\n`,
  })
  t.deepEqual(faultsOf(folder), ['xlb.yaml:1 services[0].seed: variable constructor is not set'])
})

test('a byte order mark, CRLF and JSON have their places too', (t) => {
  const mark = folderOf(t, { 'xlb.yaml': '\ufeffservices:\r\n  - service: tcp://192.0.2.1:0\r\n' })
  t.regex(faultsOf(mark)[0] ?? '', /^xlb\.yaml:2 services\[0\]\.service: .*port 0/)
  const services = [{ service: 'tcp://192.0.2.1:80', backends: [{ address: '192.0.2.21', weight: -1 }] }]
  const json = folderOf(t, { 'xlb.yaml': JSON.stringify({ services }, null, '\t') })
  t.deepEqual(faultsOf(json), ['xlb.yaml:8 services[0].backends[0].weight: -1 is below 0'])
})
