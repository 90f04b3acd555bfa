// SPDX-License-Identifier: Apache-2.0
// Spans of time as people write them: 90s, 10m, 1h30m.
import { Refusal } from './refusal.ts'

const UNITS = [
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
  ['s', 1],
] as const
const SHAPE = /^(?=[0-9])(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s?)?$/

/**
 * Whole seconds; a number without a unit is seconds.
 * @param name what it is of, for the words of a refusal: `--deadline`
 */
export const parseDuration = (name: string, text: string): number => {
  const parts = SHAPE.exec(text)
  if (parts === null) {
    throw new Refusal(`${name} '${text}': is not a span of time`, `give ${name} one such as 90s, 10m or 1h30m`, {
      usage: true,
    })
  }
  return UNITS.reduce((sum, [, seconds], i) => sum + Number(parts[i + 1] ?? 0) * seconds, 0)
}

/** The same, rounded down to seconds: 9m12s. */
export const formatDuration = (seconds: number): string => {
  let left = Math.max(0, Math.floor(seconds))
  let text = ''
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size)
    left -= count * size
    if (count > 0) text += `${count}${unit}`
  }
  return text === '' ? '0s' : text
}
