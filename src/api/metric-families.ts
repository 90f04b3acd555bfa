// SPDX-License-Identifier: Apache-2.0
// Every metric: its name, type, labels and words, and where its values come from. docs/metrics.md is made from this table.
import { Reason } from '../dataplane/layout.gen.ts'
import { BACKEND_FAMILIES } from './backend-metrics.ts'
import { type Family, ofPlane, type Row, single } from './metric-family.ts'
import type { PlaneSnapshot } from './snapshot.ts'

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
  ...BACKEND_FAMILIES,
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
