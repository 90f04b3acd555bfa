// SPDX-License-Identifier: Apache-2.0
// Live counts beside the table that they count: what each backend's entries are, looked at one by one.

import { backendOf, FLOW_TABLES, stateOf, WORD } from '../../src/dataplane/flow-tables.ts'
import { FlowState } from '../../src/dataplane/layout.gen.ts'
import { readConnections } from '../../src/dataplane/least.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import type { Balancer } from './plane.ts'

export interface Load {
  active: number
  inactive: number
}

const ACTIVE: readonly number[] = [FlowState.FLOW_HALF_OPEN, FlowState.FLOW_ESTABLISHED]

/** Every backend of every service whose live counts are not those of its entries, in words. */
export const miscounted = (balancer: Balancer): string[] => {
  const counted = new Map<string, Load>()
  for (const { name, flowAt, words: step } of Object.values(FLOW_TABLES)) {
    const words = new Uint32Array(balancer.plane.buffer(name))
    for (let flow = flowAt; flow < words.length; flow += step) {
      const low = words[flow + WORD.valueLow] ?? 0
      if (stateOf(low) <= FlowState.FLOW_CLAIMED) continue
      const key = `${(words[flow + WORD.portAndId] ?? 0) >>> 16} ${backendOf(low)}`
      const load = counted.get(key) ?? { active: 0, inactive: 0 }
      load[ACTIVE.includes(stateOf(low)) ? 'active' : 'inactive']++
      counted.set(key, load)
    }
  }
  return [...readLive(balancer.plane).services.values()].flatMap(({ name, service, backends }) =>
    backends.flatMap(({ index, counter, want }) => {
      const has = counted.get(`${service.id} ${index}`) ?? { active: 0, inactive: 0 }
      const says = readConnections(balancer.plane, counter)
      if (says.active === has.active && says.inactive === has.inactive) return []
      return [`${name} ${want.address}: ${JSON.stringify(says)} of ${JSON.stringify(has)}`]
    }),
  )
}
