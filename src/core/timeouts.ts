// SPDX-License-Identifier: Apache-2.0
// How long an entry of the flow table lasts without a packet, by its state; and what is remembered of a destination.
import { CONNECTION_STATES } from './connection-states.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { Refusal } from './refusal.ts'

/** What ends: entries, by state; and what lblc and lblcr remember of a destination. */
export const TIMEOUT_NAMES = [...CONNECTION_STATES, 'destination'] as const
export type TimeoutName = (typeof TIMEOUT_NAMES)[number]

/** Whole seconds. */
export type Timeouts = Record<TimeoutName, number>

/**
 * IPVS's (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_timeouts; ip_vs_proto_udp.c, udp_timeouts; the sysctls lblc_expiration and
 * lblcr_expiration).
 */
export const DEFAULT_TIMEOUTS: Timeouts = {
  'half-open': 60,
  adopted: 60,
  established: 900,
  closing: 120,
  closed: 10,
  'udp-once': 300,
  udp: 300,
  destination: 86_400,
}

/**
 * An entry tells its age in 12 bits of about a second; half of them are for entries that have expired, and that nobody has noticed.
 * With the shortest unit that a kernel's HZ makes (0.85 s) this is within 2,047 of them.
 */
export const TIMEOUT_MAX_SECONDS = 1740

/** The note of a destination tells its ages in 24 bits: this is less than half of them. */
export const DESTINATION_TIMEOUT_MAX_SECONDS = 30 * 86_400

/**
 * A timeout as an option or a file has it: whole seconds, or 90s, 10m.
 *
 * @param name for the words of a refusal
 */
export const parseTimeout = (name: string, text: string, of: TimeoutName = 'established'): number => {
  const seconds = parseDuration(name, text)
  if (of === 'destination') {
    if (seconds >= 1 && seconds <= DESTINATION_TIMEOUT_MAX_SECONDS) return seconds
    const greatest = formatDuration(DESTINATION_TIMEOUT_MAX_SECONDS)
    throw new Refusal(`${name} '${text}': is not within 1s and ${greatest}`, `choose 1s to ${greatest}`, {
      usage: true,
    })
  }
  if (seconds < 1 || seconds > TIMEOUT_MAX_SECONDS) {
    throw new Refusal(
      `${name} '${text}': is not within 1s and ${formatDuration(TIMEOUT_MAX_SECONDS)}: an entry's age has 12 bits`,
      `choose 1s to ${formatDuration(TIMEOUT_MAX_SECONDS)}; let clients that are idle for longer send keepalives`,
      { usage: true },
    )
  }
  return seconds
}

/** Those that are not as they were. */
export const changedTimeouts = (before: Timeouts, after: Partial<Timeouts>): TimeoutName[] =>
  TIMEOUT_NAMES.filter((name) => after[name] !== undefined && after[name] !== before[name])
