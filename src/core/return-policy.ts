// SPDX-License-Identifier: Apache-2.0
// What a configuration says of how backends come back, and are checked, in its own units.
import { sameCheck } from './check.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { Refusal } from './refusal.ts'
import { AT_ONCE, type ReturnPolicy } from './standing.ts'

export const HOLD_MAX_SECONDS = 3600
export const SLOW_START_MAX_SECONDS = 3600

/** By a service's name; one that is not in it has AT_ONCE. */
export type Policies = ReadonlyMap<string, ReturnPolicy>

/** @throws Refusal where it is no span of time, or too long a one */
const secondsOf = (key: string, text: string, most: number): number => {
  const seconds = parseDuration(key, text)
  if (seconds > most) {
    throw new Refusal(
      `${key} of ${formatDuration(seconds)} exceeds ${formatDuration(most)}`,
      `choose 0s to ${formatDuration(most)}`,
      { usage: true },
    )
  }
  return seconds
}

/** @throws Refusal */
export const holdMs = (text: string): number => 1000 * secondsOf('rejoin-hold', text, HOLD_MAX_SECONDS)

/** @throws Refusal */
export const slowStartMs = (text: string): number => 1000 * secondsOf('slow-start', text, SLOW_START_MAX_SECONDS)

export const samePolicy = (a: ReturnPolicy = AT_ONCE, b: ReturnPolicy = AT_ONCE): boolean =>
  a.holdMs === b.holdMs &&
  a.slowStartMs === b.slowStartMs &&
  a.slowStartPercent === b.slowStartPercent &&
  sameCheck(a.check, b.check)

/** Services of which the two say something else. */
export const changedPolicies = (a: Policies, b: Policies): string[] =>
  [...new Set([...a.keys(), ...b.keys()])].filter((name) => !samePolicy(a.get(name), b.get(name)))
