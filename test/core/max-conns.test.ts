// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { formatMaxConns, parseMaxConns, reopensAt } from '../../src/core/max-conns.ts'
import { Refusal } from '../../src/core/refusal.ts'

for (const [text, upper, lower, reopens] of [
  ['1', 1, 0, 1],
  ['4', 4, 0, 3],
  ['5', 5, 0, 4],
  ['1000', 1000, 0, 750],
  ['1000:800', 1000, 800, 800],
  ['7:7', 7, 7, 7],
  ['2147483647', 2147483647, 0, 1610612736],
] as const) {
  test(`${text} is full with ${upper}, takes flows again below ${reopens}, and goes to text and back`, (t) => {
    const limit = parseMaxConns('--max-conns', text)
    if (limit === 'none') return t.fail()
    t.deepEqual(limit, { upper, lower })
    t.is(reopensAt(limit), reopens)
    t.is(formatMaxConns(limit), text)
  })
}

test('none takes a limit away', (t) => {
  t.is(parseMaxConns('--max-conns', 'none'), 'none')
})

for (const text of ['', '0', '-1', '1.5', 'all', '2147483648', '10:', ':10', '10:11', '10:0', '10:5:1']) {
  test(`'${text}' is refused with what is wrong`, (t) => {
    const error = t.throws(() => parseMaxConns('--max-conns', text), { instanceOf: Refusal })
    t.true(error?.message.includes(`'${text}'`))
    t.true(error?.usage)
  })
}
