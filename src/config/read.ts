// SPDX-License-Identifier: Apache-2.0
// Files -> what they want. Every fault of all of them is reported, not the first alone.
import { Document } from './document.ts'
import type { Environment } from './environment.ts'
import { Faults, FaultyConfig } from './faults.ts'
import { readFiles } from './files.ts'
import type { ReadBefore } from './read-before.ts'
import { type Config, Reading } from './reading.ts'

interface ReadOptions {
  before?: ReadBefore
  aside?: string
  shown?: number
}

/**
 * @param before what the same file said before, of which whatever has not changed is not read again
 * @param aside for the words of a refusal: such as that nothing was changed
 * @param shown of so many faults, the refusal's text tells each
 * @throws FaultyConfig with every fault of all files; Refusal where the file itself cannot be read
 */
export const readConfig = (file: string, environment: Environment, options: ReadOptions = {}): Config => {
  const faults = new Faults()
  options.before?.begin()
  return configOf(file, readFiles(file, environment, faults, options.before), faults, options)
}

const configOf = (
  file: string,
  documents: readonly Document[],
  faults: Faults,
  { before, aside = '', shown }: ReadOptions = {},
): Config => {
  const reading = new Reading(documents, faults, before)
  const config = reading.config()
  if (faults.count > 0) throw new FaultyConfig(file, faults.list(documents), aside, shown)
  before?.end(reading.entries())
  return config
}

/** What a file and those that it includes say, as plain values: for a reader who has not these files. */
export type Values = { file: string; value: unknown }[]

/** @throws as readConfig does, of which nothing is left to find for configOfValues */
export const readValues = (file: string, environment: Environment, aside = ''): Values => {
  const faults = new Faults()
  const documents = readFiles(file, environment, faults)
  configOf(file, documents, faults, { aside })
  return documents.map(({ file: name, value }) => ({ file: name, value }))
}

/** @throws FaultyConfig, whose places are those of the values written as JSON */
export const configOfValues = (values: Values): Config => {
  const faults = new Faults()
  const documents = values.map(({ file, value }) => new Document(file, JSON.stringify(value)))
  for (const document of documents) document.parse(faults)
  return configOf(values[0]?.file ?? '-', documents, faults)
}
