// SPDX-License-Identifier: Apache-2.0
// What a daemon remembers: the configuration as it was last loaded, and what was changed since. Both outlive it in the state directory.
import type { Config } from '../config/reading.ts'
import type { Happening } from '../core/backend-state.ts'
import type { DesiredState } from '../core/desired.ts'
import { runtimeChanges } from '../core/merge.ts'
import type { Changed } from '../shell/session.ts'
import { mergeInterfaces } from './kept-interfaces.ts'
import type { Changes, Loaded, StateStore, Wish } from './state-store.ts'

export interface RememberedPorts {
  store: StateStore
  /** The state directory, for words. */
  folder: string
  /** What is in force; undefined: nothing is attached, or what is was not loaded yet. */
  have: () => { desired: DesiredState; rest: Changes['have'] } | undefined
  tell: (happening: Happening) => void
}

const unchanged = (loaded: Wish): Changes => ({ services: new Map(), base: loaded, have: loaded })

/** What follows a change is remembered after the answer to whoever asked for it. */
const REMEMBER_AFTER_MS = 20

export class Remembered {
  readonly #ports: RememberedPorts
  #loaded: Loaded | undefined
  /** What was last found to be changed since then. */
  #since: Changes | undefined
  /** Services of which something may differ from what was loaded; undefined: any. */
  #touched: Set<string> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(ports: RememberedPorts) {
    this.#ports = ports
  }

  /** The configuration as it was last loaded. */
  get loaded(): Wish | undefined {
    return this.#loaded?.wish
  }

  /** The maps that it was loaded onto: of all others it says nothing. */
  get maps(): string | undefined {
    return this.#loaded?.maps
  }

  /** What was changed since that, also where nothing is in force; undefined: nothing was loaded. */
  get since(): Changes | undefined {
    return this.#since ?? (this.#loaded && unchanged(this.#loaded.wish))
  }

  /** These services were changed. */
  touch(names: Iterable<string>): void {
    for (const name of names) this.#touched?.add(name)
  }

  soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.now()
    }, REMEMBER_AFTER_MS)
  }

  /** @returns what is remembered */
  now(): Changes | undefined {
    const changes = this.changes()
    if (changes === undefined) return undefined
    this.#since = changes
    this.#ports.store.writeChanges(changes)
    return changes
  }

  /** What was changed since the configuration was loaded; undefined: nothing is attached, or was loaded. */
  changes(): Changes | undefined {
    const [have, { loaded }] = [this.#ports.have(), this]
    if (have === undefined || loaded === undefined) return undefined
    const { services: _, policies: __, ...base } = loaded
    return { services: runtimeChanges(loaded.services, have.desired, this.#touched), base, have: have.rest }
  }

  /** A configuration is in force from now on. @param changed by that */
  load(loaded: Loaded, changed: Changed): void {
    const base = this.loaded
    const { wish } = loaded
    this.#loaded = loaded
    this.#ports.store.writeLoaded(loaded)
    this.#touched = this.#touchedBy(base, wish, changed)
    this.#touched = new Set(this.now()?.services.keys())
  }

  /** Services that may differ from the file that was loaded just now; undefined: any. Of a restart nobody knows which. */
  #touchedBy(base: Wish | undefined, loaded: Wish, { services }: Changed): Set<string> | undefined {
    if (base === undefined || this.#touched === undefined) return undefined
    const edited = runtimeChanges(base.services, loaded.services).keys()
    return new Set([...this.#touched, ...edited, ...services.map(({ name }) => name)])
  }

  /** Takes what the state directory says for what was loaded; where it is broken that is told, and the file alone counts. */
  start(): void {
    try {
      this.#loaded = this.#ports.store.readLoaded()
      this.#since = this.#loaded && this.#ports.store.readChanges()
    } catch (error) {
      const reason = `${error instanceof Error ? error.message.split('\n')[0] : error}; the configuration file alone counts`
      this.#ports.tell({ kind: 'configuration', subject: this.#ports.folder, to: 'unreadable', reason })
      this.#loaded = undefined
      this.#since = undefined
    }
  }

  /** Interfaces that shall be attached, of a configuration that is to be loaded. */
  interfaces({ interfaces: asked }: Config): Config['interfaces'] {
    const { loaded, since } = this
    return loaded === undefined || since === undefined
      ? asked
      : mergeInterfaces(loaded.interfaces, asked, since.have.interfaces)
  }

  close(): void {
    clearTimeout(this.#timer)
    if (this.#timer !== undefined) this.now()
    this.#timer = undefined
  }
}
