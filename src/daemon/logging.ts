// SPDX-License-Identifier: Apache-2.0
// One event a line, as JSON, on standard output: for journald, and for whoever reads it at night.
import pino, { type Logger } from 'pino'
import type { Happening } from '../core/backend-state.ts'

export type { Logger }

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

export const makeLogger = (instance: string, level: string): Logger =>
  pino({
    level,
    base: { instance },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  })

/** States that nobody asked for, or that are otherwise than asked for. */
const WORRYING = /^(no-mac|down|missing|refused|unreadable|mended|warning|kept|pending|attached again)/

export const sentence = ({ kind, subject, backend, from, to, reason }: Happening): string => {
  const what = backend === undefined ? `${kind} ${subject}` : `backend ${backend} of ${subject}`
  return `${what}: ${from === undefined ? '' : `${from} -> `}${to}: ${reason}`
}

export const logHappening = (log: Logger, happening: Happening): void => {
  log[WORRYING.test(happening.to) ? 'warn' : 'info'](happening, sentence(happening))
}
