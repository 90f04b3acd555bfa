// SPDX-License-Identifier: Apache-2.0
// What a scrape says of real traffic: what `xlb list` says, and what the kernel counts of the program.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { complaints, promtool } from '../api/promtool.ts'
import { configFile, configure, ask as request, startDaemon } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, list, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const EXPORT = fileURLToPath(new URL('export-metrics.ts', import.meta.url))
const STATS_SWITCH = '/proc/sys/kernel/bpf_stats_enabled'

const scrape = async (lab: Lab): Promise<string> => {
  const { code, stdout, stderr } = await lab.run('director', [process.execPath, '--import=tsx', EXPORT, lab.instance()])
  if (code !== 0) throw new Error(stderr)
  return stdout
}

/** The value of the only series whose name and labels match. */
const sampleOf = (text: string, pattern: RegExp): number => {
  const lines = text.split('\n').filter((line) => !line.startsWith('#') && pattern.test(line))
  if (lines.length !== 1) throw new Error(`${lines.length} series match ${pattern}`)
  return Number(lines[0]?.slice(lines[0].lastIndexOf(' ') + 1))
}

labTest('a scrape tells of traffic what list tells', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  const service = `tcp://${lab.vipInUrl}:80`
  await restore(lab, [{ service, scheduler: 'wrr', backends: backends(lab, 3, 1) }])
  await ask(lab, 8)
  await xlb(lab, ['backend', 'drain', service, lab.host('rs2').address])
  await lab.run('client', ['bash', '-c', `echo x >/dev/udp/${lab.vip}/81`]) // no service there: to the stack
  const text = await scrape(lab)
  const told = await list(lab)
  const rows = told.services[0]?.backends ?? []
  const [first, second] = rows
  t.is(rows.length, 2)
  for (const row of rows) {
    const of = `backend="${row.address}"`
    t.is(sampleOf(text, new RegExp(`^xlb_backend_packets_total{.*${of}`)), row.counts.packets)
    t.is(sampleOf(text, new RegExp(`^xlb_backend_bytes_total{.*${of}`)), row.counts.bytes)
    t.is(sampleOf(text, new RegExp(`^xlb_backend_flows_total{.*${of}`)), row.counts.flows)
    t.is(sampleOf(text, new RegExp(`^xlb_backend_effective_weight{.*${of}`)), row.effectiveWeight)
    t.is(sampleOf(text, new RegExp(`^xlb_backend_state{.*${of},state="${row.state}"`)), 1)
    t.is(sampleOf(text, new RegExp(`^xlb_backend_connections{.*${of},state="inactive"`)), row.inactive ?? -1)
  }
  t.true((first?.counts.packets ?? 0) > 0)
  t.is(second?.state, 'drain')
  t.is(sampleOf(text, /^xlb_service_flows_total/), 8)
  t.is(sampleOf(text, /^xlb_packets_total.*"pass_no_service"/), told.reasons.pass_no_service ?? 0)
  t.true((told.reasons.pass_no_service ?? 0) > 0)
  t.is(sampleOf(text, /^xlb_packets_total.*"tx_forwarded"/), told.reasons.tx_forwarded ?? 0)
  t.is(sampleOf(text, /^xlb_table_entries{table="flows"}/), told.flows.used)
  t.is(sampleOf(text, /^xlb_interface_attached{interface="eth0"/), 1)
  if (promtool !== undefined) t.is(complaints(['check', 'metrics'], text), '')
})

labTest('a daemon tells it at /metrics, with how its reloads went, and its own process', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  const file = configFile(t)
  const service = `tcp://${lab.vip}:80`
  const config = (weight: number) => ({
    interfaces: ['eth0'],
    services: [{ service, name: 'web', backends: [{ address: lab.host('rs1').address, weight }] }],
  })
  configure(file, config(2))
  await startDaemon(lab, file)
  const socket = `/run/xlb/${lab.instance()}/api.sock`
  const metrics = async (): Promise<string> => {
    const { status, body } = await request(socket, 'GET', '/metrics')
    t.is(status, 200)
    return body
  }
  const first = await metrics()
  t.is(sampleOf(first, /^xlb_service_info{service=".*",name="web",scheduler="wrr"}/), 1)
  t.is(sampleOf(first, /^xlb_config_last_reload_successful /), 1)
  t.true(Math.abs(sampleOf(first, /^xlb_config_last_reload_success_timestamp_seconds /) - Date.now() / 1000) < 60)
  t.true(sampleOf(first, /^process_resident_memory_bytes /) > 1e6)
  if (promtool !== undefined) t.is(complaints(['check', 'metrics'], first), '')
  configure(file, { services: 'nonsense' })
  t.is((await lab.xlb(['reload'])).code, 1)
  const second = await metrics()
  t.is(sampleOf(second, /^xlb_config_last_reload_successful /), 0)
  const time = /^xlb_config_last_reload_success_timestamp_seconds /
  t.is(sampleOf(second, time), sampleOf(first, time))
  t.is(sampleOf(second, /^xlb_backend_weight{/), 2)
  configure(file, config(3))
  await xlb(lab, ['reload'])
  const third = await metrics()
  t.is(sampleOf(third, /^xlb_config_last_reload_successful /), 1)
  t.true(sampleOf(third, time) > sampleOf(first, time))
  t.is(sampleOf(third, /^xlb_backend_weight{/), 3)
})

labTest("the program's runs are told while the kernel counts them", async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await Promise.all([lab.http(1, 80), attach(lab)])
  await restore(lab, [{ service: `tcp://${lab.vipInUrl}:80`, backends: backends(lab, 1) }])
  const before = readFileSync(STATS_SWITCH, 'utf8')
  t.teardown(() => writeFileSync(STATS_SWITCH, before))
  writeFileSync(STATS_SWITCH, '1')
  await ask(lab, 4)
  const text = await scrape(lab)
  const forwarded = sampleOf(text, /^xlb_packets_total.*"tx_forwarded"/)
  t.true(sampleOf(text, /^xlb_program_runs_total{interface="eth0"}/) >= forwarded)
  const seconds = sampleOf(text, /^xlb_program_run_seconds_total/)
  t.true(seconds > 0 && seconds < 1, `${seconds}`)
  writeFileSync(STATS_SWITCH, '0')
  const silent = await scrape(lab)
  t.is(sampleOf(silent, /^xlb_program_statistics_enabled/), 0)
  t.notRegex(silent, /xlb_program_run/)
})
