// SPDX-License-Identifier: Apache-2.0
// The configuration as the daemon has it now: what of it is not in force yet, and what it says that no map holds.
import type { Config } from '../config/reading.ts'
import type { Written } from '../config/write.ts'
import { type Capacity, capacityOf } from '../dataplane/memory.ts'
import type { Session } from '../shell/session.ts'
import { type Pending, pendingOf } from './pending.ts'

export class LoadedConfig {
  readonly #file: string
  /** As the daemon started with it. */
  #api: Config['api'] | undefined
  #config: Config | undefined
  readonly #sizes = new Set<keyof Capacity>()

  constructor(file: string) {
    this.#file = file
  }

  /** Of each configuration that is in force from now on. */
  take(config: Config): void {
    this.#config = config
    this.#api ??= config.api
    for (const name of Object.keys(config.capacity)) this.#sizes.add(name as keyof Capacity)
  }

  get written(): Written | undefined {
    return this.#config?.written
  }

  /** @param session undefined: nothing is attached */
  pending(session: Pick<Session, 'plane' | 'interfaces'> | undefined): Pending[] {
    if (this.#config === undefined || this.#api === undefined) return []
    return pendingOf(this.#file, this.#config, this.#sizes, {
      api: this.#api,
      capacity: session === undefined ? undefined : capacityOf(session.plane),
      interfaces: session?.interfaces.filter(({ attached }) => attached) ?? [],
    })
  }
}
