// SPDX-License-Identifier: Apache-2.0
// What save writes has no faults, and means what was saved.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { readConfig } from '../../src/config/read.ts'
import { writeConfig } from '../../src/config/write.ts'
import { formatService } from '../../src/core/address.ts'
import { CAPACITY, NEW_FLOWS } from '../../src/core/capacity.ts'
import { type DesiredState, isHashed, type Service } from '../../src/core/desired.ts'
import { plan } from '../../src/core/plan.ts'
import { TIMEOUT_MAX_SECONDS, TIMEOUT_NAMES, type Timeouts } from '../../src/core/timeouts.ts'
import { filter } from '../core/filters.ts'
import { desiredState } from '../core/states.ts'

const folder = mkdtempSync(join(tmpdir(), 'xlb-saved-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

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

const saved = fc.record({
  services,
  interfaces,
  capacity,
  timeouts,
  filter: fc.option(filter, { nil: undefined }),
  newFlows: range(NEW_FLOWS),
})

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
        assert.deepEqual(config.filter?.prefixes ?? [], value.filter?.prefixes ?? [])
      }),
      { numRuns: 200 },
    )
    t.true(persistent > 50)
  })
}
