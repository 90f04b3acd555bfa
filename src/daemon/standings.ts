// SPDX-License-Identifier: Apache-2.0
// Where each backend stands while a daemon runs: what is told of it from outside, what became of it in the maps, and the time. Each commit
// passes by here before it is made (overlay), so that packets never go by half of what is known; and after it (committed).
import { formatService } from '../core/address.ts'
import { describeBackend, type Happening } from '../core/backend-state.ts'
import { type Backend, type DesiredState, isLeaving, type Service } from '../core/desired.ts'
import { type Health, sameHealth, withHealth } from '../core/health.ts'
import type { Change } from '../core/plan.ts'
import { AT_ONCE, type ReturnPolicy, standing } from '../core/standing.ts'
import { ChangedState, namesToCompare } from '../core/state-map.ts'
import {
  type Decisive,
  decisive,
  followed,
  inputsOf,
  isSteady,
  type Known,
  type Report,
  reported,
  reportText,
  settled,
  type Told,
} from '../core/told.ts'
import type { Entry } from './standing-store.ts'

/** Of standing-store.ts. */
export interface Journal {
  append: (entry: Entry) => void
  isLong: (entries: number) => boolean
  rewrite: (entries: Iterable<Entry>) => void
}

export interface StandingsPorts {
  nowMs: () => number
  journal: Journal
  /** Of a service; undefined: AT_ONCE. */
  policyOf: (service: string) => ReturnPolicy | undefined
  tell: (happening: Happening) => void
  /** When follow() is to be called though nothing is told; undefined: not at all. */
  due: (atMs: number | undefined) => void
}

type ByAddress = Map<string, Told>

/** What has no part in what packets go by. */
const UNKNOWN: Known = { sinceMs: 0 }

/** A backend against which nothing is said but what is told of it. */
const PLAIN = { weight: 1, admin: 'up', path: { kind: 'local' } } as const

const byAddress = (service: Service | undefined): Map<string, Backend> =>
  new Map(service?.backends.map((backend) => [backend.address, backend]))

export class Standings {
  readonly #ports: StandingsPorts
  readonly #told = new Map<string, ByAddress>()
  /** Of services with backends that are held out, or grow into their weight: when the next of these changes. */
  readonly #due = new Map<string, number>()
  /** The time by which the last commit was computed. */
  #asOfMs = 0
  #count = 0

  constructor(ports: StandingsPorts) {
    this.#ports = ports
  }

  /** Services in which something is told of a backend. */
  get services(): string[] {
    return [...this.#told.keys()]
  }

  /** Services of which a backend's standing has changed with time. */
  get due(): string[] {
    const nowMs = this.#ports.nowMs()
    return [...this.#due].flatMap(([name, atMs]) => (atMs <= nowMs ? [name] : []))
  }

  told(service: string, address: string): Told | undefined {
    return this.#told.get(service)?.get(address)
  }

  policyOf(service: string): ReturnPolicy {
    return this.#ports.policyOf(service) ?? AT_ONCE
  }

  /** Why checks, agents and time let it have less than its weight; undefined: they do not. */
  decisive(service: string, address: string): Decisive | undefined {
    const told = this.told(service, address)
    if (told === undefined) return undefined
    return decisive(standing(inputsOf(PLAIN, told, this.policyOf(service), UNKNOWN), this.#ports.nowMs()))
  }

  // ---- commits

  /** The state that is wanted, with what is known of its backends in those services that may change. */
  overlay(have: DesiredState, want: DesiredState): DesiredState {
    const next: [string, Service][] = []
    this.#asOfMs = this.#ports.nowMs()
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
    const found = new Map<string, Health | undefined>()
    const policy = this.policyOf(name)
    // Of most services there is nothing to tell, and a restore has thousands of them.
    if (!this.#mayTell(name, policy) && want.backends.every(({ health }) => health === undefined)) return found
    const before = byAddress(have)
    for (const backend of want.backends) {
      if (isLeaving(backend)) continue
      const { address, health } = backend
      const told = followed(this.told(name, address), before.get(address), backend, nowMs)
      const after = told && standing(inputsOf(backend, told, policy, UNKNOWN), nowMs).health
      if (!sameHealth(health, after)) found.set(address, after)
    }
    return found
  }

  /** A commit was made of what overlay() made last. */
  committed(changes: readonly Change[]): void {
    for (const change of changes) {
      if (!this.#mayTell(change.name, this.policyOf(change.name))) continue
      const want = change.kind === 'remove' ? undefined : change.want
      const before = byAddress(change.kind === 'change' ? change.have : undefined)
      const after = byAddress(want)
      for (const [address, backend] of after) {
        const told = followed(this.told(change.name, address), before.get(address), backend, this.#asOfMs)
        this.#keep(change.name, address, told)
      }
      this.#forgetAllBut(change.name, after)
      this.#settle(change.name, want, this.#asOfMs)
    }
    this.#end()
  }

  /**
   * Has the maps follow where time has passed, or a policy has changed.
   *
   * @param commit has the backends of these services pass by overlay(), and commits what differs
   */
  follow(state: DesiredState, names: readonly string[], commit: (behind: string[]) => void): void {
    const nowMs = this.#ports.nowMs()
    const behind = names.filter((name) => this.#isBehind(name, state.get(name), nowMs))
    if (behind.length > 0) commit(behind)
    for (const name of names) if (!behind.includes(name)) this.#settle(name, state.get(name), nowMs)
    this.#end()
  }

  /** Is something told of its backends, or may it be that one comes back? */
  #mayTell(name: string, { slowStartMs }: ReturnPolicy): boolean {
    return slowStartMs > 0 || this.#told.has(name)
  }

  #isBehind(name: string, service: Service | undefined, nowMs: number): boolean {
    return service !== undefined && this.#found(name, service, service, nowMs).size > 0
  }

  /** Lets go of what is over; finds out when what is not changes next. */
  #settle(name: string, service: Service | undefined, nowMs: number): void {
    const policy = this.policyOf(name)
    let next = Number.POSITIVE_INFINITY
    for (const { address } of service?.backends ?? []) {
      const told = settled(this.told(name, address), policy, nowMs)
      this.#keep(name, address, told)
      if (told === undefined || isSteady(told, policy, nowMs)) continue
      next = Math.min(next, standing(inputsOf(PLAIN, told, policy, UNKNOWN), nowMs).nextChangeMs ?? next)
    }
    if (Number.isFinite(next)) this.#due.set(name, next)
    else this.#due.delete(name)
  }

  /** Of something that was done here. */
  #end(): void {
    this.#ports.due(this.#due.size === 0 ? undefined : Math.min(...this.#due.values()))
    if (this.#ports.journal.isLong(this.#count)) this.#ports.journal.rewrite(this.#entries())
  }

  // ---- reports

  /**
   * Takes a report, and has the maps follow.
   *
   * @param commit has this service's backends pass by overlay(), and commits what differs
   * @throws what `commit` does: the report is not taken then
   */
  report(service: Service, backend: Backend, report: Report, commit: () => void): void {
    const name = formatService(service)
    const { address } = backend
    const nowMs = this.#ports.nowMs()
    const before = this.told(name, address)
    const after = reported(before, report, nowMs)
    this.#keep(name, address, after)
    const isToldOf = this.#found(name, service, service, nowMs).has(address)
    if (this.#isBehind(name, service, nowMs)) {
      try {
        commit()
      } catch (error) {
        this.#keep(name, address, before)
        throw error
      }
    } else this.#settle(name, service, nowMs)
    this.#end()
    // Packets go by the same as before, and what has changed is why, or until when: no commit tells of that.
    if (isToldOf || (before?.check?.state === after?.check?.state && before?.agent?.state === after?.agent?.state))
      return
    const state = describeBackend(backend)
    const reason = this.reasonOf(name, address, report)
    this.#ports.tell({ kind: 'backend', subject: name, backend: address, from: state, to: state, reason })
  }

  /** What was reported; and what holds on in spite of it. */
  reasonOf(service: string, address: string, report: Report): string {
    const said = reportText(report)
    const worst = this.decisive(service, address)?.text
    return worst === undefined || worst === said ? said : `${said}; ${worst}`
  }

  // ---- what lasts

  /** What a daemon before this one was told. */
  take(entries: Iterable<Entry>): void {
    for (const { service, backend, told } of entries) this.#set(service, backend, told)
  }

  /** Only what is there is told of. */
  forgetAbsent(state: DesiredState): void {
    for (const name of this.services) {
      this.#forgetAllBut(name, byAddress(state.get(name)))
    }
  }

  #forgetAllBut(name: string, there: ReadonlyMap<string, Backend>): void {
    for (const address of [...(this.#told.get(name)?.keys() ?? [])]) {
      const backend = there.get(address)
      if (backend === undefined || isLeaving(backend)) this.#keep(name, address, undefined)
    }
  }

  *#entries(): Generator<Entry> {
    for (const [service, told] of this.#told) {
      for (const [backend, each] of told) yield { service, backend, told: each }
    }
  }

  /** Written before it counts. */
  #keep(service: string, address: string, told: Told | undefined): void {
    const before = this.told(service, address)
    if (before === told || JSON.stringify(before) === JSON.stringify(told)) return
    this.#ports.journal.append({ service, backend: address, told })
    this.#set(service, address, told)
  }

  #set(service: string, address: string, told: Told | undefined): void {
    const backends: ByAddress = this.#told.get(service) ?? new Map()
    this.#count -= backends.size
    if (told === undefined) backends.delete(address)
    else backends.set(address, told)
    this.#count += backends.size
    if (backends.size === 0) this.#told.delete(service)
    else this.#told.set(service, backends)
  }
}
