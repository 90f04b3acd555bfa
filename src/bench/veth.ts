// SPDX-License-Identifier: Apache-2.0
// Frames that really travel: generator -> veth -> program under test -> XDP_TX -> sink, all on one core, in a network
// namespace of its own. The measuring is done by a process in there (veth-worker.ts), since an interface is looked up in
// the caller's namespace; the programs are handed to it by pins.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { BpfProgram, Native } from '../dataplane/native.ts'
import { DEFAULT_MACS, type Macs, type Traffic } from './frames.ts'

export interface VethSubject {
  program: string
  /** An XDP program that sends each frame back by XDP_TX. */
  run: BpfProgram
}

export interface VethResult {
  program: string
  /** Frames that reached the sink, millions a second: median, lowest and highest round. */
  mpps: number
  lowestMpps: number
  highestMpps: number
  /** All of generator, two veth crossings, program and sink. */
  nsPerFrame: number
  /** Median of the differences from the floor in the same round: what a neighbour on the core takes goes out of it. */
  overFloorNs: number
  /** Frames that were sent and did not reach the sink, all rounds. */
  lost: number
  rounds: number
}

export interface VethOptions {
  traffic: Traffic
  macs?: Macs
  rounds?: number
  /** Frames of one program in one round. */
  frames?: number
  cpu?: number
  /** After so long the measurement is ended and fails. */
  timeoutMs?: number
  signal?: AbortSignal
}

/** What veth-worker.ts is given, as JSON in its only argument. */
export interface VethOrder {
  subjects: { program: string; pin: string }[]
  director: string
  client: string
  traffic: Traffic
  macs: Macs
  rounds: number
  frames: number
  cpu: number
}

/** The row of the report that the others are compared with: rewrites both MACs and nothing else. */
export const VETH_FLOOR = 'floor: rewrite (bench_swap)'

const PREFIX = 'xlbb-'
const RUN_NETNS = '/run/netns'
const BPF_FS = '/sys/fs/bpf'
const WORKER = fileURLToPath(
  new URL(`../bench/veth-worker${import.meta.filename.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
)

const run = (command: string, ...args: string[]): void => {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

const remove = (name: string): void => {
  rmSync(join(BPF_FS, name), { recursive: true, force: true })
  if (existsSync(join(RUN_NETNS, name))) run('ip', 'netns', 'delete', name)
}

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)

/** Takes down what killed runs left behind. */
const sweep = (): void => {
  const names = [RUN_NETNS, BPF_FS].flatMap((folder) => (existsSync(folder) ? readdirSync(folder) : []))
  for (const name of new Set(names)) {
    const pid = new RegExp(`^${PREFIX}(\\d+)$`).exec(name)?.[1]
    if (pid && !isAlive(Number(pid))) remove(name)
  }
}

const makeNetwork = (namespace: string, macs: Macs): void => {
  run('ip', 'netns', 'add', namespace)
  // Both ends in one namespace, without addresses: the stack has nothing to say there. One queue each, one core is enough.
  run(
    'ip',
    ...['-n', namespace, 'link', 'add', 'client', 'address', macs.client, 'numrxqueues', '1', 'numtxqueues', '1'],
    ...['type', 'veth', 'peer', 'name', 'director', 'address', macs.director, 'numrxqueues', '1', 'numtxqueues', '1'],
  )
  for (const end of ['client', 'director']) {
    run('ip', '-n', namespace, 'link', 'set', end, 'addrgenmode', 'none', 'up')
  }
}

const runWorker = async (
  namespace: string,
  order: VethOrder,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<VethResult[]> => {
  const timeout = AbortSignal.timeout(timeoutMs)
  const command = [
    ...['setpriv', '--pdeathsig', 'KILL', '--'], // it never outlives this process
    ...['nsenter', `--net=${RUN_NETNS}/${namespace}`, '--'], // `ip netns exec` remounts /sys and so hides bpffs
    ...[process.execPath, ...process.execArgv, WORKER, JSON.stringify(order)],
  ]
  const worker = spawn('/usr/bin/env', command, {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.any([signal, timeout]),
    killSignal: 'SIGKILL',
  })
  const failed = new Promise<never>((_, reject) => worker.once('error', reject))
  const ended = new Promise<number | null>((resolve) => worker.once('close', resolve))
  try {
    const [output, complaint, status] = await Promise.race([
      Promise.all([text(worker.stdout), text(worker.stderr), ended]),
      failed,
    ])
    signal.throwIfAborted()
    timeout.throwIfAborted()
    if (status !== 0) throw new Error(`the measurement over veth failed: ${complaint.trim()}`)
    return JSON.parse(output)
  } catch (error) {
    signal.throwIfAborted() // with its own reason, not spawn's AbortError
    if (!timeout.aborted) throw error
    throw new Error(`the measurement over veth took more than ${timeoutMs / 1000} s; choose fewer rounds or frames`)
  }
}

/**
 * Measures the programs and the floor over a veth pair, interleaved. Makes the namespace `xlbb-PID` and takes it down again,
 * also where it fails, is aborted, runs out of time, or where this process is ended by a signal that can be caught.
 * @returns the floor's result first (VETH_FLOOR), then one for each subject.
 */
export const measureVeth = async (
  native: Native,
  subjects: readonly VethSubject[],
  options: VethOptions,
): Promise<VethResult[]> => {
  const name = `${PREFIX}${process.pid}`
  const macs = options.macs ?? DEFAULT_MACS
  const interrupted = new AbortController()
  const interrupt = (signal: NodeJS.Signals) => interrupted.abort(new Error(`ended by ${signal}`))
  const signal = options.signal ? AbortSignal.any([options.signal, interrupted.signal]) : interrupted.signal
  const takeDown = () => remove(name)

  sweep()
  if (!native.system.isBpfFileSystem(BPF_FS)) native.system.mountBpf(BPF_FS)
  process.once('exit', takeDown)
  for (const caught of ['SIGINT', 'SIGTERM'] as const) process.once(caught, interrupt)
  try {
    makeNetwork(name, macs)
    mkdirSync(join(BPF_FS, name))
    const pinned = subjects.map(({ program, run: subject }, index) => {
      const pin = join(BPF_FS, name, `subject${index}`)
      subject.pin(pin)
      return { program, pin }
    })
    const order: VethOrder = {
      subjects: pinned,
      director: 'director',
      client: 'client',
      traffic: options.traffic,
      macs,
      rounds: options.rounds ?? 25,
      frames: options.frames ?? 200_000,
      cpu: options.cpu ?? native.system.possibleCpus() - 1,
    }
    return await runWorker(name, order, options.timeoutMs ?? 120_000, signal)
  } finally {
    for (const caught of ['SIGINT', 'SIGTERM'] as const) process.off(caught, interrupt)
    process.off('exit', takeDown)
    takeDown()
  }
}
