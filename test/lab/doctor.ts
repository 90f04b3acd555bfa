// SPDX-License-Identifier: Apache-2.0
// `xlb doctor` in a lab: what it finds while something is wrong, and that it finds nothing before and after.
import type { ExecutionContext } from 'ava'
import type { Report } from '../../src/core/doctor/diagnosis.ts'
import { Lab, type LabOptions } from './lab.ts'
import { attach, backends, type Mode, on, restore } from './xlb.ts'

/** A lab where nothing is wrong: one service, and a server on every real server. */
export const soundLab = async (t: ExecutionContext, options: LabOptions = {}, mode: Mode = 'native'): Promise<Lab> => {
  const servers = options.servers ?? 3
  const lab = await Lab.up(t, { ...options, servers })
  const numbers = Array.from({ length: servers }, (_, i) => i + 1)
  await Promise.all([...numbers.map((number) => lab.http(number, 80)), attach(lab, mode)])
  const service = `tcp://${lab.vipInUrl}:80`
  await restore(lab, [{ service, scheduler: 'rr', backends: backends(lab, ...numbers.map(() => 1)) }])
  return lab
}

/** @throws where the command prints no report, or exits otherwise than its findings ask for */
export const doctor = async (lab: Lab, ...args: string[]): Promise<Report> => {
  const { stdout, stderr, code } = await lab.xlb(['doctor', '--json', ...args])
  if (stdout === '') throw new Error(`xlb doctor: exit ${code}: ${stderr}`)
  const report = JSON.parse(stdout) as Report
  const expected = report.findings.some(({ severity }) => severity === 'error') ? 1 : 0
  if (code !== expected) throw new Error(`xlb doctor: exit ${code} with ${namesOf(report).join(', ') || 'no findings'}`)
  return report
}

export const namesOf = ({ findings }: Report): string[] => findings.map(({ name, severity }) => `${severity} ${name}`)

export interface Fault {
  /** What is wrong, for messages. */
  what: string
  /** Where it is made and mended, in the shell's words. */
  host: string
  make: string
  mend: string
  /** Findings, by severity and name. */
  found: readonly string[]
  /** What the first of them says. */
  says?: RegExp
}

/** Makes a fault, has it found, and mends it. */
export const suffers = async (t: ExecutionContext, lab: Lab, fault: Fault): Promise<Report> => {
  await on(lab, fault.host, fault.make)
  const report = await doctor(lab)
  t.deepEqual(namesOf(report), fault.found, `${fault.what}: ${JSON.stringify(report, null, 1)}`)
  if (fault.says !== undefined) t.regex(report.findings[0]?.what ?? '', fault.says, fault.what)
  await on(lab, fault.host, fault.mend)
  return report
}

/** Nothing is wrong. */
export const isWell = async (t: ExecutionContext, lab: Lab, ...args: string[]): Promise<Report> => {
  const report = await doctor(lab, ...args)
  t.deepEqual(report.findings, [])
  return report
}

/** Runs the commands that a finding names on a host, with a /etc/sysctl.d of their own. */
export const obey = async (lab: Lab, host: string, lines: readonly string[]): Promise<void> => {
  const script = ['mount -t tmpfs none /etc/sysctl.d', ...lines].join('\n')
  const { code, stderr } = await lab.run(host, ['unshare', '--mount', 'sh', '-ec', script])
  if (code !== 0) throw new Error(`${host}: ${lines.join('; ')}: exit ${code}: ${stderr}`)
}
