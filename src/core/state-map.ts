// SPDX-License-Identifier: Apache-2.0
// Desired states that are not spelled out: one that is read on demand, and one that differs from another in a few services. So a
// verb that changes one service of thousands looks at that one.
import type { DesiredState, Service } from './desired.ts'

abstract class StateMap implements ReadonlyMap<string, Service> {
  abstract readonly size: number
  abstract get(name: string): Service | undefined
  abstract has(name: string): boolean
  abstract keys(): MapIterator<string>

  *entries(): MapIterator<[string, Service]> {
    for (const name of this.keys()) {
      const service = this.get(name)
      if (service !== undefined) yield [name, service]
    }
  }

  *values(): MapIterator<Service> {
    for (const [, service] of this.entries()) yield service
  }

  [Symbol.iterator](): MapIterator<[string, Service]> {
    return this.entries()
  }

  forEach(action: (service: Service, name: string, map: ReadonlyMap<string, Service>) => void): void {
    for (const [name, service] of this.entries()) action(service, name, this)
  }
}

/** Services that are read when they are asked for. */
export class LazyState extends StateMap {
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
export class ChangedState extends StateMap {
  readonly base: DesiredState
  readonly changes: ReadonlyMap<string, Service | undefined>
  readonly size: number

  private constructor(base: DesiredState, changes: ReadonlyMap<string, Service | undefined>) {
    super()
    this.base = base
    this.changes = changes
    let size = base.size
    for (const [name, service] of changes) {
      size += (service === undefined ? 0 : 1) - (base.has(name) ? 1 : 0)
    }
    this.size = size
  }

  /** Changes of changes are kept flat: `base` is never a ChangedState itself. */
  static of(state: DesiredState, changes: Iterable<[string, Service | undefined]>): ChangedState {
    return state instanceof ChangedState
      ? new ChangedState(state.base, new Map([...state.changes, ...changes]))
      : new ChangedState(state, new Map(changes))
  }

  get(name: string): Service | undefined {
    return this.changes.has(name) ? this.changes.get(name) : this.base.get(name)
  }

  has(name: string): boolean {
    return this.changes.has(name) ? this.changes.get(name) !== undefined : this.base.has(name)
  }

  *keys(): MapIterator<string> {
    for (const name of this.base.keys()) if (this.has(name)) yield name
    for (const [name, service] of this.changes) if (service !== undefined && !this.base.has(name)) yield name
  }
}

/** Names of which two states may differ: of the second's changes, where it is made of the first; else all. */
export const namesToCompare = (have: DesiredState, want: DesiredState): Iterable<string> => {
  if (want === have) return []
  if (want instanceof ChangedState && want.base === have) return want.changes.keys()
  return new Set([...have.keys(), ...want.keys()])
}
