// SPDX-License-Identifier: Apache-2.0
// Measures XDP programs by BPF_PROG_TEST_RUN: nanoseconds a packet, over the cost of a wrapper that restores the frame.
//
// What makes numbers comparable: every case is measured in every round, between two measurements of its own wrapper around
// `return XDP_TX`; the difference is what counts, and the median over the rounds is what is reported. Where another guest
// uses the core's second thread, everything here takes 1.7 times as long, for seconds on end: the wrapper's own cost tells, and
// the round is tried again. Numbers of different runs are not comparable where the machine is shared.
import { readdirSync, readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { FlowLimit } from '../dataplane/layout.gen.ts'
import type { BpfMap, BpfObject, BpfProgram, Native } from '../dataplane/native.ts'
import { DEFAULT_CAPACITY } from '../shell/load.ts'
import { DEFAULT_MACS, frameBytes, loadBench, type Macs, type Traffic } from './frames.ts'

export const XDP_DROP = 1
export const XDP_TX = 3

export interface Case {
  /** The row of the report: `xlb, tracked`. */
  program: string
  /** The column of the report, and what the packets are. */
  traffic: Traffic
  /** What is measured: an XDP program without xdp.frags, or the wrapper cannot call it. */
  run: BpfProgram
  /** A round's packets; absent: as many as are needed for two passes over the flows, at least a million. */
  packets?: number
  /** Packets that go through first, once: SYNs for the flows that the measured packets continue, a table to be filled. */
  warm?: readonly { traffic: Traffic; packets: number }[]
  /** What the program must answer to each packet; absent: XDP_TX. */
  verdict?: number
  /** struct xdp_md, for a program that asks for its interface. */
  context?: Uint8Array
}

export interface Result {
  program: string
  traffic: string
  /** Over the wrapper, per packet: median, lowest and highest round. */
  ns: number
  lowestNs: number
  highestNs: number
  /** The wrapper around `return XDP_TX`, median. */
  wrapperNs: number
  rounds: number
  /** Of these, those in which the core was found shared in every attempt; many of them: measure again. */
  noisyRounds: number
  /** In each round. */
  packets: number
}

export interface MeasureOptions {
  /** At least 9 for a number worth keeping. */
  rounds?: number
  /** Absent: the last one; the first usually serves interrupts. */
  cpu?: number
  macs?: Macs
  signal?: AbortSignal
  /** Called after each round. */
  onRound?: (round: number, rounds: number) => void
}

const MINIMUM_PACKETS = 1_000_000
/** How much the wrapper alone may cost over its best, for a round to count as quiet. */
const QUIET_FACTOR = 1.1
const ATTEMPTS = 6
/** Beyond this many flows a pass more does not change what the caches hold. */
const SETTLE_MAX = 2 ** 20

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

const hundredths = (value: number): number => Math.round(value * 100) / 100

/**
 * This process's descriptor of a loaded program, which a PROG_ARRAY takes as its value. Found by the program's id, since
 * handles keep their descriptors to themselves.
 */
const descriptorOf = (program: BpfProgram): number => {
  const { id, name } = program.info
  const line = new RegExp(`^prog_id:\\t${id}$`, 'm')
  for (const descriptor of readdirSync('/proc/self/fdinfo')) {
    let text: string
    try {
      text = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8')
    } catch {
      continue // the descriptor of the folder itself, closed by now
    }
    // A link's fdinfo has its program's id too, but no prog_type.
    if (text.startsWith('pos:') && /^prog_type:/m.test(text) && line.test(text)) return Number(descriptor)
  }
  throw new Error(`program '${name}' (id ${id}) has no open descriptor in this process; keep its handle open`)
}

const wrapperOf = ({ family, errors }: Traffic): string => {
  if (errors === true) return 'bench_wrapper_error'
  return family === 'ipv6' ? 'bench_wrapper6' : 'bench_wrapper'
}

/** bench_wrapper for one kind of traffic, around any program. */
class Wrapper {
  readonly #object: BpfObject
  readonly #wrapper: BpfProgram
  readonly #slot: BpfMap
  readonly #frame: Uint8Array
  readonly #context: Uint8Array | undefined
  readonly baseline: BpfProgram

  constructor(native: Native, traffic: Traffic, macs: Macs, context?: Uint8Array) {
    const wrapper = wrapperOf(traffic)
    this.#object = loadBench(native, [wrapper, 'bench_tx'], traffic, { macs })
    this.#wrapper = this.#object.program(wrapper)
    this.baseline = this.#object.program('bench_tx')
    this.#slot = this.#object.map('under_test')
    this.#context = context
    this.#frame = new Uint8Array(frameBytes(traffic))
  }

  around(program: BpfProgram): void {
    const value = new Uint8Array(4)
    new DataView(value.buffer).setUint32(0, descriptorOf(program), true)
    this.#slot.update(new Uint8Array(4), value)
  }

  /** @returns ns a packet, and the last verdict. */
  run(packets: number): { ns: number; verdict: number } {
    const options = this.#context ? { context: this.#context } : {}
    const before = process.cpuUsage()
    const result = this.#wrapper.run({ ...options, data: this.#frame, repeat: packets })
    const spent = process.cpuUsage(before)
    // The kernel's mean is cut to whole nanoseconds; the process's time has the fraction, and a little of what is around the
    // packets. Not the clock on the wall: each test run waits 10-30 ms for RCU before its first packet.
    const cpuNs = ((spent.user + spent.system) * 1000) / packets
    const ns = Math.min(Math.max(cpuNs, result.durationNs), result.durationNs + 1)
    return { ns, verdict: result.returned }
  }

  close(): void {
    for (const handle of [this.#wrapper, this.baseline, this.#slot, this.#object]) handle.close()
  }
}

/** Sends packets through a program and measures nothing. */
export const push = (
  native: Native,
  program: BpfProgram,
  traffic: Traffic,
  packets: number,
  options: { macs?: Macs; context?: Uint8Array | undefined } = {},
): void => {
  const wrapper = new Wrapper(native, traffic, options.macs ?? DEFAULT_MACS, options.context)
  try {
    wrapper.around(program)
    wrapper.run(packets)
  } finally {
    wrapper.close()
  }
}

interface Attempt {
  ns: number
  wrapperNs: number
}

/** A case, its wrapper, and what was measured so far. */
class Measured {
  readonly #case: Case
  readonly #wrapper: Wrapper
  readonly #settle: number
  readonly #ns: number[] = []
  readonly #wrapperNs: number[] = []
  readonly #packets: number
  #quietNs = Number.POSITIVE_INFINITY
  #noisyRounds = 0

  constructor(native: Native, wanted: Case, macs: Macs) {
    this.#case = wanted
    const flows = wanted.traffic.flows === 'new' ? 1 : wanted.traffic.flows
    this.#settle = Math.min(Math.max(flows, 10_000), SETTLE_MAX)
    this.#packets = wanted.packets ?? Math.max(MINIMUM_PACKETS, 2 * flows)
    for (const { traffic, packets } of wanted.warm ?? []) this.#warm(native, traffic, packets, macs)
    this.#wrapper = new Wrapper(native, wanted.traffic, macs, wanted.context)
    try {
      this.#wrapper.around(wanted.run)
      this.#run(1)
    } catch (error) {
      this.close()
      throw error
    }
  }

  #warm(native: Native, traffic: Traffic, packets: number, macs: Macs): void {
    push(native, this.#case.run, traffic, packets, { macs, context: this.#case.context })
  }

  #run(packets: number): number {
    const { ns, verdict } = this.#wrapper.run(packets)
    const wanted = this.#case.verdict ?? XDP_TX
    if (verdict !== wanted) {
      const { program, traffic } = this.#case
      throw new Error(`${program}, ${traffic.name}: the program answered verdict ${verdict}, not ${wanted}`)
    }
    return ns
  }

  round(): void {
    let best: Attempt | undefined
    for (let i = 0; i < ATTEMPTS; i++) {
      const attempt = this.#attempt()
      if (!best || attempt.wrapperNs < best.wrapperNs) best = attempt
      if (attempt.wrapperNs <= this.#quietNs * QUIET_FACTOR) break
    }
    if (!best) return
    if (best.wrapperNs > this.#quietNs * QUIET_FACTOR) this.#noisyRounds++
    this.#ns.push(best.ns)
    this.#wrapperNs.push(best.wrapperNs)
  }

  /** Chosen by what the wrapper cost, never by the result. */
  #attempt(): Attempt {
    const before = this.#runBaseline()
    this.#wrapper.around(this.#case.run)
    this.#run(this.#settle) // the caches still hold what the case before left there
    const ns = this.#run(this.#packets)
    const after = this.#runBaseline()
    this.#quietNs = Math.min(this.#quietNs, before, after)
    return { ns: ns - (before + after) / 2, wrapperNs: Math.max(before, after) }
  }

  #runBaseline(): number {
    this.#wrapper.around(this.#wrapper.baseline)
    return this.#wrapper.run(MINIMUM_PACKETS).ns
  }

  result(): Result {
    return {
      program: this.#case.program,
      traffic: this.#case.traffic.name,
      ns: hundredths(median(this.#ns)),
      lowestNs: hundredths(Math.min(...this.#ns)),
      highestNs: hundredths(Math.max(...this.#ns)),
      wrapperNs: hundredths(median(this.#wrapperNs)),
      rounds: this.#ns.length,
      noisyRounds: this.#noisyRounds,
      packets: this.#packets,
    }
  }

  close(): void {
    this.#wrapper.close()
  }
}

/**
 * Measures all cases, interleaved, each in every round. Blocks the thread for a case's share of a round at a time (20 ms to
 * about a second).
 * @throws Error where a program answers another verdict than its case names; nothing it answers then is worth a number.
 */
export const measure = async (
  native: Native,
  cases: readonly Case[],
  options: MeasureOptions = {},
): Promise<Result[]> => {
  const rounds = options.rounds ?? 9
  const measured: Measured[] = []
  native.system.pinToCpu(options.cpu ?? native.system.possibleCpus() - 1)
  try {
    for (const wanted of cases) measured.push(new Measured(native, wanted, options.macs ?? DEFAULT_MACS))
    for (let round = 1; round <= rounds; round++) {
      // There and back: no case always comes after the same one.
      for (const one of round % 2 === 1 ? measured : measured.toReversed()) {
        options.signal?.throwIfAborted()
        one.round()
        await setImmediate()
      }
      options.onRound?.(round, rounds)
    }
    return measured.map((one) => one.result())
  } finally {
    for (const one of measured) one.close()
    native.system.pinToCpu(-1)
  }
}

/** bench_floor and bench_floor_lru, to be measured beside others; close() after measure(). */
export interface Floors {
  cases: Case[]
  close(): void
}

export const FLOOR = 'floor: parse, rewrite'
export const FLOOR_LRU = 'floor: parse, one LRU hit, rewrite'
const FLOOR_TWO_BUCKETS = 'floor: parse, two buckets read, an entry taken, rewrite'

const FLOOR_TABLE_NEW = 2 ** 20
/** As many entries as a director has room for by default. */
const FLOOR_BUCKETS = DEFAULT_CAPACITY.flows / FlowLimit.FLOWS_PER_BUCKET

/** Floors for each traffic, each with a flow table of its own, so that one's flows do not evict another's. */
export const loadFloors = (native: Native, traffics: readonly Traffic[], options: { macs?: Macs } = {}): Floors => {
  const handles: { close(): void }[] = []
  const close = () => {
    for (const handle of handles.splice(0)) handle.close()
  }
  try {
    const cases = traffics.flatMap((traffic): Case[] => {
      const isNew = traffic.flows === 'new'
      // LRU lists are kept by CPU: a table twice as large as its flows never evicts one.
      const floorFlows = traffic.flows === 'new' ? FLOOR_TABLE_NEW : Math.max(2 * traffic.flows, 65_536)
      const object = loadBench(native, ['bench_floor', 'bench_floor_lru', 'bench_floor_two_buckets'], traffic, {
        macs: options.macs ?? DEFAULT_MACS,
        floorFlows,
        floorBuckets: isNew ? FLOOR_BUCKETS : 1,
      })
      handles.push(object)
      const lru = object.program('bench_floor_lru')
      const plain = object.program('bench_floor')
      const recording = object.program('bench_floor_two_buckets')
      handles.push(lru, plain, recording)
      const packets = isNew ? FLOOR_TABLE_NEW : floorFlows / 2
      const looking: Case = { program: FLOOR_LRU, traffic, run: lru, warm: [{ traffic, packets }] }
      const ofNew: Case[] = isNew ? [{ program: FLOOR_TWO_BUCKETS, traffic, run: recording }] : []
      return [{ program: FLOOR, traffic, run: plain }, looking, ...ofNew]
    })
    return { cases, close }
  } catch (error) {
    close()
    throw error
  }
}
