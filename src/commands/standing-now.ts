// SPDX-License-Identifier: Apache-2.0
// Where a backend stands now, for whoever shows it: of what is in the maps, and of what a daemon knows besides.
import type { Health } from '../core/health.ts'
import { AT_ONCE, type Standing, standing } from '../core/standing.ts'
import { inputsOf, type Told } from '../core/told.ts'
import type { LiveBackend } from '../dataplane/backend-records.ts'
import type { Context } from './context.ts'

/** Without a daemon the maps hold what one made of checks, agents and time together. */
const toldBy = (health: Health | undefined): Told =>
  health === undefined
    ? {}
    : {
        check: { state: health.alive ? 'up' : 'down', sinceMs: health.sinceMs },
        agent: { state: 'up', percent: health.percent, sinceMs: health.sinceMs },
      }

/** Times that nobody knows are NaN. */
export const standingNow = (
  service: string,
  { want, sinceMs }: LiveBackend,
  daemon: Context['daemon'],
  nowMs: number,
): Standing => {
  const { told, policy, seenMs } = daemon?.told(service, want.address) ?? {
    told: toldBy(want.health),
    policy: AT_ONCE,
    seenMs: nowMs,
  }
  const unreached = daemon?.unreached(want.address)
  return standing(inputsOf(want, told, policy, { sinceMs, unreached, seenMs }), nowMs)
}
