// SPDX-License-Identifier: Apache-2.0
// Results as text for people. What is printed with --json is the results themselves.
import { table } from '../commands/text.ts'
import type { Result } from './harness.ts'
import type { VethResult } from './veth.ts'

const distinct = (values: readonly string[]): string[] => [...new Set(values)]

const grid = (results: readonly Result[], title: string, cell: (result: Result) => string): string[] => {
  const columns = distinct(results.map(({ traffic }) => traffic))
  const rows = distinct(results.map(({ program }) => program)).map((program) => [
    program,
    ...columns.map((traffic) => {
      const result = results.find((one) => one.program === program && one.traffic === traffic)
      return result ? cell(result) : '-'
    }),
  ])
  return table([[title, ...columns], ...rows])
}

/** Programs in rows, traffic in columns: ns a packet, and the same as multiples of the program named `floor`. */
export const cpuReport = (results: readonly Result[], floor: string): string => {
  const floorNs = new Map(results.filter(({ program }) => program === floor).map(({ traffic, ns }) => [traffic, ns]))
  const lines = grid(results, 'ns a packet over the wrapper', ({ ns }) => ns.toFixed(1))
  if (floorNs.size > 0) {
    const compared = results.filter(({ traffic }) => floorNs.has(traffic))
    const ratio = ({ traffic, ns }: Result) => (ns / (floorNs.get(traffic) ?? Number.NaN)).toFixed(2)
    lines.push('', ...grid(compared, `times '${floor}'`, ratio))
  }
  const rounds = results.reduce((least, result) => Math.min(least, result.rounds), Number.POSITIVE_INFINITY)
  lines.push(
    '',
    `Median of ${rounds} interleaved rounds, 60-byte frames (64 with FCS), of IPv6 74. Numbers of one run compare, of two do not.`,
  )
  return lines.join('\n')
}

/** Frames over a veth pair: a row for each program, the floor first. */
export const vethReport = (results: readonly VethResult[]): string => {
  const rows = results.map(({ program, mpps, nsPerFrame, overFloorNs, lost }) => [
    program,
    mpps.toFixed(3),
    nsPerFrame.toFixed(0),
    overFloorNs.toFixed(0),
    lost.toString(),
  ])
  const lines = table([['program', 'Mpps', 'ns a frame', 'over the floor', 'lost'], ...rows])
  const rounds = results.reduce((least, result) => Math.min(least, result.rounds), Number.POSITIVE_INFINITY)
  lines.push(
    '',
    `Median of ${rounds} interleaved rounds. Generator, balancer and sink share one core, veth's own work included.`,
  )
  return lines.join('\n')
}
