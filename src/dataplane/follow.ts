// SPDX-License-Identifier: Apache-2.0
// What is live after a commit, made of what was live before instead of being read: for whoever makes one change after another, and looks
// at no other service for each.
import type { PlaneMemory } from './memory.ts'
import { type LiveState, withRecord } from './reader.ts'
import { followSpace } from './space.ts'
import { followTotals, totalsOf } from './totals.ts'
import type { Replaced } from './writer.ts'

/** @param replaced what applyChanges answered */
export const liveAfter = (memory: PlaneMemory, live: LiveState, { name, record, space }: Replaced): LiveState => {
  const next = withRecord(memory, live, name, record)
  const [before, after] = [live.services.get(name), next.services.get(name)]
  if (space !== undefined && before !== undefined && after !== undefined) {
    followSpace(memory, space, { before, after, live: next })
    followTotals(totalsOf(memory, live), { was: before, is: after, live: next })
  }
  return next
}
