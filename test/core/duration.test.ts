// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { formatDuration, parseDuration } from '../../src/core/duration.ts'
import { Refusal } from '../../src/core/refusal.ts'

for (const [text, seconds] of [
  ['0', 0],
  ['90', 90],
  ['90s', 90],
  ['10m', 600],
  ['1h30m', 5400],
  ['1d', 86400],
  ['1d2h3m4s', 93784],
  ['2h5', 7205],
] as const) {
  test(`${text} is ${seconds} seconds`, (t) => t.is(parseDuration('--deadline', text), seconds))
}

for (const text of ['', ' ', 's', '-1s', '1.5m', '1 m', '10min', '5s3m', '1e3', '١s', '10m\n']) {
  test(`${JSON.stringify(text)} is no span of time`, (t) => {
    const error = t.throws(() => parseDuration('--deadline', text), { instanceOf: Refusal, message: /--deadline '/ })
    t.true(error?.usage)
    t.regex(error?.mend ?? '', /such as 90s, 10m or 1h30m/)
  })
}

test('what is written is read as the same seconds, each unit at most once and none of them 0', (t) => {
  fc.assert(fc.property(fc.nat(10 ** 9), (seconds) => parseDuration('x', formatDuration(seconds)) === seconds))
  t.is(formatDuration(552.9), '9m12s')
  t.is(formatDuration(-3), '0s')
  t.is(formatDuration(3600), '1h')
})
