// SPDX-License-Identifier: Apache-2.0
// The flow tables, IPv4's, IPv6's (which has flows of IPv4 prefixes too) and IPv6 prefixes' (struct flow_bucket, struct flow6_bucket and
// struct prefix_flow6_bucket of bpf/xlb.h), as arrays of 32-bit words. An entry ends with its struct flow in all; the source stands before
// it in IPv6's, source and destination in the third. So one loop serves all, by where that starts.

import { swap32 } from '../core/address.ts'
import { AF, type Family, formatIpv4, readAddress } from '../core/ip.ts'
import {
  Flow,
  Flow6,
  FlowLimit,
  FlowState,
  FlowValue,
  PrefixFlow,
  PrefixFlow6,
  PrefixFlow6Limit,
  Settings,
} from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { viewOf } from './views.ts'

export interface FlowTable {
  name: 'flows' | 'flows6' | 'prefix_flows6'
  family: Family
  perBucket: number
  /** 32-bit words of an entry, and of them those before its struct flow. */
  words: number
  flowAt: number
}

export type FlowTableName = Family | 'prefix6'

const ofIpv6 = (
  name: FlowTable['name'],
  perBucket: number,
  { size, offset }: { size: number; offset: { flow: number } },
): FlowTable => ({ name, family: 'ipv6', perBucket, words: size / 4, flowAt: offset.flow / 4 })

export const FLOW_TABLES: Record<FlowTableName, FlowTable> = {
  ipv4: { name: 'flows', family: 'ipv4', perBucket: FlowLimit.FLOWS_PER_BUCKET, words: Flow.size / 4, flowAt: 0 },
  ipv6: ofIpv6('flows6', FlowLimit.FLOWS6_PER_BUCKET, Flow6),
  prefix6: ofIpv6('prefix_flows6', PrefixFlow6Limit.PREFIX_FLOWS6_PER_BUCKET, PrefixFlow6),
}

/** Octets of a bucket. */
export const bucketSize = ({ perBucket, words }: FlowTable): number => perBucket * words * 4

/** Words of struct flow. Port and id: source port (network order) in the lower half, the service's id in the upper. */
export const WORD = { source: 0, portAndId: 1, valueLow: 2, valueHigh: 3 } as const

export const stateOf = (valueLow: number): number =>
  (valueLow >>> FlowValue.FLOW_STATE_SHIFT) & FlowValue.FLOW_STATE_MASK
/** counts_as: whether a flow in this state is an active connection. */
export const isActive = (state: number): boolean =>
  state === FlowState.FLOW_ESTABLISHED || state === FlowState.FLOW_HALF_OPEN
export const backendOf = (valueLow: number): number =>
  (valueLow >>> FlowValue.FLOW_BACKEND_SHIFT) & FlowValue.FLOW_BACKEND_MASK

/**
 * The clock is read before the table is, and an entry that a packet refreshes in between is of a later age: it must not be taken for
 * one that was idle for 4,095 units. So many of them a scan never takes.
 */
const SCAN_AGES_MAX = 16

/** Age stands in the lowest bits of the value's upper word. */
export const idleOf = (valueHigh: number, now: number): number => {
  const idle = (now - valueHigh) & FlowValue.FLOW_AGE_MASK
  return idle > FlowValue.FLOW_AGE_MASK - SCAN_AGES_MAX ? 0 : idle
}

/** Both addresses of a flow of an IPv4 prefix's service, each as a little-endian machine loads it. */
export interface PrefixFlowAddresses {
  source: number
  destination: number
}

/** Undefined: an entry whose struct flow starts at word `flow` is no flow of an IPv4 prefix's service. */
export const prefixFlowOf = (
  { name, flowAt }: FlowTable,
  words: Uint32Array,
  flow: number,
): PrefixFlowAddresses | undefined => {
  const at = flow - flowAt
  if (name !== 'flows6' || words[at] !== PrefixFlow.PREFIX_FLOW) return undefined
  return { destination: words[at + 1] ?? 0, source: words[at + 2] ?? 0 }
}

/** The source's address, in an entry whose struct flow starts at word `flow`. */
export const sourceOf = (table: FlowTable, words: Uint32Array, flow: number): string => {
  const { family, flowAt } = table
  if (family === 'ipv4') return formatIpv4(swap32(words[flow] ?? 0))
  const ofPrefix = prefixFlowOf(table, words, flow)
  if (ofPrefix !== undefined) return formatIpv4(swap32(ofPrefix.source))
  return readAddress(new DataView(words.buffer, words.byteOffset), (flow - flowAt) * 4, AF.ipv6)
}

/** The destination's address, where an entry has it: of a prefix's service. */
export const destinationOf = (table: FlowTable, words: Uint32Array, flow: number): string | undefined => {
  if (table.name === 'prefix_flows6') {
    const at = (flow - table.flowAt) * 4 + PrefixFlow6.offset.destination
    return readAddress(new DataView(words.buffer, words.byteOffset), at, AF.ipv6)
  }
  const ofPrefix = prefixFlowOf(table, words, flow)
  return ofPrefix && formatIpv4(swap32(ofPrefix.destination))
}

/** Calls `visit` for every entry of all tables that has not expired: with the table's words, and where its struct flow starts. */
export const eachLiveFlow = (
  memory: PlaneMemory,
  now: number,
  visit: (words: Uint32Array, flow: number, table: FlowTable) => void,
): void => {
  const { timeout } = Settings.read(viewOf(memory, 'settings'), 0)
  for (const table of Object.values(FLOW_TABLES)) {
    const words = new Uint32Array(memory.buffer(table.name))
    for (let flow = table.flowAt; flow < words.length; flow += table.words) {
      const low = words[flow + WORD.valueLow] ?? 0
      const state = stateOf(low)
      if (state <= FlowState.FLOW_CLAIMED) continue
      if (idleOf(words[flow + WORD.valueHigh] ?? 0, now) <= (timeout[state] ?? 0)) visit(words, flow, table)
    }
  }
}
