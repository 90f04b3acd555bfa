// SPDX-License-Identifier: Apache-2.0
// One file: its text, what it says as plain values, and where it says it.
import { constructFromEvents, load, YAMLException } from 'js-yaml'
import type { Faults, KeyPath } from './faults.ts'
import { type Place, Places, placeIn } from './places.ts'
import type { ReadBefore } from './read-before.ts'

export class Document {
  /** As the person named it. */
  readonly file: string
  readonly text: string
  /** Undefined until it was read without a fault of YAML. */
  value: unknown
  readonly #written = new Map<string, string>()
  #places: Places | undefined
  /** Where it is no YAML at all. */
  #stop: Place | undefined

  constructor(file: string, text: string) {
    this.file = file
    this.text = text
  }

  /** Where faults of YAML leave values to read, these are there. */
  parse(faults: Faults, before?: ReadBefore): void {
    try {
      this.value = this.#read(faults, before)
    } catch (error) {
      if (!(error instanceof Error)) throw error
      const mark = error instanceof YAMLException ? error.mark : undefined
      const reason = error instanceof YAMLException ? error.reason : error.message
      this.#stop = placeIn(this.text, mark?.position ?? 0)
      faults.add(this, [], isEmpty(reason) ? 'is empty' : `is no YAML: ${reason}`, mendOf(reason))
      return
    }
    if (this.value === undefined || this.value === null) faults.add(this, [], 'is empty', mendOf(EMPTY))
  }

  /** Of a value in which variables were put in their place: its text as it stands in the file. */
  noteWritten(path: KeyPath, text: string): void {
    this.#written.set(JSON.stringify(path), text)
  }

  writtenAt(path: KeyPath): string | undefined {
    return this.#written.size === 0 ? undefined : this.#written.get(JSON.stringify(path))
  }

  place(path: KeyPath, ofKey = false): Place {
    if (this.#stop !== undefined) return this.#stop
    this.#places ??= new Places(this.text)
    return this.#places.find(path, ofKey)
  }

  #read(faults: Faults, before: ReadBefore | undefined): unknown {
    // JSON is YAML too, and what writes it is a program: the built-in parser is ten times as fast.
    if (this.text.trimStart().startsWith('{')) {
      try {
        const value: unknown = JSON.parse(this.text)
        return before === undefined ? value : before.same(value)
      } catch {
        // It is YAML in braces, or the YAML parser says where it is neither.
      }
    }
    const known = before?.parse(this.text)
    if (known !== undefined) return known
    try {
      return load(this.text)
    } catch (error) {
      if (!(error instanceof YAMLException) || error.reason !== 'duplicated mapping key') throw error
      return this.#readTwice(faults)
    }
  }

  /** Names all keys that stand twice, and goes on with the last ones, to find what else is wrong. */
  #readTwice(faults: Faults): unknown {
    this.#places = new Places(this.text)
    for (const { path, key, place, first } of this.#places.twice()) {
      faults.addKey(this, path, `key '${key}' is there twice, first in line ${first}`, 'keep one of the two', place)
    }
    return constructFromEvents(this.#places.events, { source: this.text, json: true })[0]
  }
}

const EMPTY = 'expected a document'

const isEmpty = (reason: string): boolean => reason.startsWith(EMPTY)

const mendOf = (reason: string): string => {
  if (isEmpty(reason)) return 'write services: [] where none are meant'
  if (reason.startsWith('expected a single document')) return 'leave one document, without --- between'
  if (reason.startsWith('tab characters')) return 'indent by spaces'
  return 'mend the YAML at that place'
}
