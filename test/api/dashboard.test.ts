// SPDX-License-Identifier: Apache-2.0
// The dashboard and the page of metrics name what there is.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { FAMILIES } from '../../src/api/metric-families.ts'
import { withMetricsTable } from '../../src/api/metrics-page.ts'
import { complaints, promtool } from './promtool.ts'

const page = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../docs/${name}`, import.meta.url)), 'utf8')

interface Panel {
  id: number
  type: string
  title: string
  gridPos: { h: number; w: number; x: number; y: number }
  targets?: { refId: string; expr: string; legendFormat: string }[]
}
interface Dashboard {
  title: string
  panels: Panel[]
  templating: { list: { name: string; query: string | { query: string } }[] }
}

const dashboard = JSON.parse(page('grafana-dashboard.json')) as Dashboard
const expressions = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })))
const variableQueries = dashboard.templating.list.map(({ query }) => (typeof query === 'string' ? query : query.query))
/** Of the page: one a line, between the fences. */
const alerts = (/```promql\n([\s\S]*?)```/.exec(page('metrics.md'))?.[1] ?? '')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))

const metricsIn = (expression: string): string[] => [...expression.matchAll(/\bxlb_\w+/g)].map(([name]) => name)
const byName = new Map(FAMILIES.map((family) => [family.name, family]))
/** Added by Prometheus to each series. */
const OF_TARGETS = ['instance', 'job']

test('every metric that the dashboard or the page asks for exists', (t) => {
  const asked = [...expressions.map(({ expr }) => expr), ...variableQueries, ...alerts].flatMap(metricsIn)
  t.true(asked.length > 30)
  for (const name of asked) t.true(byName.has(name), name)
})

test('every label that the dashboard selects by, or sums by, is one that the metrics there have', (t) => {
  for (const { title, expr } of expressions) {
    const labels = new Set(metricsIn(expr).flatMap((name) => byName.get(name)?.labels ?? []))
    const selected = [...expr.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(([, label]) => label ?? '')
    const summed = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(', '))
    for (const label of [...selected, ...summed])
      t.true(labels.has(label) || OF_TARGETS.includes(label), `${title}: ${label}`)
  }
})

test('a legend names labels that its expression leaves', (t) => {
  for (const { title, targets = [] } of dashboard.panels) {
    for (const { expr, legendFormat } of targets) {
      const known = new Set([...metricsIn(expr).flatMap((name) => byName.get(name)?.labels ?? []), ...OF_TARGETS])
      const summed = /\bby \(([^)]*)\)/.exec(expr)?.[1]?.split(', ')
      for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
        t.true((summed ?? [...known]).includes(label), `${title}: ${label}`)
      }
    }
  }
})

test('panels have ids of their own, a place within the width, and show something', (t) => {
  const { panels } = dashboard
  t.is(new Set(panels.map(({ id }) => id)).size, panels.length)
  for (const { type, title, gridPos, targets = [] } of panels) {
    t.true(gridPos.x + gridPos.w <= 24, title)
    t.is(targets.length > 0, type !== 'row', title)
    t.true(panels.filter((other) => other.gridPos.x === gridPos.x && other.gridPos.y === gridPos.y).length === 1, title)
  }
  for (const subject of ['Traffic', 'Drops', 'Backends', 'Tables']) {
    t.true(
      panels.some(({ type, title }) => type === 'row' && title.includes(subject)),
      subject,
    )
  }
})

test('every metric but those about the metrics themselves is on the dashboard, or on the page as an alert', (t) => {
  const asked = new Set([...expressions.map(({ expr }) => expr), ...variableQueries, ...alerts].flatMap(metricsIn))
  const rest = FAMILIES.map(({ name }) => name).filter((name) => !asked.has(name))
  t.deepEqual(rest, [
    'xlb_service_backends',
    'xlb_interface_egress_present',
    'xlb_program_statistics_enabled',
    'xlb_config_last_reload_success_timestamp_seconds',
    'xlb_config_last_reload_duration_seconds',
    'xlb_metrics_backend_limit',
  ])
})

test('the page has the table that npm run generate writes', (t) => {
  t.is(withMetricsTable(page('metrics.md')), page('metrics.md'))
  t.throws(() => withMetricsTable('# Metrics\n'), { message: /docs\/metrics\.md/ })
})

;(promtool === undefined ? test.skip : test)('Prometheus can parse what the dashboard and the page ask it', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-rules-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const filled = [...expressions.map(({ expr }) => expr), ...alerts].map((expr) =>
    expr.replaceAll('$__rate_interval', '1m').replaceAll(/\$\w+/g, '.*'),
  )
  const rules = filled.map((expr, i) => ({ record: `rule:${i}`, expr }))
  writeFileSync(join(folder, 'rules.yml'), JSON.stringify({ groups: [{ name: 'xlb', rules }] }))
  t.is(complaints(['check', 'rules', join(folder, 'rules.yml')]), '')
})
