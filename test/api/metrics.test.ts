// SPDX-License-Identifier: Apache-2.0
// What a scrape says of a director whose tables are this process's memory.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Gauge, Registry } from 'prom-client'
import { FAMILIES } from '../../src/api/metric-families.ts'
import { MetricsExporter } from '../../src/api/metrics.ts'
import type { Found } from '../../src/api/snapshot.ts'
import { BACKEND_STATES } from '../../src/core/backend-words.ts'
import { Reason } from '../../src/dataplane/layout.gen.ts'
import type { Native } from '../../src/dataplane/native.ts'
import { ROOMY } from '../dataplane/plane.ts'
import { backend, fakeSession, service } from './plane.ts'
import { complaints, promtool } from './promtool.ts'
import { ABSENT, busy, scrape, VERSION, valuesOf, WEB } from './scrape.ts'

const zeros = Object.fromEntries(BACKEND_STATES.map((state) => [state, 0]))

const everything = async (t: ExecutionContext): Promise<string> => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-metrics-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const statsFile = join(folder, 'on')
  writeFileSync(statsFile, '1\n')
  const link = { info: { programId: 9 }, close: () => undefined }
  const native = {
    openLink: () => link,
    openProgram: () => ({ info: { id: 9, runCount: 4n, runTimeNs: 2_500_000_000n }, close: () => undefined }),
  } as unknown as Native
  const reload = { succeeded: true, lastSuccessMs: 1_700_000_000_500, lastDurationMs: 250 }
  const foundOf = (): Found => ({ reason: 'check', sinceMs: 1, check: 'down', checkedMs: 1 })
  return new MetricsExporter({ ...VERSION, statsFile }).export(busy(native).session(), { reload, foundOf })
}

test("each backend's counters, weights and state are told", async (t) => {
  const text = await scrape(busy())
  const first = '{service="tcp://192.0.2.1:80",backend="198.51.100.1"}'
  const second = '{service="tcp://192.0.2.1:80",backend="198.51.100.2"}'
  t.is(valuesOf(text, 'xlb_backend_packets_total')[first], 10)
  t.is(valuesOf(text, 'xlb_backend_bytes_total')[first], 1000)
  t.is(valuesOf(text, 'xlb_backend_bytes_total')[second], 2 ** 40)
  t.is(valuesOf(text, 'xlb_backend_flows_total')[second], 1)
  t.is(valuesOf(text, 'xlb_backend_weight')[first], 3)
  t.is(valuesOf(text, 'xlb_backend_effective_weight')[first], 3)
  t.is(valuesOf(text, 'xlb_backend_effective_weight')[second], 0)
  const states = Object.keys(valuesOf(text, 'xlb_backend_state')).map((labels) =>
    /backend="198\.51\.100\.(\d)",state="([^"]*)",reason="([^"]*)"/.exec(labels)?.slice(1).join(' '),
  )
  t.deepEqual(states.sort(), [
    '1 up none',
    '2 drain admin',
    '3 up none',
    '4 weight-0 weight',
    '5 no-mac neighbour',
    '6 local none',
  ])
})

test('what a daemon found of a backend is told as its state, and its weight by it', async (t) => {
  const fake = fakeSession()
  const found = (alive: boolean, percent: number) => ({ weight: 10, health: { alive, percent, sinceMs: 0 } })
  const down = backend(1, found(false, 0))
  const held = backend(2, found(true, 0))
  const reduced = backend(3, found(true, 30))
  fake.set(service(1, 'wrr', [down, held, reduced, backend(4, { admin: 'maint' })]))
  const text = await scrape(fake)
  t.deepEqual(Object.values(valuesOf(text, 'xlb_backend_effective_weight')), [0, 0, 3, 0])
  const states = Object.keys(valuesOf(text, 'xlb_backend_state')).map((labels) => /state="([^"]*)"/.exec(labels)?.[1])
  t.deepEqual(states, ['down', 'held', 'reduced', 'maint'])
  t.is(valuesOf(text, 'xlb_service_backends_available')[`{service="${WEB}"}`], 1)
})

test('live flows are told of services that record them, expired ones are not', async (t) => {
  const text = await scrape(busy())
  const web = 'service="tcp://192.0.2.1:80"'
  t.deepEqual(valuesOf(text, 'xlb_backend_connections'), {
    [`{${web},backend="198.51.100.1",state="active"}`]: 2,
    [`{${web},backend="198.51.100.1",state="inactive"}`]: 1,
    [`{${web},backend="198.51.100.2",state="active"}`]: 0,
    [`{${web},backend="198.51.100.2",state="inactive"}`]: 0,
  })
  const none = 'service="tcp://192.0.2.3:80"'
  t.deepEqual(valuesOf(text, 'xlb_service_connections'), {
    [`{${web},state="active"}`]: 2,
    [`{${web},state="inactive"}`]: 1,
    [`{${none},state="active"}`]: 0,
    [`{${none},state="inactive"}`]: 0,
  })
  t.is(valuesOf(text, 'xlb_table_entries')['{table="flows"}'], 3)
  t.is(valuesOf(text, 'xlb_table_entries_limit')['{table="flows"}'], 64)
})

test('services are told as a whole, with what people call them', async (t) => {
  const text = await scrape(busy())
  const of = (n: number) => `{service="tcp://192.0.2.${n}:80"}`
  t.deepEqual(valuesOf(text, 'xlb_service_packets_total'), { [of(1)]: 15, [of(2)]: 0, [of(3)]: 0 })
  t.deepEqual(valuesOf(text, 'xlb_service_backends'), { [of(1)]: 2, [of(2)]: 4, [of(3)]: 0 })
  t.deepEqual(valuesOf(text, 'xlb_service_backends_available'), { [of(1)]: 1, [of(2)]: 2, [of(3)]: 0 })
  t.is(valuesOf(text, 'xlb_service_info')['{service="tcp://192.0.2.1:80",name="we\\"b",scheduler="wrr"}'], 1)
  const counts: Record<string, number> = { up: 2, local: 1, 'weight-0': 1, drain: 1, 'no-mac': 1 }
  t.deepEqual(
    valuesOf(text, 'xlb_backends'),
    Object.fromEntries(BACKEND_STATES.map((state) => [`{state="${state}"}`, { ...zeros, ...counts }[state]])),
  )
})

test('each reason is told once: those of packets by verdict, those of tables as events', async (t) => {
  const text = await scrape(busy())
  const packets = valuesOf(text, 'xlb_packets_total')
  const events = valuesOf(text, 'xlb_table_events_total')
  t.is(packets['{verdict="drop",reason="drop_no_backend"}'], 7)
  t.is(packets['{verdict="forward",reason="tx_forwarded"}'], 15)
  t.is(events['{event="flow_refused_full"}'], 3)
  t.is(Object.keys(packets).length + Object.keys(events).length, Reason.REASONS)
})

test('beyond the limit whole services are left to their sums, and how many backends that concerns is told', async (t) => {
  const text = await scrape(busy(), { backendLimit: 3 })
  const told = new Set(
    Object.keys(valuesOf(text, 'xlb_backend_weight')).map((labels) => /backend="([^"]*)"/.exec(labels)?.[1]),
  )
  t.deepEqual([...told], ['198.51.100.1', '198.51.100.2'])
  t.deepEqual(valuesOf(text, 'xlb_metrics_backends_omitted'), { '': 4 })
  t.deepEqual(valuesOf(text, 'xlb_metrics_backend_limit'), { '': 3 })
  t.is(Object.keys(valuesOf(text, 'xlb_service_packets_total')).length, 3)
  t.is(
    Object.values(valuesOf(text, 'xlb_backends')).reduce((sum, count) => sum + count),
    6,
  )
  const none = await scrape(busy(), { backendLimit: 0 })
  t.notRegex(none, /^(# \w+ )?xlb_backend_/m)
})

test('what the daemon was told of a backend is told on: the reason of what checks are about, and since when', async (t) => {
  const fake = fakeSession()
  const found = (alive: boolean, percent: number) => ({ weight: 10, health: { alive, percent, sinceMs: 0 } })
  fake.set(
    service(1, 'wrr', [backend(1, found(false, 0)), backend(2, found(true, 30)), backend(3, { admin: 'drain' })]),
  )
  const foundOf = (name: string, address: string): Found | undefined => {
    if (name !== WEB) return undefined
    if (address.endsWith('.1')) return { reason: 'hold', sinceMs: 1500, check: 'up', checkedMs: 2500 }
    if (address.endsWith('.3')) return { reason: 'check', sinceMs: 3500, check: 'down', checkedMs: 3500 }
    return { check: 'unknown', checkedMs: 4500 }
  }
  const text = await scrape(fake, {}, { foundOf })
  const labels = (last: number) => `{service="${WEB}",backend="198.51.100.${last}"}`
  t.deepEqual(Object.keys(valuesOf(text, 'xlb_backend_state')), [
    `{service="${WEB}",backend="198.51.100.1",state="down",reason="hold"}`,
    `{service="${WEB}",backend="198.51.100.2",state="reduced",reason="check"}`,
    `{service="${WEB}",backend="198.51.100.3",state="drain",reason="admin"}`,
  ])
  t.deepEqual(valuesOf(text, 'xlb_backend_reduced_timestamp_seconds'), { [labels(1)]: 1.5, [labels(3)]: 3.5 })
  t.deepEqual(valuesOf(text, 'xlb_backend_check_up'), { [labels(1)]: 1, [labels(3)]: 0 })
  t.deepEqual(valuesOf(text, 'xlb_backend_check_changed_timestamp_seconds'), {
    [labels(1)]: 2.5,
    [labels(2)]: 4.5,
    [labels(3)]: 3.5,
  })
  t.notRegex(await scrape(fake), /xlb_backend_(check|reduced)_/, 'without reports there is nothing of it')
})

test('interfaces are told with their modes, and those that lead to backends', async (t) => {
  const text = await scrape(busy())
  t.deepEqual(valuesOf(text, 'xlb_interface_attached'), {
    '{interface="eth0",mode="native"}': 1,
    '{interface="eth1",mode="generic"}': 0,
  })
  t.deepEqual(valuesOf(text, 'xlb_interface_egress_present'), { '{interface="eth2"}': 1 })
})

test('runs of the program are told where the kernel counts them, and where its pin says which it is', async (t) => {
  const text = await everything(t)
  t.deepEqual(valuesOf(text, 'xlb_program_run_seconds_total'), { '{interface="eth0"}': 2.5 })
  t.deepEqual(valuesOf(text, 'xlb_program_runs_total'), { '{interface="eth0"}': 4 })
  t.deepEqual(valuesOf(text, 'xlb_program_statistics_enabled'), { '': 1 })
  const unknown = await scrape(busy())
  t.notRegex(unknown, /xlb_program_/)
  const refused = {
    openLink: () => ({ info: { programId: 9 }, close: () => undefined }),
    openProgram: () => {
      throw Object.assign(new Error('an earlier build attached it'), { code: 'ENOENT' })
    },
  } as unknown as Native
  const folder = mkdtempSync(join(tmpdir(), 'xlb-metrics-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'on'), '1\n')
  const hidden = await scrape(busy(refused), { statsFile: join(folder, 'on') })
  t.notRegex(hidden, /xlb_program_run/)
  t.deepEqual(valuesOf(hidden, 'xlb_program_statistics_enabled'), { '': 1 })
})

test('reloads are told once there was one; a time is in seconds', async (t) => {
  t.notRegex(await scrape(busy()), /xlb_config_/)
  const reload = { succeeded: false, lastSuccessMs: 1_700_000_000_500, lastDurationMs: 250 }
  const text = await scrape(busy(), {}, { reload })
  t.deepEqual(valuesOf(text, 'xlb_config_last_reload_successful'), { '': 0 })
  t.deepEqual(valuesOf(text, 'xlb_config_last_reload_success_timestamp_seconds'), { '': 1_700_000_000.5 })
  t.deepEqual(valuesOf(text, 'xlb_config_last_reload_duration_seconds'), { '': 0.25 })
})

test('an instance that is attached to nothing says that, and no more of the packet path', async (t) => {
  const text = await new MetricsExporter(ABSENT).export(undefined)
  t.deepEqual(valuesOf(text, 'xlb_attached'), { '': 0 })
  t.deepEqual(Object.keys(valuesOf(text, 'xlb_build_info')), ['{version="0.1.0",contract="5"}'])
  t.notRegex(text, /xlb_(service|backend|packets|table)/)
})

test('a metric of many series has its help and type once, and each series once', async (t) => {
  const fake = fakeSession({}, { ...ROOMY, backends: 600 })
  const many = Array.from({ length: 200 }, (_, i) => backend(i + 1))
  fake.set(service(1, 'wrr', many), service(2, 'wrr', many), service(3, 'wrr', many))
  const text = await scrape(fake)
  t.is(Object.keys(valuesOf(text, 'xlb_backend_connections')).length, 1200)
  const lines = text.trimEnd().split('\n')
  t.is(new Set(lines).size, lines.length)
  t.is(lines.filter((line) => line.startsWith('# TYPE xlb_backend_connections ')).length, 1)
})

test("the daemon's own registries are appended", async (t) => {
  const more = new Registry()
  new Gauge({ name: 'xlb_checks_running', help: 'Probes under way.', registers: [more] }).set(3)
  const text = await scrape(busy(), {}, { more: [more] })
  t.deepEqual(valuesOf(text, 'xlb_checks_running'), { '': 3 })
})

test('a scrape that has everything has every metric of the table, each with help and type, and no other', async (t) => {
  const text = await everything(t)
  const told = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`)
  t.deepEqual(
    told,
    FAMILIES.map(({ name, type }) => `${name} ${type}`),
  )
  for (const { name, labels } of FAMILIES) {
    t.true(text.includes(`# HELP ${name} `))
    for (const row of Object.keys(valuesOf(text, name))) {
      const names = [...row.matchAll(/(\w+)="(?:[^"\\]|\\.)*"/g)].map(([, label]) => label)
      t.deepEqual(names.sort(), [...labels].sort(), name)
    }
  }
  t.regex(text, /[^\n]\n$/)
})

test('names follow the conventions: a prefix, base units, _total for counters and for nothing else', (t) => {
  for (const { name, type, help } of FAMILIES) {
    t.regex(name, /^xlb_[a-z0-9_]+$/)
    t.is(name.endsWith('_total'), type === 'counter', name)
    t.notRegex(name, /milli|micro|nano|_ms\b|_kb|percent/)
    t.regex(help, /\.$/)
  }
})

;(promtool === undefined ? test.skip : test)('promtool finds nothing to say of it', async (t) => {
  t.is(complaints(['check', 'metrics'], await everything(t)), '')
})
