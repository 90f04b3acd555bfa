// SPDX-License-Identifier: Apache-2.0
// Does the flow table keep what it was given? Established flows, then packets of theirs, then a flood of SYNs of others.

import { readReasons } from '../dataplane/counters.ts'
import { Flow, FlowState, FlowValue, Reason } from '../dataplane/layout.gen.ts'
import type { Native } from '../dataplane/native.ts'
import { TCP_ACK, TCP_SYN, type Traffic } from './frames.ts'
import { push } from './harness.ts'
import { type BenchPlane, makePlane } from './plane.ts'

interface Trial {
  /** A power of two. */
  entries: number
  /** As many are opened, and established by a packet each. */
  flows: number
  packets: number
  flood: number
}

const FLOOD = 10_000_000
const TRIALS: readonly Trial[] = [
  { entries: 2 ** 21, flows: 2 ** 20, packets: 20_000_000, flood: FLOOD },
  { entries: 2 ** 21, flows: 100_000, packets: 1_000_000, flood: FLOOD },
  // The flood would fill it 38 times.
  { entries: 2 ** 18, flows: 100_000, packets: 1_000_000, flood: FLOOD },
  // Two thirds of the places: 24 octets of table for each flow.
  { entries: 2 ** 24, flows: Math.floor((2 ** 24 * 2) / 3), packets: 0, flood: 0 },
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
const traffic = (flags: number, flows: Traffic['flows']): Traffic => ({
  name: 'flow table',
  protocol: 'tcp',
  flags,
  flows,
  services: 1,
})

const count = ({ plane }: BenchPlane, reason: keyof typeof Reason): number =>
  Number(readReasons(plane)[Reason[reason]] ?? 0n)

function* establishedFlows({ plane }: BenchPlane): Generator<{ source: number; backend: number }> {
  const words = new Uint32Array(plane.buffer('flows'))
  for (let at = 0; at < words.length; at += 4) {
    const low = words[at + 2] ?? 0
    if (((low >>> FlowValue.FLOW_STATE_SHIFT) & FlowValue.FLOW_STATE_MASK) !== FlowState.FLOW_ESTABLISHED) continue
    const source = (words[at] ?? 0) * 65536 + ((words[at + 1] ?? 0) & 0xffff)
    yield { source, backend: (low >>> FlowValue.FLOW_BACKEND_SHIFT) & FlowValue.FLOW_BACKEND_MASK }
  }
}

/** Backend of each established flow, by source address and port. */
const backends = (bench: BenchPlane): Map<number, number> =>
  new Map(Array.from(establishedFlows(bench), ({ source, backend }) => [source, backend]))

const countEstablished = (bench: BenchPlane): number => {
  let established = 0
  for (const _ of establishedFlows(bench)) established++
  return established
}

const flood = (native: Native, bench: BenchPlane, packets: number) => {
  const before = backends(bench)
  const recorded = count(bench, 'FLOW_INSERTED')
  const refused = count(bench, 'FLOW_REFUSED_FULL')
  push(native, bench.program, traffic(TCP_SYN, 'new'), packets)
  const after = backends(bench)
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
  const bench = makePlane(native, { scheduler: 'rr', services: 1, backends: 4, flows: trial.entries })
  try {
    const named = 2 ** Math.ceil(Math.log2(trial.flows))
    push(native, bench.program, traffic(TCP_SYN, named), trial.flows)
    push(native, bench.program, traffic(TCP_ACK, named), trial.flows)
    const established = countEstablished(bench)
    const inserted = count(bench, 'FLOW_INSERTED') + count(bench, 'FLOW_REFUSED_FULL')
    // Of the same flows: no more than there are in one go.
    for (let left = trial.packets; left > 0; left -= trial.flows)
      push(native, bench.program, traffic(TCP_ACK, named), Math.min(left, trial.flows))
    const misses = count(bench, 'FLOW_INSERTED') + count(bench, 'FLOW_REFUSED_FULL') - inserted
    return {
      ...trial,
      established,
      misses,
      ...(trial.flood === 0 ? NO_FLOOD : flood(native, bench, trial.flood)),
      sweepMs: Math.round(10 * Math.min(...Array.from({ length: 5 }, () => bench.sweep()))) / 10,
      octetsPerFlow: Math.round((10 * trial.entries * Flow.size) / established) / 10,
    }
  } finally {
    bench.close()
  }
}

/** Takes some seconds for each of its trials; the only time it measures is the sweeper's. */
export const checkFlowTables = (native: Native): FlowTableResult[] => TRIALS.map((trial) => tryOut(native, trial))
