// SPDX-License-Identifier: Apache-2.0
// Two CPUs in the same few buckets of a flow table, through race.bpf.c. What makes a stolen entry visible: no two flows share
// a backend; and what makes it likely: two buckets, twice as many flows as places, SYNs and RSTs that make entries give way.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { ExecutionContext } from 'ava'
import { formatMac, parseMac } from '../../src/core/address.ts'
import { addressOctets } from '../../src/core/ip.ts'
import { loadProgram } from '../../src/shell/load.ts'
import { bpfFileSystem } from '../native/setup.ts'
import { miscounted } from './counted.ts'
import { KITS } from './families.ts'
import { clearTable } from './flowtable.ts'
import { Balancer, backendMac, FAST_CLOCK } from './plane.ts'
import { chooseFlows, FLOW_SEED, RACING, type RaceFlow, type RaceKind } from './race-flows.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const BACKENDS = 128
/** Flows of each CPU, or of both together. */
const FLOWS = 16

/** A change to a copy of bpf/: the file, what stands there, what shall. */
export type Edit = readonly [file: string, from: string, to: string]

/** Under test xlb() is called by another program, and an entry point cannot be. */
const RENAME: Edit = ['xlb.bpf.c', 'ENTRY\nint xlb(', 'static __always_inline int xlb_under_test(']

/** Reads and writes of the table's words that now and then take some microseconds. */
export const SLOW: readonly Edit[] = [
  [
    'flow.h',
    '#define READ_WORD(word) (*(volatile __u64 *)&(word))',
    '#define READ_WORD(word) (race_pause(), *(volatile __u64 *)&(word))',
  ],
  [
    'flow.h',
    '#define WRITE_WORD(word, value) (*(volatile __u64 *)&(word) = (value))',
    '#define WRITE_WORD(word, value) (race_pause(), *(volatile __u64 *)&(word) = (value), race_pause())',
  ],
]

/** The same of the notes of persistence. */
export const SLOW_NOTES: readonly Edit[] = [
  [
    'persist.h',
    '#define READ_NOTE(word) (*(volatile __u64 *)&(word))',
    '#define READ_NOTE(word) (race_pause(), *(volatile __u64 *)&(word))',
  ],
  [
    'persist.h',
    '#define WRITE_NOTE(word, value) (*(volatile __u64 *)&(word) = (value))',
    '#define WRITE_NOTE(word, value) (race_pause(), *(volatile __u64 *)&(word) = (value), race_pause())',
  ],
]

/** However the formatter spaces it. */
const loosely = (text: string): RegExp =>
  new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/\s+/g, '\\s+'))

export interface CompileOptions extends Pick<RaceOptions, 'clients' | 'kind'> {
  alike?: boolean
  /** Any backend may have any flow. */
  any?: boolean
}

/** @returns the object's path @throws where an edit finds nothing to change: the copy would be the original */
export const compile = (
  name: string,
  edits: readonly Edit[],
  { alike = false, clients = false, any = false, kind = 'ipv4' }: CompileOptions,
): string => {
  const folder = join(root, 'build/test/race', name)
  mkdirSync(folder, { recursive: true })
  cpSync(join(root, 'bpf'), folder, { recursive: true })
  cpSync(join(root, 'test/packet/race.bpf.c'), join(folder, 'race.bpf.c'))
  for (const [file, from, to] of [RENAME, ...edits]) {
    const text = readFileSync(join(folder, file), 'utf8')
    const wanted = loosely(from)
    if (!wanted.test(text)) throw new Error(`bpf/${file} has no longer: ${from}`)
    writeFileSync(
      join(folder, file),
      text.replace(wanted, () => to),
    )
  }
  const multiarch = `/usr/include/${execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim()}`
  const flags = [
    '-O2',
    '-g',
    '-target',
    'bpf',
    '-mcpu=v3',
    '-Wall',
    `-DRACE_FLOWS=${FLOWS}`,
    `-DRACE_APART=${alike ? 1 : 0}`,
    `-DRACE_ESTABLISH=${clients ? 0 : 1}`,
    `-DRACE_ANY=${any ? 1 : 0}`,
    `-DRACE_IP_HEADER=${RACING[kind].family === 'ipv4' ? 'iphdr' : 'ipv6hdr'}`,
    '-I',
    folder,
    '-I',
    multiarch,
  ]
  const object = join(folder, 'race.bpf.o')
  execFileSync('clang', [...flags, '-c', join(folder, 'race.bpf.c'), '-o', object], { stdio: 'pipe' })
  return object
}

const key32 = (index: number): Buffer => Buffer.from(Uint32Array.of(index).buffer)

export const writeFlows = (balancer: Balancer, flows: readonly RaceFlow[]): void => {
  const map = balancer.object.map('race_flows')
  for (const [index, { source, sourcePort, vip, backends }] of flows.entries()) {
    const value = Buffer.alloc(56)
    value.set(addressOctets(source), 0)
    value.set(addressOctets(vip), 16)
    value.writeUInt16BE(sourcePort, 32)
    backends.forEach((backend, i) => void value.writeBigUInt64LE(parseMac(backendMac(backend)), 40 + 8 * i))
    map.update(key32(index), value)
  }
  map.close()
}

const WORKER = `
const { workerData } = require('node:worker_threads')
const native = require(workerData.addon)
native.system.pinToCpu(workerData.cpu)
const program = native.openProgram(workerData.pin)
const end = Date.now() + workerData.milliseconds
while (Date.now() < end) program.run({ data: workerData.frame, repeat: 20000 })
program.close()
`

export const runOn = (cpu: number, pin: string, frame: Buffer, milliseconds: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const addon = join(root, 'build/native/xlb.node')
    const worker = new Worker(WORKER, {
      eval: true,
      workerData: { addon, cpu, pin, milliseconds, frame },
      execArgv: [],
    })
    worker.on('error', reject)
    worker.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`CPU ${cpu}: exit ${code}`))))
  })

export interface RaceResult {
  packets: number
  wrong: number
  other: number
  inserted: number
  refused: number
  /** Backends whose live counts are not those of their entries. */
  miscounted: string[]
  /** Clients noted, and how many times another CPU was first. */
  noted: number
  raced: number
  /** The last packet that went to another flow's backend. */
  example: string
}

export const readResult = (
  balancer: Balancer,
): Omit<RaceResult, 'inserted' | 'refused' | 'miscounted' | 'noted' | 'raced'> => {
  const map = balancer.object.map('race_results')
  const values = map.lookup(key32(0)) ?? Buffer.alloc(0)
  map.close()
  const sum = { packets: 0, wrong: 0, other: 0, example: '' }
  for (let at = 0; at < values.length; at += 40) {
    sum.packets += Number(values.readBigUInt64LE(at))
    sum.wrong += Number(values.readBigUInt64LE(at + 8))
    sum.other += Number(values.readBigUInt64LE(at + 16))
    if (values.readBigUInt64LE(at + 8) > 0n) {
      sum.example = `flow ${values.readBigUInt64LE(at + 24)} to ${formatMac(values.readBigUInt64LE(at + 32))}`
    }
  }
  return sum
}

export interface RaceOptions {
  /** IPv4 unless it is said. */
  kind?: RaceKind
  /** Clients of a persistent service, whose server the ring knows, in two buckets of notes. */
  clients?: boolean
  /** All flows' check bits are equal, and each CPU has its own flows: only looking at the key again tells them apart. */
  alike: boolean
  milliseconds: number
  /** Goes on, so many times as long, while no packet went wrong. */
  patience?: number
}

/** @param path what compile answered */
export const race = async (t: ExecutionContext, path: string, options: RaceOptions): Promise<RaceResult> => {
  const { alike, milliseconds, patience = 1, clients = false, kind = 'ipv4' } = options
  const racing = RACING[kind]
  const { service, scheduler } = racing
  const { tcpFrame } = KITS[racing.family]
  const balancer = new Balancer({
    capacity: { ...racing.capacity, backends: 2048, services: 4 },
    settings: { ageShift: FAST_CLOCK, flowSeed: FLOW_SEED, timeout: new Array<number>(16).fill(1) },
    load: (native, maps, slot, settings) => loadProgram(native, maps, slot, settings, { programFile: path }),
  })
  t.teardown(() => balancer.close())
  const persistence = clients ? ({ hash: 'source', persist: 300 } as const) : {}
  balancer.add(service, { scheduler, seed: 0xbeefn, ringSize: 65537, ...persistence }, BACKENDS)
  // Every slot is marked: all flows go through the table from now on. With persistence they do so anyway.
  if (!clients) balancer.set(service, { seed: 0xfeedn })
  writeFlows(balancer, chooseFlows(balancer, racing, alike ? 2 * FLOWS : FLOWS, alike))
  clearTable(balancer)
  new Uint8Array(balancer.plane.buffer('connections')).fill(0)
  new Uint8Array(balancer.plane.buffer('clients')).fill(0)
  const program = balancer.object.program('race')
  const pin = join(bpfFileSystem(t), 'race')
  program.pin(pin)
  program.close()
  balancer.moved()
  for (let turn = 0; turn < patience && readResult(balancer).wrong === 0; turn++) {
    await Promise.all([0, 1].map((cpu) => runOn(cpu, pin, tcpFrame(), milliseconds)))
  }
  const moved = balancer.moved()
  return {
    ...readResult(balancer),
    inserted: moved.FLOW_INSERTED ?? 0,
    miscounted: miscounted(balancer),
    refused: (moved.FLOW_REFUSED_RACE ?? 0) + (moved.FLOW_REFUSED_FULL ?? 0),
    noted: moved.CLIENT_NOTED ?? 0,
    raced: moved.CLIENT_REFUSED_RACE ?? 0,
  }
}
