// SPDX-License-Identifier: Apache-2.0
import { backendState } from '../core/backend-state.ts'
import { isLeaving } from '../core/desired.ts'
import { Refusal } from '../core/refusal.ts'
import { type Facts, type Problem, problemsOf, type TableFacts } from '../core/status.ts'
import { decisive } from '../core/told.ts'
import { countClients } from '../dataplane/clients.ts'
import { countDestinations } from '../dataplane/destinations.ts'
import { countFlows, type TableUse } from '../dataplane/flows.ts'
import { isFullNow, remembers } from '../dataplane/least.ts'
import { capacityOf } from '../dataplane/memory.ts'
import { isPersistent } from '../dataplane/persistence.ts'
import { hasPrefixes6 } from '../dataplane/service-key.ts'
import type { Session } from '../shell/session.ts'
import type { Context } from './context.ts'
import { standingNow } from './standing-now.ts'
import { duration, grouped, plural } from './text.ts'

const tableOf = (name: string, { used, capacity }: TableUse, option: string): TableFacts => ({
  name,
  used,
  capacity,
  option,
})

const tablesOf = ({ plane, live }: Session): TableFacts[] => {
  const services = [...live.services.values()]
  const capacity = capacityOf(plane)
  const { tables } = countFlows(plane, plane.age())
  const backends = services.reduce((sum, { service }) => sum + service.backendCount, 0)
  return [
    { name: 'services', used: services.length, capacity: capacity.services, option: '--services' },
    { name: 'backends', used: backends, capacity: capacity.backends, option: '--backends' },
    tableOf('flows', tables.ipv4, '--flows'),
    tableOf('flows of IPv6', tables.ipv6, '--flows6'),
    ...(hasPrefixes6(live.services.keys())
      ? [tableOf('flows of IPv6 prefixes', tables.prefix6, '--prefix-flows6')]
      : []),
    ...(services.some(isPersistent) ? [tableOf('clients', countClients(plane, plane.age()), '--clients')] : []),
    ...(services.some(({ service }) => remembers(service))
      ? [tableOf('destinations', countDestinations(plane, plane.age()), '--destinations')]
      : []),
  ]
}

const factsOf = (session: Session, daemon: Context['daemon'], nowMs: number): Facts => {
  const { plane, live, interfaces, egress } = session
  return {
    interfaces: interfaces.map(({ name, attached, fault }) => ({ name, attached, fault: fault ?? null })),
    egress: egress.map(({ name, fault }) => ({ name, fault: fault ?? null })),
    tables: tablesOf(session),
    services: [...live.services.values()]
      .map((service) => ({
        service: service.want,
        backends: service.backends.map((backend) => ({
          address: backend.want.address,
          sinceMs: backend.sinceMs,
          full: isFullNow(plane, service.service, backend.index),
          unreached: daemon?.unreached(backend.want.address) ?? null,
          found: backend.want.health && decisive(standingNow(service.name, backend, daemon, nowMs)),
        })),
      }))
      .sort((a, b) => (a.service.vip < b.service.vip ? -1 : 1)),
    daemon: daemon?.facts(session) ?? null,
  }
}

const ofNothing = (daemon: Context['daemon']): Facts => ({
  interfaces: [],
  egress: [],
  tables: [],
  services: [],
  daemon: daemon?.facts(undefined) ?? null,
})

/** Of a host without an instance: that it is not attached is what is wrong. */
const look = (context: Context, nowMs: number): Facts => {
  try {
    return context.session((session) => factsOf(session, context.daemon, nowMs))
  } catch (error) {
    if (!(error instanceof Refusal) || context.daemon === undefined) throw error
    return ofNothing(context.daemon)
  }
}

const WIDTH = 10
/** Beyond so many of a kind, the rest is counted. */
const SHOWN = 50

const iso = (ms: number): string => new Date(ms).toISOString()

const ago = (sinceMs: number | null, nowMs: number): string =>
  sinceMs === null ? '' : `, since ${iso(sinceMs)} (${duration((nowMs - sinceMs) / 1000)})`

function* problemLines(problems: readonly Problem[], nowMs: number): Generator<string> {
  for (const { severity, what, sinceMs, mend } of problems.slice(0, SHOWN)) {
    const word = severity === 'notice' ? severity : severity.toUpperCase()
    yield `${word.padEnd(WIDTH)}${what}${ago(sinceMs, nowMs)}`
    yield `${' '.repeat(WIDTH)}${mend}`
  }
  if (problems.length > SHOWN) yield `and ${problems.length - SHOWN} more: xlb status --json`
}

function* summaryLines({ interfaces, services, tables, daemon }: Facts, nowMs: number): Generator<string> {
  const attached = interfaces.filter((each) => each.attached).map(({ name }) => name)
  yield `attached: ${attached.join(', ') || 'nothing'}`
  const states = new Map<string, number>()
  for (const { service } of services) {
    for (const backend of service.backends) {
      if (isLeaving(backend)) continue
      const state = backendState(backend)
      states.set(state, (states.get(state) ?? 0) + 1)
    }
  }
  const counted = [...states].sort((a, b) => b[1] - a[1]).map(([state, count]) => `${grouped(count)} ${state}`)
  yield `${plural(services.length, 'service')}; backends: ${counted.join(', ') || 'none'}`
  const used = tables
    .filter((each) => each.used > 0)
    .map((each) => `${each.name} ${grouped(each.used)} of ${grouped(each.capacity)}`)
  if (used.length > 0) yield `tables: ${used.join('; ')}`
  if (daemon === null) yield 'no daemon runs: MACs are as of the last verb, and nothing is mended by itself'
  else {
    yield `daemon: process ${daemon.pid}, for ${duration((nowMs - daemon.startedMs) / 1000)}; ${daemon.file} loaded ${duration((nowMs - daemon.loadedMs) / 1000)} ago`
  }
}

export const runStatus = (context: Context): void => {
  const nowMs = Date.now()
  const facts = look(context, nowMs)
  const problems = problemsOf(facts)
  const wrong = problems.filter(({ severity }) => severity !== 'notice').length
  const head =
    wrong === 0
      ? `xlb ${context.paths.name}: nothing is wrong`
      : `xlb ${context.paths.name}: ${plural(wrong, 'problem')}`
  const { interfaces, egress, tables, daemon } = facts
  context.answer(
    {
      instance: context.paths.name,
      problems: problems.map(({ sinceMs, ...rest }) => ({ ...rest, since: sinceMs === null ? null : iso(sinceMs) })),
      interfaces,
      egress,
      tables,
      daemon,
    },
    [head, ...problemLines(problems, nowMs), '', ...summaryLines(facts, nowMs)].join('\n'),
  )
}
