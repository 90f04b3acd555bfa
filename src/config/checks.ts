// SPDX-License-Identifier: Apache-2.0
// What a file says of checks, and which of them is meant where one is named.
import { type Check, expiresMs } from '../core/check.ts'
import { Refusal } from '../core/refusal.ts'
import { mostSimilar } from '../core/similar.ts'
import { NO_CHECK } from './check-schema.ts'
import type { Document } from './document.ts'
import type { Faults } from './faults.ts'
import type { ConfigFile, Defaults } from './schema.ts'

/** By name; undefined: it is there, and could not be read. */
export type Checks = ReadonlyMap<string, Check | undefined>

/** @param document in which they stand */
export const checksOf = (
  entries: ConfigFile['checks'] | undefined,
  { rise = 1, fall = 1 }: Pick<Defaults, 'rise' | 'fall'>,
  document: Document,
  faults: Faults,
): Checks => {
  const checks = new Map<string, Check | undefined>()
  for (const [name, entry] of Object.entries(entries ?? {})) {
    // Of one that is faulty only its name counts.
    if (entry === undefined) {
      checks.set(name, undefined)
      continue
    }
    const { expires, initially } = entry
    const holdsMs =
      expires === undefined
        ? undefined
        : faults.collect(document, ['checks', name, 'expires'], () => expiresMs(expires))
    checks.set(name, {
      name,
      ...(holdsMs === undefined ? {} : { expiresMs: holdsMs }),
      rise: entry.rise ?? rise,
      fall: entry.fall ?? fall,
      initially,
    })
  }
  return checks
}

/**
 * The check that is meant; undefined: none, or it could not be read.
 *
 * @throws Refusal where there is none of that name
 */
export const checkNamed = (name: string, checks: Checks): Check | undefined => {
  if (name === NO_CHECK || checks.has(name)) return checks.get(name)
  const names = [...checks.keys()]
  const meant = mostSimilar(name, [...names, NO_CHECK])
  const others =
    names.length === 0 ? 'add it to checks, or leave it out' : `write one of: ${names.slice(0, 8).join(', ')}`
  throw new Refusal(
    `there is no check '${name.length > 60 ? `${name.slice(0, 60)}...` : name}'`,
    meant === undefined ? others : `write ${meant}`,
    { usage: true },
  )
}
