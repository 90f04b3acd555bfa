// SPDX-License-Identifier: Apache-2.0
// Does the flow table keep what it was given? A million established flows in two million entries, then twenty million packets
// of theirs, then a flood of ten million SYNs.

import { readReasons } from '../dataplane/counters.ts'
import { FlowState, FlowValue, Reason } from '../dataplane/layout.gen.ts'
import type { Native } from '../dataplane/native.ts'
import { TCP_ACK, TCP_SYN, type Traffic } from './frames.ts'
import { push } from './harness.ts'
import { type BenchPlane, makePlane } from './plane.ts'

export interface FlowTableResult {
  entries: number
  established: number
  /** Packets of those flows that were sent after they were established, and how many of them found no entry. */
  packets: number
  misses: number
  /** SYNs of other flows. */
  flood: number
  /** Of the flood: recorded, and refused because both buckets were full. */
  floodRecorded: number
  floodRefused: number
  /** Established flows that after it have no entry, or another backend. */
  lost: number
  moved: number
}

const FLOWS = 2 ** 20
const ENTRIES = 2 ** 21
const PACKETS = 20_000_000
const FLOOD = 10_000_000

const traffic = (flags: number, flows: Traffic['flows']): Traffic => ({
  name: 'flow table',
  protocol: 'tcp',
  flags,
  flows,
  services: 1,
})

const count = ({ plane }: BenchPlane, reason: keyof typeof Reason): number =>
  Number(readReasons(plane)[Reason[reason]] ?? 0n)

/** Backend of each established flow, by source address and port. */
const establishedFlows = ({ plane }: BenchPlane): Map<number, number> => {
  const words = new Uint32Array(plane.buffer('flows'))
  const flows = new Map<number, number>()
  for (let at = 0; at < words.length; at += 4) {
    const low = words[at + 2] ?? 0
    if (((low >>> FlowValue.FLOW_STATE_SHIFT) & FlowValue.FLOW_STATE_MASK) !== FlowState.FLOW_ESTABLISHED) continue
    const source = (words[at] ?? 0) * 65536 + ((words[at + 1] ?? 0) & 0xffff)
    flows.set(source, (low >>> FlowValue.FLOW_BACKEND_SHIFT) & FlowValue.FLOW_BACKEND_MASK)
  }
  return flows
}

/** Takes some seconds; measures no time. */
export const checkFlowTable = (native: Native): FlowTableResult => {
  const bench = makePlane(native, { scheduler: 'rr', services: 1, backends: 4, flows: ENTRIES })
  try {
    push(native, bench.program, traffic(TCP_SYN, FLOWS), FLOWS)
    push(native, bench.program, traffic(TCP_ACK, FLOWS), FLOWS)
    const before = establishedFlows(bench)
    const inserted = count(bench, 'FLOW_INSERTED')
    push(native, bench.program, traffic(TCP_ACK, FLOWS), PACKETS)
    const misses = count(bench, 'FLOW_INSERTED') - inserted + count(bench, 'FLOW_REFUSED_FULL')

    const insertedBefore = count(bench, 'FLOW_INSERTED')
    const refusedBefore = count(bench, 'FLOW_REFUSED_FULL')
    push(native, bench.program, traffic(TCP_SYN, 'new'), FLOOD)
    const after = establishedFlows(bench)
    let lost = 0
    let moved = 0
    for (const [source, backend] of before) {
      const now = after.get(source)
      if (now === undefined) lost++
      else if (now !== backend) moved++
    }
    return {
      entries: ENTRIES,
      established: before.size,
      packets: PACKETS,
      misses,
      flood: FLOOD,
      floodRecorded: count(bench, 'FLOW_INSERTED') - insertedBefore,
      floodRefused: count(bench, 'FLOW_REFUSED_FULL') - refusedBefore,
      lost,
      moved,
    }
  } finally {
    bench.close()
  }
}
