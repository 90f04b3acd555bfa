// SPDX-License-Identifier: Apache-2.0
// A file's text. Standard input can be read once, and may be wanted twice: by a verb that hands it to a daemon, finds that one killed,
// and is performed without it.
import { readFileSync } from 'node:fs'

let standardInput: string | undefined

/** @param file - is standard input */
export const textOf = (file: string): string => {
  if (file !== '-') return readFileSync(file, 'utf8')
  standardInput ??= readFileSync(0, 'utf8')
  return standardInput
}
