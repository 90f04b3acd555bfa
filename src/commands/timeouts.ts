// SPDX-License-Identifier: Apache-2.0
import { formatDuration } from '../core/duration.ts'
import { TIMEOUT_NAMES, type Timeouts } from '../core/timeouts.ts'
import { readTimeouts, writeTimeouts } from '../dataplane/timeouts.ts'
import type { Context, GlobalOptions } from './context.ts'
import { table } from './text.ts'

export interface TimeoutOptions extends GlobalOptions {
  halfOpen?: number
  adopted?: number
  established?: number
  closing?: number
  closed?: number
  udpOnce?: number
  udp?: number
  destination?: number
}

const wantedOf = (options: TimeoutOptions): Partial<Timeouts> => {
  const { halfOpen, adopted, established, closing, closed, udpOnce, udp, destination } = options
  const named = { 'half-open': halfOpen, adopted, established, closing, closed, 'udp-once': udpOnce, udp, destination }
  return Object.fromEntries(Object.entries(named).filter(([, seconds]) => seconds !== undefined))
}

const render = (timeouts: Timeouts): string =>
  table([['STATE', 'TIMEOUT'], ...TIMEOUT_NAMES.map((name) => [name, formatDuration(timeouts[name])])]).join('\n')

/** Shows the timeouts, and sets those that are named first. */
export const runTimeouts = (context: Context, options: TimeoutOptions): void => {
  const wanted = wantedOf(options)
  const { changed, timeouts } = context.session(({ plane }) => ({
    changed: writeTimeouts(plane, wanted),
    timeouts: readTimeouts(plane),
  }))
  context.answer({ changed, timeouts }, render(timeouts))
}
