// SPDX-License-Identifier: Apache-2.0
// What a change costs where much is configured: 4,000 services of 25 backends, restored from a file; then one weight. Whole
// commands, Node's start included, in a network namespace of its own.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatIpv4 } from '../core/ip.ts'
import { elementsFor, MAPPED, type MappedName } from '../dataplane/memory.ts'
import type { Native } from '../dataplane/native.ts'
import { median } from './harness.ts'

export interface CommandResult {
  command: string
  /** Wall time of the whole process: median, lowest, highest. */
  ms: number
  lowestMs: number
  highestMs: number
  /** Largest resident set, MiB, of any run. */
  residentMiB: number
  runs: number
}

export interface ControlPlaneResult {
  services: number
  backendsPerService: number
  fileBytes: number
  commands: CommandResult[]
  /** What the instance's maps take, MiB, by name. */
  mapsMiB: Partial<Record<MappedName, number>>
  mapsTotalMiB: number
}

const SERVICES = 4000
const BACKENDS = 25
const CAPACITY = { services: 4096, backends: 102_400, flows: 2 ** 21, flows6: 2 ** 21 }
const CLI = fileURLToPath(new URL('../cli.js', import.meta.url))

const yaml = (weightOf: (backend: number) => number): string => {
  const lines = ['services:']
  for (let service = 0; service < SERVICES; service++) {
    lines.push(`  - service: tcp://${formatIpv4(0xc6_12_00_01 + service)}:80`, '    scheduler: mh', '    backends:')
    for (let backend = 0; backend < BACKENDS; backend++) {
      lines.push(`      - { address: 10.254.0.${10 + backend}, weight: ${weightOf(backend)} }`)
    }
  }
  return `${lines.join('\n')}\n`
}

/** A namespace with one veth end, and backends that need no ARP: permanent neighbours. */
const makeNetwork = (name: string): void => {
  const ip = (...words: string[]) => execFileSync('ip', words, { stdio: 'pipe' })
  ip('netns', 'add', name)
  ip('-n', name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1')
  ip('-n', name, 'address', 'add', '10.254.0.1/24', 'dev', 'eth0')
  ip('-n', name, 'link', 'set', 'eth0', 'up')
  ip('-n', name, 'link', 'set', 'eth1', 'up')
  for (let backend = 0; backend < BACKENDS; backend++) {
    const mac = `02:00:0a:fe:00:${(10 + backend).toString(16).padStart(2, '0')}`
    ip('-n', name, 'neighbour', 'add', `10.254.0.${10 + backend}`, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent')
  }
}

interface Run {
  ms: number
  residentKiB: number
}

/** One command in the namespace, timed, with its peak memory as GNU time or the shell would tell it. */
const run = (name: string, words: readonly string[]): Run => {
  const report = join(tmpdir(), `${name}-usage`)
  const preload = `data:text/javascript,import{writeFileSync}from'node:fs';process.on('exit',()=>writeFileSync(${JSON.stringify(report)},String(process.resourceUsage().maxRSS)))`
  const start = process.hrtime.bigint()
  const { status, stderr } = spawnSync(
    'nsenter',
    [`--net=/run/netns/${name}`, process.execPath, '--import', preload, CLI, '--instance', name, ...words],
    { encoding: 'utf8' },
  )
  const ms = Number(process.hrtime.bigint() - start) / 1e6
  if (status !== 0) throw new Error(`xlb ${words.join(' ')}: ${stderr}`)
  const residentKiB = Number(execFileSync('cat', [report], { encoding: 'utf8' }))
  rmSync(report)
  return { ms, residentKiB }
}

const summary = (command: string, runs: readonly Run[]): CommandResult => {
  const times = runs.map(({ ms }) => ms)
  return {
    command,
    ms: Math.round(median(times)),
    lowestMs: Math.round(Math.min(...times)),
    highestMs: Math.round(Math.max(...times)),
    residentMiB: Math.round(Math.max(...runs.map(({ residentKiB }) => residentKiB)) / 1024),
    runs: runs.length,
  }
}

const measureCommands = (name: string, folder: string, runs: number): CommandResult[] => {
  const files = [0, 1].map((i) => join(folder, `${i}.yaml`))
  files.forEach((file, i) => {
    writeFileSync(
      file,
      yaml((backend) => 1 + ((backend + i) % 5)),
    )
  })
  run(name, [
    'attach',
    'eth0',
    '--mode',
    'generic',
    '--services',
    String(CAPACITY.services),
    '--backends',
    String(CAPACITY.backends),
  ])
  const times = (words: (i: number) => string[]) => Array.from({ length: runs }, (_, i) => run(name, words(i)))
  const first = run(name, ['restore', files[0] ?? ''])
  const service = `tcp://${formatIpv4(0xc6_12_00_01 + 2000)}:80`
  return [
    summary('restore, into an empty director', [first]),
    // Each run changes every weight of every service.
    summary(
      'restore, every service changed',
      times((i) => ['restore', files[(i + 1) % 2] ?? '']),
    ),
    summary(
      'backend set, one weight',
      times((i) => ['backend', 'set', service, '10.254.0.20', '--weight', String(10 + i)]),
    ),
    summary(
      'list, one service',
      times(() => ['list', service]),
    ),
    summary(
      '--version (Node and commander alone)',
      times(() => ['--version']),
    ),
  ]
}

/** Takes about half a minute. Leaves nothing. */
export const measureControlPlane = (native: Native, runs = 9): ControlPlaneResult => {
  const name = `xlbbc${process.pid}`
  const folder = mkdtempSync(join(tmpdir(), 'xlb-bench-'))
  try {
    makeNetwork(name)
    const commands = measureCommands(name, folder, runs)
    const elements = elementsFor(CAPACITY, native.system.possibleCpus())
    const mebibytes = (map: MappedName) => Math.round((elements[map] * MAPPED[map] * 10) / 2 ** 20) / 10
    const mapsMiB = Object.fromEntries((Object.keys(MAPPED) as MappedName[]).map((map) => [map, mebibytes(map)]))
    return {
      services: SERVICES,
      backendsPerService: BACKENDS,
      fileBytes: Buffer.byteLength(yaml(() => 1)),
      commands,
      mapsMiB,
      mapsTotalMiB: Math.round(Object.values(mapsMiB).reduce((sum, size) => sum + size, 0)),
    }
  } finally {
    spawnSync('nsenter', [`--net=/run/netns/${name}`, process.execPath, CLI, '--instance', name, 'detach', '--all'])
    spawnSync('ip', ['netns', 'delete', name])
    rmSync(folder, { recursive: true, force: true })
  }
}
