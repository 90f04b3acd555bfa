// SPDX-License-Identifier: Apache-2.0
// What a reload of the configuration has changed, and how it went; and what was mended, in the words of events.
import { plural } from '../commands/text.ts'
import type { Happening } from '../core/backend-state.ts'
import type { Edit } from '../dataplane/guard.ts'
import type { Changed } from '../shell/session.ts'

export interface Reloading extends Changed {
  /** Services of which the configuration says otherwise how their backends come back. */
  policies: string[]
}

export const changedWords = ({ services, globals, policies }: Reloading): string =>
  [
    `${plural(services.length, 'service')}${globals ? ', and what holds for all,' : ''} changed`,
    ...(policies.length === 0 ? [] : [`how backends come back: of ${plural(policies.length, 'service')}`]),
  ].join('; ')

/** How the last reload went. */
export interface Reloaded {
  at: number
  error?: string
  /** When one was last applied; 0: never. */
  succeededAt: number
  /** That the last one took, applied or not. */
  tookMs: number
}

/** @param error why it was refused; undefined: it was not */
export const reloadedSince = (
  before: Reloaded,
  startedMs: number,
  at: number,
  error: string | undefined,
): Reloaded => ({
  at,
  succeededAt: error === undefined ? at : before.succeededAt,
  tookMs: at - startedMs,
  ...(error === undefined ? {} : { error }),
})

export const mended = ({ subject, map, octets }: Edit): Happening => ({
  kind: 'maps',
  subject,
  to: 'mended',
  reason: `${octets} octets of ${map} were changed behind the daemon's back`,
})
