// SPDX-License-Identifier: Apache-2.0
// Which word was meant.

/** How many letters have to be put in, left out, exchanged or swapped with their neighbour. */
const distance = (a: string, b: string): number => {
  let older: number[] = []
  let before = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1]
      const change = (before[j - 1] ?? 0) + (isSame ? 0 : 1)
      const swap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (older[j - 2] ?? 0) + 1 : change
      row.push(Math.min(change, swap, (before[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1))
    }
    older = before
    before = row
  }
  return before[b.length] ?? 0
}

/** The word that is most like a mistyped one; undefined: none is. */
export const mostSimilar = (word: string, words: readonly string[]): string | undefined => {
  if (word.length > 64) return undefined
  const ranked = words
    .map((each) => ({ each, far: distance(word.toLowerCase(), each.toLowerCase()) }))
    .sort((a, b) => a.far - b.far)
  const best = ranked[0]
  return best !== undefined && best.far <= Math.max(1, Math.floor(best.each.length / 3)) ? best.each : undefined
}
