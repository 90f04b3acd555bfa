// SPDX-License-Identifier: Apache-2.0
/** A fault as it must be told: line and column, path, what is wrong, and the words with which the mend begins. */
export type Told = readonly [place: string, path: string, what: string, mend: string]

export interface FaultyFile {
  /** What is wrong, in words for the test's title. */
  name: string
  text: string
  /** All that must be told of it, in this order. */
  faults: readonly Told[]
}

/** A line break before the text is none of it. */
export const faulty = (name: string, text: string, ...faults: Told[]): FaultyFile => ({
  name,
  text: text.replace(/^\n/, ''),
  faults,
})
