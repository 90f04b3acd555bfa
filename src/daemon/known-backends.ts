// SPDX-License-Identifier: Apache-2.0
// Where a backend stands by all that a daemon knows of it, and in which words: what is told of it, when it was reported last, by which policy,
// at which time.
import type { Seen } from '../core/check.ts'
import type { Backend } from '../core/desired.ts'
import {
  AT_ONCE,
  checkNow,
  type Inputs,
  type ReturnPolicy,
  type Since,
  type Standing,
  standing,
} from '../core/standing.ts'
import {
  checkOf,
  type Decisive,
  decisive,
  inputsOf,
  type Pending,
  type Report,
  reportText,
  type Told,
} from '../core/told.ts'
import type { Freshness } from './freshness.ts'
import type { ToldBackends } from './told-backends.ts'

export interface KnownPorts {
  nowMs: () => number
  /** Of a service; undefined: AT_ONCE. */
  policyOf: (service: string) => ReturnPolicy | undefined
}

/** What an answer is about. */
type Plain = Pick<Backend, 'address' | 'weight' | 'admin' | 'path'>

/** One against which nothing is said but what is told of it. */
const plain = (address: string): Plain => ({ address, weight: 1, admin: 'up', path: { kind: 'local' } })

export class KnownBackends {
  readonly #ports: KnownPorts
  readonly #told: ToldBackends
  readonly #freshness: Freshness

  constructor(ports: KnownPorts, told: ToldBackends, freshness: Freshness) {
    this.#ports = ports
    this.#told = told
    this.#freshness = freshness
  }

  policyOf(service: string): ReturnPolicy {
    return this.#ports.policyOf(service) ?? AT_ONCE
  }

  /** Of one that the daemon does not wait for yet: as of now. */
  seen(service: string, { check }: ReturnPolicy, address: string, nowMs: number): Seen {
    return (check && this.#freshness.of(service, check, address)) ?? { lastMs: nowMs }
  }

  /** When it was reported last, or since when it might have been: of one with a check. */
  seenMs(service: string, address: string): number {
    return this.seen(service, this.policyOf(service), address, this.#ports.nowMs()).lastMs
  }

  /** @param told of it; its weight, admin state and path are of no account where only their address is given */
  standing(
    service: string,
    backend: Plain | string,
    told: Told | undefined,
    policy: ReturnPolicy,
    nowMs: number,
  ): Standing {
    const of = typeof backend === 'string' ? plain(backend) : backend
    const seenMs = this.seen(service, policy, of.address, nowMs).lastMs
    return standing(inputsOf(of, told ?? {}, policy, { sinceMs: 0, seenMs }), nowMs)
  }

  /** Why checks, agents and time let it have less than its weight; undefined: they do not. */
  decisive(service: string, address: string): Decisive | undefined {
    const told = this.#told.of(service, address)
    const policy = this.policyOf(service)
    if (told === undefined && policy.check === undefined) return undefined
    return decisive(this.standing(service, address, told, policy, this.#ports.nowMs()))
  }

  /** What its check says of it now; undefined: nothing, and nothing has expired. */
  checked(service: string, address: string): Since<NonNullable<Inputs['check']>['state']> | undefined {
    const told = this.#told.of(service, address)
    const policy = this.policyOf(service)
    if (told === undefined && policy.check === undefined) return undefined
    const nowMs = this.#ports.nowMs()
    const check = checkOf(told, policy.check, this.seen(service, policy, address, nowMs).lastMs)
    const now = check && checkNow(check, nowMs)
    return told?.check === undefined && now?.state === 'unknown' ? undefined : now
  }

  /** With the name of its check. */
  reportText(service: string, report: Report): string {
    const name = this.policyOf(service).check?.name
    return reportText(report, name === undefined ? {} : { check: name })
  }

  /** Of one that was taken: what was reported, and what holds on in spite of it. */
  reasonOf(service: string, address: string, report: Report): string {
    const said = this.reportText(service, report)
    return this.#withWorst(service, address, said, said)
  }

  /** The same for whoever reported it, who need not be told by which check; and how many such reports it takes. */
  answerTo(service: string, address: string, report: Report, pending: Pending | undefined): string {
    if (pending === undefined)
      return this.#withWorst(service, address, reportText(report), this.reportText(service, report))
    return this.#withWorst(service, address, reportText(report, { pending }))
  }

  /** @param same words of the worst that say the same again */
  #withWorst(service: string, address: string, said: string, same?: string): string {
    const worst = this.decisive(service, address)?.text
    return worst === undefined || worst === same ? said : `${said}; ${worst}`
  }
}
