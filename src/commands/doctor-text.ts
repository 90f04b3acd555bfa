// SPDX-License-Identifier: Apache-2.0
// The doctor's report for people: what is wrong first.
import type { Diagnosis, Report } from '../core/doctor/diagnosis.ts'
import { plural } from './text.ts'

const findingLines = ({ name, severity, what, why, mend, commands }: Diagnosis): string[] => [
  `${severity.toUpperCase()} ${name}: ${what}`,
  `  why:  ${why}`,
  `  mend: ${mend}`,
  ...(commands === undefined
    ? []
    : [`        # on ${commands.host}`, ...commands.lines.map((line) => `        ${line}`)]),
]

/** So many findings of one kind are told in full; a farm that was set up alike is wrong alike. */
const IN_FULL = 3

/** Of findings of one kind, the first in full, and of the others what they are. */
const groupLines = (group: readonly Diagnosis[]): string[][] => {
  const [others, full] = [group.slice(IN_FULL), group.slice(0, IN_FULL).map(findingLines)]
  const [first] = others
  if (first === undefined) return full
  const heading = `${first.severity.toUpperCase()} ${first.name}: ${others.length} more like these`
  return [...full, [heading, ...others.map(({ what }) => `  ${what}`)]]
}

/** In the order in which kinds were first met. */
const groups = (findings: readonly Diagnosis[]): Diagnosis[][] => {
  const byKind = new Map<string, Diagnosis[]>()
  for (const finding of findings) {
    const kind = `${finding.severity} ${finding.name}`
    const group = byKind.get(kind)
    if (group === undefined) byKind.set(kind, [finding])
    else group.push(finding)
  }
  return [...byKind.values()]
}

const countOf = ({ findings }: Report, severity: Diagnosis['severity'], noun: string): string[] => {
  const count = findings.filter((finding) => finding.severity === severity).length
  return count === 0 ? [] : [plural(count, noun)]
}

const summary = (report: Report): string => {
  const counts = [...countOf(report, 'error', 'error'), ...countOf(report, 'warning', 'warning')]
  if (counts.length > 0) return counts.join(' and ')
  return report.unexamined.length === 0 ? 'nothing is wrong' : 'nothing is wrong in what was examined'
}

export const reportText = (report: Report): string => {
  const sections = [
    [summary(report)],
    ...groups(report.findings).flatMap(groupLines),
    report.unexamined.length === 0
      ? []
      : ['not examined:', ...report.unexamined.map(({ what, why }) => `  ${what}: ${why}`)],
    report.fine.length === 0 ? [] : ['well:', ...report.fine.map((line) => `  ${line}`)],
  ]
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')
}

/** The setup of several real servers, each as a script of its own. */
export const setupText = (servers: readonly { host: string; lines: readonly string[] }[]): string =>
  servers.length === 0
    ? 'there are no real servers to set up'
    : servers.map(({ host, lines }) => [`# on ${host}`, ...lines].join('\n')).join('\n\n')
