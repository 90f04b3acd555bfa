// SPDX-License-Identifier: Apache-2.0
// One timer for the next of many times: whoever has something to do later says when the first of it is due.

/** Times further away are looked at again meanwhile: setTimeout takes no more than 24 days, and clocks are set. */
const LOOK_AGAIN_MS = 60_000

export interface AlarmPorts {
  nowMs: () => number
  /** @returns what takes it back */
  after?: (delayMs: number, action: () => void) => () => void
}

const afterTimeout = (delayMs: number, action: () => void): (() => void) => {
  const timer = setTimeout(action, delayMs)
  timer.unref()
  return () => clearTimeout(timer)
}

export class Alarm {
  readonly #nowMs: () => number
  readonly #after: NonNullable<AlarmPorts['after']>
  readonly #ring: () => void
  #atMs: number | undefined
  #cancel: (() => void) | undefined

  constructor({ nowMs, after = afterTimeout }: AlarmPorts, ring: () => void) {
    this.#nowMs = nowMs
    this.#after = after
    this.#ring = ring
  }

  /** Rings then, once; undefined: not at all. */
  set(atMs: number | undefined): void {
    if (atMs === this.#atMs && this.#cancel !== undefined) return
    this.#cancel?.()
    this.#cancel = undefined
    this.#atMs = atMs
    if (atMs === undefined) return
    const delayMs = Math.max(1, Math.min(atMs - this.#nowMs(), LOOK_AGAIN_MS))
    this.#cancel = this.#after(delayMs, () => {
      this.#cancel = undefined
      // A timer may go off a little early, by another clock than that of the times.
      if (this.#nowMs() < atMs) this.set(atMs)
      else this.#ring()
    })
  }
}
