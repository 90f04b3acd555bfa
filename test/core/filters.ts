// SPDX-License-Identifier: Apache-2.0
// Random filters and rates, of few prefixes.
import fc from 'fast-check'
import { type Filter, OPEN, PrefixCollector, parsePrefix, type Verdict } from '../../src/core/prefixes.ts'
import type { SourceRate } from '../../src/core/source-rate.ts'

const PREFIXES = [
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.1.0.0/16',
  '10.1.2.3',
  '192.0.2.0/24',
  '::/0',
  '2001:db8::/32',
  '2001:db8::7',
]

const verdict = fc.constantFrom<Verdict>('allow', 'deny')

/** One that asks for something. */
export const filter: fc.Arbitrary<Filter> = fc
  .tuple(verdict, fc.subarray(PREFIXES), fc.array(verdict, { minLength: 8, maxLength: 8 }))
  .map(([fallback, texts, verdicts]) => {
    const collector = new PrefixCollector()
    for (const [i, text] of texts.entries()) collector.add(parsePrefix(text), verdicts[i] ?? 'deny')
    return { fallback, prefixes: collector.list() }
  })
  .filter(({ fallback, prefixes }) => fallback !== OPEN.fallback || prefixes.length > 0)

export const sourceRate: fc.Arbitrary<SourceRate> = fc.record(
  {
    rate: fc.constantFrom(1, 50),
    burst: fc.constantFrom(1, 50, 1000),
    bits: fc.constantFrom(24, 32),
  },
  { noNullPrototype: true },
)
