// SPDX-License-Identifier: Apache-2.0
// How numbers and tables are printed for people.

/** Thousands in groups of three: 1,234,567. */
export const grouped = (value: number | bigint): string => value.toString().replace(/\B(?=(\d{3})+(?!\d))/g, ',')

/** `1 service`, `2 services`. */
export const plural = (count: number, noun: string, nouns = `${noun}s`): string =>
  `${grouped(count)} ${count === 1 ? noun : nouns}`

/** Seconds as the largest unit that says enough: 12 s, 3 min, 5 h, 2 d. */
export const duration = (seconds: number): string => {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} d`
}

/**
 * Rows of cells as lines, columns aligned: words to the left, numbers to the right. A row whose other cells are all empty may be
 * as long as it likes.
 */
export const table = (rows: readonly (readonly string[])[]): string[] => {
  const isHeading = (row: readonly string[]) => row.slice(1).every((cell) => cell === '')
  const numeric = (cell: string) => /^(-|[0-9][0-9,.]*)$/.test(cell)
  const counted = rows.filter((row) => !isHeading(row))
  const columns = Math.max(0, ...rows.map((row) => row.length))
  const shape = Array.from({ length: columns }, (_, i) => {
    const cells = counted.map((row) => row[i] ?? '')
    return {
      width: Math.max(...cells.map((cell) => cell.length), 0),
      right: cells.length > 1 && cells.slice(1).every(numeric),
    }
  })
  return rows.map((row) => {
    if (isHeading(row)) return row[0] ?? ''
    const cells = shape.map(({ width, right }, i) =>
      right ? (row[i] ?? '').padStart(width) : (row[i] ?? '').padEnd(width),
    )
    return cells.join('  ').trimEnd()
  })
}
