// SPDX-License-Identifier: Apache-2.0
// Runs in the namespace that veth.ts made: measures, prints the results as JSON, ends. All that it attaches goes with it.
import { type BpfLink, type BpfMap, type BpfProgram, loadNative } from '../dataplane/native.ts'
import { FRAME_BYTES, loadBench } from './frames.ts'
import { median } from './harness.ts'
import { VETH_FLOOR, type VethOrder, type VethResult } from './veth.ts'

/** NAPI's budget; larger batches overrun veth's ring of 256. */
const BATCH = 64
const XDP_MD_BYTES = 24
const INGRESS_IFINDEX_OFFSET = 12

const order: VethOrder = JSON.parse(process.argv[2] ?? '')
const native = loadNative()

const ifindexOf = (name: string): number => {
  const found = native.netlink.interfaces().find((one) => one.name === name)
  if (!found) throw new Error(`no interface '${name}' in this namespace`)
  return found.ifindex
}

/** struct xdp_md for a frame of this run; XDP_TX of a live frame leaves by the interface named as its ingress. */
const contextAt = (ifindex: number): Uint8Array => {
  const context = new Uint8Array(XDP_MD_BYTES)
  const view = new DataView(context.buffer)
  view.setUint32(4, FRAME_BYTES, true) // data_end
  view.setUint32(INGRESS_IFINDEX_OFFSET, ifindex, true)
  return context
}

const sumOf = (counter: BpfMap): number => {
  const values = counter.lookup(new Uint8Array(4)) ?? Buffer.alloc(0)
  let sum = 0n
  for (let offset = 0; offset < values.length; offset += 8) sum += values.readBigUInt64LE(offset)
  return Number(sum)
}

/** Time for what is still under way in the other softirq to arrive. */
const settle = (): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
}

interface Subject {
  program: string
  run: BpfProgram
  mpps: number[]
  lost: number
}

const round = (subject: Subject, link: BpfLink, generate: () => number, sunk: BpfMap): void => {
  link.update(subject.run)
  const before = sumOf(sunk)
  const seconds = generate()
  const atEnd = sumOf(sunk)
  settle()
  subject.lost += order.frames - (sumOf(sunk) - before)
  subject.mpps.push((atEnd - before) / seconds / 1e6)
}

const nsAt = (mpps: number | undefined): number => 1000 / (mpps ?? Number.NaN)

const resultOf = ({ program, mpps, lost }: Subject, floor: Subject): VethResult => ({
  program,
  mpps: median(mpps),
  lowestMpps: Math.min(...mpps),
  highestMpps: Math.max(...mpps),
  nsPerFrame: nsAt(median(mpps)),
  overFloorNs: median(mpps.map((value, i) => nsAt(value) - nsAt(floor.mpps[i]))),
  lost,
  rounds: mpps.length,
})

const main = (): VethResult[] => {
  const bench = loadBench(native, ['bench_generate', 'bench_swap', 'bench_sink'], order.traffic, { macs: order.macs })
  const generator = bench.program('bench_generate')
  const swap = bench.program('bench_swap')
  const sunk = bench.map('sunk')
  const client = ifindexOf(order.client)
  // veth takes frames only where the far end has an XDP program: the sink does that for the client's end.
  const sink = native.attachXdp(bench.program('bench_sink'), client, 'native')
  const balancer = native.attachXdp(swap, ifindexOf(order.director), 'native')
  const frame = new Uint8Array(FRAME_BYTES)
  const context = contextAt(client)
  const generate = (frames = order.frames): number => {
    const started = process.hrtime.bigint()
    generator.run({ data: frame, context, repeat: frames, liveFrames: true, batchSize: BATCH })
    return Number(process.hrtime.bigint() - started) / 1e9
  }
  const floor: Subject = { program: VETH_FLOOR, run: swap, mpps: [], lost: 0 }
  const subjects: Subject[] = [
    floor,
    ...order.subjects.map(({ program, pin }) => ({ program, run: native.openProgram(pin), mpps: [], lost: 0 })),
  ]

  native.system.pinToCpu(order.cpu)
  generate(10_000)
  settle()
  for (let i = 0; i < order.rounds; i++) {
    for (const subject of i % 2 === 0 ? subjects : subjects.toReversed()) round(subject, balancer, generate, sunk)
  }
  balancer.close()
  sink.close()
  return subjects.map((subject) => resultOf(subject, floor))
}

process.stdout.write(JSON.stringify(main()))
