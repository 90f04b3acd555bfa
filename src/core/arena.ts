// SPDX-License-Identifier: Apache-2.0

/**
 * Which places of an array are in use, and runs of free ones. Nothing of it is stored anywhere: whoever changes the maps
 * reads what the live state uses, and all else is free - also what a killed command left behind.
 */
export class Arena {
  readonly capacity: number
  readonly #used: Uint8Array
  #next = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.#used = new Uint8Array(capacity)
  }

  /** Marks `length` places from `start` on as used; again is no fault (a run may have several owners). */
  use(start: number, length: number): void {
    this.#used.fill(1, start, start + length)
  }

  /** The start of `length` free places in a row, now used; -1 where there are none. */
  take(length: number): number {
    const found = this.#find(this.#next, length)
    const start = found >= 0 || this.#next === 0 ? found : this.#find(0, length)
    if (start < 0) return -1
    this.use(start, length)
    this.#next = start + length
    return start
  }

  get free(): number {
    let free = 0
    for (const used of this.#used) if (used === 0) free++
    return free
  }

  #find(from: number, length: number): number {
    let start = from
    while (start + length <= this.capacity) {
      const used = this.#used.subarray(start, start + length).lastIndexOf(1)
      if (used < 0) return start
      start += used + 1
    }
    return -1
  }
}
