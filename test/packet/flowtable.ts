// SPDX-License-Identifier: Apache-2.0
// The flow tables, IPv4's, IPv6's and that of IPv6 prefixes, as a test sees and edits them.
import { swap16, swap32 } from '../../src/core/address.ts'
import { type Family, formatAddress6, formatIpv4 } from '../../src/core/ip.ts'
import {
  Flow6,
  FlowChanges,
  FlowKey,
  FlowLimit,
  FlowState,
  FlowValue,
  PrefixFlow6,
  PrefixFlow6Limit,
} from '../../src/dataplane/layout.gen.ts'
import type { Balancer } from './plane.ts'

export type StateName = keyof typeof FlowState

export interface Entry {
  table: Table
  bucket: number
  /** Index of its value word in the table. */
  word: number
  source: string
  sourcePort: number
  service: number
  port: number
  backend: number
  state: StateName
  age: number
  check: number
}

type Table = 'flows' | 'flows6' | 'prefix_flows6'
/** Of single VIPs. */
export const TABLES: Readonly<Record<Family, Table>> = { ipv4: 'flows', ipv6: 'flows6' }

const STATES = Object.keys(FlowState) as StateName[]

const field = (word: bigint, shift: number, mask: number): number => Number((word >> BigInt(shift)) & BigInt(mask))

/** Words of an entry, and of them those before its key; entries of a bucket. */
const SHAPES: Readonly<Record<Table, readonly [number, number, number]>> = {
  flows: [2, 0, FlowLimit.FLOWS_PER_BUCKET],
  flows6: [Flow6.size / 8, Flow6.offset.flow / 8, FlowLimit.FLOWS6_PER_BUCKET],
  prefix_flows6: [PrefixFlow6.size / 8, PrefixFlow6.offset.flow / 8, PrefixFlow6Limit.PREFIX_FLOWS6_PER_BUCKET],
}

/** Of the entry whose key stands at word `at`. */
const sourceOf = (table: Table, words: BigUint64Array, at: number): string => {
  if (table === 'flows') return formatIpv4(swap32(field(words[at] ?? 0n, 0, 0xffffffff)))
  const first = at - SHAPES[table][1]
  return formatAddress6({ high: words[first] ?? 0n, low: words[first + 1] ?? 0n })
}

const entriesIn = (balancer: Balancer, table: Table): Entry[] => {
  const halves = new Uint32Array(balancer.plane.buffer(table))
  const words = new BigUint64Array(balancer.plane.buffer(table))
  const [step, keyAt, perBucket] = SHAPES[table]
  const found: Entry[] = []
  for (let at = keyAt; at < words.length; at += step) {
    if ((halves[2 * at + 2] ?? 0) >>> FlowValue.FLOW_STATE_SHIFT === FlowState.FLOW_FREE) continue
    const key = words[at] ?? 0n
    const value = words[at + 1] ?? 0n
    const state = STATES[field(value, FlowValue.FLOW_STATE_SHIFT, FlowValue.FLOW_STATE_MASK)] ?? 'FLOW_FREE'
    found.push({
      table,
      bucket: Math.floor(at / (step * perBucket)),
      word: at + 1,
      source: sourceOf(table, words, at),
      sourcePort: swap16(field(key, FlowKey.FLOW_PORT_SHIFT, 0xffff)),
      service: field(key, FlowKey.FLOW_SERVICE_SHIFT, 0xffff),
      port: swap16(field(value, 0, 0xffff)),
      backend: field(value, FlowValue.FLOW_BACKEND_SHIFT, FlowValue.FLOW_BACKEND_MASK),
      state,
      age: field(value, FlowValue.FLOW_AGE_SHIFT, FlowValue.FLOW_AGE_MASK),
      check: field(value, FlowValue.FLOW_CHECK_SHIFT, 0xfffff),
    })
  }
  return found
}

const ALL = Object.keys(SHAPES) as Table[]

/** Of all tables. */
export const entries = (balancer: Balancer): Entry[] => ALL.flatMap((table) => entriesIn(balancer, table))

/** The one entry of a source port. */
export const entryOf = (balancer: Balancer, sourcePort: number): Entry => {
  const found = entries(balancer).filter((entry) => entry.sourcePort === sourcePort)
  const [only] = found
  if (only === undefined || found.length > 1) throw new Error(`${found.length} entries of source port ${sourcePort}`)
  return only
}

export const stateOf = (balancer: Balancer, sourcePort: number): StateName => entryOf(balancer, sourcePort).state

const edit = (balancer: Balancer, entry: Entry, shift: number, mask: number, value: number): void => {
  const words = new BigUint64Array(balancer.plane.buffer(entry.table))
  const cleared = (words[entry.word] ?? 0n) & ~(BigInt(mask) << BigInt(shift))
  words[entry.word] = cleared | (BigInt(value & mask) << BigInt(shift))
}

/** Makes an entry one that was last used `ages` ago. */
export const makeIdle = (balancer: Balancer, sourcePort: number, ages: number): void =>
  edit(
    balancer,
    entryOf(balancer, sourcePort),
    FlowValue.FLOW_AGE_SHIFT,
    FlowValue.FLOW_AGE_MASK,
    balancer.plane.age() - ages,
  )

/** Makes every entry one that was last used so many `ages` earlier than it was. */
export const makeAllOlder = (balancer: Balancer, ages: number): void => {
  for (const entry of entries(balancer))
    edit(balancer, entry, FlowValue.FLOW_AGE_SHIFT, FlowValue.FLOW_AGE_MASK, entry.age - ages)
}

export const setState = (balancer: Balancer, sourcePort: number, state: StateName): void =>
  edit(balancer, entryOf(balancer, sourcePort), FlowValue.FLOW_STATE_SHIFT, FlowValue.FLOW_STATE_MASK, FlowState[state])

export const clearTable = (balancer: Balancer): void => {
  for (const table of ALL) new Uint8Array(balancer.plane.buffer(table)).fill(0)
}

/** What a CPU's ring of changed buckets holds, oldest first. */
export const changesOf = (balancer: Balancer, cpu: number): { written: number; buckets: number[] } => {
  const view = new DataView(balancer.plane.buffer('flow_changes'))
  const { written, bucket } = FlowChanges.read(view, cpu * FlowChanges.size)
  const count = Math.min(Number(written), bucket.length)
  const buckets = Array.from({ length: count }, (_, i) => bucket[(Number(written) - count + i) % bucket.length] ?? -1)
  return { written: Number(written), buckets }
}
