// SPDX-License-Identifier: Apache-2.0
// Sizes of the tables, which attaching fixes: what may be asked for, and what there is unless it is said.
import { FilterLimit } from '../dataplane/layout.gen.ts'

export interface Range {
  least: number
  most: number
  fallback: number
}

export const CAPACITY = {
  services: { least: 1, most: 32_768, fallback: 1024 },
  backends: { least: 1, most: 262_144, fallback: 8192 },
  flows: { least: 1024, most: 2 ** 24, fallback: 2 ** 21 },
  flows6: { least: 1024, most: 2 ** 23, fallback: 2 ** 19 },
  prefixFlows6: { least: 1024, most: 2 ** 23, fallback: 2 ** 16 },
  prefixes: { least: 1, most: FilterLimit.FILTER_BOUNDS_MAX / 2, fallback: 2 ** 17 },
  clients: { least: 1024, most: 2 ** 24, fallback: 2 ** 18 },
  destinations: { least: 1024, most: 2 ** 24, fallback: 2 ** 16 },
} as const satisfies Record<string, Range>

/** What a configuration file calls such a size, and the command line after its dashes. */
export const capacityKey = (name: string): string => (name === 'prefixFlows6' ? 'prefix-flows6' : name)

/** New tracked flows that a CPU may record in a second; the most is a bound that is none: in one unit of age it fits 32 bits. */
export const NEW_FLOWS: Range = { least: 1, most: 2 ** 30, fallback: 250_000 }
