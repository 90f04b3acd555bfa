// SPDX-License-Identifier: Apache-2.0
// What save writes has no faults, and means what was saved.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { readConfig } from '../../src/config/read.ts'
import type { Config } from '../../src/config/reading.ts'
import { writeConfig } from '../../src/config/write.ts'
import { formatService } from '../../src/core/address.ts'
import { CAPACITY, NEW_FLOWS } from '../../src/core/capacity.ts'
import type { Check } from '../../src/core/check.ts'
import { type DesiredState, isHashed, type Service } from '../../src/core/desired.ts'
import { plan } from '../../src/core/plan.ts'
import { changedPolicies, HOLD_MAX_SECONDS, SLOW_START_MAX_SECONDS } from '../../src/core/return-policy.ts'
import type { ReturnPolicy } from '../../src/core/standing.ts'
import { TIMEOUT_MAX_SECONDS, TIMEOUT_NAMES, type Timeouts } from '../../src/core/timeouts.ts'
import { filter } from '../core/filters.ts'
import { desiredState } from '../core/states.ts'
import { memoryFolder } from './memory-folder.ts'

const folder = memoryFolder(test, 'xlb-saved-')

const range = ({ least, most }: { least: number; most: number }) => fc.integer({ min: least, max: most })

const capacity = fc.record({
  services: range(CAPACITY.services),
  backends: range(CAPACITY.backends),
  flows: range(CAPACITY.flows),
  flows6: range(CAPACITY.flows6),
  prefixFlows6: range(CAPACITY.prefixFlows6),
  prefixes: range(CAPACITY.prefixes),
  clients: range(CAPACITY.clients),
  destinations: range(CAPACITY.destinations),
})

const timeouts = fc
  .array(fc.integer({ min: 1, max: TIMEOUT_MAX_SECONDS }), {
    minLength: TIMEOUT_NAMES.length,
    maxLength: TIMEOUT_NAMES.length,
  })
  .map((seconds) => Object.fromEntries(TIMEOUT_NAMES.map((state, i) => [state, seconds[i]])) as Timeouts)

const interfaces = fc.uniqueArray(
  fc.record({
    name: fc.stringMatching(/^[a-z][a-z0-9.@_-]{0,14}$/),
    mode: fc.constantFrom('native', 'generic'),
  }),
  { selector: ({ name }) => name, maxLength: 3 },
)

/** What such a service may have besides: chosen by numbers. */
const withMore = (service: Service, choice: number): Service => {
  const group = choice % 3 === 0 ? { group: ['1e3', 'yes', 'web-1'][choice % 5] ?? 'web' } : { group: undefined }
  const persistence = {
    seconds: group.group === undefined ? 1 + choice : 600,
    prefix: 24,
    prefix6: 64,
    drain: 'cut',
  } as const
  const isLimited = !isHashed(service) && !service.ops
  return {
    ...service,
    ...(choice % 5 === 0
      ? {}
      : {
          label: formatService(service)
            .replace(/[^a-z0-9]/g, '.')
            .slice(0, 31),
        }),
    ...(service.ops || choice % 2 === 0 ? {} : { persistence: { ...persistence, ...group } }),
    backends: service.backends.map((backend, i) => ({
      ...backend,
      ...(choice % 4 === i ? { vlan: choice % 8 > 3 ? ('none' as const) : 1 + (choice % 4094) } : {}),
      ...(isLimited && i % 2 === 1 ? { maxConns: { upper: 10 + choice, lower: choice % 10 } } : {}),
    })),
  }
}

const UNASKED = { kind: 'unresolved', why: 'not asked' } as const

const services = fc
  .tuple(desiredState, fc.array(fc.nat(5000), { minLength: 1, maxLength: 20 }))
  .map(
    ([state, choices]): DesiredState =>
      new Map([...state].map(([name, service], i) => [name, withMore(service, choices[i % choices.length] ?? 0)])),
  )

const CHECKS: readonly Check[] = [
  { name: '1e3', expiresMs: 1000, rise: 1, fall: 100, initially: 'up' },
  { name: 'no', rise: 2, fall: 1, initially: 'down' },
  { name: 'constructor', expiresMs: 86_400_000, rise: 1, fall: 1, initially: 'down' },
]

/** How backends of each of these services come back, and are checked: some as if nothing were said. */
const policies = fc.array(
  fc.record({
    holdMs: fc.integer({ min: 0, max: HOLD_MAX_SECONDS }).map((seconds) => 1000 * seconds),
    slowStartMs: fc.integer({ min: 0, max: SLOW_START_MAX_SECONDS }).map((seconds) => 1000 * seconds),
    slowStartPercent: fc.integer({ min: 1, max: 100 }),
    check: fc.option(fc.constantFrom(...CHECKS), { nil: undefined }),
  }),
  { maxLength: 10 },
)

const saved = fc
  .record({
    policies,
    services,
    interfaces,
    capacity,
    timeouts,
    filter: fc.option(filter, { nil: undefined }),
    newFlows: range(NEW_FLOWS),
  })
  .map(({ policies, ...rest }) => ({
    ...rest,
    policies: new Map(
      [...rest.services.keys()].flatMap((name, i): [string, ReturnPolicy][] => {
        const policy = policies[i]
        if (policy === undefined) return []
        const { check, ...rest } = policy
        return [[name, { ...rest, ...(check === undefined ? {} : { check }) }]]
      }),
    ),
  }))

for (const format of ['yaml', 'json'] as const) {
  test(`what save writes as ${format} has no faults, and is what was saved`, (t) => {
    const file = join(folder, `saved.${format}`)
    let persistent = 0
    fc.assert(
      fc.property(saved, (value) => {
        writeFileSync(file, writeConfig(value, format))
        const config = readConfig(file, {})
        const want = config.desired(new Map(), () => assert.fail('a seed is missing'))
        const unasked = new Map(
          [...value.services].map(([name, service]) => {
            if (service.persistence !== undefined) persistent++
            return [name, { ...service, backends: service.backends.map((each) => ({ ...each, path: UNASKED })) }]
          }),
        )
        assert.deepEqual(plan(unasked, want), [])
        const { interfaces: attached, capacity: sizes, newFlows, timeouts: times } = config
        assert.deepEqual(
          { interfaces: attached, capacity: sizes, newFlows, timeouts: times },
          {
            interfaces: value.interfaces.map((each) => ({ ...each })),
            capacity: { ...value.capacity },
            newFlows: value.newFlows,
            timeouts: value.timeouts,
          },
        )
        assert.deepEqual(changedPolicies(value.policies, config.policies), [])
        assert.deepEqual(config.filter?.prefixes ?? [], value.filter?.prefixes ?? [])
      }),
      { numRuns: 200 },
    )
    t.true(persistent > 50)
  })
}

const SECRET = 'correct-horse-battery'
const ENVIRONMENT = { XLB_TOKEN: SECRET, XLB_SEED: '0x000000000000abcd' }

const FULL = {
  include: ['more.yaml'],
  api: { group: 'ops', listen: ['127.0.0.1:9618', '[::1]:9618'], token: `\${XLB_TOKEN}` },
  notify: { command: ['/bin/tell', '--to', '$5 "ops": no #1'], user: 'daemon', timeout: '90s' },
  defaults: { scheduler: 'mh' },
  services: [
    { service: 'tcp://192.0.2.10:80', seed: `\${XLB_SEED}`, backends: [{ address: '192.0.2.21' }] },
    { service: 'tcp://192.0.2.11:80', seed: '0x0000000000000002' },
  ],
}

const MORE = { services: [{ service: 'tcp://192.0.2.12:80', seed: `0x\${XLB_DIGITS}` }] }

const readAgain = (name: string, text: string, environment: Record<string, string>) => {
  const file = join(folder, name)
  writeFileSync(file, text)
  return readConfig(file, environment)
}

/** What a daemon saves that has loaded this, and of which nothing was changed since, but for seeds by `reseed`. */
const savedOf = (config: Config, format: 'yaml' | 'json', reseed = (seed: bigint) => seed): string => {
  const wanted = config.desired(new Map(), () => assert.fail('a seed is missing'))
  return writeConfig(
    {
      written: config.written,
      interfaces: config.interfaces,
      capacity: { services: 4, backends: 4, flows: 1024, flows6: 1024, ...config.capacity },
      newFlows: NEW_FLOWS.fallback,
      filter: config.filter,
      timeouts: config.timeouts,
      services: new Map([...wanted].map(([name, each]) => [name, { ...each, seed: reseed(each.seed) }])),
    },
    format,
  )
}

for (const format of ['yaml', 'json'] as const) {
  test(`api, notify and variables are in what a daemon saves as ${format}: nothing that a variable stands for`, (t) => {
    const environment = { ...ENVIRONMENT, XLB_DIGITS: '77' }
    writeFileSync(join(folder, 'more.yaml'), JSON.stringify(MORE))
    const config = readAgain(`full.${format}`, JSON.stringify(FULL), environment)
    const text = savedOf(config, format)
    t.false(text.includes(SECRET) || text.includes('abcd') || text.includes('77'), text)
    const again = readAgain(`again.${format}`, text, environment)
    t.deepEqual([again.api, again.notify, again.written], [config.api, config.notify, config.written])
    t.is(again.api.token, SECRET)
    t.deepEqual(
      plan(
        config.desired(new Map(), () => 0n),
        again.desired(new Map(), () => 0n),
      ),
      [],
    )
    t.deepEqual(again.files.length, 1, 'includes are written out')
    t.is(savedOf(again, format), text)
    t.throws(() => readAgain(`again.${format}`, text, {}), { message: /variable XLB_TOKEN is not set/ })
  })
}

test('a token of the file itself is kept to the letter, with every dollar', (t) => {
  for (const [token, meant] of [
    ['sixteen characters', 'sixteen characters'],
    ['$$ixteen $ characters $$$$', '$ixteen $ characters $$'],
    [`$$\${XLB_TOKEN} and a $`, `$${SECRET} and a $`],
    ['"\'\n# - : { sixteen', '"\'\n# - : { sixteen'],
  ]) {
    const config = readAgain('token.yaml', JSON.stringify({ api: { token } }), ENVIRONMENT)
    t.is(config.api.token, meant)
    for (const format of ['yaml', 'json'] as const) {
      const again = readAgain(`token.${format}`, savedOf(config, format), ENVIRONMENT)
      t.deepEqual([again.api, again.written.api], [config.api, config.written.api])
    }
  }
})

test('a seed that a verb has changed is written as it is, not as the variable that it was', (t) => {
  const config = readAgain('reseeded.yaml', JSON.stringify({ ...FULL, include: [] }), ENVIRONMENT)
  const again = readAgain(
    'reseeded.yaml',
    savedOf(config, 'yaml', (seed) => seed + 1n),
    ENVIRONMENT,
  )
  t.deepEqual(
    [...again.services.values()].map(({ seed }) => seed),
    [0xabcen, 3n],
  )
  t.is(again.written.seeds.size, 0)
})

test('of a daemon’s file that says nothing of api and notify, nothing is written', (t) => {
  const config = readAgain('little.yaml', 'services: []', {})
  const text = savedOf(config, 'yaml')
  t.notRegex(text, /^(api|notify):/m)
  t.regex(text, /the daemon has loaded/)
  const { written: _, ...unknown } = { written: config.written, interfaces: [], newFlows: 1000, filter: undefined }
  const capacity = { services: 4, backends: 4, flows: 1024, flows6: 1024 }
  t.regex(
    writeConfig({ ...unknown, capacity, timeouts: config.timeouts, services: new Map() }, 'yaml'),
    /^# No daemon was asked/m,
  )
})
