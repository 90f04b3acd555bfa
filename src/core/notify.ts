// SPDX-License-Identifier: Apache-2.0
// A command of people's own that is run for what happens, and how it is told.
import type { Event } from './backend-state.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { Refusal } from './refusal.ts'

/** What is run when something happens. */
export interface Notify {
  /** The program, and its arguments. */
  command: readonly string[]
  user: string
  timeoutMs: number
}

export const NOTIFY_SECONDS_MAX = 600

/** @throws Refusal */
export const notifySeconds = (text: string): number => {
  const seconds = parseDuration('timeout', text)
  if (seconds >= 1 && seconds <= NOTIFY_SECONDS_MAX) return seconds
  const most = formatDuration(NOTIFY_SECONDS_MAX)
  throw new Refusal(`timeout '${text}': is not within 1s and ${most}`, `choose 1s to ${most}`, { usage: true })
}

/** As one line of JSON. */
export const eventLine = (event: Event): string => `${JSON.stringify(event)}\n`

/** What a variable holds of a long text: exec(2) takes 128 KiB of one. */
const VARIABLE_MAX = 4096

const text = (value: unknown): string => String(value).slice(0, VARIABLE_MAX).replaceAll('\0', ' ')

/** As variables of an environment: XLB_KIND, XLB_SUBJECT... A NUL would end one early. */
export const eventVariables = (event: Event): Record<string, string> =>
  Object.fromEntries(Object.entries(event).map(([key, value]) => [`XLB_${key.toUpperCase()}`, text(value)]))
