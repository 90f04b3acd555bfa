// SPDX-License-Identifier: Apache-2.0
// The packet path's counters: each CPU writes its own, whoever reads adds them up.
import { BackendCounters, Cpu, Reason, Root } from './layout.gen.ts'
import { countersPerCpu, type PlaneMemory } from './memory.ts'

/** Packets, octets and new flows since the counter was last cleared, over all CPUs. */
export interface Counts {
  packets: bigint
  bytes: bigint
  flows: bigint
}

type Buffers = Pick<PlaneMemory, 'buffer' | 'size'>

const WORDS = BackendCounters.size / 8

const cpusOf = (memory: Buffers): number => memory.buffer('cpus').byteLength / Cpu.size

/** The counters of one backend, by `counter` of its record. */
export const readCounts = (memory: Buffers, counter: number): Counts => {
  const words = new BigUint64Array(memory.buffer('counters'))
  const perCpu = countersPerCpu(memory)
  const sum: Counts = { packets: 0n, bytes: 0n, flows: 0n }
  for (let cpu = 0; cpu < cpusOf(memory); cpu++) {
    const at = (cpu * perCpu + counter) * WORDS
    sum.packets += words[at + BackendCounters.offset.packets / 8] ?? 0n
    sum.bytes += words[at + BackendCounters.offset.bytes / 8] ?? 0n
    sum.flows += words[at + BackendCounters.offset.flows / 8] ?? 0n
  }
  return sum
}

/** As Counts, in numbers: exact up to 2^53. */
export interface CountNumbers {
  packets: number
  bytes: number
  flows: number
}

/** A word of 64 bits, read by halves: should the lower overflow meanwhile, it is read again. */
const readWord = (halves: Uint32Array, at: number): number => {
  for (;;) {
    const high = halves[at + 1] ?? 0
    const low = halves[at] ?? 0
    if ((halves[at + 1] ?? 0) === high) return high * 2 ** 32 + low
  }
}

/** readCounts for many: no BigInt is made, and the object that it answers is the same each time. */
export const countReader = (memory: Buffers): ((counter: number) => CountNumbers) => {
  const halves = new Uint32Array(memory.buffer('counters'))
  const perCpu = countersPerCpu(memory)
  const cpus = cpusOf(memory)
  const sum: CountNumbers = { packets: 0, bytes: 0, flows: 0 }
  const { packets, bytes, flows } = BackendCounters.offset
  return (counter) => {
    sum.packets = 0
    sum.bytes = 0
    sum.flows = 0
    for (let cpu = 0; cpu < cpus; cpu++) {
      const at = (cpu * perCpu + counter) * WORDS * 2
      sum.packets += readWord(halves, at + packets / 4)
      sum.bytes += readWord(halves, at + bytes / 4)
      sum.flows += readWord(halves, at + flows / 4)
    }
    return sum
  }
}

/** Sets counters to zero that no live backend has. What they have counted stays in the sum of all. */
export const clearCounts = (memory: Buffers, counters: readonly number[]): void => {
  const words = new BigUint64Array(memory.buffer('counters'))
  const perCpu = countersPerCpu(memory)
  let forwarded = 0n
  for (let cpu = 0; cpu < cpusOf(memory); cpu++) {
    for (const counter of counters) {
      const at = (cpu * perCpu + counter) * WORDS
      forwarded += words[at + BackendCounters.offset.packets / 8] ?? 0n
      words.fill(0n, at, at + WORDS)
    }
  }
  const root = new DataView(memory.buffer('root'))
  root.setBigUint64(Root.offset.forwardedBefore, root.getBigUint64(Root.offset.forwardedBefore, true) + forwarded, true)
}

/** Packets that any backend ever got. Summed by halves: a BigInt for each of many counters would take long. */
const allForwarded = (memory: Buffers): bigint => {
  const halves = new Uint32Array(memory.buffer('counters'))
  const before = new DataView(memory.buffer('root')).getBigUint64(Root.offset.forwardedBefore, true)
  let low = 0
  let high = 0
  for (let at = BackendCounters.offset.packets / 4; at < halves.length; at += 2 * WORDS) {
    low += halves[at] ?? 0
    high += halves[at + 1] ?? 0
  }
  return before + BigInt(low) + (BigInt(high) << 32n)
}

/** Packets by enum reason, over all CPUs. */
export const readReasons = (memory: Buffers): bigint[] => {
  const words = new BigUint64Array(memory.buffer('cpus'))
  const reasons = Array.from({ length: Reason.REASONS }, (_, reason) => {
    let sum = 0n
    for (let cpu = 0; cpu < cpusOf(memory); cpu++)
      sum += words[(cpu * Cpu.size + Cpu.offset.reasons) / 8 + reason] ?? 0n
    return sum
  })
  const otherwise = (reasons[Reason.TX_REDIRECTED] ?? 0n) + (reasons[Reason.PASS_LOCAL] ?? 0n)
  reasons[Reason.TX_FORWARDED] = allForwarded(memory) - otherwise
  return reasons
}
