// SPDX-License-Identifier: Apache-2.0
// What an operator is told of a backend, in one word; and what a change says of it.

import { formatMac } from './address.ts'
import { stateWord } from './backend-words.ts'
import type { Backend } from './desired.ts'
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

const describe = (backend: Backend): string => `${backendState(backend)} ${backend.weight}`

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

/**
 * What a plan means to whoever looks on.
 *
 * @param reason of whatever the change itself does not explain: who asked for it
 * @param silentSince since when an address has not been reached, ISO 8601, where that is known
 */
export const happenings = (
  changes: Iterable<Change>,
  reason: string,
  silentSince: (address: string) => string | undefined = () => undefined,
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
      const from = known === undefined ? undefined : describe(known)
      const to = describe(after)
      const moved = known !== undefined && !samePath(known.path, after.path)
      if (from === to && !moved) continue
      isOfBackends = true
      const cause = causeOf(known, after, silentSince(after.address)) ?? reason
      found.push({
        kind: 'backend',
        subject,
        backend: after.address,
        ...(from === undefined ? {} : { from }),
        to,
        reason: cause,
      })
    }
    for (const gone of before.values()) {
      isOfBackends = true
      found.push({ kind: 'backend', subject, backend: gone.address, from: describe(gone), to: 'removed', reason })
    }
    if (!isOfBackends) found.push({ kind: 'service', subject, to: 'changed', reason })
  }
  return found
}
