// SPDX-License-Identifier: Apache-2.0
// What is counted over all services. A live state that follows from another (follow.ts) has its totals of that one, and of what changed.
import { prefixesOf } from './filters.ts'
import { Choice, ServiceFlag, type Service as ServiceRecord } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import type { LiveService, LiveState } from './reader.ts'

export interface Totals {
  /** Services that the sweeper works for. */
  swept: number
  /** Of all filters, that of all services included. */
  prefixes: number
}

/** Do its backends' counts decide where packets go? Then expired entries must not count. */
export const isSwept = ({ choice, flags }: ServiceRecord): boolean =>
  choice !== Choice.CHOICE_TURN || (flags & ServiceFlag.SERVICE_LIMITED) !== 0

/** Of some services. */
export const countTotals = (memory: PlaneMemory, services: Iterable<LiveService>): Totals => {
  const totals = { swept: 0, prefixes: 0 }
  for (const { service, filter } of services) {
    if (isSwept(service)) totals.swept++
    if (filter !== 0) totals.prefixes += prefixesOf(memory, filter)
  }
  return totals
}

/** Of states that followed from others. */
const followed = new WeakMap<LiveState, Totals>()

export const totalsOf = (memory: PlaneMemory, live: LiveState): Totals => {
  const known = followed.get(live)
  if (known !== undefined) return known
  const { swept, prefixes } = countTotals(memory, live.services.values())
  return { swept, prefixes: prefixes + prefixesOf(memory, live.filter) }
}

/** After a commit that gave one service another record, and left it its filter. @param before totalsOf the state before */
export const followTotals = (
  before: Totals,
  { was, is, live }: { was: LiveService; is: LiveService; live: LiveState },
): void => {
  const swept = before.swept - Number(isSwept(was.service)) + Number(isSwept(is.service))
  followed.set(live, { ...before, swept })
}
