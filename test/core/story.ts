// SPDX-License-Identifier: Apache-2.0
// What happens to a backend, told from one event to the next: a naive reference for where it stands.
import fc from 'fast-check'
import type { ReturnPolicy } from '../../src/core/standing.ts'

export const START = 1_800_000_000_000

export type Event =
  | { kind: 'wait'; ms: number }
  | { kind: 'weight'; weight: number }
  | { kind: 'admin'; state: 'up' | 'drain' | 'maint' }
  | { kind: 'check'; state: 'up' | 'down' | 'unknown' }
  | { kind: 'agent'; state: 'up' | 'drain' | 'maint' | 'down'; percent: number }
  | { kind: 'neighbour'; state: 'resolved' | 'unresolved' }

export const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 9000 }) }) },
  fc.record({ kind: fc.constant('weight' as const), weight: fc.constantFrom(0, 1, 7, 100) }),
  fc.record({ kind: fc.constant('admin' as const), state: fc.constantFrom('up', 'drain', 'maint') }),
  fc.record({ kind: fc.constant('check' as const), state: fc.constantFrom('up', 'up', 'down', 'unknown') }),
  fc.record({
    kind: fc.constant('agent' as const),
    state: fc.constantFrom('up', 'up', 'drain', 'maint', 'down'),
    percent: fc.constantFrom(0, 30, 100),
  }),
  fc.record({ kind: fc.constant('neighbour' as const), state: fc.constantFrom('resolved', 'unresolved') }),
)

export const policies: fc.Arbitrary<ReturnPolicy> = fc.record({
  holdMs: fc.constantFrom(0, 3000, 12_000),
  slowStartMs: fc.constantFrom(0, 500, 7000, 60_000),
  slowStartPercent: fc.constantFrom(1, 10, 50),
})

/** The same told as a story: what happens to a backend from one event to the next, with everything remembered that comes of it. */
export class Story {
  nowMs = START
  weight = 10
  admin = 'up'
  check = 'none'
  agent = 'none'
  percent = 100
  neighbour = 'resolved'
  heldUntilMs = 0
  readonly cameBackMs = new Map<string, number>()
  readonly policy: ReturnPolicy

  constructor(policy: ReturnPolicy) {
    this.policy = policy
  }

  tell(happened: Event): void {
    switch (happened.kind) {
      case 'wait':
        this.nowMs += happened.ms
        return
      case 'weight':
        this.weight = happened.weight
        return
      case 'admin':
        this.#change('admin', this.admin, happened.state, ['maint'])
        this.admin = happened.state
        return
      case 'check':
        this.#change('check', this.check, happened.state, ['down'])
        this.check = happened.state
        return
      case 'agent':
        this.#change('agent', this.agent, happened.state, ['maint', 'down'])
        this.agent = happened.state
        this.percent = happened.percent
        return
      case 'neighbour':
        this.#change('neighbour', this.neighbour, happened.state, ['unresolved'])
        this.neighbour = happened.state
    }
  }

  /** Nothing was ever reported of it. */
  forget(): void {
    this.check = 'none'
    this.agent = 'none'
    this.percent = 100
    this.heldUntilMs = 0
    this.cameBackMs.delete('check')
    this.cameBackMs.delete('agent')
  }

  #change(what: string, from: string, to: string, outs: readonly string[]): void {
    if (from === to) return
    this.cameBackMs.delete(what)
    if (what === 'check') this.heldUntilMs = 0
    if (!outs.includes(from) || (to !== 'up' && to !== 'resolved')) return
    if (what === 'check') this.heldUntilMs = this.nowMs + this.policy.holdMs
    this.cameBackMs.set(what, what === 'check' ? this.heldUntilMs : this.nowMs)
  }

  get alive(): boolean {
    const outs = [this.admin === 'maint', this.check === 'down', ['maint', 'down'].includes(this.agent)]
    return !outs.includes(true) && this.neighbour === 'resolved' && this.nowMs >= this.heldUntilMs
  }

  get effective(): number {
    if (!this.alive || this.admin === 'drain' || this.agent === 'drain' || this.weight === 0) return 0
    let percent = this.agent === 'up' ? this.percent : 100
    const { slowStartMs, slowStartPercent } = this.policy
    const passed = this.nowMs - Math.max(-Infinity, ...this.cameBackMs.values())
    if (passed < slowStartMs) {
      const step = Math.max(1000, slowStartMs / 20)
      const grown = slowStartPercent + ((100 - slowStartPercent) * (Math.floor(passed / step) * step)) / slowStartMs
      percent *= Math.floor(grown) / 100
    }
    if (percent === 0) return 0
    const whole = Math.max(1, Math.round(percent))
    return Math.max(1, Math.round((this.weight * whole) / 100))
  }
}
