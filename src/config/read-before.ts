// SPDX-License-Identifier: Apache-2.0
// What was read before, for whoever reads a file again and again: what is written as it was says what it said.
import { load } from 'js-yaml'
import type { Service } from '../core/desired.ts'
import { piecesOf } from './pieces.ts'
import type { ReadService } from './services.ts'

type Known = ReadonlyMap<string, readonly unknown[]>

/** May there be a variable in it? Of a dollar, or what may stand for one in quotes. */
const mayVary = (text: string): boolean => text.includes('$') || text.includes('\\')

const ofMapping = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined

/** Entries of services, as YAML has them; undefined: the value has no such list. */
export const servicesOf = (value: unknown): unknown[] | undefined => {
  const list = ofMapping(value, 'services')
  return Array.isArray(list) ? list : undefined
}

/** Of one file and all that it includes. Only readings without a fault are remembered. */
export class ReadBefore {
  /** Texts of services -> what YAML makes of each. */
  #known: Known = new Map()
  #next = new Map<string, readonly unknown[]>()
  /** Entries as YAML has them -> what they say. They last as long as the text that they came from is known. */
  #services = new WeakMap<object, ReadService>()
  /** What `defaults` and `checks` say where they say that. */
  #shared = ''
  #nextShared = ''
  /** All of them, by name, as they were when nothing was wrong with any. */
  names: ReadonlySet<string> = new Set()
  readonly #drawn = new WeakMap<Service, Service>()

  /** Another reading begins. */
  begin(): void {
    this.#next = new Map()
  }

  /** What the text says, of which only new pieces are parsed; undefined: only the whole of it tells, or what is wrong. */
  parse(text: string): unknown {
    const pieces = piecesOf(text)
    if (pieces === undefined) return undefined
    try {
      const value = load(pieces.rest)
      const list = servicesOf(value)
      if (list === undefined || list.length > 0) return undefined
      const keeps = !mayVary(text)
      for (const piece of pieces.services) {
        for (const entry of this.#entriesOf(piece, keeps || !mayVary(piece))) list.push(entry)
      }
      return value
    } catch {
      return undefined
    }
  }

  /** A value of JSON, which is read whole: services that say what they said before are the objects that they were. */
  same(value: unknown): unknown {
    const list = servicesOf(value)
    if (list === undefined) return value
    for (const [i, entry] of list.entries()) {
      const text = JSON.stringify(entry)
      const known = this.#known.get(text) ?? [entry]
      list[i] = known[0]
      if (!mayVary(text)) this.#next.set(text, known)
    }
    return value
  }

  #entriesOf(piece: string, keeps: boolean): readonly unknown[] {
    const known = this.#known.get(piece) ?? this.#next.get(piece)
    const entries = known ?? load(piece)
    if (!Array.isArray(entries)) throw new TypeError('no list')
    // A variable's value is put into what was parsed.
    if (keeps) this.#next.set(piece, entries)
    return entries
  }

  /** @param values of the file and of those that it includes: their services are read by these defaults and checks */
  takeShared(values: readonly unknown[]): void {
    this.#nextShared = JSON.stringify(values.map((value) => [ofMapping(value, 'defaults'), ofMapping(value, 'checks')]))
  }

  /** What an entry says that was read without a fault. */
  service(entry: unknown): ReadService | undefined {
    if (typeof entry !== 'object' || entry === null || this.#nextShared !== this.#shared) return undefined
    return this.#services.get(entry)
  }

  /** This reading was without a fault. @param services by their entries */
  end(services: Iterable<readonly [entry: unknown, read: ReadService]>): void {
    this.#known = this.#next
    if (this.#nextShared !== this.#shared) this.#services = new WeakMap()
    this.#shared = this.#nextShared
    const names = new Set<string>()
    for (const [entry, read] of services) {
      names.add(read.name)
      if (typeof entry === 'object' && entry !== null) this.#services.set(entry, read)
    }
    this.names = names
  }

  /** With a seed that no file says; the same object as before for the same seed. */
  withSeed(service: Service, seed: bigint): Service {
    const before = this.#drawn.get(service)
    if (before?.seed === seed) return before
    const drawn = { ...service, seed }
    this.#drawn.set(service, drawn)
    return drawn
  }
}
