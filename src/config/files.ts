// SPDX-License-Identifier: Apache-2.0
// A file and all that it includes.
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { Refusal } from '../core/refusal.ts'
import { Document } from './document.ts'
import { type Environment, takeEnvironment } from './environment.ts'
import type { Faults, KeyPath } from './faults.ts'
import { expandGlob, isGlob } from './glob.ts'
import type { ReadBefore } from './read-before.ts'
import { textOf } from './text.ts'

const whyNot = (error: unknown): string =>
  error instanceof Error ? error.message.replace(/^(E\w+): .*$/, '$1') : `${error}`

const realPath = (file: string): string => (file === '-' ? '-' : realpathSync(file))

/** Reads files, each once, those that are included after the one that includes them. */
class Reader {
  readonly documents: Document[] = []
  readonly #faults: Faults
  readonly #environment: Environment
  readonly #before: ReadBefore | undefined
  /** Real path -> the file that includes it, as it was named. */
  readonly #seen = new Map<string, string>()

  constructor(environment: Environment, faults: Faults, before: ReadBefore | undefined) {
    this.#environment = environment
    this.#faults = faults
    this.#before = before
  }

  read(file: string, text: string, within: readonly string[]): void {
    const document = new Document(file, text)
    this.documents.push(document)
    document.parse(this.#faults, this.#before)
    takeEnvironment(document, this.#environment, this.#faults)
    const { value } = document
    const list = typeof value === 'object' && value !== null && 'include' in value ? value.include : []
    if (!Array.isArray(list)) return
    for (const [i, pattern] of list.entries()) {
      if (typeof pattern === 'string') this.#include(document, ['include', i], pattern, within)
    }
  }

  #include(document: Document, path: KeyPath, pattern: string, within: readonly string[]): void {
    const folder = document.file === '-' ? '.' : dirname(document.file)
    const whole = isAbsolute(pattern) ? pattern : join(folder, pattern)
    if (pattern === '') this.#faults.add(document, path, 'is no name of a file', 'name a file, or leave it out')
    else if (!isGlob(pattern) || existsSync(whole)) this.#includeFile(document, path, whole, within)
    else {
      const files = this.#faults.collect(document, path, () => expanded(whole)) ?? []
      for (const file of files) this.#includeFile(document, path, file, within)
    }
  }

  #includeFile(document: Document, path: KeyPath, file: string, within: readonly string[]): void {
    try {
      const real = realPath(file)
      const circle = within.indexOf(real)
      const before = this.#seen.get(real)
      if (circle >= 0) {
        this.#faults.add(document, path, `${file} includes itself in the end`, 'leave it out')
      } else if (before !== undefined) {
        this.#faults.add(document, path, `${file} is included by ${before} already`, 'keep one of the two')
      } else {
        this.#seen.set(real, document.file)
        this.read(file, readFileSync(file, 'utf8'), [...within, real])
      }
    } catch (error) {
      this.#faults.add(
        document,
        path,
        `${file} cannot be read: ${whyNot(error)}`,
        'name a file that is there, or leave it out',
      )
    }
  }
}

const expanded = (pattern: string): string[] => {
  try {
    return expandGlob(pattern)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new Refusal(`'${pattern}' is no pattern`, 'write one such as conf.d/*.yaml')
  }
}

/**
 * The file first; `-` is standard input, whose includes are relative to the working folder.
 * @throws Refusal where the file itself cannot be read
 */
export const readFiles = (file: string, environment: Environment, faults: Faults, before?: ReadBefore): Document[] => {
  let text: string
  try {
    text = textOf(file)
  } catch (error) {
    throw new Refusal(
      `${file}: cannot be read: ${error instanceof Error ? error.message : error}`,
      'name a file that is there, such as one that `xlb save` wrote',
    )
  }
  const reader = new Reader(environment, faults, before)
  reader.read(file, text, [realPath(file)])
  return reader.documents
}
