// SPDX-License-Identifier: Apache-2.0
// States that are not spelled out: one that is read on demand, and one that differs from another in a few services. So a verb that
// changes one service of thousands looks at that one.
import type { DesiredState, Service } from './desired.ts'

abstract class StateMap<Entry> implements ReadonlyMap<string, Entry> {
  abstract readonly size: number
  abstract get(name: string): Entry | undefined
  abstract has(name: string): boolean
  abstract keys(): MapIterator<string>

  *entries(): MapIterator<[string, Entry]> {
    for (const name of this.keys()) {
      const entry = this.get(name)
      if (entry !== undefined) yield [name, entry]
    }
  }

  *values(): MapIterator<Entry> {
    for (const [, entry] of this.entries()) yield entry
  }

  [Symbol.iterator](): MapIterator<[string, Entry]> {
    return this.entries()
  }

  forEach(action: (entry: Entry, name: string, map: ReadonlyMap<string, Entry>) => void): void {
    for (const [name, entry] of this.entries()) action(entry, name, this)
  }
}

/** Services that are read when they are asked for. */
export class LazyState extends StateMap<Service> {
  readonly #sources: ReadonlyMap<string, { readonly want: Service }>

  constructor(sources: ReadonlyMap<string, { readonly want: Service }>) {
    super()
    this.#sources = sources
  }

  get size(): number {
    return this.#sources.size
  }

  get(name: string): Service | undefined {
    return this.#sources.get(name)?.want
  }

  has(name: string): boolean {
    return this.#sources.has(name)
  }

  keys(): MapIterator<string> {
    return this.#sources.keys()
  }
}

/** A state, but for some services; undefined: that one is gone. */
export class ChangedState<Entry = Service> extends StateMap<Entry> {
  readonly base: ReadonlyMap<string, Entry>
  readonly changes: ReadonlyMap<string, Entry | undefined>
  readonly size: number

  private constructor(base: ReadonlyMap<string, Entry>, changes: ReadonlyMap<string, Entry | undefined>) {
    super()
    this.base = base
    this.changes = changes
    let size = base.size
    for (const [name, entry] of changes) {
      size += (entry === undefined ? 0 : 1) - (base.has(name) ? 1 : 0)
    }
    this.size = size
  }

  /** Changes of changes are kept flat: `base` is never a ChangedState itself. */
  static of<Entry>(
    state: ReadonlyMap<string, Entry>,
    changes: Iterable<[string, Entry | undefined]>,
  ): ChangedState<Entry> {
    return state instanceof ChangedState
      ? new ChangedState<Entry>(state.base, new Map([...state.changes, ...changes]))
      : new ChangedState(state, new Map(changes))
  }

  get(name: string): Entry | undefined {
    return this.changes.has(name) ? this.changes.get(name) : this.base.get(name)
  }

  has(name: string): boolean {
    return this.changes.has(name) ? this.changes.get(name) !== undefined : this.base.has(name)
  }

  *keys(): MapIterator<string> {
    for (const name of this.base.keys()) if (this.has(name)) yield name
    for (const [name, entry] of this.changes) if (entry !== undefined && !this.base.has(name)) yield name
  }
}

/** Names of which two states may differ: of the second's changes, where it is made of the first; else all. */
export const namesToCompare = (have: DesiredState, want: DesiredState): Iterable<string> => {
  if (want === have) return []
  if (want instanceof ChangedState && want.base === have) return want.changes.keys()
  return new Set([...have.keys(), ...want.keys()])
}
