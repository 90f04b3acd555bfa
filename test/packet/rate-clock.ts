// SPDX-License-Identifier: Apache-2.0
// The clock of source_rates stands still: a second has 2^31 jiffies. What is to be past is made so by taking time off its words.
import { FilterLimit } from '../../src/dataplane/layout.gen.ts'
import type { Balancer } from './plane.ts'

const JIFFIES = 2 ** 31

/** Settings of a balancer. */
export const RATE_CLOCK = { jiffiesPerSecond: JIFFIES }

const rateWords = ({ plane }: Balancer): BigUint64Array => new BigUint64Array(plane.buffer('source_rates'))

/** Lets time pass. */
export const pass = (balancer: Balancer, seconds: number): void => {
  const words = rateWords(balancer)
  const time = BigInt(Math.round(seconds * JIFFIES)) << BigInt(FilterLimit.RATE_SHIFT)
  for (const [i, word] of words.entries()) if (word > 0n) words[i] = word > time ? word - time : 0n
}
