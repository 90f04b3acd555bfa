// SPDX-License-Identifier: Apache-2.0
// Filters and rates in the file, and back.

import type { ServiceAddress } from '../core/address.ts'
import type { Service } from '../core/desired.ts'
import {
  type Filter,
  formatPrefix,
  PrefixCollector,
  parsePrefix,
  prefixAt,
  prefixCount,
  type Verdict,
} from '../core/prefixes.ts'
import { defaultSourceBits } from '../core/source-rate.ts'
import type { Faults } from './faults.ts'
import type { FilterEntry, ServiceEntry } from './schema.ts'
import type { Origin } from './services.ts'

/** @param origin of the filter itself */
export const filterOf = (
  entry: FilterEntry | undefined,
  { document, path }: Origin,
  faults: Faults,
): Filter | undefined => {
  if (entry === undefined) return undefined
  const collector = new PrefixCollector()
  const places: [Verdict, number][] = []
  for (const verdict of ['allow', 'deny'] as const) {
    for (const [i, text] of entry[verdict].entries()) {
      // What was no text is a fault already.
      if (text === undefined) continue
      try {
        collector.add(parsePrefix(text), verdict)
        places.push([verdict, i])
      } catch (error) {
        faults.addRefusal(document, [...path, verdict, i], error)
      }
    }
  }
  const [first, second] = collector.contradiction()?.map((each) => places[each]) ?? []
  if (first !== undefined && second !== undefined) {
    const what = `says of a prefix the opposite of ${first[0]}[${first[1]}]`
    faults.add(document, [...path, ...second], what, 'keep one of the two')
  }
  const filter: Filter = { fallback: entry.default, prefixes: collector.list() }
  return filter.fallback === 'allow' && filter.prefixes.length === 0 ? undefined : filter
}

/** What a service asks of sources. */
export const askedOf = (
  entry: ServiceEntry,
  service: ServiceAddress,
  { document, path }: Origin,
  faults: Faults,
): Pick<Service, 'filter' | 'sourceRate'> => {
  const filter = filterOf(entry.filter, { document, path: [...path, 'filter'] }, faults)
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
