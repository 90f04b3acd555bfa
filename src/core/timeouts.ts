// SPDX-License-Identifier: Apache-2.0
// How long an entry of the flow table lasts without a packet, by its state.
import { CONNECTION_STATES, type ConnectionState } from './connection-states.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { Refusal } from './refusal.ts'

/** Whole seconds, by state. */
export type Timeouts = Record<ConnectionState, number>

/** IPVS's (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_timeouts; ip_vs_proto_udp.c, udp_timeouts). */
export const DEFAULT_TIMEOUTS: Timeouts = {
  'half-open': 60,
  adopted: 60,
  established: 900,
  closing: 120,
  closed: 10,
  'udp-once': 300,
  udp: 300,
}

/**
 * An entry tells its age in 12 bits of about a second; half of them are for entries that have expired, and that nobody has noticed.
 * With the shortest unit that a kernel's HZ makes (0.85 s) this is within 2,047 of them.
 */
export const TIMEOUT_MAX_SECONDS = 1740

/** A timeout as an option or a file has it: whole seconds, or 90s, 10m. @param name for the words of a refusal */
export const parseTimeout = (name: string, text: string): number => {
  const seconds = parseDuration(name, text)
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
export const changedTimeouts = (before: Timeouts, after: Partial<Timeouts>): ConnectionState[] =>
  CONNECTION_STATES.filter((state) => after[state] !== undefined && after[state] !== before[state])
