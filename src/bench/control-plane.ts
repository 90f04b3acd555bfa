// SPDX-License-Identifier: Apache-2.0
// What a change costs where much is configured: 4,000 services of 25 backends, restored from a file; then one weight; and a million
// connections listed. Whole commands, Node's start included, in a network namespace of its own.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DEFAULT_BACKEND_LIMIT } from '../api/metrics.ts'
import { formatIpv4 } from '../core/ip.ts'
import { elementsFor, MAPPED, type MappedName } from '../dataplane/memory.ts'
import type { Native } from '../dataplane/native.ts'
import { pathsOf } from '../shell/instance.ts'
import { openPlaneAt } from '../shell/lock.ts'
import { type DaemonResult, measureDaemon } from './daemon.ts'
import { fillFlows } from './fill-flows.ts'
import { median } from './harness.ts'
import { measureScrape, type ScrapeResult } from './scrape.ts'

export interface CommandResult {
  command: string
  /** Wall time of the whole process: median, lowest, highest. */
  ms: number
  lowestMs: number
  highestMs: number
  /** Largest resident set, MiB. */
  residentMiB: number
  runs: number
}

export interface ControlPlaneResult {
  services: number
  backendsPerService: number
  fileBytes: number
  commands: CommandResult[]
  /** With the limit of backends as it is, and with series for every backend. */
  scrapes: ScrapeResult[]
  daemon: DaemonResult
  /** What the instance's maps take, MiB, by name. */
  mapsMiB: Partial<Record<MappedName, number>>
  mapsTotalMiB: number
}

const SERVICES = 4000
const BACKENDS = 25
const CAPACITY = { services: 4096, backends: 102_400, flows: 2 ** 21, flows6: 2 ** 21 }
const CLI = fileURLToPath(new URL('../xlb.cjs', import.meta.url))

const serviceName = (service: number): string => `tcp://${formatIpv4(0xc6_12_00_01 + service)}:80`

/** @param weightOf by the backend's number in its service, and the service's */
const yaml = (weightOf: (backend: number, service: number) => number): string => {
  const lines = ['services:']
  for (let service = 0; service < SERVICES; service++) {
    lines.push(`  - service: ${serviceName(service)}`, '    scheduler: mh', '    backends:')
    for (let backend = 0; backend < BACKENDS; backend++) {
      lines.push(`      - { address: 10.254.0.${10 + backend}, weight: ${weightOf(backend, service)} }`)
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

/** Node in the namespace. */
const node = (name: string, words: readonly string[]): void => {
  const { status, stderr } = spawnSync('nsenter', [`--net=/run/netns/${name}`, process.execPath, ...words], {
    encoding: 'utf8',
    // A million connections are more than spawnSync keeps.
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  if (status !== 0) throw new Error(`node ${words.join(' ')}: ${stderr}`)
}

/** One command in the namespace. @param options of Node itself */
const xlb = (name: string, words: readonly string[], options: readonly string[] = []): void =>
  node(name, [...options, CLI, '--instance', name, ...words])

const took = (action: () => void): number => {
  const start = process.hrtime.bigint()
  action()
  return Number(process.hrtime.bigint() - start) / 1e6
}

const milliseconds = (name: string, words: readonly string[]): number => took(() => xlb(name, words))

/** Peak memory, as the process itself tells it at its end: in a run of its own, since what makes it tell takes time. */
const residentMiB = (name: string, words: readonly string[]): number => {
  const report = join(tmpdir(), `${name}-usage`)
  const preload = `data:text/javascript,import{writeFileSync}from'node:fs';process.on('exit',()=>writeFileSync(${JSON.stringify(report)},String(process.resourceUsage().maxRSS)))`
  xlb(name, words, ['--import', preload])
  const kibibytes = Number(readFileSync(report, 'utf8'))
  rmSync(report)
  return Math.round(kibibytes / 1024)
}

const MILLION = 1_000_000
const CONNECTED = 'tcp://198.19.0.1:80'

/** A million connections listed, from Node's start until another process has read the last line. */
const measureConnections = (native: Native, name: string, runs: number): CommandResult[] => {
  xlb(name, ['service', 'add', CONNECTED, '--scheduler', 'rr'])
  for (const i of [0, 1, 2]) xlb(name, ['backend', 'set', CONNECTED, `10.254.0.${10 + i}`])
  const plane = openPlaneAt(native, pathsOf(name).pins)
  try {
    fillFlows(plane, CONNECTED, MILLION)
  } finally {
    plane.close()
  }
  const measured = (title: string, options: readonly string[]): CommandResult => {
    const words = ['connections', ...options]
    const listed = `nsenter --net=/run/netns/${name} ${process.execPath} ${CLI} --instance ${name} ${words.join(' ')} | wc -l`
    const times = Array.from({ length: runs }, () => {
      const start = process.hrtime.bigint()
      const { stdout, stderr } = spawnSync('sh', ['-c', listed], { encoding: 'utf8' })
      if (Number(stdout) < MILLION) throw new Error(`xlb ${words.join(' ')}: ${stdout} lines; ${stderr}`)
      return Number(process.hrtime.bigint() - start) / 1e6
    })
    return resultOf(title, times, residentMiB(name, words))
  }
  return [
    measured('connections, a million', []),
    measured('connections --format ipvsadm', ['--format', 'ipvsadm']),
    measured('connections --json', ['--json']),
  ]
}

const resultOf = (command: string, times: readonly number[], resident: number): CommandResult => ({
  command,
  ms: Math.round(median(times)),
  lowestMs: Math.round(Math.min(...times)),
  highestMs: Math.round(Math.max(...times)),
  residentMiB: resident,
  runs: times.length,
})

const measureCommands = (name: string, folder: string, runs: number): CommandResult[] => {
  const files = [0, 1].map((i) => join(folder, `${i}.yaml`))
  files.forEach((file, i) => {
    writeFileSync(
      file,
      yaml((backend) => 1 + ((backend + i) % 5)),
    )
  })
  const sizes = ['--services', String(CAPACITY.services), '--backends', String(CAPACITY.backends)]
  xlb(name, ['attach', 'eth0', '--mode', 'generic', ...sizes])
  /** @param words of each run, and of one more, whose memory is asked for */
  const measured = (command: string, words: (i: number) => readonly string[], before?: readonly string[]) => {
    const prepare = () => (before === undefined ? undefined : xlb(name, before))
    const times = Array.from({ length: runs }, (_, i) => {
      prepare()
      return milliseconds(name, words(i))
    })
    prepare()
    return resultOf(command, times, residentMiB(name, words(runs)))
  }
  const service = serviceName(2000)
  return [
    measured('restore, into an empty director', () => ['restore', files[0] ?? ''], ['clear']),
    // Each run changes every weight of every service.
    measured('restore, every service changed', (i) => ['restore', files[(i + 1) % 2] ?? '']),
    measured('backend set, one weight', (i) => ['backend', 'set', service, '10.254.0.20', '--weight', String(10 + i)]),
    measured('list, one service', () => ['list', service]),
    measured('--version (Node and commander alone)', () => ['--version']),
  ]
}

/** Takes some two minutes. Leaves nothing. */
export const measureControlPlane = async (native: Native, runs = 9): Promise<ControlPlaneResult> => {
  const name = `xlbbc${process.pid}`
  const folder = mkdtempSync(join(tmpdir(), 'xlb-bench-'))
  try {
    makeNetwork(name)
    const commands = [...measureCommands(name, folder, runs), ...measureConnections(native, name, runs)]
    const scrapes: ScrapeResult[] = []
    for (const limit of [DEFAULT_BACKEND_LIMIT, SERVICES * BACKENDS]) {
      scrapes.push(await measureScrape(native, name, limit, runs))
    }
    xlb(name, ['detach', '--all'])
    const daemon = await measureDaemon({
      name,
      folder,
      cli: CLI,
      config: (change) =>
        `interfaces: [{ name: eth0, mode: generic }]\nlimits: { services: ${CAPACITY.services}, backends: ${CAPACITY.backends} }\n${yaml((backend, service) => (backend === 3 && service === 7 ? 1 + change : 1))}`,
      service: serviceName(2000),
      backend: '10.254.0.20',
      runs,
      command: (words) => milliseconds(name, words),
      nothing: () => took(() => node(name, ['-e', '0'])),
    })
    const elements = elementsFor(CAPACITY, native.system.possibleCpus())
    const mebibytes = (map: MappedName) => Math.round((elements[map] * MAPPED[map] * 10) / 2 ** 20) / 10
    const mapsMiB = Object.fromEntries((Object.keys(MAPPED) as MappedName[]).map((map) => [map, mebibytes(map)]))
    return {
      services: SERVICES,
      backendsPerService: BACKENDS,
      fileBytes: Buffer.byteLength(yaml(() => 1)),
      commands,
      scrapes,
      daemon,
      mapsMiB,
      mapsTotalMiB: Math.round(Object.values(mapsMiB).reduce((sum, size) => sum + size, 0)),
    }
  } finally {
    spawnSync('nsenter', [`--net=/run/netns/${name}`, process.execPath, CLI, '--instance', name, 'detach', '--all'])
    spawnSync('ip', ['netns', 'delete', name])
    for (const left of [folder, pathsOf(name).state]) rmSync(left, { recursive: true, force: true })
  }
}
