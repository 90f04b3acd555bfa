// SPDX-License-Identifier: Apache-2.0
// What a daemon costs where much is configured: a reload with one change, a verb through its socket, a scrape, and its memory.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { load } from 'js-yaml'
import { pathsOf } from '../shell/instance.ts'
import { median } from './harness.ts'

/** Milliseconds: median, lowest, highest. */
export interface Times {
  what: string
  ms: number
  lowestMs: number
  highestMs: number
  runs: number
}

export interface DaemonResult {
  times: Times[]
  /** MiB: all that is resident, maps that are shared with the kernel included; and its own alone. */
  residentMiB: { idle: number; idleOwn: number; full: number; fullOwn: number }
  scrapeBytes: number
}

export interface DaemonBench {
  /** A namespace with eth0, and an instance of the same name that is not attached. */
  name: string
  folder: string
  cli: string
  /** The configuration file, whose services differ in one weight by `i`. */
  config: (i: number) => string
  service: string
  backend: string
  runs: number
  /** Runs a command of xlb in the namespace. @returns milliseconds */
  command: (words: readonly string[]) => number
  /** Node's start and nothing else, in the same way. @returns milliseconds */
  nothing: () => number
}

const READY_MS = 120_000

const start = async ({ name, cli }: DaemonBench, file: string): Promise<ChildProcess> => {
  const words = [`--net=/run/netns/${name}`, process.execPath, cli, '--instance', name, 'run', '-c', file]
  const daemon = spawn('nsenter', words, { stdio: ['ignore', 'ignore', 'inherit'] })
  const end = Date.now() + READY_MS
  while (!existsSync(pathsOf(name).socket)) {
    if (Date.now() > end || daemon.exitCode !== null) throw new Error('the daemon does not come up')
    await sleep(50)
  }
  return daemon
}

const stop = async (daemon: ChildProcess): Promise<void> => {
  if (daemon.exitCode !== null) return
  const ended = new Promise((resolve) => daemon.once('exit', resolve))
  daemon.kill('SIGTERM')
  await ended
}

const ask = (socketPath: string, method: string, path: string, body?: unknown): Promise<{ ms: number; text: string }> =>
  new Promise((resolve, reject) => {
    const begun = performance.now()
    const asked = request(
      { socketPath, method, path, headers: body === undefined ? {} : { 'content-type': 'application/json' } },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (piece: string) => {
          text += piece
        })
        response.on('end', () => {
          if (response.statusCode === 200) resolve({ ms: performance.now() - begun, text })
          else reject(new Error(`${path}: ${response.statusCode}: ${text}`))
        })
      },
    )
    asked.on('error', reject)
    asked.end(body === undefined ? undefined : JSON.stringify(body))
  })

const memoryOf = ({ pid }: ChildProcess): { all: number; own: number } => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const mebibytes = (key: string) => Math.round(Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1]) / 1024)
  return { all: mebibytes('VmRSS'), own: mebibytes('RssAnon') }
}

/** A request takes so little that many are measured for each run of a command. */
const REQUESTS = 5

/** Between runs: what a change leaves to be done later is not the next one's. */
const PAUSE_MS = 300

const measured = async (what: string, runs: number, run: (i: number) => number | Promise<number>): Promise<Times> => {
  const times: number[] = []
  // The first, which compiles, is not counted.
  for (let i = -1; i < runs; i++) {
    const ms = await run(i)
    if (i >= 0) times.push(ms)
    await sleep(PAUSE_MS)
  }
  const round = (ms: number) => Math.round(ms * 10) / 10
  return {
    what,
    ms: round(median(times)),
    lowestMs: round(Math.min(...times)),
    highestMs: round(Math.max(...times)),
    runs,
  }
}

export const measureDaemon = async (bench: DaemonBench): Promise<DaemonResult> => {
  const { name, folder, runs, command, nothing, service, backend } = bench
  const { socket } = pathsOf(name)
  const file = join(folder, 'daemon.yaml')
  writeFileSync(file, 'interfaces: [{ name: eth0, mode: generic }]\nservices: []\n')
  const small = await start(bench, file)
  const idle = memoryOf(small)
  await stop(small)
  command(['detach', '--all'])
  writeFileSync(file, bench.config(0))
  const daemon = await start(bench, file)
  try {
    await sleep(3000)
    const set = (i: number) => ({ service, address: backend, weight: 10 + (i & 1) })
    const words = (i: number) => ['backend', 'set', service, backend, '--weight', String(12 + (i & 1))]
    const change = (i: number) => writeFileSync(file, bench.config(1 + (i & 1)))
    const times = [
      await measured("Node's start alone, whole command", runs, nothing),
      await measured('backend set through the daemon, whole command', runs, (i) => command(words(i))),
      // What is answered is in the maps.
      await measured(
        'backend set, from request to answer',
        REQUESTS * runs,
        async (i) => (await ask(socket, 'POST', '/v1/backend/set', set(i))).ms,
      ),
      await measured('reload with one change, whole command', runs, (i) => {
        change(i)
        return command(['reload'])
      }),
      await measured('reload with one change, from request to answer', runs, async (i) => {
        change(i)
        return (await ask(socket, 'POST', '/v1/reload', {})).ms
      }),
      await measured('the same, of a file in JSON', runs, async (i) => {
        writeFileSync(file, JSON.stringify(load(bench.config(1 + (i & 1)))))
        return (await ask(socket, 'POST', '/v1/reload', {})).ms
      }),
      await measured('status, whole command', runs, () => command(['status'])),
      await measured('scrape of /metrics', runs, async () => (await ask(socket, 'GET', '/metrics')).ms),
    ]
    const { text } = await ask(socket, 'GET', '/metrics')
    const full = memoryOf(daemon)
    return {
      times,
      residentMiB: { idle: idle.all, idleOwn: idle.own, full: full.all, fullOwn: full.own },
      scrapeBytes: Buffer.byteLength(text),
    }
  } finally {
    await stop(daemon)
  }
}
