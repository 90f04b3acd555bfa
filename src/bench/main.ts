// SPDX-License-Identifier: Apache-2.0
// scripts/bench: everything that is measured, as a table and as JSON. `xlb bench` has the packet-path part of it.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { table } from '../commands/text.ts'
import { loadNative } from '../dataplane/native.ts'
import { demandPrivilege } from '../shell/instance.ts'
import { type ControlPlaneResult, measureControlPlane } from './control-plane.ts'
import type { DaemonResult } from './daemon.ts'
import { checkFlowTables, type FlowTableResult } from './flow-table.ts'
import { FLOOR_LRU } from './harness.ts'
import { measureLiveFrames, measurePacketPath } from './packet-path.ts'
import { cpuReport, vethReport } from './report.ts'

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    rounds: { type: 'string', default: '9' },
    json: { type: 'string' },
    match: { type: 'string' },
    beside: { type: 'string' },
  },
})
const PARTS = ['packets', 'veth', 'flows', 'control'] as const
const parts = options.only ?? PARTS
for (const part of parts) {
  if (!PARTS.some((known) => known === part)) {
    process.stderr.write(`bench: --only ${part} is not known; choose one of: ${PARTS.join(', ')}\n`)
    process.exit(2)
  }
}

const print = (text: string): void => {
  process.stdout.write(`${text}\n`)
}
const progress = (text: string): void => {
  process.stderr.write(`${text}\n`)
}

/** A column for each trial. */
const flowReport = (results: readonly FlowTableResult[]): string => {
  const names = Object.keys(results[0] ?? {}) as (keyof FlowTableResult)[]
  return table([
    ['flow table', ...results.map((_, i) => `trial ${i + 1}`)],
    ...names.map((name) => [name, ...results.map((result) => result[name].toLocaleString('en'))]),
  ]).join('\n')
}

const daemonReport = ({
  times,
  residentMiB: { idle, idleOwn, full, fullOwn },
  scrapeBytes,
}: DaemonResult): string[] => [
  ...table([
    ['daemon', 'ms', 'lowest', 'highest', 'runs'],
    ...times.map(({ what, ms, lowestMs, highestMs, runs }) => [what, ...[ms, lowestMs, highestMs, runs].map(String)]),
  ]),
  `daemon's memory: ${idle} MiB resident without services, of which ${idleOwn} its own; ${full} and ${fullOwn} with all; a scrape has ${scrapeBytes} octets`,
]

const controlReport = (result: ControlPlaneResult): string =>
  [
    `control plane: ${result.services} services of ${result.backendsPerService} backends, a file of ${result.fileBytes} octets`,
    ...table([
      ['command', 'ms', 'lowest', 'highest', 'MiB resident', 'runs'],
      ...result.commands.map(({ command, ms, lowestMs, highestMs, residentMiB, runs }) => [
        command,
        ...[ms, lowestMs, highestMs, residentMiB, runs].map(String),
      ]),
    ]),
    ...table([
      [
        'scrape of the metrics, backends told',
        'series',
        'octets',
        'ms under the lock',
        'highest',
        'ms in all',
        'highest',
      ],
      ...result.scrapes.map((each) => [
        ...[each.backendLimit, each.series, each.bytes].map((count) => count.toLocaleString('en')),
        ...[each.lockedMs, each.highestLockedMs, each.ms, each.highestMs].map(String),
      ]),
    ]),
    ...daemonReport(result.daemon),
    `maps: ${result.mapsTotalMiB} MiB (${Object.entries(result.mapsMiB)
      .filter(([, size]) => size >= 1)
      .map(([name, size]) => `${name} ${size}`)
      .join(', ')})`,
  ].join('\n')

demandPrivilege()
const native = loadNative()
const results: Record<string, unknown> = {}
/** Written after each part: what one has measured a later one's failure does not take. */
const keep = (part: string, measured: unknown): void => {
  results[part] = measured
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`)
}
if (parts.includes('packets')) {
  progress('packet path: some ten minutes; --match takes rows out')
  const measured = await measurePacketPath(native, {
    rounds: Number(options.rounds),
    ...(options.match === undefined ? {} : { match: new RegExp(options.match) }),
    ...(options.beside === undefined ? {} : { beside: options.beside }),
    onRound: (round, rounds) => progress(`  round ${round} of ${rounds}`),
  })
  keep('packetPath', measured)
  print(`${cpuReport(measured, FLOOR_LRU)}\n`)
}
if (parts.includes('veth')) {
  progress('live frames over veth')
  const measured = await measureLiveFrames(native)
  keep('liveFrames', measured)
  print(`${vethReport(measured)}\n`)
}
if (parts.includes('flows')) {
  progress('flow table: about a minute')
  const measured = checkFlowTables(native)
  keep('flowTable', measured)
  print(`${flowReport(measured)}\n`)
}
if (parts.includes('control')) {
  progress('control plane: about a minute and a half')
  const measured = await measureControlPlane(native)
  keep('controlPlane', measured)
  print(`${controlReport(measured)}\n`)
}
