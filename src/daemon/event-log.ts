// SPDX-License-Identifier: Apache-2.0
// What happened, as it happens: to whoever follows, and for a while to whoever asks later.
import type { Event, Happening } from '../core/backend-state.ts'

/**
 * An event and its number. The first is one above the time of the daemon's start, Unix milliseconds, each other one above that before: so
 * whoever has numbers of a daemon before this one is behind all of these.
 */
export interface Numbered extends Event {
  id: number
}

const KEPT = 1000

export class EventLog {
  #next: number
  readonly #kept: Numbered[] = []
  readonly #followers = new Set<(event: Numbered) => void>()
  readonly #now: () => number

  constructor(now: () => number = Date.now) {
    this.#now = now
    this.#next = now() + 1
  }

  tell(happening: Happening): void {
    const event = { id: this.#next++, time: new Date(this.#now()).toISOString(), ...happening }
    this.#kept.push(event)
    if (this.#kept.length > KEPT) this.#kept.shift()
    for (const follow of this.#followers) follow(event)
  }

  /** Those after this number that are still kept. */
  since(id: number): Numbered[] {
    return this.#kept.filter((event) => event.id > id)
  }

  /** @returns ends it */
  follow(follower: (event: Numbered) => void): () => void {
    this.#followers.add(follower)
    return () => {
      this.#followers.delete(follower)
    }
  }
}
