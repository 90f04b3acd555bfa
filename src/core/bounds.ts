// SPDX-License-Identifier: Apache-2.0
// A list of prefixes of which the longest one decides -> the addresses at which the answer changes (struct filter in
// bpf/xlb.h): the packet path then counts those at or below a source.
import { AF } from './ip.ts'
import { bitsOf, type FamilyNumber, type Prefixes, prefixAt, prefixCount, type Verdict } from './prefixes.ts'

/** Prefixes of one family as intervals, in a list's order: `end` is the first address behind it, and may be one too many. */
interface Interval {
  start: bigint
  end: bigint
  verdict: Verdict
}

const intervalsOf = (list: Prefixes, family: FamilyNumber): Interval[] => {
  const intervals: Interval[] = []
  for (let i = 0; i < prefixCount(list); i++) {
    const prefix = prefixAt(list, i)
    if (prefix.family !== family) continue
    const start = toNumber(prefix.words, family)
    intervals.push({ start, end: start + (1n << BigInt(bitsOf(family) - prefix.bits)), verdict: prefix.verdict })
  }
  return intervals
}

const toNumber = (words: readonly [number, number, number, number], family: FamilyNumber): bigint =>
  family === AF.ipv4
    ? BigInt(words[0])
    : (BigInt(words[0]) << 96n) | (BigInt(words[1]) << 64n) | (BigInt(words[2]) << 32n) | BigInt(words[3])

/**
 * The addresses at which the answer changes, ascending, from what holds where no prefix is. Prefixes of a sorted list either
 * contain each other or have no address in common, an outer one stands before those within it, and so a stack of those that
 * are open tells what holds.
 */
export const changesOf = (list: Prefixes, family: FamilyNumber, fallback: Verdict): bigint[] => {
  const changes: bigint[] = []
  let holds = fallback
  const become = (verdict: Verdict, at: bigint): void => {
    if (verdict === holds) return
    holds = verdict
    // Changed and changed back at one address: no change.
    if (changes.at(-1) === at) changes.pop()
    else changes.push(at)
  }
  const open: Interval[] = []
  const closeUntil = (address: bigint): void => {
    for (let top = open.at(-1); top !== undefined && top.end <= address; top = open.at(-1)) {
      open.pop()
      become(open.at(-1)?.verdict ?? fallback, top.end)
    }
  }
  for (const interval of intervalsOf(list, family)) {
    closeUntil(interval.start)
    open.push(interval)
    become(interval.verdict, interval.start)
  }
  const behindAll = 1n << BigInt(bitsOf(family))
  closeUntil(behindAll)
  if (changes.at(-1) === behindAll) changes.pop()
  return changes
}
