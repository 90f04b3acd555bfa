// SPDX-License-Identifier: Apache-2.0
// What is -> the file that `xlb restore` makes it of again.
import { dump } from 'js-yaml'
import { formatService } from '../core/address.ts'
import { capacityKey } from '../core/capacity.ts'
import type { Check } from '../core/check.ts'
import { type DesiredState, isLeaving, type Service } from '../core/desired.ts'
import { formatDuration } from '../core/duration.ts'
import { formatMaxConns } from '../core/max-conns.ts'
import type { Persistence } from '../core/persistence.ts'
import type { Filter } from '../core/prefixes.ts'
import type { Policies } from '../core/return-policy.ts'
import { AT_ONCE, type ReturnPolicy } from '../core/standing.ts'
import { changedTimeouts, DEFAULT_TIMEOUTS, type Timeouts } from '../core/timeouts.ts'
import type { Capacity } from '../dataplane/memory.ts'
import { askedEntry } from './filter.ts'
import type { ConfigFile, NotifyEntry } from './schema.ts'

/** What holds for all services. */
export interface ForAll {
  /** Of a CPU, in a second. */
  newFlows: number
  /** That of all services. */
  filter: Filter | undefined
  timeouts: Timeouts
}

export interface Saved extends ForAll {
  interfaces: readonly { name: string; mode: string }[]
  capacity: Capacity
  services: DesiredState
  /** Left out: nobody knows a file that it comes from. */
  written?: Written
  /** How backends come back, and are checked; only a daemon knows. */
  policies?: Policies
}

/** What a file says that no map holds, with variables as they stand there, not what they stand for. */
export interface Written {
  api?: ConfigFile['api']
  notify?: NotifyEntry
  /** By service: seeds that are given by variables, and what these stood for. */
  seeds: ReadonlyMap<string, { seed: bigint; text: string }>
  /** Also those that no service names. */
  checks: readonly Check[]
}

const persistenceOf = (persistence: Persistence | undefined) =>
  persistence === undefined
    ? {}
    : {
        persist: `${persistence.seconds}s`,
        'persist-mask': persistence.prefix,
        'persist-mask6': persistence.prefix6,
        'drain-persistence': persistence.drain,
        ...(persistence.group === undefined ? {} : { group: persistence.group }),
      }

const policyEntry = ({ holdMs, slowStartMs, slowStartPercent, check }: ReturnPolicy = AT_ONCE) => ({
  ...(holdMs === 0 ? {} : { 'rejoin-hold': formatDuration(holdMs / 1000) }),
  ...(slowStartMs === 0 ? {} : { 'slow-start': formatDuration(slowStartMs / 1000) }),
  ...(slowStartPercent === AT_ONCE.slowStartPercent ? {} : { 'slow-start-from': slowStartPercent }),
  ...(check === undefined ? {} : { check: check.name }),
})

const checkEntry = ({ expiresMs, rise, fall, initially }: Check) => ({
  type: 'report',
  ...(expiresMs === undefined ? {} : { expires: formatDuration(expiresMs / 1000) }),
  rise,
  fall,
  ...(initially === 'up' ? {} : { initially }),
})

/** Those that services are checked by, and others. */
export const checksEntry = (policies: Policies, others: readonly Check[] = []) => {
  const checks = new Map(others.map((check) => [check.name, check]))
  for (const { check } of policies.values()) if (check !== undefined) checks.set(check.name, check)
  if (checks.size === 0) return {}
  return { checks: Object.fromEntries([...checks].map(([name, check]) => [name, checkEntry(check)])) }
}

/** A service as the file has it. */
export const entryOf = (service: Service, policies: Policies = new Map()) => ({
  service: formatService(service),
  ...(service.label === undefined ? {} : { name: service.label }),
  scheduler: service.scheduler,
  forward: service.forward,
  hash: service.hash,
  ...(service.ops ? { ops: true } : {}),
  ...persistenceOf(service.persistence),
  ...policyEntry(policies.get(formatService(service))),
  ...(service.ringSize === 0 ? {} : { 'ring-size': service.ringSize }),
  ...askedEntry(service),
  // Written also where it was drawn: only with the same seed do the same packets go to the same backends again.
  seed: `0x${service.seed.toString(16).padStart(16, '0')}`,
  // Those that leave are removed: what is left of them is flows, and no file restores these.
  backends: service.backends
    .filter((backend) => !isLeaving(backend))
    .map(({ address, weight, admin, vlan, maxConns }) => ({
      address,
      weight,
      ...(admin === 'up' ? {} : { admin }),
      ...(vlan === undefined ? {} : { vlan }),
      ...(maxConns === undefined ? {} : { 'max-conns': formatMaxConns(maxConns) }),
    })),
})

/** Those that are not the defaults. */
const timeoutsEntry = (timeouts: Timeouts) => {
  const changed = changedTimeouts(DEFAULT_TIMEOUTS, timeouts)
  if (changed.length === 0) return {}
  return { timeouts: Object.fromEntries(changed.map((state) => [state, formatDuration(timeouts[state])])) }
}

/** What the file says of all services. */
export const forAllEntry = ({ newFlows, filter, timeouts }: ForAll) => ({
  limits: { 'new-flows': newFlows },
  ...(filter === undefined ? {} : askedEntry({ filter })),
  ...timeoutsEntry(timeouts),
})

const limitsOf = (capacity: Saved['capacity']) =>
  Object.fromEntries(Object.entries(capacity).map(([name, size]) => [capacityKey(name), size]))

/** With the variable that its seed is given by, where it is that seed still. */
const entryWritten = (name: string, service: Service, { written, policies }: Saved) => {
  const known = written?.seeds.get(name)
  const entry = entryOf(service, policies)
  return known?.seed === service.seed ? { ...entry, seed: known.text } : entry
}

const HEAD = '# Written by xlb save. The seeds are secret: whoever knows them can aim at one backend.'
const OF_DAEMON =
  '# api and notify, and variables, stand as in the file that the daemon has loaded; defaults and includes are written out.'
const OF_MAPS =
  '# No daemon was asked: api, notify, checks, rejoin-hold and slow-start are not here, and what variables stood for is written out.'

/** The text of the file, with a newline at its end. */
export const writeConfig = (saved: Saved, format: 'yaml' | 'json'): string => {
  const forAll = forAllEntry(saved)
  const { api, notify } = saved.written ?? {}
  const value = {
    interfaces: saved.interfaces.map(({ name, mode }) => ({ name, mode })),
    ...forAll,
    limits: { ...limitsOf(saved.capacity), ...forAll.limits },
    ...(api === undefined ? {} : { api }),
    ...(notify === undefined ? {} : { notify }),
    ...checksEntry(saved.policies ?? new Map(), saved.written?.checks),
    // By name: the order in the maps is one of hashing.
    services: [...saved.services]
      .map(([name, service]) => entryWritten(name, service, saved))
      .sort((a, b) => (a.service < b.service ? -1 : 1)),
  }
  if (format === 'json') return `${JSON.stringify(value, null, 1)}\n`
  const head = `${HEAD}\n${saved.written === undefined ? OF_MAPS : OF_DAEMON}\n`
  return `${head}${dump(value, { flowLevel: 4, lineWidth: 120 })}`
}
