// SPDX-License-Identifier: Apache-2.0
// What is -> the file that `xlb restore` makes it of again.
import { dump } from 'js-yaml'
import { formatService } from '../core/address.ts'
import { capacityKey } from '../core/capacity.ts'
import { type DesiredState, isLeaving, type Service } from '../core/desired.ts'
import { formatDuration } from '../core/duration.ts'
import { formatMaxConns } from '../core/max-conns.ts'
import type { Persistence } from '../core/persistence.ts'
import type { Filter } from '../core/prefixes.ts'
import { changedTimeouts, DEFAULT_TIMEOUTS, type Timeouts } from '../core/timeouts.ts'
import type { Capacity } from '../dataplane/memory.ts'
import { askedEntry } from './filter.ts'

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

/** A service as the file has it. */
export const entryOf = (service: Service) => ({
  service: formatService(service),
  ...(service.label === undefined ? {} : { name: service.label }),
  scheduler: service.scheduler,
  forward: service.forward,
  hash: service.hash,
  ...(service.ops ? { ops: true } : {}),
  ...persistenceOf(service.persistence),
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

/** The text of the file, with a newline at its end. */
export const writeConfig = (saved: Saved, format: 'yaml' | 'json'): string => {
  const forAll = forAllEntry(saved)
  const value = {
    interfaces: saved.interfaces.map(({ name, mode }) => ({ name, mode })),
    ...forAll,
    limits: { ...limitsOf(saved.capacity), ...forAll.limits },
    // By name: the order in the maps is one of hashing.
    services: [...saved.services.values()].map(entryOf).sort((a, b) => (a.service < b.service ? -1 : 1)),
  }
  if (format === 'json') return `${JSON.stringify(value, null, 1)}\n`
  return `# Written by xlb save. The seeds are secret: whoever knows them can aim at one backend.\n${dump(value, { flowLevel: 4, lineWidth: 120 })}`
}
