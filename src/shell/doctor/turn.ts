// SPDX-License-Identifier: Apache-2.0
// How an examination waits: a daemon that performs it has other work to do meanwhile, and whoever asked for it may go away.
import { setTimeout as after, setImmediate as nextTurn } from 'node:timers/promises'
import { Refusal } from '../../core/refusal.ts'

/** For so long nothing else has a turn. */
const SLICE_MS = 10

export class Turn {
  readonly #gone: AbortSignal | undefined
  #sinceMs = performance.now()

  /** @param gone aborted: whoever asked has gone */
  constructor(gone?: AbortSignal) {
    this.#gone = gone
  }

  /** @throws Refusal where nobody waits for the outcome any more */
  #demand(): void {
    if (this.#gone?.aborted === true) throw new Refusal('doctor: whoever asked has gone', 'ask again')
  }

  /** To be called in what may take long: lets others have their turn now and then. @throws Refusal as rest() does */
  async yield(): Promise<void> {
    if (performance.now() - this.#sinceMs < SLICE_MS) return
    await nextTurn()
    this.#sinceMs = performance.now()
    this.#demand()
  }

  /** @throws Refusal where nobody waits for the outcome any more, at once */
  async rest(milliseconds: number): Promise<void> {
    this.#demand()
    const options = this.#gone === undefined ? {} : { signal: this.#gone }
    // Aborted, it rejects: what that means is told below.
    await after(milliseconds, undefined, options).catch(() => {})
    this.#sinceMs = performance.now()
    this.#demand()
  }
}
