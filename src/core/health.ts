// SPDX-License-Identifier: Apache-2.0
// What a daemon found out of a backend, beside what a person configured of it: the one never changes the other. It lies in the
// maps with the rest of the desired state, so that a verb that reads them and writes them anew keeps it.

export interface Health {
  /** Do flows that it has stay with it? Else they are scheduled anew, and it gets no new ones. */
  alive: boolean
  /** The share of its configured weight that it has, 0 to 100. 0: no new flows. */
  percent: number
  /** Unix time since when it is so. In the maps it has whole seconds. */
  sinceMs: number
}

/** Do packets go by the two alike? Left out: it is alive, and has all of its weight. */
export const sameHealth = (a: Health | undefined, b: Health | undefined): boolean =>
  a === b || ((a?.alive ?? true) === (b?.alive ?? true) && (a?.percent ?? 100) === (b?.percent ?? 100))

/** A share of a weight: at least 1 where there is something of both. */
export const healthyWeight = (weight: number, percent: number): number =>
  weight === 0 || percent === 0 ? 0 : Math.max(1, Math.round((weight * percent) / 100))
