// SPDX-License-Identifier: Apache-2.0
// Does the flow table keep what it was given? Established flows, then packets of theirs, then a flood of SYNs of others.

import type { Family } from '../core/ip.ts'
import { readReasons } from '../dataplane/counters.ts'
import { backendOf, FLOW_TABLES, stateOf, WORD } from '../dataplane/flow-tables.ts'
import { FlowState, Reason } from '../dataplane/layout.gen.ts'
import type { Native } from '../dataplane/native.ts'
import { TCP_ACK, TCP_SYN, type Traffic } from './frames.ts'
import { push } from './harness.ts'
import { type BenchPlane, makePlane } from './plane.ts'

interface Trial {
  family: Family
  /** A power of two. */
  entries: number
  /** As many are opened, and established by a packet each. */
  flows: number
  packets: number
  flood: number
}

const FLOOD = 10_000_000
const TWO_THIRDS = Math.floor((2 ** 24 * 2) / 3)
const TRIALS: readonly Trial[] = [
  { family: 'ipv4', entries: 2 ** 21, flows: 2 ** 20, packets: 20_000_000, flood: FLOOD },
  { family: 'ipv4', entries: 2 ** 21, flows: 100_000, packets: 1_000_000, flood: FLOOD },
  // The flood would fill it 38 times.
  { family: 'ipv4', entries: 2 ** 18, flows: 100_000, packets: 1_000_000, flood: FLOOD },
  // Two thirds of the places: 24 octets of table for each flow, 48 of IPv6.
  { family: 'ipv4', entries: 2 ** 24, flows: TWO_THIRDS, packets: 0, flood: 0 },
  { family: 'ipv6', entries: 2 ** 21, flows: 100_000, packets: 1_000_000, flood: FLOOD },
  { family: 'ipv6', entries: 2 ** 24, flows: TWO_THIRDS, packets: 0, flood: 0 },
]

export interface FlowTableResult extends Trial {
  /** Of those flows: how many stand in the table as established. */
  established: number
  /** How many of the packets that were sent after that found no entry. */
  misses: number
  /** Of the flood: recorded, and refused because both buckets were full. */
  floodRecorded: number
  floodRefused: number
  /** Established flows that after the flood have no entry, or another backend. */
  lost: number
  moved: number
  octetsPerFlow: number
  /** Milliseconds that the sweeper takes for the tables, in all of its slices together. */
  sweepMs: number
}

/** Which of 2^24 flows a packet is of depends on its number alone: the first so many are the same flows in each run. */
const traffic = (family: Family, flags: number, flows: Traffic['flows']): Traffic => ({
  name: 'flow table',
  family,
  protocol: 'tcp',
  flags,
  flows,
  services: 1,
})

const count = ({ plane }: BenchPlane, reason: keyof typeof Reason): number =>
  Number(readReasons(plane)[Reason[reason]] ?? 0n)

function* establishedFlows({ plane }: BenchPlane, family: Family): Generator<{ source: number; backend: number }> {
  const { name, words: length, flowAt } = FLOW_TABLES[family]
  const words = new Uint32Array(plane.buffer(name))
  for (let flow = flowAt; flow < words.length; flow += length) {
    const low = words[flow + WORD.valueLow] ?? 0
    if (stateOf(low) !== FlowState.FLOW_ESTABLISHED) continue
    // Of both families what tells the bench's clients apart: the last four octets of the address, and the port.
    const address = words[family === 'ipv4' ? flow : flow - 1] ?? 0
    yield { source: address * 65536 + ((words[flow + WORD.portAndId] ?? 0) & 0xffff), backend: backendOf(low) }
  }
}

/** Backend of each established flow, by source address and port. */
const backends = (bench: BenchPlane, family: Family): Map<number, number> =>
  new Map(Array.from(establishedFlows(bench, family), ({ source, backend }) => [source, backend]))

const countEstablished = (bench: BenchPlane, family: Family): number => {
  let established = 0
  for (const _ of establishedFlows(bench, family)) established++
  return established
}

const flood = (native: Native, bench: BenchPlane, { family, flood: packets }: Trial) => {
  const before = backends(bench, family)
  const recorded = count(bench, 'FLOW_INSERTED')
  const refused = count(bench, 'FLOW_REFUSED_FULL')
  push(native, bench.program, traffic(family, TCP_SYN, 'new'), packets)
  const after = backends(bench, family)
  const outcome = {
    floodRecorded: count(bench, 'FLOW_INSERTED') - recorded,
    floodRefused: count(bench, 'FLOW_REFUSED_FULL') - refused,
    lost: 0,
    moved: 0,
  }
  for (const [source, backend] of before) {
    const now = after.get(source)
    if (now === undefined) outcome.lost++
    else if (now !== backend) outcome.moved++
  }
  return outcome
}

const NO_FLOOD = { floodRecorded: 0, floodRefused: 0, lost: 0, moved: 0 }

const tryOut = (native: Native, trial: Trial): FlowTableResult => {
  const { family } = trial
  const bench = makePlane(native, { scheduler: 'rr', services: 1, backends: 4, flows: trial.entries, family })
  try {
    const named = 2 ** Math.ceil(Math.log2(trial.flows))
    push(native, bench.program, traffic(family, TCP_SYN, named), trial.flows)
    push(native, bench.program, traffic(family, TCP_ACK, named), trial.flows)
    const established = countEstablished(bench, family)
    const inserted = count(bench, 'FLOW_INSERTED') + count(bench, 'FLOW_REFUSED_FULL')
    // Of the same flows: no more than there are in one go.
    for (let left = trial.packets; left > 0; left -= trial.flows)
      push(native, bench.program, traffic(family, TCP_ACK, named), Math.min(left, trial.flows))
    const misses = count(bench, 'FLOW_INSERTED') + count(bench, 'FLOW_REFUSED_FULL') - inserted
    return {
      ...trial,
      established,
      misses,
      ...(trial.flood === 0 ? NO_FLOOD : flood(native, bench, trial)),
      sweepMs: Math.round(10 * Math.min(...Array.from({ length: 5 }, () => bench.sweep()))) / 10,
      octetsPerFlow: Math.round((10 * trial.entries * 4 * FLOW_TABLES[family].words) / established) / 10,
    }
  } finally {
    bench.close()
  }
}

/** Takes some seconds for each of its trials; the only time it measures is the sweeper's. */
export const checkFlowTables = (native: Native): FlowTableResult[] => TRIALS.map((trial) => tryOut(native, trial))
