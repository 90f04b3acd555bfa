// SPDX-License-Identifier: Apache-2.0
// Where in a YAML text a value stands, found from its path. JSON is YAML too.
import { EVENT_ID, type Event, getScalarValue, parseEvents, SCALAR_STYLE } from 'js-yaml'
import type { KeyPath } from './faults.ts'

export interface Place {
  /** Both from 1. */
  line: number
  column: number
}

/** The same key twice in one mapping. */
export interface TwiceKey {
  path: KeyPath
  key: string
  place: Place
  /** The line of the first of them. */
  first: number
}

/** Of an offset, in a text that nobody will ask for a second one. */
export const placeIn = (text: string, offset: number): Place => {
  const before = text.slice(0, offset)
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') }
}

/** The root follows the event that opens the document. */
const ROOT = 1

export class Places {
  readonly #text: string
  readonly #events: readonly Event[]
  /** Of each collection's event, that of its end. */
  readonly #ends = new Map<number, number>()
  readonly #anchors = new Map<string, number[]>()
  readonly #children = new Map<number, number[]>()
  readonly #lines: number[] = [0]

  /** @throws YAMLException */
  constructor(text: string) {
    this.#text = text
    this.#events = parseEvents(text, {})
    const open: number[] = []
    for (const [i, event] of this.#events.entries()) {
      if (event.type === EVENT_ID.POP) this.#ends.set(open.pop() ?? 0, i)
      else if (event.type !== EVENT_ID.SCALAR && event.type !== EVENT_ID.ALIAS) open.push(i)
      if ('anchorStart' in event && event.type !== EVENT_ID.ALIAS && event.anchorStart >= 0) {
        const name = text.slice(event.anchorStart, event.anchorEnd)
        this.#anchors.set(name, [...(this.#anchors.get(name) ?? []), i])
      }
    }
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) this.#lines.push(at + 1)
  }

  get events(): Event[] {
    return [...this.#events]
  }

  /** Of the value at a path, or of its key; of the innermost thing around it where there is none. */
  find(path: KeyPath, ofKey = false): Place {
    let value = ROOT
    let key: number | undefined
    let found = 0
    for (const part of path) {
      const next = this.#step(value, part)
      if (next === undefined) break
      found++
      ;({ value, key } = next)
    }
    const start = this.#start(value)
    const isWanted = ofKey && found === path.length && key !== undefined
    const at = isWanted || start < 0 ? this.#start(key ?? -1) : start
    return this.placeAt(at < 0 ? this.#dashOf(value) : at)
  }

  /** An entry of a list that has nothing but its dash: the first one behind what stands before it. */
  #dashOf(at: number): number {
    for (let i = at - 1; i >= 0; i--) {
      const event = this.#events[i]
      const end =
        event?.type === EVENT_ID.SCALAR ? event.valueEnd : event?.type === EVENT_ID.ALIAS ? event.anchorEnd : -1
      if (end >= 0) return Math.max(0, this.#text.indexOf('-', end))
    }
    return 0
  }

  placeAt(offset: number): Place {
    let low = 0
    let high = this.#lines.length
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if ((this.#lines[middle] ?? 0) <= offset) low = middle
      else high = middle
    }
    return { line: low + 1, column: offset - (this.#lines[low] ?? 0) + 1 }
  }

  /** Keys that stand more than once in their mapping: each but the first. */
  twice(): TwiceKey[] {
    const found: TwiceKey[] = []
    const visit = (at: number, path: KeyPath): void => {
      const event = this.#events[at]
      const children = this.#childrenOf(at)
      if (event?.type === EVENT_ID.SEQUENCE) {
        for (const [i, child] of children.entries()) visit(child, [...path, i])
      }
      if (event?.type !== EVENT_ID.MAPPING) return
      const seen = new Map<string, number>()
      for (let i = 0; i + 1 < children.length; i += 2) {
        const keyAt = children[i] ?? 0
        const key = this.#scalar(keyAt) ?? ''
        const first = seen.get(key)
        const place = this.placeAt(this.#start(keyAt))
        if (first === undefined) seen.set(key, keyAt)
        else found.push({ path: [...path, key], key, place, first: this.placeAt(this.#start(first)).line })
        visit(children[i + 1] ?? 0, [...path, key])
      }
    }
    visit(ROOT, [])
    return found
  }

  #step(at: number, part: string | number): { value: number; key: number | undefined } | undefined {
    const collection = this.#aliased(at)
    const children = this.#childrenOf(collection)
    if (this.#events[collection]?.type !== EVENT_ID.MAPPING) {
      const value = typeof part === 'number' ? children[part] : undefined
      return value === undefined ? undefined : { value, key: undefined }
    }
    for (let i = 0; i + 1 < children.length; i += 2) {
      const key = children[i]
      const value = children[i + 1]
      if (key !== undefined && value !== undefined && this.#scalar(key) === String(part)) return { value, key }
    }
    return undefined
  }

  /** What an alias stands for: its faults are there. */
  #aliased(at: number): number {
    const event = this.#events[at]
    if (event?.type !== EVENT_ID.ALIAS) return at
    const anchors = this.#anchors.get(this.#text.slice(event.anchorStart, event.anchorEnd)) ?? []
    return anchors.findLast((each) => each < at) ?? at
  }

  #scalar(at: number): string | undefined {
    const event = this.#events[at]
    return event?.type === EVENT_ID.SCALAR ? getScalarValue(this.#text, event) : undefined
  }

  /** Keys and values alternate where it is a mapping. */
  #childrenOf(at: number): number[] {
    const known = this.#children.get(at)
    if (known !== undefined) return known
    const children: number[] = []
    const end = this.#ends.get(at) ?? at
    for (let i = at + 1; i < end; i = (this.#ends.get(i) ?? i) + 1) children.push(i)
    this.#children.set(at, children)
    return children
  }

  /** Below 0: it takes no room, as an empty value does. */
  #start(at: number): number {
    const event = this.#events[at]
    switch (event?.type) {
      case EVENT_ID.SEQUENCE:
      case EVENT_ID.MAPPING:
        return event.start
      case EVENT_ID.ALIAS:
        return event.anchorStart - 1
      case EVENT_ID.SCALAR: {
        const isQuoted = event.style === SCALAR_STYLE.SINGLE_QUOTED || event.style === SCALAR_STYLE.DOUBLE_QUOTED
        return isQuoted ? event.valueStart - 1 : event.valueStart
      }
      default:
        return -1
    }
  }
}
