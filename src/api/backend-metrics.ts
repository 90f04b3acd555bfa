// SPDX-License-Identifier: Apache-2.0
// Metrics of backends and of services.
import { BACKEND_STATES, reasonOfState } from '../core/backend-words.ts'
import { addressAt, type BackendColumns, type ServiceSample, stateAt } from '../dataplane/samples.ts'
import { type Definition, type Family, ofPlane } from './metric-family.ts'
import type { Found, PlaneSnapshot } from './snapshot.ts'

const ofService = (
  definition: Definition,
  value: (service: ServiceSample, plane: PlaneSnapshot) => number | undefined,
): Family =>
  ofPlane(['service'], definition, function* (plane) {
    for (const each of plane.samples.services) {
      const one = value(each, plane)
      if (one !== undefined) yield { labels: { service: each.service }, value: one }
    }
  })

/** Of each backend that is told by itself; `at` is its place in the columns. */
function* detailedBackends(plane: PlaneSnapshot): Generator<{ sample: ServiceSample; at: number; backend: string }> {
  for (const sample of plane.detailed) {
    for (let at = sample.first; at < sample.end; at++) {
      yield { sample, at, backend: addressAt(plane.samples.backends, at) }
    }
  }
}

const ofBackend = (definition: Definition, column: (backends: BackendColumns) => ArrayLike<number>): Family =>
  ofPlane(['service', 'backend'], definition, function* (plane) {
    const values = column(plane.samples.backends)
    for (const { sample, at, backend } of detailedBackends(plane)) {
      yield { labels: { service: sample.service, backend }, value: values[at] ?? 0 }
    }
  })

/** Of each backend of which the daemon was told something. */
const ofFound = (definition: Definition, value: (found: Found) => number | undefined): Family =>
  ofPlane(['service', 'backend'], definition, function* (plane, { foundOf }) {
    if (foundOf === undefined) return
    for (const { sample, backend } of detailedBackends(plane)) {
      const found = foundOf(sample.service, backend)
      const one = found === undefined ? undefined : value(found)
      if (one !== undefined) yield { labels: { service: sample.service, backend }, value: one }
    }
  })

const sumOf = (column: ArrayLike<number>, { first, end }: ServiceSample): number => {
  let sum = 0
  for (let at = first; at < end; at++) sum += column[at] ?? 0
  return sum
}

export const BACKEND_FAMILIES: readonly Family[] = [
  ofPlane(
    ['service', 'backend', 'state', 'reason'],
    {
      name: 'xlb_backend_state',
      type: 'gauge',
      help: `Always 1: the state of a backend (${BACKEND_STATES.join(', ')}) and the reason for it.`,
    },
    function* (plane, { foundOf }) {
      for (const { sample, at, backend } of detailedBackends(plane)) {
        const state = stateAt(plane.samples.backends, at)
        const known = reasonOfState(state)
        // Of what is not the packet path's own doing the daemon knows more.
        const reason = known === 'check' ? (foundOf?.(sample.service, backend)?.reason ?? known) : known
        yield { labels: { service: sample.service, backend, state, reason }, value: 1 }
      }
    },
  ),
  ofFound(
    {
      name: 'xlb_backend_reduced_timestamp_seconds',
      type: 'gauge',
      help: 'Unix time since when a check, a hold, an agent or a slow start lets a backend have less than its weight, or nothing.',
    },
    ({ sinceMs }) => (sinceMs === undefined ? undefined : sinceMs / 1000),
  ),
  ofFound(
    {
      name: 'xlb_backend_check_up',
      type: 'gauge',
      help: '1: the check of a backend says that it is up; 0: down, or not reported in time. Of those that a check has found something of.',
    },
    ({ check }) => (check === 'up' ? 1 : check === 'down' ? 0 : undefined),
  ),
  ofFound(
    {
      name: 'xlb_backend_check_changed_timestamp_seconds',
      type: 'gauge',
      help: 'Unix time since when the check of a backend says the same of it.',
    },
    ({ checkedMs }) => (checkedMs === undefined ? undefined : checkedMs / 1000),
  ),
  ofBackend(
    { name: 'xlb_backend_packets_total', type: 'counter', help: 'Packets of clients that were sent to a backend.' },
    ({ packets }) => packets,
  ),
  ofBackend(
    {
      name: 'xlb_backend_bytes_total',
      type: 'counter',
      help: 'Octets of the frames of clients that were sent to a backend.',
    },
    ({ bytes }) => bytes,
  ),
  ofBackend(
    { name: 'xlb_backend_flows_total', type: 'counter', help: 'New flows that a backend was given.' },
    ({ flows }) => flows,
  ),
  ofPlane(
    ['service', 'backend', 'state'],
    {
      name: 'xlb_backend_connections',
      type: 'gauge',
      help: 'Live flows of a backend: active ones (TCP that opens or is established) and inactive ones. Of services that record flows.',
    },
    function* (plane) {
      const { active, inactive } = plane.samples.backends
      for (const { sample, at, backend } of detailedBackends(plane)) {
        if (!sample.tracked) continue
        const { service } = sample
        yield { labels: { service, backend, state: 'active' }, value: active[at] ?? 0 }
        yield { labels: { service, backend, state: 'inactive' }, value: inactive[at] ?? 0 }
      }
    },
  ),
  ofBackend(
    { name: 'xlb_backend_weight', type: 'gauge', help: 'Configured weight of a backend.' },
    ({ weight }) => weight,
  ),
  ofBackend(
    {
      name: 'xlb_backend_effective_weight',
      type: 'gauge',
      help: 'Weight that the scheduler goes by; 0: the backend gets no new flows.',
    },
    ({ effectiveWeight }) => effectiveWeight,
  ),
  ofPlane(
    ['service', 'name', 'scheduler'],
    { name: 'xlb_service_info', type: 'gauge', help: 'Always 1: what people call a service, and its scheduler.' },
    function* ({ samples }) {
      for (const { service, name, scheduler } of samples.services) {
        yield { labels: { service, name, scheduler }, value: 1 }
      }
    },
  ),
  ofService(
    {
      name: 'xlb_service_packets_total',
      type: 'counter',
      help: 'Packets of clients that were sent to any backend of a service, removed ones included.',
    },
    ({ service }, { totals }) => totals.get(service)?.packets,
  ),
  ofService(
    {
      name: 'xlb_service_bytes_total',
      type: 'counter',
      help: 'Octets of the frames of clients that were sent to any backend of a service, removed ones included.',
    },
    ({ service }, { totals }) => totals.get(service)?.bytes,
  ),
  ofService(
    {
      name: 'xlb_service_flows_total',
      type: 'counter',
      help: 'New flows that any backend of a service was given, removed ones included.',
    },
    ({ service }, { totals }) => totals.get(service)?.flows,
  ),
  ofPlane(
    ['service', 'state'],
    {
      name: 'xlb_service_connections',
      type: 'gauge',
      help: 'Live flows of a service, active and inactive. Of services that record flows.',
    },
    function* ({ samples: { services, backends } }) {
      for (const each of services) {
        if (!each.tracked) continue
        const { service } = each
        yield { labels: { service, state: 'active' }, value: sumOf(backends.active, each) }
        yield { labels: { service, state: 'inactive' }, value: sumOf(backends.inactive, each) }
      }
    },
  ),
  ofService(
    { name: 'xlb_service_backends', type: 'gauge', help: 'Backends of a service.' },
    ({ first, end }) => end - first,
  ),
  ofService(
    {
      name: 'xlb_service_backends_available',
      type: 'gauge',
      help: 'Backends of a service that take new flows; 0: new flows are dropped.',
    },
    ({ first, end }, { samples: { backends } }) => {
      let available = 0
      for (let at = first; at < end; at++) {
        if ((backends.effectiveWeight[at] ?? 0) > 0 && stateAt(backends, at) !== 'full') available++
      }
      return available
    },
  ),
  ofPlane(
    ['state'],
    { name: 'xlb_backends', type: 'gauge', help: 'Backends of all services, by the state of the packet path.' },
    ({ samples: { backends } }) => {
      const counts = BACKEND_STATES.map(() => 0)
      for (let at = 0; at < backends.address.length; at++) {
        const state = backends.state[at] ?? 0
        counts[state] = (counts[state] ?? 0) + 1
      }
      return BACKEND_STATES.map((state, i) => ({ labels: { state }, value: counts[i] ?? 0 }))
    },
  ),
]
