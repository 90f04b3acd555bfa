// SPDX-License-Identifier: Apache-2.0
// Standings (standings.ts) beside an instance: their file, their timer, and their way to the maps.

import type { Found } from '../api/snapshot.ts'
import type { BackendAddress, ServiceAddress } from '../core/address.ts'
import { formatService } from '../core/address.ts'
import type { Happening } from '../core/backend-state.ts'
import { isLeaving } from '../core/desired.ts'
import { Refusal } from '../core/refusal.ts'
import { changedPolicies, type Policies } from '../core/return-policy.ts'
import type { ReturnPolicy } from '../core/standing.ts'
import { ChangedState } from '../core/state-map.ts'
import type { Report, Told } from '../core/told.ts'
import { existing, existingBackend } from '../core/verbs.ts'
import { scanBackends } from '../dataplane/backend-records.ts'
import { changeState, type Session } from '../shell/session.ts'
import { Alarm } from './alarm.ts'
import { StandingStore } from './standing-store.ts'
import { Standings } from './standings.ts'

export interface KeptStandingsPorts {
  nowMs: () => number
  /** Of the state directory, which is there. */
  folder: string
  tell: (happening: Happening) => void
  session: <T>(action: (session: Session) => T) => T
  isAttached: () => boolean
  because: <T>(reason: string, action: () => T) => T
  /** Performs what time asks for, and is told where that fails. */
  quietly: (what: string, action: () => void) => void
}

export class KeptStandings {
  readonly standings: Standings
  readonly #ports: KeptStandingsPorts
  readonly #store: StandingStore
  readonly #alarm: Alarm
  #policies: Policies = new Map()
  /** Services whose backends come back otherwise since another configuration is in force; of a start all that there are. */
  #anew: Set<string> | 'all' = new Set()
  #hasLoaded = false

  constructor(ports: KeptStandingsPorts) {
    this.#ports = ports
    this.#store = new StandingStore(ports.folder)
    this.#alarm = new Alarm({ nowMs: ports.nowMs }, () => ports.quietly('standings', () => this.follow()))
    this.standings = new Standings({
      nowMs: ports.nowMs,
      steadyMs: () => performance.now(),
      journal: this.#store,
      policyOf: (service) => this.#policies.get(service),
      tell: ports.tell,
      due: (atMs) => this.#alarm.set(atMs),
    })
  }

  /** How backends of each service come back. */
  get policies(): Policies {
    return this.#policies
  }

  /** What was told of a backend, and how those of its service come back. */
  of(service: string, address: string): { told: Told; policy: ReturnPolicy; seenMs: number } {
    const { standings } = this
    return {
      told: standings.told(service, address) ?? {},
      policy: standings.known.policyOf(service),
      seenMs: standings.known.seenMs(service, address),
    }
  }

  /** For metrics: what is reported of a backend, and why it has less than its weight. */
  found(service: string, address: string): Found | undefined {
    const worst = this.standings.decisive(service, address)
    const check = this.standings.known.checked(service, address)
    if (worst === undefined && check === undefined) return undefined
    return {
      ...(worst === undefined ? {} : { reason: worst.name, sinceMs: worst.sinceMs }),
      ...(check === undefined ? {} : { check: check.state, checkedMs: check.sinceMs }),
    }
  }

  /**
   * What a daemon before this one was told; where that cannot be read, this is told, and nothing was.
   * @param policies that it went by
   */
  start(policies: Policies): void {
    this.#policies = policies
    try {
      const { entries, broken } = this.#store.read()
      this.standings.take(entries)
      if (broken > 0) this.#tellUnreadable(`${broken} of its lines are no reports, and were left out`)
      this.#store.rewrite(entries)
    } catch (error) {
      this.#tellUnreadable(`${error instanceof Error ? error.message : error}; nothing is known of reports before`)
    }
  }

  #tellUnreadable(reason: string): void {
    this.#ports.tell({ kind: 'configuration', subject: this.#store.file, to: 'unreadable', reason })
  }

  /**
   * While `apply` makes a configuration be in force, and from then on, backends come back as it says. Where it throws, as before.
   * @returns services of which it says something else than the one before
   */
  load<T>(policies: Policies, apply: () => T): { applied: T; changed: string[] } {
    const before = this.#policies
    this.#policies = policies
    try {
      const applied = apply()
      const changed = changedPolicies(before, policies)
      if (!this.#hasLoaded) this.#anew = 'all'
      else if (this.#anew !== 'all') this.#anew = new Set([...this.#anew, ...changed])
      this.#hasLoaded = true
      this.#ports.quietly('standings', () => this.follow())
      return { applied, changed }
    } catch (error) {
      this.#policies = before
      throw error
    }
  }

  /** Has the maps follow where time has passed, or a configuration says otherwise. */
  follow(): void {
    const due = this.standings.look()
    const isAnew = this.#anew === 'all' || this.#anew.size > 0
    if ((!isAnew && due.length === 0) || !this.#ports.isAttached()) return
    const act = () => this.#ports.session((session) => this.#follow(session, due))
    if (isAnew) act()
    else this.#ports.because('it has been back for long enough', act)
  }

  #follow(session: Session, due: readonly string[]): void {
    const { standings } = this
    const { desired } = session.live
    if (this.#anew === 'all') standings.forgetAbsent(desired)
    const anew =
      this.#anew === 'all' ? [...standings.services, ...checked(this.#policies), ...unwell(session)] : this.#anew
    standings.follow(desired, [...new Set([...anew, ...due])], (behind) => lookAt(session, behind))
    this.#anew = new Set()
  }

  /**
   * `xlb backend report`.
   * @throws Refusal where there is no such backend; nothing is changed then
   */
  report(serviceAddress: ServiceAddress, backendAddress: BackendAddress, report: Report): string {
    const name = formatService(serviceAddress)
    return this.#ports.because(this.standings.known.reportText(name, report), () =>
      this.#ports.session((session) => {
        const service = existing(session.live.desired, serviceAddress)
        const backend = existingBackend(service, backendAddress)
        if (isLeaving(backend)) {
          throw new Refusal(
            `backend ${backend.address} of ${name} was removed, and is there for its flows alone`,
            `to take it back in: xlb backend set ${name} ${backend.address}`,
          )
        }
        const pending = this.standings.report(service, backend, report, () => lookAt(session, [name]))
        return `${backend.address} of ${name}: ${this.standings.known.answerTo(name, backend.address, report, pending)}`
      }),
    )
  }

  close(): void {
    this.#alarm.set(undefined)
    this.#store.close()
  }
}

/** Services of whose backends somebody reports. */
const checked = (policies: Policies): string[] =>
  [...policies].flatMap(([name, { check }]) => (check === undefined ? [] : [name]))

/** Services with backends of which the maps hold that they are not all well. */
const unwell = ({ plane, live }: Session): Set<string> => {
  const names = new Set<string>()
  scanBackends(plane, live, ({ name, alive, percent }) => {
    if (!alive || percent < 100) names.add(name)
  })
  return names
}

/** Has these services pass by overlay(), and commits what it makes of them. */
const lookAt = (session: Session, names: readonly string[]): void => {
  changeState(session, (state) =>
    ChangedState.of(
      state,
      names.map((name) => [name, state.get(name)]),
    ),
  )
}
