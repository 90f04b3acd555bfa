// SPDX-License-Identifier: Apache-2.0
// What is told of each backend, and lasts: nothing of it is changed before a line of the journal says so.
import { type Backend, isLeaving } from '../core/desired.ts'
import type { Told } from '../core/told.ts'
import type { Entry } from './standing-store.ts'

/** Of standing-store.ts. */
export interface Journal {
  append: (entry: Entry) => void
  isLong: (entries: number) => boolean
  rewrite: (entries: Iterable<Entry>) => void
}

export class ToldBackends {
  readonly #journal: Journal
  readonly #services = new Map<string, Map<string, Told>>()
  #count = 0

  constructor(journal: Journal) {
    this.#journal = journal
  }

  /** In which something is told of a backend. */
  get services(): string[] {
    return [...this.#services.keys()]
  }

  has(service: string): boolean {
    return this.#services.has(service)
  }

  of(service: string, address: string): Told | undefined {
    return this.#services.get(service)?.get(address)
  }

  /** What a daemon before this one was told. */
  take(entries: Iterable<Entry>): void {
    for (const { service, backend, told } of entries) this.#set(service, backend, told)
  }

  /** Written before it counts. */
  keep(service: string, address: string, told: Told | undefined): void {
    const before = this.of(service, address)
    if (before === told || JSON.stringify(before) === JSON.stringify(told)) return
    this.#journal.append({ service, backend: address, told })
    this.#set(service, address, told)
  }

  forgetAllBut(service: string, there: ReadonlyMap<string, Backend>): void {
    for (const address of [...(this.#services.get(service)?.keys() ?? [])]) {
      const backend = there.get(address)
      if (backend === undefined || isLeaving(backend)) this.keep(service, address, undefined)
    }
  }

  /** A journal that has grown long is written anew. */
  compact(): void {
    if (this.#journal.isLong(this.#count)) this.#journal.rewrite(this.#entries())
  }

  *#entries(): Generator<Entry> {
    for (const [service, told] of this.#services) {
      for (const [backend, each] of told) yield { service, backend, told: each }
    }
  }

  #set(service: string, address: string, told: Told | undefined): void {
    const backends: Map<string, Told> = this.#services.get(service) ?? new Map()
    this.#count -= backends.size
    if (told === undefined) backends.delete(address)
    else backends.set(address, told)
    this.#count += backends.size
    if (backends.size === 0) this.#services.delete(service)
    else this.#services.set(service, backends)
  }
}
