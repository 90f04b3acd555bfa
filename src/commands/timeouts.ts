// SPDX-License-Identifier: Apache-2.0
import { CONNECTION_STATES } from '../core/connection-states.ts'
import { formatDuration } from '../core/duration.ts'
import type { Timeouts } from '../core/timeouts.ts'
import { readTimeouts, writeTimeouts } from '../dataplane/timeouts.ts'
import { withSession } from '../shell/session.ts'
import { type GlobalOptions, makeContext } from './context.ts'
import { table } from './text.ts'

export interface TimeoutOptions extends GlobalOptions {
  halfOpen?: number
  adopted?: number
  established?: number
  closing?: number
  closed?: number
  udpOnce?: number
  udp?: number
}

const wantedOf = (options: TimeoutOptions): Partial<Timeouts> => {
  const { halfOpen, adopted, established, closing, closed, udpOnce, udp } = options
  const named = { 'half-open': halfOpen, adopted, established, closing, closed, 'udp-once': udpOnce, udp }
  return Object.fromEntries(Object.entries(named).filter(([, seconds]) => seconds !== undefined))
}

const render = (timeouts: Timeouts): string =>
  table([['STATE', 'TIMEOUT'], ...CONNECTION_STATES.map((state) => [state, formatDuration(timeouts[state])])]).join(
    '\n',
  )

/** Shows the timeouts, and sets those that are named first. */
export const runTimeouts = (options: TimeoutOptions): void => {
  const { native, paths, answer } = makeContext(options)
  const wanted = wantedOf(options)
  const { changed, timeouts } = withSession(native, paths, ({ plane }) => ({
    changed: writeTimeouts(plane, wanted),
    timeouts: readTimeouts(plane),
  }))
  answer({ changed, timeouts }, render(timeouts))
}
