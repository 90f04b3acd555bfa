// SPDX-License-Identifier: Apache-2.0
// Filters for the sources of random frames, 10.0.0.0 to 10.0.1.23, and what they say of an address.
import { type DesiredState, existing, type Service } from '../../src/core/desired.ts'
import { withFilter } from '../../src/core/filter.ts'
import { AF } from '../../src/core/ip.ts'
import { type Filter, longestMatch, OPEN, PrefixCollector, parseAddress, prefixAt } from '../../src/core/prefixes.ts'
import type { Random } from './random.ts'

export const randomFilter = (random: Random): Filter => {
  if (random.once(2)) return OPEN
  const collector = new PrefixCollector()
  for (let count = random.below(6); count > 0; count--) {
    const bits = random.pick([0, 8, 23, 24, 28, 29, 30, 31, 32, 32])
    const address = (0x0a000000 | (random.below(2) << 8) | random.below(24)) >>> 0
    const word = bits === 0 ? 0 : (address & (-1 << (32 - bits))) >>> 0
    collector.add({ family: AF.ipv4, words: [word, 0, 0, 0], bits }, random.once(2) ? 'allow' : 'deny')
  }
  return { fallback: random.once(4) ? 'deny' : 'allow', prefixes: collector.list() }
}

export const withRandomFilter = (random: Random, state: DesiredState, name: string): DesiredState =>
  withFilter(state, existing(state, state.get(name) as Service), () => randomFilter(random))

/** By going through the list. */
export const isDenied = (filter: Filter | undefined, source: string): boolean => {
  const address = parseAddress(source)
  if (filter === undefined || address === undefined) return false
  const match = longestMatch(filter.prefixes, address)
  return (match < 0 ? filter.fallback : prefixAt(filter.prefixes, match).verdict) === 'deny'
}
