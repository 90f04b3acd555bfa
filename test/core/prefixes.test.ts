// SPDX-License-Identifier: Apache-2.0
// Prefixes as people write them, in lists, and as the addresses at which the answer changes.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { changesOf } from '../../src/core/bounds.ts'
import { addPrefixes, filterText, parseFilterFile, removePrefixes } from '../../src/core/filter.ts'
import { AF } from '../../src/core/ip.ts'
import {
  type Address,
  bitsOf,
  countVerdicts,
  findPrefix,
  formatPrefix,
  longestMatch,
  OPEN,
  type Prefix,
  PrefixCollector,
  parsePrefix,
  prefixAt,
  prefixCount,
  type Verdict,
  wordMask,
} from '../../src/core/prefixes.ts'
import { Refusal } from '../../src/core/refusal.ts'

const refusalOf = (run: () => unknown): Refusal => {
  try {
    run()
  } catch (error) {
    if (error instanceof Refusal) return error
    throw error
  }
  throw new Error('not refused')
}

test('prefixes are written back as they are read', (t) => {
  for (const text of ['192.0.2.0/24', '0.0.0.0/0', '192.0.2.7/32', '2001:db8::/32', '::/0', '2001:db8::1/128']) {
    t.is(formatPrefix(parsePrefix(text)), text)
  }
  t.is(formatPrefix(parsePrefix('192.0.2.7')), '192.0.2.7/32')
  t.is(formatPrefix(parsePrefix('2001:DB8:0:0::1')), '2001:db8::1/128')
})

test('bits beyond the length are refused, with what is meant', (t) => {
  const wrong = refusalOf(() => parsePrefix('192.0.2.77/24'))
  t.is(wrong.message, "prefix '192.0.2.77/24': its address has bits beyond its length of 24")
  t.is(wrong.mend, 'write 192.0.2.0/24, or 192.0.2.77 for that address alone')
  t.is(
    refusalOf(() => parsePrefix('2001:db8:1:2::1/63')).mend,
    'write 2001:db8:1:2::/63, or 2001:db8:1:2::1 for that address alone',
  )
  t.is(refusalOf(() => parsePrefix('1.2.3.4/0')).mend, 'write 0.0.0.0/0, or 1.2.3.4 for that address alone')
})

test('what is no prefix is refused', (t) => {
  for (const text of [
    '',
    'x',
    '192.0.2',
    '192.0.2.0/',
    '192.0.2.0/33',
    '192.0.2.0/-1',
    '192.0.2.0/2x',
    '::/129',
    '/24',
    '1.2.3.4/24/8',
  ]) {
    t.regex(refusalOf(() => parsePrefix(text)).message, /^prefix '/, text)
  }
  t.is(refusalOf(() => parsePrefix('::ffff:192.0.2.1')).mend, 'write 192.0.2.1')
})

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 })
/** Few addresses, near each other: so prefixes are often equal, nested, or side by side. */
const near = fc.constantFrom(0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff)
const words = fc.tuple(fc.oneof(near, word), near, near, fc.oneof(near, word))
const familyNumber = fc.constantFrom(AF.ipv4, AF.ipv6)

const address: fc.Arbitrary<Address> = fc
  .tuple(familyNumber, words)
  .map(([family, [a, b, c, d]]) => ({ family, words: family === AF.ipv4 ? [a, 0, 0, 0] : [a, b, c, d] }))

const prefix: fc.Arbitrary<Prefix> = fc
  .tuple(address, fc.integer({ min: 0, max: 128 }))
  .map(([{ family, words }, length]) => {
    const bits = length % (bitsOf(family) + 1)
    const [a, b, c, d] = words.map((each, i) => (each & wordMask(bits, i)) >>> 0)
    return { family, words: [a ?? 0, b ?? 0, c ?? 0, d ?? 0], bits }
  })

const verdict = fc.constantFrom<Verdict>('allow', 'deny')
const entries = fc.array(fc.tuple(prefix, verdict), { maxLength: 24 })

const numberOf = ({ family, words }: Address): bigint =>
  family === AF.ipv4 ? BigInt(words[0]) : words.reduce((sum, each) => (sum << 32n) | BigInt(each), 0n)

test('as often as the answer changes at or below an address, so it is that of the longest prefix', (t) => {
  fc.assert(
    fc.property(entries, verdict, fc.array(address, { maxLength: 12 }), (given, fallback, asked) => {
      const collector = new PrefixCollector()
      for (const [each, says] of given) collector.add(each, says)
      const list = collector.list()
      const changes = { [AF.ipv4]: changesOf(list, AF.ipv4, fallback), [AF.ipv6]: changesOf(list, AF.ipv6, fallback) }
      for (const family of [AF.ipv4, AF.ipv6] as const) {
        const bounds = changes[family]
        assert(bounds.every((bound, i) => i === 0 || bound > (bounds[i - 1] ?? 0n)))
        assert(bounds.length <= 2 * given.length && bounds.every((bound) => bound < 1n << BigInt(bitsOf(family))))
      }
      for (const each of [...asked, ...given.map(([{ family, words }]): Address => ({ family, words }))]) {
        const passed = changes[each.family].filter((bound) => bound <= numberOf(each)).length
        const match = longestMatch(list, each)
        const wanted = match < 0 ? fallback : prefixAt(list, match).verdict
        assert.equal(passed % 2 === 0 ? fallback : fallback === 'deny' ? 'allow' : 'deny', wanted)
      }
    }),
    { numRuns: 400 },
  )
  t.pass()
})

test('a list is sorted, has each prefix once, and finds it', (t) => {
  fc.assert(
    fc.property(entries, prefix, (given, other) => {
      const collector = new PrefixCollector()
      const last = new Map<string, Verdict>()
      for (const [each, says] of given) {
        collector.add(each, says)
        last.set(formatPrefix(each), says)
      }
      const list = collector.list()
      assert.equal(prefixCount(list), last.size)
      for (let i = 0; i < prefixCount(list); i++) {
        const each = prefixAt(list, i)
        assert.equal(last.get(formatPrefix(each)), each.verdict)
        assert.equal(findPrefix(list, each), i)
      }
      assert.equal(findPrefix(list, other) >= 0, last.has(formatPrefix(other)))
      const { allow, deny } = countVerdicts(list)
      assert.equal(allow + deny, last.size)
      const again = new PrefixCollector()
      again.addAll(list)
      assert.deepEqual(again.list(), list)
    }),
    { numRuns: 200 },
  )
  t.pass()
})

test('what is added and removed again leaves the list as it was', (t) => {
  const one = addPrefixes(undefined, 'deny', ['192.0.2.0/24', '2001:db8::/32'].map(parsePrefix))
  t.is(filterText(one), '0 allow, 2 deny, default allow')
  const two = addPrefixes(one, 'allow', [parsePrefix('192.0.2.7')])
  t.deepEqual(removePrefixes(two, [parsePrefix('192.0.2.7')]), one)
  t.deepEqual(addPrefixes(two, 'allow', [parsePrefix('192.0.2.7/32')]), two)
  t.regex(
    refusalOf(() => addPrefixes(two, 'allow', [parsePrefix('192.0.2.0/24')])).message,
    /is there already, to deny/,
  )
  t.regex(refusalOf(() => removePrefixes(two, [parsePrefix('192.0.2.8')])).message, /192.0.2.8\/32: is not in the list/)
  t.deepEqual(removePrefixes(one, ['192.0.2.0/24', '2001:db8::/32'].map(parsePrefix)), OPEN)
})

test('a file has a verdict and a prefix in each line, comments, and a default', (t) => {
  const file =
    '# who\n\ndeny 192.0.2.0/24 # why\n  allow\t192.0.2.7  \ndefault deny\ndeny 192.0.2.0/24\ndeny 2001:db8::/32 ; so\r\n'
  const { fallback, prefixes } = parseFilterFile('list', file)
  t.is(fallback, 'deny')
  t.deepEqual(
    Array.from({ length: prefixCount(prefixes) }, (_, i) => formatPrefix(prefixAt(prefixes, i))),
    ['192.0.2.0/24', '192.0.2.7/32', '2001:db8::/32'],
  )
  t.is(
    filterText(parseFilterFile('list', '192.0.2.1\n192.0.2.2\nallow 192.0.2.3', 'deny')),
    '1 allow, 2 deny, default allow',
  )
})

test('every wrong line of a file is named', (t) => {
  const file =
    'deny 192.0.2.1/24\n192.0.2.7\ndeny\nallow 10.0.0.0/8 x\nrefuse 10.0.0.0/8\ndefault maybe\ndeny 10.0.0.0/8'
  const wrong = refusalOf(() => parseFilterFile('list', file))
  for (const line of [1, 2, 3, 4, 5, 6]) t.regex(wrong.message, new RegExp(`line ${line}: `))
  t.notRegex(wrong.message, /line 7/)
  t.regex(wrong.message, /line 1: .*write 192.0.2.0\/24/)
  const contrary = refusalOf(() => parseFilterFile('list', 'deny 10.0.0.0/8\n\nallow 10.0.0.0/8'))
  t.regex(contrary.message, /line 3: says of a prefix the opposite of line 1/)
  t.regex(
    refusalOf(() => parseFilterFile('list', 'default deny\ndefault deny')).message,
    /line 2: the default is there twice/,
  )
})
