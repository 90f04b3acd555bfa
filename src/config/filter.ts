// SPDX-License-Identifier: Apache-2.0
// Filters and rates in the file, and back.

import type { ServiceAddress } from '../core/address.ts'
import type { Service } from '../core/desired.ts'
import { type Filter, formatPrefix, PrefixCollector, parsePrefix, prefixAt, prefixCount } from '../core/prefixes.ts'
import { Refusal } from '../core/refusal.ts'
import { defaultSourceBits } from '../core/source-rate.ts'
import type { FilterEntry, ServiceEntry } from './schema.ts'

/** @param where the filter's place in the file */
export const filterOf = (entry: FilterEntry | undefined, where: string, faults: string[]): Filter | undefined => {
  if (entry === undefined) return undefined
  const collector = new PrefixCollector()
  const places: string[] = []
  for (const verdict of ['allow', 'deny'] as const) {
    for (const [i, text] of entry[verdict].entries()) {
      try {
        collector.add(parsePrefix(text), verdict)
        places.push(`${verdict}[${i}]`)
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        faults.push(`${where}.${verdict}[${i}]: ${error.message}; ${error.mend}`)
      }
    }
  }
  const contradiction = collector.contradiction()
  if (contradiction !== undefined) {
    const [first, second] = contradiction.map((each) => places[each])
    faults.push(`${where}.${second}: says of a prefix the opposite of ${first}; keep one of the two`)
  }
  const filter: Filter = { fallback: entry.default, prefixes: collector.list() }
  return filter.fallback === 'allow' && filter.prefixes.length === 0 ? undefined : filter
}

/** What a service asks of sources. */
export const askedOf = (
  entry: ServiceEntry,
  service: ServiceAddress,
  where: string,
  faults: string[],
): Pick<Service, 'filter' | 'sourceRate'> => {
  const filter = filterOf(entry.filter, `${where}.filter`, faults)
  const rate = entry['source-rate']
  return {
    ...(filter === undefined ? {} : { filter }),
    ...(rate === undefined
      ? {}
      : {
          sourceRate: {
            rate: rate.rate,
            burst: rate.burst ?? rate.rate,
            bits: rate.prefix ?? defaultSourceBits(service),
          },
        }),
  }
}

const filterEntry = ({ fallback, prefixes }: Filter): Partial<FilterEntry> => {
  const texts = { allow: [] as string[], deny: [] as string[] }
  for (let i = 0; i < prefixCount(prefixes); i++) {
    const prefix = prefixAt(prefixes, i)
    texts[prefix.verdict].push(formatPrefix(prefix))
  }
  return {
    default: fallback,
    ...(texts.allow.length > 0 ? { allow: texts.allow } : {}),
    ...(texts.deny.length > 0 ? { deny: texts.deny } : {}),
  }
}

/** The keys of a service, or of the whole file, that say it. */
export const askedEntry = ({ filter, sourceRate }: Pick<Service, 'filter' | 'sourceRate'>) => ({
  ...(filter === undefined ? {} : { filter: filterEntry(filter) }),
  ...(sourceRate === undefined
    ? {}
    : { 'source-rate': { rate: sourceRate.rate, burst: sourceRate.burst, prefix: sourceRate.bits } }),
})
