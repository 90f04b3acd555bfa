// SPDX-License-Identifier: Apache-2.0
// Where each backend stands while a daemon runs: what is told of it from outside, what became of it in the maps, and the time. Each commit
// passes by here before it is made (overlay), so that packets never go by half of what is known; and after it (committed).
import { formatService } from '../core/address.ts'
import { describeBackend, type Happening } from '../core/backend-state.ts'
import { type Backend, type DesiredState, isLeaving, type Service } from '../core/desired.ts'
import { type Health, sameHealth, withHealth } from '../core/health.ts'
import { heard, silenced } from '../core/heard.ts'
import type { Change } from '../core/plan.ts'
import type { ReturnPolicy } from '../core/standing.ts'
import { ChangedState, namesToCompare } from '../core/state-map.ts'
import {
  type Decisive,
  followed,
  isSteady,
  type Pending,
  type Report,
  reported,
  settled,
  type Told,
} from '../core/told.ts'
import { Freshness } from './freshness.ts'
import { KnownBackends, type KnownPorts } from './known-backends.ts'
import type { Entry } from './standing-store.ts'
import { type Journal, ToldBackends } from './told-backends.ts'

export interface StandingsPorts extends KnownPorts {
  /** By a clock that nobody sets, from any time on; left out: the other one is none that is set. */
  steadyMs?: () => number
  journal: Journal
  tell: (happening: Happening) => void
  /** When follow() is to be called though nothing is told; undefined: not at all. */
  due: (atMs: number | undefined) => void
}

const byAddress = (service: Service | undefined): Map<string, Backend> =>
  new Map(service?.backends.map((backend) => [backend.address, backend]))

export class Standings {
  readonly #ports: StandingsPorts
  readonly #told: ToldBackends
  /** Of services with backends that are held out, or grow into their weight: when the next of these changes. */
  readonly #due = new Map<string, number>()
  readonly #freshness = new Freshness()
  readonly known: KnownBackends
  /** The time by which the last commit was computed. */
  #asOfMs = 0

  constructor(ports: StandingsPorts) {
    this.#ports = ports
    this.#told = new ToldBackends(ports.journal)
    this.known = new KnownBackends(ports, this.#told, this.#freshness)
  }

  /** The time: no report is older by it than it is. */
  #now(): number {
    const nowMs = this.#ports.nowMs()
    this.#freshness.keepAges(nowMs, this.#ports.steadyMs?.() ?? nowMs)
    return nowMs
  }

  /** Services in which something is told of a backend. */
  get services(): string[] {
    return this.#told.services
  }

  /** Finds the services of which a backend's standing has changed with time; where there are none, when there will be. */
  look(): string[] {
    const nowMs = this.#now()
    const due = [...this.#due].flatMap(([name, atMs]) => (atMs <= nowMs ? [name] : []))
    const expired = this.#freshness.mayHaveExpired(nowMs).filter((name) => this.#hasExpired(name, nowMs))
    if (due.length + expired.length === 0) this.#wake()
    return [...new Set([...due, ...expired])]
  }

  #hasExpired(name: string, nowMs: number): boolean {
    const { check } = this.known.policyOf(name)
    const isNoted = (address: string): boolean => this.told(name, address)?.silent !== undefined
    return check !== undefined && this.#freshness.look(name, check, nowMs, isNoted)
  }

  told(service: string, address: string): Told | undefined {
    return this.#told.of(service, address)
  }

  /** Why checks, agents and time let it have less than its weight; undefined: they do not. */
  decisive(service: string, address: string): Decisive | undefined {
    return this.known.decisive(service, address)
  }

  // ---- commits

  /** The state that is wanted, with what is known of its backends in those services that may change. */
  overlay(have: DesiredState, want: DesiredState): DesiredState {
    const next: [string, Service][] = []
    this.#asOfMs = this.#now()
    for (const name of namesToCompare(have, want)) {
      const service = want.get(name)
      if (service === undefined) continue
      const found = this.#found(name, have.get(name), service, this.#asOfMs)
      if (found.size > 0) next.push([name, withHealth(service, found)])
    }
    return next.length === 0 ? want : ChangedState.of(want, next)
  }

  /** What the maps shall hold otherwise than `want` does. */
  #found(name: string, have: Service | undefined, want: Service, nowMs: number): Map<string, Health | undefined> {
    return new Map(this.#differences(name, have, want, nowMs))
  }

  *#differences(
    name: string,
    have: Service | undefined,
    want: Service,
    nowMs: number,
  ): Generator<[address: string, Health | undefined]> {
    const policy = this.known.policyOf(name)
    // Of most services there is nothing to tell, and a restore has thousands of them.
    if (!this.#mayTell(name, policy) && want.backends.every(({ health }) => health === undefined)) return
    const before = byAddress(have)
    for (const backend of want.backends) {
      if (isLeaving(backend)) continue
      const { address, health } = backend
      const told = followed(this.told(name, address), before.get(address), backend, nowMs)
      const after = this.#healthOf(name, backend, told, policy, nowMs)
      if (!sameHealth(health, after)) yield [address, after]
    }
  }

  #healthOf(
    name: string,
    backend: Backend,
    told: Told | undefined,
    policy: ReturnPolicy,
    nowMs: number,
  ): Health | undefined {
    const { check } = policy
    if (told === undefined) {
      // Of most backends there is nothing against them, and to find all that there is to say of a hundred thousand takes its time.
      const holdsMs = check?.expiresMs ?? Number.POSITIVE_INFINITY
      const isFresh = nowMs < this.known.seen(name, policy, backend.address, nowMs).lastMs + holdsMs
      if (check === undefined || (check.initially === 'up' && isFresh)) return undefined
    }
    return this.known.standing(name, backend, told, policy, nowMs).health
  }

  /** A commit was made of what overlay() made last. */
  committed(changes: readonly Change[]): void {
    for (const change of changes) {
      if (!this.#mayTell(change.name, this.known.policyOf(change.name))) continue
      const want = change.kind === 'remove' ? undefined : change.want
      const before = byAddress(change.kind === 'change' ? change.have : undefined)
      const after = byAddress(want)
      for (const [address, backend] of after) {
        const told = followed(this.told(change.name, address), before.get(address), backend, this.#asOfMs)
        this.#told.keep(change.name, address, told)
      }
      this.#told.forgetAllBut(change.name, after)
      this.#settle(change.name, want, this.#asOfMs, before)
    }
    this.#end()
  }

  /**
   * Has the maps follow where time has passed, or a policy has changed.
   *
   * @param commit has the backends of these services pass by overlay(), and commits what differs
   */
  follow(state: DesiredState, names: readonly string[], commit: (behind: string[]) => void): void {
    const nowMs = this.#now()
    const behind = names.filter((name) => this.#isBehind(name, state.get(name), nowMs))
    if (behind.length > 0) commit(behind)
    const done = new Set(behind)
    for (const name of names) if (!done.has(name)) this.#settle(name, state.get(name), nowMs)
    this.#end()
  }

  /** Is something told of its backends, or may it be that one comes back, or that a report expires? */
  #mayTell(name: string, { slowStartMs, check }: ReturnPolicy): boolean {
    return slowStartMs > 0 || check !== undefined || this.#told.has(name) || this.#freshness.has(name)
  }

  #isBehind(name: string, service: Service | undefined, nowMs: number): boolean {
    return service !== undefined && this.#differences(name, service, service, nowMs).next().done === false
  }

  /**
   * Lets go of what is over, and notes what has expired; finds out when what is not changes next.
   *
   * @param before its backends, where a commit has made them others
   */
  #settle(name: string, service: Service | undefined, nowMs: number, before?: ReadonlyMap<string, Backend>): void {
    const policy = this.known.policyOf(name)
    this.#freshen(name, policy, service, nowMs)
    let next = Number.POSITIVE_INFINITY
    for (const backend of service?.backends ?? []) {
      const { address } = backend
      const was = this.told(name, address)
      if (was === undefined && policy.check === undefined) continue
      const seenMs = this.known.seen(name, policy, address, nowMs).lastMs
      const told = isLeaving(backend) ? was : silenced(settled(was, policy, nowMs), policy.check, seenMs, nowMs)
      this.#told.keep(name, address, told)
      const isAsBefore = before === undefined || sameHealth(before.get(address)?.health, backend.health)
      if (told?.silent !== undefined && was?.silent === undefined && isAsBefore) this.#tellOf(name, backend)
      if (told === undefined || isSteady(told, policy, nowMs)) continue
      next = Math.min(next, this.known.standing(name, address, told, policy, nowMs).nextChangeMs ?? next)
    }
    if (policy.check !== undefined) this.#hasExpired(name, nowMs)
    if (Number.isFinite(next)) this.#due.set(name, next)
    else this.#due.delete(name)
  }

  /** From now on reports of these backends are waited for. */
  #freshen(name: string, { check }: ReturnPolicy, service: Service | undefined, nowMs: number): void {
    if (check === undefined && !this.#freshness.has(name)) return
    const addresses = service?.backends.flatMap((each) => (isLeaving(each) ? [] : [each.address])) ?? []
    this.#freshness.settle(name, check, addresses, (address) => {
      const silent = this.told(name, address)?.silent
      return { lastMs: silent !== undefined && silent.check === check?.name ? silent.sinceMs : nowMs }
    })
  }

  #wake(): void {
    let atMs = this.#freshness.nextMs
    for (const dueMs of this.#due.values()) if (dueMs < atMs) atMs = dueMs
    this.#ports.due(Number.isFinite(atMs) ? atMs : undefined)
  }

  /** Of something that was done here. */
  #end(): void {
    this.#wake()
    this.#told.compact()
  }

  // ---- reports

  /**
   * Takes a report, and has the maps follow.
   *
   * @param commit has this service's backends pass by overlay(), and commits what differs
   * @returns how many such reports it takes, where this one is not the last of them
   * @throws what `commit` does: the report is not taken then
   */
  report(service: Service, backend: Backend, report: Report, commit: () => void): Pending | undefined {
    const name = formatService(service)
    const { address } = backend
    const nowMs = this.#now()
    const policy = this.known.policyOf(name)
    const { check } = policy
    if (check === undefined) {
      this.#take(service, backend, report, reported(this.told(name, address), report, nowMs), commit)
      return undefined
    }
    const seen = this.known.seen(name, policy, address, nowMs)
    const { told, seen: next, pending } = heard(this.told(name, address), report, check, seen, nowMs)
    this.#freshness.set(name, address, next)
    // Most reports say what was known.
    if (told === this.told(name, address)) return pending
    try {
      this.#take(service, backend, report, told, commit)
    } catch (error) {
      this.#freshness.set(name, address, seen)
      throw error
    }
    return pending
  }

  #take(service: Service, backend: Backend, report: Report, after: Told | undefined, commit: () => void): void {
    const name = formatService(service)
    const { address } = backend
    const nowMs = this.#now()
    const before = this.told(name, address)
    this.#told.keep(name, address, after)
    const found = this.#found(name, service, service, nowMs)
    if (found.size > 0) {
      try {
        commit()
      } catch (error) {
        this.#told.keep(name, address, before)
        throw error
      }
    } else this.#settle(name, service, nowMs)
    this.#end()
    // Packets go by the same as before, and what has changed is why, or until when: no commit tells of that.
    const isSame =
      before?.check?.state === after?.check?.state &&
      before?.agent?.state === after?.agent?.state &&
      before?.silent === after?.silent
    if (found.has(address) || isSame) return
    this.#tellOf(name, backend, this.known.reasonOf(name, address, report))
  }

  /** Of something that packets do not go by. */
  #tellOf(service: string, backend: Backend, reason = this.decisive(service, backend.address)?.text ?? ''): void {
    const state = describeBackend(backend)
    const { address } = backend
    this.#ports.tell({ kind: 'backend', subject: service, backend: address, from: state, to: state, reason })
  }

  // ---- what lasts

  /** What a daemon before this one was told. */
  take(entries: Iterable<Entry>): void {
    this.#told.take(entries)
  }

  /** Only what is there is told of. */
  forgetAbsent(state: DesiredState): void {
    for (const name of this.services) {
      this.#told.forgetAllBut(name, byAddress(state.get(name)))
    }
  }
}
