// SPDX-License-Identifier: Apache-2.0
// Checks of the configuration: somebody else makes them, and reports what they found.
import { formatDuration, parseDuration } from './duration.ts'
import { Refusal } from './refusal.ts'

export const EXPIRES_MAX_SECONDS = 86_400
export const CONSECUTIVE_MAX = 100
/** As what a backend counts of which nothing is known. */
export const INITIALS = ['up', 'down'] as const

export interface Check {
  name: string
  /** So long a report holds; left out: until the next one. */
  expiresMs?: number
  /** So many reports of `up`, one after another, make it up; and so many of `down` down. */
  rise: number
  fall: number
  initially: (typeof INITIALS)[number]
}

/** What a daemon knows of a backend with a check while it lives, and no longer. */
export interface Seen {
  /** When it was reported last; of one that was not, since when the daemon has this check for it. */
  lastMs: number
  /** How many reports, one after another, said this of it, which is not its state yet. */
  streak?: { state: 'up' | 'down'; count: number }
}

export const sameCheck = (a: Check | undefined, b: Check | undefined): boolean =>
  a === b ||
  (a?.name === b?.name &&
    a?.expiresMs === b?.expiresMs &&
    a?.rise === b?.rise &&
    a?.fall === b?.fall &&
    a?.initially === b?.initially)

/** @throws Refusal where it is no span of time, or one that no report may hold for */
export const expiresMs = (text: string): number => {
  const seconds = parseDuration('expires', text)
  if (seconds < 1 || seconds > EXPIRES_MAX_SECONDS) {
    const wrong = seconds < 1 ? 'is below 1s' : `exceeds ${formatDuration(EXPIRES_MAX_SECONDS)}`
    throw new Refusal(
      `expires of ${formatDuration(seconds)} ${wrong}`,
      `choose 1s to ${formatDuration(EXPIRES_MAX_SECONDS)}; left out: a report holds until the next one`,
      { usage: true },
    )
  }
  return 1000 * seconds
}

/** Of a backend whose reports have ended, or have not begun: why it counts as it does. */
export const NOT_REPORTED = 'not reported'

export const expiredText = (expiresMs: number): string => `${NOT_REPORTED} for ${expiresMs / 1000} s`
export const UNREPORTED_TEXT = `${NOT_REPORTED} yet`
