// SPDX-License-Identifier: Apache-2.0
// What a daemon remembers: the configuration as it was last loaded, and what was changed since. Both outlive it in the state directory.
import type { Config } from '../config/read.ts'
import type { Happening } from '../core/backend-state.ts'
import type { DesiredState } from '../core/desired.ts'
import { runtimeChanges } from '../core/merge.ts'
import type { Changed } from '../shell/session.ts'
import { mergeInterfaces } from './kept-interfaces.ts'
import type { Changes, StateStore, Wish } from './state-store.ts'

export interface RememberedPorts {
  store: StateStore
  /** The state directory, for words. */
  folder: string
  /** What is in force; undefined: nothing is attached. */
  have: () => { desired: DesiredState; rest: Changes['have'] } | undefined
  tell: (happening: Happening) => void
}

/** What a daemon finds that starts. */
export interface Kept {
  loaded: Wish | undefined
  changes: Changes | undefined
  /** Those that shall be attached, of a configuration. */
  interfaces: (config: Config) => Config['interfaces']
}

/** What follows a change is remembered after the answer to whoever asked for it. */
const REMEMBER_AFTER_MS = 20

export class Remembered {
  readonly #ports: RememberedPorts
  /** The configuration as it was last loaded. */
  loaded: Wish | undefined
  /** Services of which something may differ from what was loaded; undefined: any. */
  #touched: Set<string> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(ports: RememberedPorts) {
    this.#ports = ports
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
    if (changes !== undefined) this.#ports.store.writeChanges(changes)
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
  load(wish: Wish, changed: Changed): void {
    const base = this.loaded
    this.loaded = wish
    this.#ports.store.writeLoaded(wish)
    this.#touched = this.#touchedBy(base, wish, changed)
    this.#touched = new Set(this.now()?.services.keys())
  }

  /** Services that may differ from the file that was loaded just now; undefined: any. Of a restart nobody knows which. */
  #touchedBy(base: Wish | undefined, loaded: Wish, { services }: Changed): Set<string> | undefined {
    if (base === undefined || this.#touched === undefined) return undefined
    const edited = runtimeChanges(base.services, loaded.services).keys()
    return new Set([...this.#touched, ...edited, ...services.map(({ name }) => name)])
  }

  /** What the state directory says; where it is broken that is told, and the file alone counts. */
  kept(): Kept {
    let loaded: Wish | undefined
    let changes: Changes | undefined
    try {
      loaded = this.#ports.store.readLoaded()
      changes = this.#ports.store.readChanges()
    } catch (error) {
      const reason = `${error instanceof Error ? error.message.split('\n')[0] : error}; the configuration file alone counts`
      this.#ports.tell({ kind: 'configuration', subject: this.#ports.folder, to: 'unreadable', reason })
      loaded = undefined
    }
    const interfaces: Kept['interfaces'] = ({ interfaces: asked }) =>
      loaded === undefined || changes === undefined
        ? asked
        : mergeInterfaces(loaded.interfaces, asked, changes.have.interfaces)
    return { loaded, changes, interfaces }
  }

  close(): void {
    clearTimeout(this.#timer)
    if (this.#timer !== undefined) this.now()
    this.#timer = undefined
  }
}
