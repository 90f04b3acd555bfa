// SPDX-License-Identifier: Apache-2.0
// `xlb backend rm`, and backends that stay for their flows' sake after it: who takes them along, and who takes them out. No daemon waits for
// their flows to end: each verb that changes something looks, and drops those of which nothing remains.
import { type BackendAddress, formatService, type ServiceAddress } from './address.ts'
import { type Backend, type DesiredState, isLeaving, isTracked, type Service } from './desired.ts'
import { Refusal } from './refusal.ts'
import { ChangedState } from './state-map.ts'
import { existing, existingBackend, withService } from './verbs.ts'

export const FLOW_FATES = ['keep', 'cut', 'move'] as const
/** What becomes of a removed backend's flows: they stay until they end, are dropped, or scheduled anew. */
export type FlowFate = (typeof FLOW_FATES)[number]

/** Datagrams of a hashed UDP service are recorded nowhere, so that those of older flows cannot be told from new ones. */
const checkCut = (service: Service, { address }: Backend): void => {
  if (service.protocol === 'tcp' || isTracked(service)) return
  throw new Refusal(
    `backend ${address} of ${formatService(service)}: a hashed UDP service does not know its flows, so that none can be cut`,
    'choose --flows move, or --flows keep',
  )
}

/**
 * `xlb backend rm`. One that keeps its flows, or whose flows are cut, stays in the state as a leaving one until withoutEnded
 * takes it out. Where no flow would be kept (one-packet scheduling; a backend that cannot be reached) it goes at once.
 */
export const removeBackend = (
  state: DesiredState,
  serviceAddress: ServiceAddress,
  address: BackendAddress,
  flows: FlowFate = 'move',
): DesiredState => {
  const service = existing(state, serviceAddress)
  const removed = existingBackend(service, address)
  if (flows === 'cut') checkCut(service, removed)
  const goes = flows === 'move' || service.ops || (flows === 'keep' && removed.path.kind === 'unresolved')
  const backends = goes
    ? service.backends.filter((each) => each !== removed)
    : service.backends.map(
        (each): Backend => (each === removed ? { ...each, admin: flows === 'cut' ? 'cut' : 'leaving' } : each),
      )
  return withService(state, { ...service, backends })
}

/** A whole new state that does not name them leaves them alone: `save` does not write them, and `restore` is not to end them. */
export const withLeavingOf = (have: DesiredState, want: DesiredState): DesiredState => {
  const next: [string, Service][] = []
  for (const [name, service] of want) {
    const leaving = have.get(name)?.backends.filter(isLeaving) ?? []
    const named = new Set(service.backends.map(({ address }) => address))
    const added = leaving.filter(({ address }) => !named.has(address))
    if (added.length > 0) next.push([name, { ...service, backends: [...service.backends, ...added] }])
  }
  return next.length === 0 ? want : ChangedState.of(want, next)
}

/**
 * Without the leaving backends of which nothing remains.
 *
 * @param names of the services to look at
 * @param remains whether a leaving backend of the live state has flows, or might have
 */
export const withoutEnded = (
  state: DesiredState,
  names: Iterable<string>,
  remains: (service: string, address: string) => boolean,
): DesiredState => {
  const next: [string, Service][] = []
  for (const name of names) {
    const service = state.get(name)
    const backends = service?.backends.filter((backend) => !isLeaving(backend) || remains(name, backend.address))
    if (service !== undefined && backends !== undefined && backends.length < service.backends.length) {
      next.push([name, { ...service, backends }])
    }
  }
  return next.length === 0 ? state : ChangedState.of(state, next)
}
