// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { formatService, parseService, type ServiceAddress } from '../../src/core/address.ts'
import type { DesiredState } from '../../src/core/desired.ts'
import { checkRanges, rangeFaults } from '../../src/core/ranges.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { addService, setService } from '../../src/core/verbs.ts'
import { rangesOverlap } from './states.ts'

const service = fc
  .record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    vip: fc.constantFrom('192.0.2.10', '192.0.2.11'),
    ports: fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 2 }),
  })
  .map(({ protocol, vip, ports }): ServiceAddress => {
    const [port = 1, lastPort = port] = ports.toSorted((a, b) => a - b)
    return { protocol, vip, port, lastPort }
  })

test('ranges are refused if and only if two of one VIP and protocol have a port in common', (t) => {
  fc.assert(
    fc.property(fc.uniqueArray(service, { selector: formatService, maxLength: 12 }), (services) => {
      const faults = [...rangeFaults(services.map(formatService))]
      const naive = services.some((a, i) => services.slice(i + 1).some((b) => rangesOverlap(a, b)))
      assert.equal(faults.length > 0, naive)
    }),
  )
  t.pass()
})

test('two ranges that overlap are named both, with the ports that they share and how to mend it', (t) => {
  const names = ['tcp://192.0.2.10:8000-8099', 'tcp://192.0.2.10:8050-8150']
  const refused = t.throws(() => checkRanges(names), { instanceOf: Refusal })
  t.is(refused.message, `service ${names[1]}: overlaps ${names[0]}: both have ports 8050-8099`)
  t.regex(refused.mend, /each port to one range/)
  const touching = t.throws(() => checkRanges(['tcp://192.0.2.10:1-5', 'tcp://192.0.2.10:5-9']))
  t.regex(touching.message, /both have port 5$/)
})

test('a range that lies within an earlier, wider one is found behind others too', (t) => {
  const ports = ['1-100', '2-3', '50-60']
  t.is([...rangeFaults(ports.map((each) => `udp://192.0.2.10:${each}`))].length, 2)
})

for (const other of [
  'tcp://192.0.2.10:8000',
  'tcp://192.0.2.10:*',
  'udp://192.0.2.10:8000-8099',
  'tcp://192.0.2.11:8000-8099',
  'tcp://192.0.2.10:8100-8200',
]) {
  test(`${other} may stand beside tcp://192.0.2.10:8000-8099`, (t) => {
    t.notThrows(() => checkRanges(['tcp://192.0.2.10:8000-8099', other]))
  })
}

const EMPTY: DesiredState = new Map()

test('one-packet scheduling is for UDP, can be set and taken back, and stays with what is not named', (t) => {
  const dns = parseService('udp://192.0.2.10:53')
  const added = addService(EMPTY, dns, { ops: true }, 0n)
  const opsOf = (state: DesiredState) => state.get(formatService(dns))?.ops
  t.true(opsOf(added))
  t.true(opsOf(setService(added, dns, { scheduler: 'rr' })))
  t.false(opsOf(setService(added, dns, { ops: false })))
  t.false(opsOf(addService(EMPTY, dns, {}, 0n)))
})

test('one-packet scheduling of TCP is refused with the reason', (t) => {
  const web = parseService('tcp://192.0.2.10:*')
  const refused = t.throws(() => addService(EMPTY, web, { ops: true }, 0n), { instanceOf: Refusal })
  t.regex(refused.message, /^service tcp:\/\/192\.0\.2\.10:\*: one-packet scheduling would spread the segments/)
  t.regex(refused.mend, /leave ops out/)
  t.true(refused.usage)
  const without = addService(EMPTY, web, {}, 0n)
  t.throws(() => setService(without, web, { ops: true }), { instanceOf: Refusal })
})
