// SPDX-License-Identifier: Apache-2.0
// Whom the reference balancer's schedulers give a new flow, as ipvsadm(8) says it of each; and how many flows each backend has.
import {
  effectiveWeight,
  isByLoad,
  remembersDestinations,
  type Scheduler,
  type Service,
  takesTurns,
} from '../../src/core/desired.ts'
import { numberOf } from './ring.ts'

/** A backend's life from when it is added until it is removed: flows of an earlier life do not come back to it. */
export interface Life {
  number: number
  index: number
  packets: number
  octets: number
  /** Connections at present. */
  active: number
  inactive: number
}

/** A backend by its number; 'full': every one that would take a flow is; undefined: none would. */
export type Choice = number | 'full' | undefined

/** So many turns of full backends pass, then backends are asked in a row. */
const TURNS_MAX = 16

interface Taker {
  life: Life
  weight: number
}

/** Backends that lblcr remembers of a destination, at most. */
const SET_MAX = 8

const limitOf = ({ backends }: Service, number: number) =>
  backends.find(({ address }) => numberOf(address) === number)?.maxConns

export class ReferenceChoice {
  readonly #lives: ReadonlyMap<number, Life>
  #want: Service
  #schedule: number[] = []
  #turns = 0
  /** Lives that have had as many connections as they may, and not lost enough of them since they were looked at. */
  readonly #full = new Set<Life>()
  /** Whom flows to an address went to, the one that was added last first: where the scheduler remembers that. */
  readonly #destinations = new Map<string, readonly Life[]>()

  /** @param lives by number */
  constructor(lives: ReadonlyMap<number, Life>, want: Service) {
    this.#lives = lives
    this.#want = want
  }

  /** Every backend that is wanted has its life. */
  settle(want: Service): void {
    for (const [number, life] of this.#lives) {
      const [before, after] = [this.#want, want].map((each) => limitOf(each, number))
      if (before?.upper !== after?.upper || before?.lower !== after?.lower) this.#full.delete(life)
    }
    if (this.#want.scheduler !== want.scheduler) this.#destinations.clear()
    this.#want = want
    this.#schedule = this.#makeSchedule()
  }

  /** nginx's smooth weighted round robin, turn by turn, in the order of indices. */
  #makeSchedule(): number[] {
    const takers = this.#takers().map(({ life, weight }) => ({ number: life.number, weight, credit: 0 }))
    const order: number[] = []
    const sum = takers.reduce((total, { weight }) => total + weight, 0)
    do {
      let best = takers[0]
      if (best === undefined) return []
      for (const taker of takers) {
        taker.credit += taker.weight
        if (taker.credit > best.credit) best = taker
      }
      best.credit -= sum
      order.push(best.number)
    } while (takers.some(({ credit }) => credit !== 0))
    return order
  }

  /** Lives that take new flows, by index, with their weights. */
  #takers(): Taker[] {
    return this.#want.backends
      .flatMap((backend) => {
        const life = this.#lives.get(numberOf(backend.address))
        const weight = effectiveWeight(this.#want, backend)
        return life === undefined || weight === 0 ? [] : [{ life, weight }]
      })
      .sort((a, b) => a.life.index - b.life.index)
  }

  get #isLimited(): boolean {
    return this.#want.backends.some(({ maxConns }) => maxConns !== undefined)
  }

  /** Looks whether a backend is full, and remembers it. */
  #isFull(life: Life): boolean {
    const limit = limitOf(this.#want, life.number)
    if (limit === undefined) return false
    const { active, inactive } = life
    const reopens = limit.lower === 0 ? (limit.upper * 3) / 4 : limit.lower
    if (this.#full.has(life) && active + inactive < reopens) this.#full.delete(life)
    else if (!this.#full.has(life) && active + inactive >= limit.upper) this.#full.add(life)
    return this.#full.has(life)
  }

  /** It has got one more flow. */
  got(life: Life): void {
    if (this.#isLimited) this.#isFull(life)
  }

  /** @param byRing whom the ring has for it */
  forNew(byRing: number | undefined, destination: string): Choice {
    if (remembersDestinations(this.#want)) return this.#byDestination(destination)
    if (isByLoad(this.#want)) return this.#leastLoaded(this.#takers(), this.#want.scheduler)
    if (!takesTurns(this.#want)) return byRing
    return this.#isLimited ? this.#nextNotFull() : this.nextTurn()
  }

  /** Whether there is room or not. */
  nextTurn(): number | undefined {
    return this.#schedule.length === 0 ? undefined : this.#schedule[this.#turns++ % this.#schedule.length]
  }

  /** Whom the destination's flows went to, unless that is overloaded; else the least loaded of all, who is remembered. */
  #byDestination(destination: string): Choice {
    const takers = this.#takers()
    const before = this.#destinations.get(destination) ?? []
    const own = before.flatMap((life) => takers.find((taker) => taker.life === life) ?? [])
    const kept = this.#leastLoaded(own, 'wlc')
    if (typeof kept === 'number' && !this.#isOverloaded(kept, takers)) return kept
    const chosen = this.#leastLoaded(takers, 'wlc')
    const life = takers.find(({ life: { number } }) => number === chosen)?.life
    if (life !== undefined && !before.includes(life))
      this.#destinations.set(destination, this.#joined(before, life, own))
    return chosen
  }

  /** Has it more connections than it takes well, while another has few? */
  #isOverloaded(number: number, takers: readonly Taker[]): boolean {
    const found = takers.find(({ life }) => life.number === number)
    if (found === undefined || found.life.active <= found.weight) return false
    return takers.some(({ life, weight }) => life.active < weight / 2 && !this.#isFull(life))
  }

  /** lblc remembers the last one alone; of lblcr's set the most loaded makes room, and before it who takes no flow. */
  #joined(before: readonly Life[], life: Life, takers: readonly Taker[]): readonly Life[] {
    if (this.#want.scheduler === 'lblc') return [life]
    if (before.length < SET_MAX) return [life, ...before]
    const costs = takers.map((taker) => (256 * taker.life.active + taker.life.inactive) / taker.weight)
    const idle = before.filter((each) => takers.every((taker) => taker.life !== each)).at(-1)
    const gone = idle ?? takers[costs.indexOf(Math.max(...costs))]?.life
    return [life, ...before.filter((each) => each !== gone)]
  }

  #leastLoaded(takers: readonly Taker[], scheduler: Scheduler): Choice {
    let best: { number: number; cost: number; weight: number } | undefined
    let full = false
    for (const { life, weight } of takers) {
      if (this.#isFull(life)) {
        full = true
        continue
      }
      const { active, inactive } = life
      if (scheduler === 'nq' && active === 0) return life.number
      const cost = scheduler === 'sed' || scheduler === 'nq' ? active + 1 : 256 * active + inactive
      const share = scheduler === 'lc' ? 1 : weight
      if (best === undefined || cost * best.weight < best.cost * share) {
        best = { number: life.number, cost, weight: share }
      }
    }
    return best?.number ?? (full ? 'full' : undefined)
  }

  /** The next turn of one that is not full; then the next one in a row. */
  #nextNotFull(): Choice {
    const takers = new Map(this.#takers().map(({ life }) => [life.index, life]))
    const records = Math.max(0, ...[...this.#lives.values()].map(({ index }) => index + 1))
    let full = false
    let index = 0
    for (let turn = 0; turn < TURNS_MAX + records && this.#schedule.length > 0; turn++) {
      index = turn < TURNS_MAX ? (this.#lives.get(this.nextTurn() ?? -1)?.index ?? 0) : (index + 1) % records
      const life = takers.get(index)
      if (life === undefined) continue
      if (!this.#isFull(life)) return life.number
      full = true
    }
    return full ? 'full' : undefined
  }
}
