// SPDX-License-Identifier: Apache-2.0
// Services of a range of ports, seen together: two of one VIP and protocol have no port in common.

import { RunLimit } from '../dataplane/layout.gen.ts'
import { formatPorts, isRange, parseService, type ServiceAddress } from './address.ts'
import { Refusal, type StateFault } from './refusal.ts'

/** Ranges that one VIP may have for one protocol. */
export const RANGES_MAX = RunLimit.RANGES_PER_RUN_MAX

interface Named extends ServiceAddress {
  name: string
}

/** By VIP and protocol, each in ascending order of first ports. Of names without a range nothing but the text is looked at. */
const rangesOf = (names: Iterable<string>): Map<string, Named[]> => {
  const groups = new Map<string, Named[]>()
  for (const name of names) {
    if (!name.includes('-')) continue
    const service = { name, ...parseService(name) }
    if (!isRange(service)) continue
    const group = `${service.protocol}://${service.vip}`
    const others = groups.get(group)
    if (others === undefined) groups.set(group, [service])
    else others.push(service)
  }
  for (const group of groups.values()) group.sort((a, b) => a.port - b.port)
  return groups
}

const overlap = (a: Named, b: Named): StateFault => {
  const port = Math.max(a.port, b.port)
  const lastPort = Math.min(a.lastPort, b.lastPort)
  const common = port === lastPort ? `port ${port}` : `ports ${formatPorts({ port, lastPort })}`
  const refusal = new Refusal(
    `service ${b.name}: overlaps ${a.name}: both have ${common}`,
    'give each port to one range; a single port or * may stand beside ranges',
  )
  return { service: b.name, keys: ['service'], refusal }
}

/**
 * Whatever is wrong with the ranges of these services, given by their names: two that overlap, or too many of a VIP.
 * A port by itself may lie within a range, and goes first; `*` gets what is left.
 */
export function* rangeFaults(names: Iterable<string>): Generator<StateFault> {
  for (const [group, ranges] of rangesOf(names)) {
    let widest: Named | undefined
    for (const range of ranges) {
      if (widest !== undefined && range.port <= widest.lastPort) yield overlap(widest, range)
      if (widest === undefined || range.lastPort > widest.lastPort) widest = range
    }
    if (ranges.length > RANGES_MAX) {
      const refusal = new Refusal(
        `services ${group}:...: ${ranges.length} ranges exceed ${RANGES_MAX} for one VIP and protocol`,
        `join ranges that have the same backends, or take them together: ${group}:*`,
      )
      yield { service: ranges[RANGES_MAX]?.name ?? '', keys: ['service'], refusal }
    }
  }
}

/** @throws Refusal, the first of rangeFaults */
export const checkRanges = (names: Iterable<string>): void => {
  for (const { refusal } of rangeFaults(names)) throw refusal
}
