// SPDX-License-Identifier: Apache-2.0
// What a daemon found out of a backend, beside what a person configured of it: the one never changes the other. It lies in the
// maps with the rest of the desired state, so that a verb that reads them and writes them anew keeps it.

import type { DesiredState, Service } from './desired.ts'
import { ChangedState } from './state-map.ts'

export interface Health {
  /** Do flows that it has stay with it? Else they are scheduled anew, and it gets no new ones. */
  alive: boolean
  /** The share of its configured weight that it has, 0 to 100. 0: no new flows. */
  percent: number
  /** Unix time since when it is so. In the maps it has whole seconds. */
  sinceMs: number
}

/** Do packets go by the two alike? Left out: it is alive, and has all of its weight. */
export const sameHealth = (a: Health | undefined, b: Health | undefined): boolean =>
  a === b || ((a?.alive ?? true) === (b?.alive ?? true) && (a?.percent ?? 100) === (b?.percent ?? 100))

/** A share of a weight: at least 1 where there is something of both. */
export const healthyWeight = (weight: number, percent: number): number =>
  weight === 0 || percent === 0 ? 0 : Math.max(1, Math.round((weight * percent) / 100))

/** A whole new state, of a file, says nothing of health: what is known of backends that stay holds on. */
export const withHealthOf = (have: DesiredState, want: DesiredState): DesiredState => {
  const next: [string, Service][] = []
  for (const [name, service] of want) {
    const known = new Map(
      have.get(name)?.backends.flatMap(({ address, health }) => (health === undefined ? [] : [[address, health]])),
    )
    if (known.size === 0) continue
    const backends = service.backends.map((backend) => {
      const health = known.get(backend.address)
      return health === undefined ? backend : { ...backend, health }
    })
    next.push([name, { ...service, backends }])
  }
  return next.length === 0 ? want : ChangedState.of(want, next)
}

/** Likewise of a daemon: what it found of one service's backends, by their addresses; undefined: nothing. */
export const withHealth = (service: Service, found: ReadonlyMap<string, Health | undefined>): Service => ({
  ...service,
  backends: service.backends.map((backend) => {
    if (!found.has(backend.address)) return backend
    const next = found.get(backend.address)
    if (sameHealth(backend.health, next)) return backend
    const { health: _, ...rest } = backend
    return next === undefined ? rest : { ...rest, health: next }
  }),
})
