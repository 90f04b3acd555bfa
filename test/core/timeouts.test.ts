// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { Refusal } from '../../src/core/refusal.ts'
import {
  DEFAULT_TIMEOUTS,
  DESTINATION_TIMEOUT_MAX_SECONDS,
  parseTimeout,
  TIMEOUT_MAX_SECONDS,
  TIMEOUT_NAMES,
} from '../../src/core/timeouts.ts'
import { agesOf, readTimeouts, writeTimeouts } from '../../src/dataplane/timeouts.ts'
import { makePlane } from '../dataplane/plane.ts'

test('a timeout is 1 s to 29 min, as people write spans of time', (t) => {
  t.is(parseTimeout('--udp', '90'), 90)
  t.is(parseTimeout('--udp', '29m'), TIMEOUT_MAX_SECONDS)
  for (const text of ['0', '0s', '1741', '30m', '1h', 'soon', '']) {
    t.true(t.throws(() => parseTimeout('--udp', text), { instanceOf: Refusal })?.message.startsWith('--udp'))
  }
})

test('a destination may be remembered for longer than a flow lasts', (t) => {
  t.is(parseTimeout('--destination', '30d', 'destination'), DESTINATION_TIMEOUT_MAX_SECONDS)
  t.is(parseTimeout('--destination', '1s', 'destination'), 1)
  for (const text of ['0', '31d', '30d1s', 'soon']) {
    const refused = t.throws(() => parseTimeout('--destination', text, 'destination'), { instanceOf: Refusal })
    t.true(refused?.message.startsWith('--destination'))
  }
})

test('the longest timeout is within half the ages that an entry can tell, whatever the HZ', (t) => {
  for (const jiffiesPerSecond of [24, 32, 48, 64, 100, 128, 200, 250, 256, 300, 500, 512, 1000, 1024, 1200]) {
    const ageShift = Math.round(Math.log2(jiffiesPerSecond))
    t.true(agesOf(TIMEOUT_MAX_SECONDS, { ageShift, jiffiesPerSecond }) < 2048, `${jiffiesPerSecond}`)
    t.true(agesOf(DESTINATION_TIMEOUT_MAX_SECONDS, { ageShift, jiffiesPerSecond }) < 2 ** 23, `${jiffiesPerSecond}`)
  }
})

test('what is set is read back to within a unit of age, and what is read back sets the same', (t) => {
  const { memory } = makePlane()
  const state = fc.constantFrom(...TIMEOUT_NAMES)
  fc.assert(
    fc.property(fc.dictionary(state, fc.integer({ min: 1, max: TIMEOUT_MAX_SECONDS })), (wanted) => {
      writeTimeouts(memory, wanted)
      const now = readTimeouts(memory)
      for (const [name, seconds] of Object.entries(wanted)) {
        const difference = now[name as keyof typeof now] - seconds
        if (difference < 0 || difference > 1) throw new Error(`${name}: ${seconds}, read ${seconds + difference}`)
      }
      if (writeTimeouts(memory, now).length > 0) throw new Error('reading and setting is a change')
    }),
  )
  writeTimeouts(memory, DEFAULT_TIMEOUTS)
  t.deepEqual(readTimeouts(memory), DEFAULT_TIMEOUTS)
})
