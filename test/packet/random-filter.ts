// SPDX-License-Identifier: Apache-2.0
// Filters for the sources of random frames, 10.0.0.0 to 10.0.1.23 and 2001:db8:c0::1 to 2001:db8:c1::24, and what they say of an
// address.
import type { DesiredState, Service } from '../../src/core/desired.ts'
import { withFilter } from '../../src/core/filter.ts'
import { AF } from '../../src/core/ip.ts'
import {
  type Filter,
  longestMatch,
  OPEN,
  type Prefix,
  PrefixCollector,
  parseAddress,
  prefixAt,
} from '../../src/core/prefixes.ts'
import { existing } from '../../src/core/verbs.ts'
import type { Random } from './random.ts'

const cut = (word: number, bits: number): number => (bits <= 0 ? 0 : (word & (-1 << Math.max(0, 32 - bits))) >>> 0)

const prefix4 = (random: Random): Prefix => {
  const bits = random.pick([0, 8, 23, 24, 28, 29, 30, 31, 32, 32])
  const address = (0x0a000000 | (random.below(2) << 8) | random.below(24)) >>> 0
  return { family: AF.ipv4, words: [cut(address, bits), 0, 0, 0], bits }
}

const prefix6 = (random: Random): Prefix => {
  const bits = random.pick([0, 32, 47, 48, 64, 120, 122, 124, 126, 127, 128, 128])
  // As `${1 + random.below(24)}` reads in hexadecimal.
  const last = Number.parseInt(`${1 + random.below(24)}`, 16)
  const words = [0x20010db8, 0x00c00000 + random.below(2) * 0x10000, 0, last].map((word, i) => cut(word, bits - 32 * i))
  return { family: AF.ipv6, words: [words[0] ?? 0, words[1] ?? 0, words[2] ?? 0, words[3] ?? 0], bits }
}

export const randomFilter = (random: Random): Filter => {
  if (random.once(2)) return OPEN
  const collector = new PrefixCollector()
  for (let count = random.below(6); count > 0; count--) {
    const prefix = (random.once(2) ? prefix4 : prefix6)(random)
    collector.add(prefix, random.once(2) ? 'allow' : 'deny')
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
