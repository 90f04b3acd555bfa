// SPDX-License-Identifier: Apache-2.0
// What an operator wants at three in the morning: what is wrong, the worst first, since when and how to mend it.
import { formatService } from './address.ts'
import { backendState } from './backend-state.ts'
import { NOT_REPORTED } from './check.ts'
import { effectiveWeight, isLeaving, type Service } from './desired.ts'
import type { Decisive } from './told.ts'

/** `down`: clients get no answer; `degraded`: fewer servers than meant, or soon none; `notice`: as somebody wanted it. */
export type Severity = 'down' | 'degraded' | 'notice'
const SEVERITIES: readonly Severity[] = ['down', 'degraded', 'notice']

export interface Problem {
  severity: Severity
  what: string
  /** Unix time; null: not known. */
  sinceMs: number | null
  mend: string
}

export interface TableFacts {
  name: string
  used: number
  capacity: number
  /** The option of `xlb attach` that makes it larger. */
  option: string
}

/** A backend, and what the maps and the daemon know of it. */
export interface BackendFacts {
  address: string
  sinceMs: number
  /** It has as many connections as it may have. */
  full: boolean
  /** Why it cannot be reached, and since when; null: it can, or nobody knows. */
  unreached: { why: string; sinceMs: number } | null
  /** Why checks, agents or time let it have less than its weight; undefined: they do not. */
  found: Decisive | undefined
}

export interface ServiceFacts {
  service: Service
  backends: readonly BackendFacts[]
}

export interface Facts {
  interfaces: readonly { name: string; attached: boolean; fault: string | null }[]
  egress: readonly { name: string; fault: string | null }[]
  tables: readonly TableFacts[]
  services: readonly ServiceFacts[]
  /** Null: no daemon runs. */
  daemon: DaemonFacts | null
}

export interface DaemonFacts {
  pid: number
  startedMs: number
  file: string
  loadedMs: number
  /** Why the last reload was refused, and when; null: it was not. */
  refused: { why: string; sinceMs: number } | null
  /** Why what is pinned could not be made what was loaded, and since when; null: it is. */
  unmade: { why: string; sinceMs: number } | null
  /** Interfaces that shall be attached and cannot. */
  missing: readonly { name: string; why: string; sinceMs: number }[]
  /** MACs that are not one backend's alone. */
  sharedMacs: readonly { what: string; mend: string; sinceMs: number }[]
  /** Services that are otherwise than the file says. */
  changed: readonly string[]
  /** What the file says that is not in force yet. */
  pending: readonly { what: string; mend: string }[]
}

const titleOf = (service: Service): string =>
  `${formatService(service)}${service.label === undefined ? '' : ` (${service.label})`}`

/** From so full on a table is a problem. */
const NEARLY_FULL = 0.9

const interfaceProblems = ({ interfaces, egress, daemon }: Facts): Problem[] => {
  const missing = new Map<string, { why: string; sinceMs: number | null }>(
    daemon?.missing.map(({ name, ...rest }) => [name, rest]),
  )
  const lost = interfaces.filter(({ attached }) => !attached)
  for (const { name, fault } of lost) {
    if (!missing.has(name)) missing.set(name, { why: fault ?? 'its link is gone', sinceMs: null })
  }
  const attached = interfaces.length - lost.length
  const problems = [...missing].map(
    ([name, { why, sinceMs }]): Problem => ({
      severity: attached === 0 ? 'down' : 'degraded',
      what: `${name} is not attached: ${why}; no packet is balanced there`,
      sinceMs,
      mend: daemon === null ? `xlb attach ${name}` : `see to the interface; the daemon attaches it as soon as it can`,
    }),
  )
  if (attached === 0 && missing.size === 0) {
    problems.push({ severity: 'down', what: 'no interface is attached', sinceMs: null, mend: 'xlb attach IFACE' })
  }
  for (const { name, fault } of egress) {
    if (fault === null) continue
    problems.push({
      severity: 'degraded',
      what: `${name}: ${fault}; packets for backends behind it are dropped`,
      sinceMs: null,
      mend: 'make it again',
    })
  }
  return problems
}

/** Something that checks, agents or time have against it. */
const foundProblem = (service: Service, address: string, { name, effect, text, sinceMs }: Decisive): Problem => {
  const isOut = effect === 'out' || effect === 'no-new-flows'
  const gets = effect === 'out' ? 'is out' : isOut ? 'gets no new flow' : 'has a part of its weight'
  const command = `xlb backend report ${formatService(service)} ${address}`
  const mends: Record<Decisive['name'], string> = {
    check: text.includes(NOT_REPORTED)
      ? `see to whoever reports its check; to report it yourself: ${command} --check up`
      : `see to the backend; to take it in whatever its check says: ${command} --forget`,
    hold: 'it comes back by itself; how long it is held out says rejoin-hold',
    agent: `its agent says so; to take no heed of that: ${command} --forget`,
    'slow-start': 'it gets all of it by itself; how long that takes says slow-start',
  }
  // An agent's drain and maintenance are somebody's wish, as those of an operator are.
  const isWanted = name === 'slow-start' || (name === 'agent' && !text.startsWith('agent down'))
  return {
    severity: isWanted ? 'notice' : 'degraded',
    what: `${address} of ${titleOf(service)} ${gets}: ${text}`,
    sinceMs,
    mend: mends[name],
  }
}

const backendProblem = (service: Service, facts: BackendFacts): Problem | undefined => {
  const backend = service.backends.find(({ address }) => address === facts.address)
  if (backend === undefined || isLeaving(backend)) return undefined
  const name = `${backend.address} of ${titleOf(service)}`
  const state = backendState(backend)
  if (state === 'no-mac') {
    const why = facts.unreached?.why ?? (backend.path.kind === 'unresolved' ? backend.path.why : '')
    return {
      severity: 'degraded',
      what: `${name} is out: ${why}`,
      sinceMs: facts.unreached?.sinceMs ?? null,
      mend: `see that it is up and in this segment: ping ${backend.address}; xlb doctor`,
    }
  }
  if (state === 'drain' || state === 'maint') {
    return {
      severity: 'notice',
      what: `${name} is ${state === 'drain' ? 'drained' : 'in maintenance'}`,
      sinceMs: facts.sinceMs,
      mend: `take it back in: xlb backend set ${formatService(service)} ${backend.address}`,
    }
  }
  if (state === 'weight-0') {
    return {
      severity: 'notice',
      what: `${name} has weight 0`,
      sinceMs: facts.sinceMs,
      mend: `xlb backend set ${formatService(service)} ${backend.address} --weight N`,
    }
  }
  if (facts.found !== undefined && state !== 'up' && state !== 'local') {
    return foundProblem(service, backend.address, facts.found)
  }
  if (facts.full) {
    return {
      severity: 'degraded',
      what: `${name} has as many connections as it may have`,
      sinceMs: null,
      mend: `add a backend, or raise its limit: xlb backend set ${formatService(service)} ${backend.address} --max-conns N`,
    }
  }
  return undefined
}

/** Since nobody is left: when the last of them went, where that is known of each. */
const lastOf = (service: Service, backends: readonly BackendFacts[]): number | null => {
  const there = backends.filter(({ address }) =>
    service.backends.some((backend) => backend.address === address && !isLeaving(backend)),
  )
  const times = there.map((facts) => backendProblem(service, facts)?.sinceMs ?? null)
  return times.length === 0 || times.includes(null) ? null : Math.max(...times.map(Number))
}

const serviceProblems = ({ service, backends }: ServiceFacts): Problem[] => {
  const problems = backends.flatMap((facts) => backendProblem(service, facts) ?? [])
  const full = new Set(backends.filter((each) => each.full).map(({ address }) => address))
  const takes = service.backends.some((each) => effectiveWeight(service, each) > 0 && !full.has(each.address))
  if (takes) return problems
  const none = service.backends.every(isLeaving)
  return [
    {
      severity: 'down',
      what: `${titleOf(service)} takes no new flow: ${none ? 'it has no backend' : 'no backend does'}`,
      sinceMs: lastOf(service, backends),
      mend: none ? `xlb backend set ${formatService(service)} ADDRESS` : 'see its backends below',
    },
    ...problems,
  ]
}

const tableProblems = ({ tables, daemon }: Facts): Problem[] =>
  tables
    .filter(({ used, capacity }) => used > NEARLY_FULL * capacity)
    .map(({ name, used, capacity, option }) => ({
      severity: 'degraded',
      what: `the table of ${name} is ${used < capacity ? 'nearly full' : 'full'}: ${used} of ${capacity}`,
      sinceMs: null,
      mend:
        daemon === null
          ? `save, detach, and attach again with a larger ${option}`
          : `set limits.${option.replace(/^--/, '')} in ${daemon.file} to more; then: systemctl stop xlb, xlb detach --all, systemctl start xlb`,
    }))

const daemonProblems = ({ daemon }: Facts): Problem[] => {
  if (daemon === null) return []
  const problems = daemon.sharedMacs.map((shared): Problem => ({ severity: 'degraded', ...shared }))
  if (daemon.unmade !== null) {
    const { why, sinceMs } = daemon.unmade
    problems.push({
      severity: 'down',
      what: `what is attached is new, and does not hold what was loaded: ${why}`,
      sinceMs,
      mend: 'see to that; the daemon tries it again each second',
    })
  }
  if (daemon.refused !== null) {
    problems.push({
      severity: 'degraded',
      what: `the last reload was refused, and the configuration before it is in force: ${daemon.refused.why}`,
      sinceMs: daemon.refused.sinceMs,
      mend: `xlb check -c ${daemon.file}, then xlb reload`,
    })
  }
  if (daemon.changed.length > 0) {
    const [first] = daemon.changed
    const more = daemon.changed.length > 1 ? ` and ${daemon.changed.length - 1} more` : ''
    problems.push({
      severity: 'notice',
      what: `${first}${more}: changed at run time, and otherwise in ${daemon.file}`,
      sinceMs: null,
      mend: `see what: xlb diff -c ${daemon.file}; xlb save prints it as a configuration`,
    })
  }
  for (const { what, mend } of daemon.pending) problems.push({ severity: 'notice', what, sinceMs: null, mend })
  return problems
}

/** What is wrong, the worst first. */
export const problemsOf = (facts: Facts): Problem[] => {
  const found = [
    ...interfaceProblems(facts),
    ...facts.services.flatMap(serviceProblems),
    ...tableProblems(facts),
    ...daemonProblems(facts),
  ]
  return SEVERITIES.flatMap((severity) => found.filter((problem) => problem.severity === severity))
}
