// SPDX-License-Identifier: Apache-2.0
// A case as IPVS is given it, for uml-init and drive.c; and what they wrote down of it.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { reopensAt } from '../../src/core/max-conns.ts'
import type { Load } from '../packet/counted.ts'
import type { Answers } from './answers.ts'
import type { Case } from './cases.ts'
import type { Step } from './traffic.ts'

/** xlb never chooses a server that takes no new connection; IPVS drops what hashes to such a one, unless told otherwise. */
const flagsOf = ({ scheduler, hash }: Case): string =>
  scheduler === 'sh' || scheduler === 'mh'
    ? ` -b ${scheduler}-fallback${hash === 'source-port' ? `,${scheduler}-port` : ''}`
    : ''

const isPrefix = (service: string): boolean => service.includes('/', 6)

/** ipvsadm has no prefixes. Where xlb has one, IPVS goes by the fwmark that drive.c puts on each frame. */
const mark = ({ service, number }: Case): number => (isPrefix(service) ? number : 0)

/** As ipvsadm(8) names it. */
const serviceOf = (each: Case): string => {
  if (isPrefix(each.service)) return `-f ${mark(each)}`
  const [protocol, address] = each.service.split('://')
  return `${protocol === 'udp' ? '-u' : '-t'} ${address}`
}

const serverOf = (each: Case, server: number): string =>
  `${serviceOf(each)} -r 198.51.100.${server}:${isPrefix(each.service) ? 0 : 80}`

const limitsOf = ({ maxConns }: Case, server: number): string => {
  const limit = maxConns[server]
  return limit === undefined ? '' : ` -x ${limit.upper} -y ${limit.lower === 0 ? 0 : reopensAt(limit)}`
}

const addServer = (each: Case, server: number, weight: number): string =>
  `-a ${serverOf(each, server)} -g -w ${weight}${limitsOf(each, server)}`

/** ipvsadm puts each server before those that are there (net/netfilter/ipvs/ip_vs_ctl.c, __ip_vs_update_dest). */
const ipvsadmOf = (each: Case): string[] => [
  `-A ${serviceOf(each)} -s ${each.scheduler}${flagsOf(each)}`,
  ...Object.entries(each.weights)
    .toReversed()
    .map(([server, weight]) => addServer(each, Number(server), weight)),
]

const lineOf = (each: Case, step: Step): string => {
  switch (step.kind) {
    case 'frame':
      return step.frame.toString('hex')
    case 'weight':
      return `!ipvsadm -e ${serverOf(each, step.server)} -g -w ${step.weight}${limitsOf(each, step.server)}`
    case 'remove':
      return `!ipvsadm -d ${serverOf(each, step.server)}`
    case 'wait':
      return `~${1000 * step.seconds}`
    case 'pause':
      return `~${step.milliseconds}`
  }
}

const lines = (each: readonly string[]): string => each.map((line) => `${line}\n`).join('')

export const writeCase = (folder: string, each: Case): void => {
  const into = join(folder, each.name)
  mkdirSync(into)
  writeFileSync(join(into, 'ipvsadm'), lines(ipvsadmOf(each)))
  writeFileSync(join(into, 'mark'), `${mark(each)}\n`)
  writeFileSync(join(into, 'steps'), lines(each.steps.map((step) => lineOf(each, step))))
}

/** `ipvsadm --list --numeric`: of each server its address, method, weight, active and inactive connections. */
const readLoads = (text: string): Map<number, Load> =>
  new Map(
    [...text.matchAll(/-> 198\.51\.100\.(\d+):\d+ +\w+ +\d+ +(\d+) +(\d+)/g)].map(([, server, active, inactive]) => [
      Number(server),
      { active: Number(active), inactive: Number(inactive) },
    ]),
  )

/** @throws Error where the kernel in user mode did not do all of it */
export const readAnswers = (folder: string, each: Case): Answers => {
  const read = (file: string): string => readFileSync(join(folder, each.name, file), 'utf8')
  const said = read('errors')
  if (said !== '') throw new Error(`${each.name}: ${said}`)
  const servers = read('answers')
    .trim()
    .split('\n')
    .map((answer) => (answer === '-' ? undefined : Number(answer)))
  const frames = each.steps.filter(({ kind }) => kind === 'frame').length
  if (servers.length !== frames) throw new Error(`${each.name}: ${servers.length} answers to ${frames} frames`)
  const received = Number(read('received'))
  if (received !== frames) throw new Error(`${each.name}: the director received ${received} of ${frames} frames`)
  return { servers, loads: readLoads(read('loads')) }
}
