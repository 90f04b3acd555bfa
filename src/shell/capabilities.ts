// SPDX-License-Identifier: Apache-2.0
// What this process may do (capabilities(7)).
import { readFileSync } from 'node:fs'

/** linux/capability.h. */
export const Capability = {
  SETGID: 6,
  SETUID: 7,
  SETPCAP: 8,
  NET_ADMIN: 12,
  NET_RAW: 13,
  SYS_ADMIN: 21,
  PERFMON: 38,
  BPF: 39,
} as const
export type CapabilityName = keyof typeof Capability

/** CapEff of a /proc/PID/status. */
export const effectiveCapabilities = (status = readFileSync('/proc/self/status', 'utf8')): ReadonlySet<number> => {
  const [, hex = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(status) ?? []
  const held = BigInt(`0x${hex}`)
  return new Set(Object.values(Capability).filter((each) => ((held >> BigInt(each)) & 1n) === 1n))
}

/** Those of these that are missing. SYS_ADMIN stands in for BPF and PERFMON, as before Linux 5.8. */
export const missingCapabilities = (
  needed: readonly CapabilityName[],
  held: ReadonlySet<number> = effectiveCapabilities(),
): CapabilityName[] =>
  needed.filter((name) => {
    const standsIn = (name === 'BPF' || name === 'PERFMON') && held.has(Capability.SYS_ADMIN)
    return !held.has(Capability[name]) && !standsIn
  })
