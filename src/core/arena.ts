// SPDX-License-Identifier: Apache-2.0

/** Places from `start` to `end`, exclusive. */
interface Run {
  start: number
  end: number
}

/**
 * Which places of an array are in use, and runs of free ones. Nothing of it is stored anywhere: whoever changes the maps
 * reads what the live state uses, and all else is free - also what a killed command left behind.
 *
 * Kept as runs, not place by place: an array has millions of places and some thousand owners, and a command that asks for
 * one run reads them all.
 */
export class Arena {
  readonly capacity: number
  /** In use, in no order, possibly overlapping; yet to be left out of #gaps. */
  #used: Run[] = []
  /** Free, from low to high; some are empty by now. */
  #gaps: Run[]
  /** Where the next search begins: behind what was taken last. */
  #next = 0
  /** The first gap that ends behind #next. */
  #nextGap = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.#gaps = [{ start: 0, end: capacity }]
  }

  /** Marks `length` places from `start` on as used; again is no fault (a run may have several owners). */
  use(start: number, length: number): void {
    if (length === 0) return
    const last = this.#used.at(-1)
    if (last?.end === start) last.end += length
    else this.#used.push({ start, end: start + length })
  }

  /** Gives back places that were taken, and that nobody else uses. */
  release(start: number, length: number): void {
    if (length === 0) return
    this.#leaveOutUsed()
    const end = start + length
    const at = this.#gaps.findIndex((gap) => gap.end >= start)
    const gap = this.#gaps[at]
    if (gap !== undefined && gap.end === start) gap.end = end
    else if (gap !== undefined && gap.start === end) gap.start = start
    else {
      this.#gaps.splice(at < 0 ? this.#gaps.length : at, 0, { start, end })
      if (at >= 0 && at <= this.#nextGap) this.#nextGap++
    }
  }

  /** The start of `length` free places in a row, now used; -1 where there are none. */
  take(length: number): number {
    this.#leaveOutUsed()
    const found = this.#find(this.#nextGap, this.#gaps.length, length)
    const at = found >= 0 ? found : this.#find(0, this.#nextGap, length)
    const gap = this.#gaps[at]
    if (gap === undefined) return -1
    const { start } = gap
    gap.start += length
    this.#next = gap.start
    this.#nextGap = at
    return start
  }

  get free(): number {
    this.#leaveOutUsed()
    return this.#gaps.reduce((sum, { start, end }) => sum + end - start, 0)
  }

  #find(from: number, to: number, length: number): number {
    for (let at = from; at < to; at++) {
      const gap = this.#gaps[at]
      if (gap !== undefined && gap.end - gap.start >= length) return at
    }
    return -1
  }

  /** Cuts the used runs out of the gaps. */
  #leaveOutUsed(): void {
    if (this.#used.length === 0) return
    const used = this.#used.sort((a, b) => a.start - b.start)
    const gaps: Run[] = []
    let next = 0
    for (const gap of this.#gaps) {
      let { start } = gap
      // A used run may reach into several gaps: the last one that begins in this gap is looked at again for the next.
      for (; next < used.length; next++) {
        const run = used[next]
        if (run === undefined || run.start >= gap.end) break
        if (run.start > start) gaps.push({ start, end: run.start })
        start = Math.max(start, run.end)
        if (run.end > gap.end) break
      }
      if (start < gap.end) gaps.push({ start, end: gap.end })
    }
    this.#used = []
    this.#gaps = gaps
    const nextGap = gaps.findIndex(({ end }) => end > this.#next)
    this.#nextGap = nextGap < 0 ? gaps.length : nextGap
  }
}
