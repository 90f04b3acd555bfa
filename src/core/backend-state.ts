// SPDX-License-Identifier: Apache-2.0
// What an operator is told of a backend, in one word; and what a change says of it.

import { formatMac } from './address.ts'
import { stateWord } from './backend-words.ts'
import type { Backend } from './desired.ts'
import { sameHealth } from './health.ts'
import { samePath } from './paths.ts'
import type { Change } from './plan.ts'

/** The first of what keeps it from new flows, or that nothing does; of a share of its weight how much that is. */
export const backendState = ({ admin, weight, path, health }: Backend): string => {
  const { alive, percent } = health ?? { alive: true, percent: 100 }
  const word = stateWord({ admin, weight, path: path.kind, alive, percent, full: false })
  return word === 'reduced' ? `${percent}%` : word
}

/** What happened, for logs, followers and notification. */
export interface Event {
  /** ISO 8601, UTC. */
  time: string
  kind: 'service' | 'backend' | 'interface' | 'configuration' | 'maps'
  /** What of it is concerned: a service, an interface, a file. */
  subject: string
  /** A service's backend. */
  backend?: string
  from?: string
  to: string
  reason: string
}

export type Happening = Omit<Event, 'time'>

/** Its state and its weight, as events have them. */
export const describeBackend = (backend: Backend): string => `${backendState(backend)} ${backend.weight}`

/** Why its state is what it is, where that is not what somebody said. */
const causeOf = (before: Backend | undefined, after: Backend, silentSince: string | undefined): string | undefined => {
  const { path } = after
  if (path.kind === 'unresolved') return before?.path.kind === 'unresolved' ? undefined : path.why
  if (before?.path.kind === 'unresolved') {
    return silentSince === undefined ? 'it answers' : `it answers, and did not since ${silentSince}`
  }
  if (before?.path.kind === 'link' && path.kind === 'link' && before.path.mac !== path.mac) {
    return `its MAC was ${formatMac(before.path.mac)}, and is ${formatMac(path.mac)}`
  }
  return undefined
}

/** What only a daemon knows of backends. */
export interface Knowledge {
  /** Since when an address has not been reached, ISO 8601, where that is known. */
  silentSince?: (address: string) => string | undefined
  /** Why checks, agents and time let a backend have less than its weight; undefined: they do not. */
  found?: (service: string, address: string) => { name: string; text: string } | undefined
}

/** A step of a share that grows: of these the first is told, and the last. */
const isStep = (before: Backend | undefined, after: Backend): boolean =>
  before?.health?.alive === true &&
  after.health?.alive === true &&
  before.health.percent > 0 &&
  before.health.percent < after.health.percent &&
  after.health.percent < 100 &&
  before.weight === after.weight &&
  before.admin === after.admin

/**
 * What a plan means to whoever looks on.
 *
 * @param reason of whatever the change itself does not explain: who asked for it
 */
export const happenings = (
  changes: Iterable<Change>,
  reason: string,
  { silentSince = () => undefined, found: whyNotAll = () => undefined }: Knowledge = {},
): Happening[] => {
  const found: Happening[] = []
  for (const change of changes) {
    const subject = change.name
    if (change.kind !== 'change') {
      found.push({ kind: 'service', subject, to: change.kind === 'add' ? 'added' : 'removed', reason })
      continue
    }
    const before = new Map(change.have.backends.map((each) => [each.address, each]))
    let isOfBackends = false
    for (const after of change.want.backends) {
      const known = before.get(after.address)
      before.delete(after.address)
      const from = known === undefined ? undefined : describeBackend(known)
      const to = describeBackend(after)
      const moved = known !== undefined && !samePath(known.path, after.path)
      const isOfHealth = !sameHealth(known?.health, after.health)
      if (from === to && !moved && !isOfHealth) continue
      isOfBackends = true
      const why = isOfHealth ? whyNotAll(subject, after.address) : undefined
      if (why?.name === 'slow-start' && !moved && isStep(known, after)) continue
      const isAsked = known?.admin !== after.admin || known.weight !== after.weight
      const cause = causeOf(known, after, silentSince(after.address)) ?? (isAsked ? reason : undefined)
      found.push({
        kind: 'backend',
        subject,
        backend: after.address,
        ...(from === undefined ? {} : { from }),
        to,
        reason: [cause, why?.text].filter((each) => each !== undefined).join('; ') || reason,
      })
    }
    for (const gone of before.values()) {
      isOfBackends = true
      found.push({
        kind: 'backend',
        subject,
        backend: gone.address,
        from: describeBackend(gone),
        to: 'removed',
        reason,
      })
    }
    if (!isOfBackends) found.push({ kind: 'service', subject, to: 'changed', reason })
  }
  return found
}
