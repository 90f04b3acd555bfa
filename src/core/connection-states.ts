// SPDX-License-Identifier: Apache-2.0
// What the states of flow entries (enum flow_state of bpf/xlb.h) are called when people are told of them.

/** In the order of the enum, from FLOW_HALF_OPEN. */
export const CONNECTION_STATES = [
  'half-open',
  'adopted',
  'established',
  'closing',
  'closed',
  'udp-once',
  'udp',
] as const
export type ConnectionState = (typeof CONNECTION_STATES)[number]

/** By enum flow_state; undefined: a place that is free, or is just being written. */
export const STATE_NAMES: readonly (ConnectionState | undefined)[] = [undefined, undefined, ...CONNECTION_STATES]

/**
 * What IPVS calls them (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_state_name_table). Of an adopted flow no handshake was seen: as far as
 * a director knows it is in none of TCP's states, and IPVS's word for that is NONE.
 */
export const IPVS_STATES: Record<ConnectionState, string> = {
  'half-open': 'SYN_RECV',
  adopted: 'NONE',
  established: 'ESTABLISHED',
  closing: 'FIN_WAIT',
  closed: 'CLOSE',
  'udp-once': 'UDP',
  udp: 'UDP',
}
