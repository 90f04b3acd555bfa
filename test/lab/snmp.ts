// SPDX-License-Identifier: Apache-2.0
// What the stack of a lab's host has counted, by the names of /proc/net/snmp and snmp6 (RFC 1213, RFC 4293).
import type { Lab } from './lab.ts'

type Group = 'Icmp' | 'Icmp6' | 'Tcp' | 'Udp'
export type Counters = Record<string, number>

/** Every counter of a group: `InDestUnreachs` of `Icmp` and `Icmp6`, `InDatagrams` of `Udp`. */
export const snmp = async (lab: Lab, host: string, group: Group): Promise<Counters> => {
  const file = group === 'Icmp6' ? '/proc/net/snmp6' : '/proc/net/snmp'
  const { code, stdout, stderr } = await lab.run(host, ['cat', file])
  if (code !== 0) throw new Error(`${host}: ${file}: ${stderr}`)
  if (group === 'Icmp6') return ofLines(stdout, group)
  const [names = [], values = []] = stdout
    .split('\n')
    .filter((line) => line.startsWith(`${group}:`))
    .map((line) => line.split(' '))
  return Object.fromEntries(names.slice(1).map((name, i) => [name, Number(values[i + 1])]))
}

/** snmp6 has a line for each counter, with the group's name before it. */
const ofLines = (text: string, group: Group): Counters =>
  Object.fromEntries(
    [...text.matchAll(new RegExp(`^${group}(\\S+)\\s+(\\d+)$`, 'gm'))].map(([, name, value]) => [name, Number(value)]),
  )

/** One counter of each of these hosts. */
export const each = async (lab: Lab, hosts: readonly string[], group: Group, name: string): Promise<Counters> => {
  const values = await Promise.all(
    hosts.map(async (host) => [host, (await snmp(lab, host, group))[name] ?? 0] as const),
  )
  return Object.fromEntries(values)
}

/** What was added to counters, those that stayed left out. */
export const added = (before: Counters, after: Counters): Counters =>
  Object.fromEntries(
    Object.entries(after)
      .map(([name, value]) => [name, value - (before[name] ?? 0)] as const)
      .filter(([, value]) => value !== 0),
  )
