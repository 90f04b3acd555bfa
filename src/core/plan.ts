// SPDX-License-Identifier: Apache-2.0
// The difference between what is there and what is wanted.
import type { Backend, DesiredState, Globals, Service } from './desired.ts'
import { sameHealth } from './health.ts'
import { sameMaxConns } from './max-conns.ts'
import { samePath } from './paths.ts'
import { samePersistence } from './persistence.ts'
import { sameFilter } from './prefixes.ts'
import { sameRate } from './source-rate.ts'
import { namesToCompare } from './state-map.ts'

export type Change =
  | { kind: 'add'; name: string; want: Service }
  | { kind: 'change'; name: string; have: Service; want: Service }
  | { kind: 'remove'; name: string; have: Service }

const sameBackend = (a: Backend, b: Backend): boolean =>
  a.address === b.address &&
  a.port === b.port &&
  a.weight === b.weight &&
  a.admin === b.admin &&
  a.vlan === b.vlan &&
  sameMaxConns(a.maxConns, b.maxConns) &&
  sameHealth(a.health, b.health) &&
  samePath(a.path, b.path)

const sameBackends = (a: readonly Backend[], b: readonly Backend[]): boolean => {
  const others = new Map(b.map((backend) => [backend.address, backend]))
  return a.every((backend) => {
    const other = others.get(backend.address)
    return other !== undefined && sameBackend(backend, other)
  })
}

/** Equal in all that is stored of them; the order of backends is none of it. */
export const sameService = (a: Service, b: Service): boolean =>
  a === b ||
  (a.scheduler === b.scheduler &&
    a.forward === b.forward &&
    a.hash === b.hash &&
    a.ringSize === b.ringSize &&
    a.seed === b.seed &&
    a.ops === b.ops &&
    a.label === b.label &&
    sameFilter(a.filter, b.filter) &&
    sameRate(a.sourceRate, b.sourceRate) &&
    samePersistence(a.persistence, b.persistence) &&
    a.backends.length === b.backends.length &&
    sameBackends(a.backends, b.backends))

export const sameGlobals = (a: Globals, b: Globals): boolean =>
  a === b || (a.newFlows === b.newFlows && sameFilter(a.filter, b.filter))

/**
 * What has to change so that `want` holds where `have` did: removals, then changes, then additions. The order has no part in
 * safety - all of a plan is committed by one write (src/dataplane/writer.ts) - but frees places before they are asked for.
 */
export const plan = (have: DesiredState, want: DesiredState): Change[] => {
  const removed: Change[] = []
  const changed: Change[] = []
  const added: Change[] = []
  for (const name of namesToCompare(have, want)) {
    const before = have.get(name)
    const after = want.get(name)
    if (before === undefined && after !== undefined) added.push({ kind: 'add', name, want: after })
    else if (before !== undefined && after === undefined) removed.push({ kind: 'remove', name, have: before })
    else if (before !== undefined && after !== undefined && !sameService(before, after)) {
      changed.push({ kind: 'change', name, have: before, want: after })
    }
  }
  return [...removed, ...changed, ...added]
}
