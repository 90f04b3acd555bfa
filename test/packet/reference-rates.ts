// SPDX-License-Identifier: Apache-2.0
// How many connections a source has opened, for the reference balancer. Time passes where it is said to, and there is room for
// every source.
import type { Service } from '../../src/core/desired.ts'
import { leadingBits } from '../../src/core/ip.ts'

export class ReferenceRates {
  /** By service and source: in how many seconds its next connection is due. Rates that are powers of two make exact sums. */
  readonly #due = new Map<string, number>()

  /** Counts a new connection. False: it comes before its time. */
  allows(name: string, { sourceRate }: Service, source: string): boolean {
    if (sourceRate === undefined) return true
    const key = `${name} ${leadingBits(source, sourceRate.bits)}`
    const due = this.#due.get(key) ?? 0
    if (due > (sourceRate.burst - 1) / sourceRate.rate) return false
    this.#due.set(key, due + 1 / sourceRate.rate)
    return true
  }

  pass(seconds: number): void {
    for (const [key, due] of this.#due) this.#due.set(key, Math.max(0, due - seconds))
  }

  /** What sources have done at a service that is gone, or has no rate any more, is nothing to one that comes after it. */
  forget(name: string): void {
    for (const key of this.#due.keys()) if (key.startsWith(`${name} `)) this.#due.delete(key)
  }
}
