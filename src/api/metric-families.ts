// SPDX-License-Identifier: Apache-2.0
// Every metric: its name, type, labels and words, and where its values come from. docs/metrics.md is made from this table.
import { BACKEND_STATES, reasonOfState } from '../core/backend-words.ts'
import { Reason } from '../dataplane/layout.gen.ts'
import { addressAt, type BackendColumns, type ServiceSample, stateAt } from '../dataplane/samples.ts'
import type { PlaneSnapshot, Snapshot } from './snapshot.ts'

export interface Row {
  labels: Readonly<Record<string, string>>
  value: number
}

export interface Family {
  name: string
  type: 'counter' | 'gauge'
  labels: readonly string[]
  help: string
  rows: (snapshot: Snapshot) => Iterable<Row>
}

type Definition = Pick<Family, 'name' | 'type' | 'help'>

/** One value; undefined: none. */
const single = (definition: Definition, value: (snapshot: Snapshot) => number | undefined): Family => ({
  ...definition,
  labels: [],
  *rows(snapshot) {
    const one = value(snapshot)
    if (one !== undefined) yield { labels: {}, value: one }
  },
})

/** Of a director that is attached. */
const ofPlane = (
  labels: readonly string[],
  definition: Definition,
  rows: (plane: PlaneSnapshot, snapshot: Snapshot) => Iterable<Row>,
): Family => ({
  ...definition,
  labels,
  rows: (snapshot) => (snapshot.plane === undefined ? [] : rows(snapshot.plane, snapshot)),
})

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

const sumOf = (column: ArrayLike<number>, { first, end }: ServiceSample): number => {
  let sum = 0
  for (let at = first; at < end; at++) sum += column[at] ?? 0
  return sum
}

/** Names of enum reason, as `xlb list --stats` has them. */
const REASON_NAMES = Object.keys(Reason)
  .filter((name) => name !== 'REASONS')
  .map((name) => name.toLowerCase())

const VERDICTS: Readonly<Record<string, string>> = { pass: 'pass', tx: 'forward', drop: 'drop' }

/** Reasons that are a packet's verdict, of which each packet has one; the others are events. */
const isVerdict = (name: string): boolean => VERDICTS[name.split('_')[0] ?? ''] !== undefined

const packetRows = ({ reasons }: PlaneSnapshot): Row[] =>
  REASON_NAMES.flatMap((reason, i) => {
    const verdict = VERDICTS[reason.split('_')[0] ?? '']
    return verdict === undefined ? [] : [{ labels: { verdict, reason }, value: reasons[i] ?? 0 }]
  })

const eventRows = ({ reasons }: PlaneSnapshot): Row[] =>
  REASON_NAMES.flatMap((event, i) => (isVerdict(event) ? [] : [{ labels: { event }, value: reasons[i] ?? 0 }]))

const bit = (value: boolean): number => (value ? 1 : 0)

export const FAMILIES: readonly Family[] = [
  ofPlane(
    ['service', 'backend', 'state', 'reason'],
    {
      name: 'xlb_backend_state',
      type: 'gauge',
      help: `Always 1: the state of a backend (${BACKEND_STATES.join(', ')}) and the reason for it.`,
    },
    function* (plane, { standingOf }) {
      for (const { sample, at, backend } of detailedBackends(plane)) {
        const known = stateAt(plane.samples.backends, at)
        const { state, reason } = standingOf?.(sample.service, backend) ?? {
          state: known,
          reason: reasonOfState(known),
        }
        yield { labels: { service: sample.service, backend, state, reason }, value: 1 }
      }
    },
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
  ofPlane(
    ['verdict', 'reason'],
    {
      name: 'xlb_packets_total',
      type: 'counter',
      help: 'Packets that came to an attached interface, by verdict (forward, pass to the stack, drop) and reason.',
    },
    packetRows,
  ),
  ofPlane(
    ['event'],
    {
      name: 'xlb_table_events_total',
      type: 'counter',
      help: 'Entries that were recorded in a table of the packet path, or refused.',
    },
    eventRows,
  ),
  ofPlane(
    ['table'],
    {
      name: 'xlb_table_entries',
      type: 'gauge',
      help: 'Live entries of a table: services, backends, flows of each family, persistent clients, destinations.',
    },
    ({ tables }) => tables.map(({ table, entries }) => ({ labels: { table }, value: entries })),
  ),
  ofPlane(
    ['table'],
    { name: 'xlb_table_entries_limit', type: 'gauge', help: 'Entries that a table has room for.' },
    ({ tables }) => tables.map(({ table, limit }) => ({ labels: { table }, value: limit })),
  ),
  ofPlane(
    ['interface', 'mode'],
    {
      name: 'xlb_interface_attached',
      type: 'gauge',
      help: '1: the program is attached to the interface; 0: it should be, and no packet is balanced there.',
    },
    ({ interfaces }) =>
      interfaces.map(({ name, mode, attached }) => ({ labels: { interface: name, mode }, value: bit(attached) })),
  ),
  ofPlane(
    ['interface'],
    {
      name: 'xlb_interface_egress_present',
      type: 'gauge',
      help: '1: an interface that leads to backends, without being attached, is there; 0: it is gone.',
    },
    ({ egress }) => egress.map(({ name, present }) => ({ labels: { interface: name }, value: bit(present) })),
  ),
  ofPlane(
    ['interface'],
    {
      name: 'xlb_program_run_seconds_total',
      type: 'counter',
      help: 'Time that the program spent on packets of an interface. While sysctl kernel.bpf_stats_enabled is 1.',
    },
    ({ runs }) => runs.map((each) => ({ labels: { interface: each.interface }, value: each.seconds })),
  ),
  ofPlane(
    ['interface'],
    {
      name: 'xlb_program_runs_total',
      type: 'counter',
      help: 'Packets of an interface that the program has seen. While sysctl kernel.bpf_stats_enabled is 1.',
    },
    ({ runs }) => runs.map((each) => ({ labels: { interface: each.interface }, value: each.runs })),
  ),
  single(
    {
      name: 'xlb_program_statistics_enabled',
      type: 'gauge',
      help: '1: the kernel counts the runs of programs (sysctl kernel.bpf_stats_enabled), which takes a little time of each packet.',
    },
    ({ plane }) => (plane?.runsCounted === undefined ? undefined : bit(plane.runsCounted)),
  ),
  single(
    { name: 'xlb_attached', type: 'gauge', help: '1: the instance is attached to an interface; 0: to none.' },
    ({ plane }) => bit(plane !== undefined),
  ),
  single(
    {
      name: 'xlb_config_last_reload_successful',
      type: 'gauge',
      help: '1: the last reload of the configuration was applied; 0: it was refused, and the one before is in force.',
    },
    ({ reload }) => (reload === undefined ? undefined : bit(reload.succeeded)),
  ),
  single(
    {
      name: 'xlb_config_last_reload_success_timestamp_seconds',
      type: 'gauge',
      help: 'Unix time of the last reload that was applied.',
    },
    ({ reload }) => (reload === undefined ? undefined : reload.lastSuccessMs / 1000),
  ),
  single(
    {
      name: 'xlb_config_last_reload_duration_seconds',
      type: 'gauge',
      help: 'Time that the last reload took, applied or not.',
    },
    ({ reload }) => (reload === undefined ? undefined : reload.lastDurationMs / 1000),
  ),
  single(
    {
      name: 'xlb_metrics_backend_limit',
      type: 'gauge',
      help: 'Backends that are told one by one at most; services with others are told as a whole.',
    },
    ({ backendLimit }) => backendLimit,
  ),
  single(
    {
      name: 'xlb_metrics_backends_omitted',
      type: 'gauge',
      help: 'Backends without metrics of their own, since they exceed the limit: xlb_service_* has them.',
    },
    ({ plane }) => plane?.omitted,
  ),
  single(
    {
      name: 'xlb_metrics_read_seconds',
      type: 'gauge',
      help: 'Time that it took to read the tables for this scrape, under the lock of the instance.',
    },
    ({ plane }) => plane?.readSeconds,
  ),
  {
    name: 'xlb_build_info',
    type: 'gauge',
    labels: ['version', 'contract'],
    help: 'Always 1: the version of xlb, and of the layout of its tables.',
    rows: ({ version, contract }) => [{ labels: { version, contract: String(contract) }, value: 1 }],
  },
]
