// SPDX-License-Identifier: Apache-2.0
// When backends were reported last, of services with a check, while a daemon lives: a report that says the same again costs a look-up and a
// number here, and no line of a file. So it is not remembered: to the next daemon each report is as of its start.
import type { Check, Seen } from '../core/check.ts'

interface OfService {
  /** By name. */
  check: string
  backends: Map<string, Seen>
  /** No report expires before: what was reported since may have made it later. Infinity: none will. */
  firstMs: number
}

/** By so much a clock that runs freely does not differ from one look to the next. */
const CLOCK_SET_MS = 500

export class Freshness {
  readonly #services = new Map<string, OfService>()
  /** Between a clock that is set and one that is not. */
  #offsetMs: number | undefined

  has(service: string): boolean {
    return this.#services.has(service)
  }

  /** Undefined: the daemon does not have this check for it yet. */
  of(service: string, check: Check, address: string): Seen | undefined {
    const known = this.#services.get(service)
    return known?.check === check.name ? known.backends.get(address) : undefined
  }

  /**
   * Reports came as long before now as they did: where the clock was set, neither does all of it expire at once, nor is it waited for too long.
   *
   * @param steadyMs by a clock that nobody sets
   */
  keepAges(nowMs: number, steadyMs: number): void {
    const offsetMs = nowMs - steadyMs
    const setMs = offsetMs - (this.#offsetMs ?? offsetMs)
    this.#offsetMs = offsetMs
    if (Math.abs(setMs) < CLOCK_SET_MS) return
    for (const known of this.#services.values()) {
      known.firstMs += setMs
      for (const [address, seen] of known.backends) {
        known.backends.set(address, { ...seen, lastMs: seen.lastMs + setMs })
      }
    }
  }

  /** Of a backend that settle() has found. */
  set(service: string, address: string, seen: Seen): void {
    this.#services.get(service)?.backends.set(address, seen)
  }

  /**
   * These are the service's backends now.
   *
   * @param seenOf what is known of one that is new here
   */
  settle(
    service: string,
    check: Check | undefined,
    addresses: readonly string[],
    seenOf: (address: string) => Seen,
  ): void {
    if (check === undefined || addresses.length === 0) {
      this.#services.delete(service)
      return
    }
    const backends = new Map(addresses.map((address) => [address, this.of(service, check, address) ?? seenOf(address)]))
    this.#services.set(service, { check: check.name, backends, firstMs: Number.POSITIVE_INFINITY })
  }

  /**
   * Finds out when the next of its reports expires.
   *
   * @param isNoted is it known of this backend that its report has expired?
   * @returns has one of them by now, of which that is not known?
   */
  look(service: string, { expiresMs }: Check, nowMs: number, isNoted: (address: string) => boolean): boolean {
    const known = this.#services.get(service)
    if (known === undefined) return false
    let hasExpired = false
    known.firstMs = Number.POSITIVE_INFINITY
    if (expiresMs === undefined) return false
    for (const [address, { lastMs }] of known.backends) {
      const atMs = lastMs + expiresMs
      if (atMs > nowMs) known.firstMs = Math.min(known.firstMs, atMs)
      else if (!isNoted(address)) hasExpired = true
    }
    if (hasExpired) known.firstMs = nowMs
    return hasExpired
  }

  /** Services in which a report may have expired by now. */
  mayHaveExpired(nowMs: number): string[] {
    return [...this.#services].flatMap(([service, { firstMs }]) => (firstMs <= nowMs ? [service] : []))
  }

  /** When that may be next; Infinity: never. */
  get nextMs(): number {
    let nextMs = Number.POSITIVE_INFINITY
    for (const { firstMs } of this.#services.values()) if (firstMs < nextMs) nextMs = firstMs
    return nextMs
  }
}
