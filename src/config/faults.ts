// SPDX-License-Identifier: Apache-2.0
// What is wrong with files: every fault of all of them, each with its place and how to mend it.
import { Refusal } from '../core/refusal.ts'
import type { Document } from './document.ts'
import type { Place } from './places.ts'

/** Keys and places in lists, from the top of the file. */
export type KeyPath = readonly (string | number)[]

export interface Fault {
  file: string
  /** From 1. Undefined where the file was never read. */
  line?: number
  column?: number
  /** `services[1].backends[0].weight`; empty: the file as a whole. */
  path: string
  what: string
  mend: string
}

const SHOWN = 20

const plainPath = (path: KeyPath): string =>
  path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
    .join('')
    .replace(/^\./, '')

const textOf = ({ file, line, column, path, what, mend }: Fault): string => {
  const place = line === undefined ? file : `${file}:${line}:${column}`
  return `${place}: ${path === '' ? '' : `${path}: `}${what}; ${mend}`
}

/** A configuration with faults: the refusal of `restore`, `check` and whoever else reads it. */
export class FaultyConfig extends Refusal {
  readonly file: string
  readonly faults: readonly Fault[]

  /** @param aside what else there is to say, such as that nothing was changed */
  constructor(file: string, faults: readonly Fault[], aside: string, shown = SHOWN) {
    const lines = faults.slice(0, shown).map((fault) => `\n       ${textOf(fault)}`)
    const more = faults.length > shown ? `\n       and ${faults.length - shown} more: xlb check -c ${file}` : ''
    super(
      `${file}: ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}${aside}${lines.join('')}${more}`,
      'mend these places; docs/configuration.md lists every key and its values',
    )
    this.file = file
    this.faults = faults
  }
}

interface Found extends Pick<Fault, 'what' | 'mend'> {
  document: Document
  path: KeyPath
  /** Undefined: to be looked up. */
  place: Place | undefined
  /** Is it the key that is wrong, and not its value? */
  ofKey: boolean
}

/** Collects faults while files are read; where they stand in the text is looked up at the end. */
export class Faults {
  readonly #found: Found[] = []

  get count(): number {
    return this.#found.length
  }

  add(document: Document, path: KeyPath, what: string, mend: string): void {
    this.#found.push({ document, path, what, mend, place: undefined, ofKey: false })
  }

  /** Of a key, whatever its value. */
  addKey(document: Document, path: KeyPath, what: string, mend: string, place?: Place): void {
    this.#found.push({ document, path, what, mend, place, ofKey: true })
  }

  /** A Refusal's words as a fault of that place; whatever else was thrown is thrown on. */
  addRefusal(document: Document, path: KeyPath, error: unknown): void {
    if (!(error instanceof Refusal)) throw error
    this.add(document, path, error.message, error.mend)
  }

  /** Runs `read` and keeps a Refusal's words as a fault of that place. */
  collect<T>(document: Document, path: KeyPath, read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      this.addRefusal(document, path, error)
      return undefined
    }
  }

  /** In the order of these documents, and in each by place. */
  list(documents: readonly Document[]): Fault[] {
    const order = new Map(documents.map((document, i) => [document, i]))
    return this.#found
      .map(({ document, path, what, mend, place, ofKey }) => {
        const { line, column } = place ?? document.place(path, ofKey)
        const fault: Fault = { file: document.file, line, column, path: plainPath(path), what, mend }
        return { at: order.get(document) ?? 0, fault }
      })
      .sort(
        (a, b) =>
          a.at - b.at || (a.fault.line ?? 0) - (b.fault.line ?? 0) || (a.fault.column ?? 0) - (b.fault.column ?? 0),
      )
      .map(({ fault }) => fault)
  }
}
