// SPDX-License-Identifier: Apache-2.0
// Entries of the file's services -> services.
import { formatService, parseBackend, parseService, type ServiceAddress } from '../core/address.ts'
import { type Backend, choosesByDestination, DEFAULT_SCHEDULER, defaultHash, type Service } from '../core/desired.ts'
import { parseDuration } from '../core/duration.ts'
import { parseMaxConns } from '../core/max-conns.ts'
import { nextPersistence, type Persistence, persisting } from '../core/persistence.ts'
import { holdMs, slowStartMs } from '../core/return-policy.ts'
import type { ReturnPolicy } from '../core/standing.ts'
import { type Checks, checkNamed } from './checks.ts'
import type { Document } from './document.ts'
import type { Faults, KeyPath } from './faults.ts'
import { askedOf } from './filter.ts'
import type { Defaults, ServiceEntry } from './schema.ts'

const UNASKED: Backend['path'] = { kind: 'unresolved', why: 'not asked' }

/** Where an entry stands. */
export interface Origin {
  document: Document
  path: KeyPath
}

/** Entries that could not be read are undefined. */
export type Salvaged<T> = readonly (T | undefined)[]

export interface ReadService {
  /** formatService(service) */
  name: string
  service: Service
  /** Does the entry say the seed? */
  isSeeded: boolean
  policy: ReturnPolicy
  /** Of each backend its place in the entry's list; undefined where none was left out. */
  places: readonly number[] | undefined
}

const backendsOf = (
  entries: Salvaged<ServiceEntry['backends'][number]>,
  service: ServiceAddress,
  { document, path }: Origin,
  faults: Faults,
): Pick<ReadService, 'places'> & { backends: Backend[] } => {
  const backends: Backend[] = []
  let places: number[] | undefined
  for (const [i, entry] of entries.entries()) {
    if (entry === undefined) {
      places ??= [...backends.keys()]
      continue
    }
    const { address: text, weight, admin, vlan, 'max-conns': limit } = entry
    let key = 'address'
    // Not by collect(): a file may hold a hundred thousand backends, and a closure and a path for each take their time.
    try {
      const { address, port } = parseBackend(text, service)
      key = 'max-conns'
      const maxConns = limit === undefined ? 'none' : parseMaxConns('max-conns', limit)
      backends.push({
        address,
        port,
        weight,
        admin,
        ...(vlan === undefined ? {} : { vlan }),
        ...(maxConns === 'none' ? {} : { maxConns }),
        path: UNASKED,
      })
      places?.push(i)
    } catch (error) {
      places ??= [...backends.keys()]
      faults.addRefusal(document, [...path, 'backends', i, key], error)
    }
  }
  return { backends, places }
}

/**
 * What the entry says by itself: whether the services of a group agree is asked of all of them. Defaults say more of a
 * persistence, and make none of services that say how long.
 */
const persistenceOf = (entry: ServiceEntry, defaults: Defaults, service: ServiceAddress): Persistence | undefined => {
  const { group } = entry
  const persist = entry.persist ?? defaults.persist
  const hasOne = persist !== undefined && persist !== 'none'
  const said = hasOne ? { ...withoutUndefined(defaults), ...withoutUndefined(entry) } : entry
  const { 'persist-mask': mask, 'persist-mask6': mask6, 'drain-persistence': drainPersistence } = said
  return nextPersistence(new Map(), service, undefined, {
    ...(hasOne ? { persist: parseDuration('persist', persist) } : {}),
    ...(mask === undefined ? {} : { persistMask: mask }),
    ...(mask6 === undefined ? {} : { persistMask6: mask6 }),
    ...(drainPersistence === undefined ? {} : { drainPersistence }),
    ...(group === undefined ? {} : { group }),
  })
}

const withoutUndefined = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T

/**
 * How backends come back, and are checked.
 *
 * @param said by a service, or by `defaults`
 * @param byDefault where that says nothing
 * @param checks that there are; undefined: nobody can tell, as something of them is wrong
 * @param collect keeps a Refusal's words as a fault of that key
 */
export const policyOf = (
  said: Pick<Defaults, 'rejoin-hold' | 'slow-start' | 'slow-start-from' | 'check'>,
  byDefault: ReturnPolicy,
  checks: Checks | undefined,
  collect: <T>(key: string, read: () => T) => T | undefined,
): ReturnPolicy => {
  const { 'rejoin-hold': hold, 'slow-start': slowStart, 'slow-start-from': from } = said
  const held = hold === undefined ? undefined : collect('rejoin-hold', () => holdMs(hold))
  const slow = slowStart === undefined ? undefined : collect('slow-start', () => slowStartMs(slowStart))
  const { check: name } = said
  const named =
    name === undefined || checks === undefined ? undefined : collect('check', () => checkNamed(name, checks))
  const check = name === undefined ? byDefault.check : named
  return {
    holdMs: held ?? byDefault.holdMs,
    slowStartMs: slow ?? byDefault.slowStartMs,
    slowStartPercent: from ?? byDefault.slowStartPercent,
    ...(check === undefined ? {} : { check }),
  }
}

/** Of `dh` the hash is no choice. */
const hashOf = (entry: ServiceEntry, defaults: Defaults, scheduler: Service['scheduler']): Service['hash'] =>
  entry.hash ?? (choosesByDestination({ scheduler }) ? undefined : defaults.hash) ?? defaultHash(scheduler)

/** Undefined where it names no service. */
export const serviceOf = (
  entry: ServiceEntry,
  defaults: Defaults,
  byDefault: ReturnPolicy,
  checks: Checks | undefined,
  origin: Origin,
  faults: Faults,
): ReadService | undefined => {
  const { document, path } = origin
  const address = faults.collect(document, [...path, 'service'], () => parseService(entry.service))
  if (address === undefined) return undefined
  const { backends, places } = backendsOf(entry.backends, address, origin, faults)
  const scheduler = entry.scheduler ?? defaults.scheduler ?? DEFAULT_SCHEDULER
  const service: Service = {
    ...address,
    scheduler,
    forward: entry.forward ?? defaults.forward ?? 'dsr',
    hash: hashOf(entry, defaults, scheduler),
    ringSize: entry['ring-size'] ?? 0,
    seed: entry.seed === undefined ? 0n : BigInt(entry.seed),
    ops: entry.ops ?? false,
    ...(entry.name === undefined ? {} : { label: entry.name }),
    ...askedOf(entry, address, origin, faults),
    ...persisting(faults.collect(document, [...path, 'persist'], () => persistenceOf(entry, defaults, address))),
    backends,
  }
  const policy = policyOf(entry, byDefault, checks, (key, read) => faults.collect(document, [...path, key], read))
  return { name: formatService(address), service, isSeeded: entry.seed !== undefined, places, policy }
}
