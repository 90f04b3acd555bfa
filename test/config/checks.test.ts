// SPDX-License-Identifier: Apache-2.0
// Checks and who is checked by them: as files say it, as save writes it, and as a daemon remembers it.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readConfig } from '../../src/config/read.ts'
import type { Config } from '../../src/config/reading.ts'
import { writeConfig } from '../../src/config/write.ts'
import type { Check } from '../../src/core/check.ts'
import { DEFAULT_TIMEOUTS } from '../../src/core/timeouts.ts'
import { StateStore } from '../../src/daemon/state-store.ts'
import { memoryFolder } from './memory-folder.ts'

const folder = memoryFolder(test, 'xlb-checks-')
let folders = 0

/** Of files by their names, xlb.yaml first. */
const read = (files: Record<string, string>): Config => {
  const of = join(folder, `${folders++}`)
  mkdirSync(of)
  for (const [name, text] of Object.entries(files)) writeFileSync(join(of, name), text)
  return readConfig(join(of, 'xlb.yaml'), {})
}

const FILES = {
  'xlb.yaml': `
include: [checks.yaml]
defaults: { check: app, rise: 4 }
services:
  - { service: tcp://192.0.2.1:80 }
  - { service: tcp://192.0.2.2:80, check: db, rejoin-hold: 5s }
  - { service: tcp://192.0.2.3:80, check: none }
`,
  'checks.yaml': `
checks:
  app: { type: report, expires: 1h30m, fall: 3 }
  db: { type: report, rise: 2, initially: down }
  unused: { type: report, expires: 90 }
`,
}

const APP: Check = { name: 'app', expiresMs: 5_400_000, rise: 4, fall: 3, initially: 'up' }
const DB: Check = { name: 'db', rise: 2, fall: 1, initially: 'down' }
const PLAIN = { holdMs: 0, slowStartMs: 0, slowStartPercent: 10 }

test('a check is named by a service, or by defaults for all of them, which may say none; rise and fall have defaults too', (t) => {
  t.deepEqual(
    [...read(FILES).policies],
    [
      ['tcp://192.0.2.1:80', { ...PLAIN, check: APP }],
      ['tcp://192.0.2.2:80', { ...PLAIN, holdMs: 5000, check: DB }],
    ],
  )
  const without = read({ 'xlb.yaml': 'checks: { app: { type: report } }\nservices: []\n' })
  t.deepEqual([...without.policies], [], 'that nobody names one is no fault')
})

const wantedOf = (config: Config) => config.desired(new Map(), () => 5n)

const savedOf = (config: Config, isDaemons: boolean, format: 'yaml' | 'json' = 'yaml'): string =>
  writeConfig(
    {
      ...(isDaemons ? { written: config.written, policies: config.policies } : {}),
      interfaces: config.interfaces,
      capacity: { services: 4, backends: 4, flows: 1024, flows6: 1024 },
      newFlows: 1000,
      filter: config.filter,
      timeouts: config.timeouts,
      services: wantedOf(config),
    },
    format,
  )

for (const format of ['yaml', 'json'] as const) {
  test(`what a daemon saves as ${format} has the checks, also those that nobody names, and says who is checked by which`, (t) => {
    const config = read(FILES)
    const text = savedOf(config, true, format)
    const again = read({ 'xlb.yaml': text })
    t.deepEqual([...again.policies], [...config.policies])
    t.deepEqual(again.written.checks, config.written.checks)
    t.is(again.written.checks.length, 3)
    t.is(savedOf(again, true, format), text)
  })
}

test('who asks no daemon is told that checks are left out', (t) => {
  const text = savedOf(read(FILES), false)
  t.regex(text, /^# No daemon was asked: api, notify, checks, /m)
  t.notRegex(text, /^ *check/m)
})

test('a daemon remembers by which check each service was checked', (t) => {
  const config = read(FILES)
  const state = join(folder, 'state')
  const wish = {
    interfaces: [],
    newFlows: 1000,
    filter: undefined,
    timeouts: DEFAULT_TIMEOUTS,
    services: wantedOf(config),
    policies: config.policies,
  }
  const store = new StateStore(state)
  store.writeLoaded({ wish, maps: '' })
  t.deepEqual(new StateStore(state).readLoaded()?.wish.policies, config.policies)
  const other = new Map([...config.policies].map(([name, policy]) => [name, { ...policy, check: { ...APP, rise: 1 } }]))
  store.writeLoaded({ wish: { ...wish, policies: other }, maps: '' })
  t.deepEqual(new StateStore(state).readLoaded()?.wish.policies, other)
})
