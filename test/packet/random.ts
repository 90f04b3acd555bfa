// SPDX-License-Identifier: Apache-2.0
// A seeded generator: a failure names its seed, and the seed brings the failure back.

export interface Random {
  /** 32 bits. */
  word: () => number
  /** 0 to end - 1. */
  below: (end: number) => number
  /** True once in `odds`. */
  once: (odds: number) => boolean
  pick: <T>(from: readonly T[]) => T
}

/** splitmix32: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. */
export const makeRandom = (seed: number): Random => {
  let state = seed >>> 0
  const word = (): number => {
    state = (state + 0x9e3779b9) >>> 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
  const below = (end: number): number => word() % end
  return {
    word,
    below,
    once: (odds) => below(odds) === 0,
    pick: (from) => {
      const picked = from[below(from.length)]
      if (picked === undefined) throw new Error('nothing to pick from')
      return picked
    },
  }
}
