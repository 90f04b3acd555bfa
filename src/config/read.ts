// SPDX-License-Identifier: Apache-2.0
// File -> what it wants. Every fault of the file is reported, not the first alone.
import { readFileSync } from 'node:fs'
import { load } from 'js-yaml'
import { formatService, parseBackend, parseService, type ServiceAddress } from '../core/address.ts'
import { CONNECTION_STATES } from '../core/connection-states.ts'
import {
  type Backend,
  checkCircles,
  DEFAULT_SCHEDULER,
  type DesiredState,
  defaultHash,
  type Service,
  serviceFaults,
} from '../core/desired.ts'
import { parseDuration } from '../core/duration.ts'
import { parseMaxConns } from '../core/max-conns.ts'
import { groupFaults, nextPersistence, type Persistence, persisting } from '../core/persistence.ts'
import type { Filter } from '../core/prefixes.ts'
import { rangeFaults } from '../core/ranges.ts'
import { Refusal } from '../core/refusal.ts'
import { DEFAULT_TIMEOUTS, parseTimeout, type Timeouts } from '../core/timeouts.ts'
import type { Capacity } from '../dataplane/memory.ts'
import { askedOf, filterOf } from './filter.ts'
import { type ConfigFile, configSchema, type ServiceEntry } from './schema.ts'

export interface Config {
  interfaces: { name: string; mode: 'auto' | 'native' | 'generic' }[]
  capacity: Partial<Capacity>
  /** New tracked flows a CPU may record in a second, where the file says it. */
  newFlows?: number
  /** That of all services. */
  filter: Filter | undefined
  /** Whole seconds; those that the file does not name have their defaults. */
  timeouts: Timeouts
  /**
   * The services. One without a seed keeps that of the same service in `have`, else gets a drawn one. Backends' paths are
   * yet to be resolved.
   */
  desired: (have: DesiredState, random: () => bigint) => DesiredState
}

const FAULTS_SHOWN = 20

const refuse = (file: string, faults: readonly string[], mend: string): never => {
  const shown = faults.slice(0, FAULTS_SHOWN).map((fault) => `\n       ${fault}`)
  const more = faults.length > FAULTS_SHOWN ? `\n       and ${faults.length - FAULTS_SHOWN} more` : ''
  throw new Refusal(
    `${file}: ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}; nothing was changed${shown.join('')}${more}`,
    mend,
  )
}

const readText = (file: string): string => {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (error) {
    throw new Refusal(
      `${file}: cannot be read: ${error instanceof Error ? error.message : error}`,
      'name a file that `xlb save` wrote',
    )
  }
}

const parse = (file: string, text: string): unknown => {
  try {
    // JSON is YAML too, and what writes it is a program: the built-in parser is ten times as fast.
    return text.trimStart().startsWith('{') ? JSON.parse(text) : load(text)
  } catch (error) {
    throw new Refusal(`${file}: ${error instanceof Error ? error.message : error}`, 'mend the YAML at that place')
  }
}

const pathText = (path: readonly PropertyKey[]): string =>
  path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '')

const validate = (file: string, value: unknown): ConfigFile => {
  const result = configSchema.safeParse(value ?? {})
  if (result.success) return result.data
  return refuse(
    file,
    result.error.issues.map(({ path, message }) => `${pathText(path) || 'the file'}: ${message}`),
    'docs/configuration.md lists every key and its values',
  )
}

const UNASKED: Backend['path'] = { kind: 'unresolved', why: 'not asked' }

/** A Refusal's words as a fault of a place; whatever else was thrown is thrown on. */
const faultAt = (where: string, error: unknown): string => {
  if (!(error instanceof Refusal)) throw error
  return `${where}: ${error.message}; ${error.mend}`
}

/** Runs `read` and keeps a Refusal's words as a fault of that place. */
const collect = <T>(faults: string[], where: string, read: () => T): T | undefined => {
  try {
    return read()
  } catch (error) {
    faults.push(faultAt(where, error))
    return undefined
  }
}

const backendsOf = (entry: ServiceEntry, service: ServiceAddress, where: string, faults: string[]): Backend[] => {
  const backends: Backend[] = []
  for (const [i, { address: text, weight, admin, vlan, 'max-conns': limit }] of entry.backends.entries()) {
    // Not by collect(): a file may hold a hundred thousand backends, and a closure and a name for each take their time.
    try {
      const { address, port } = parseBackend(text, service)
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
    } catch (error) {
      faults.push(faultAt(`${where}.backends[${i}]`, error))
    }
  }
  return backends
}

/** What the entry says by itself: whether the services of a group agree is asked of all of them. */
const persistenceOf = (entry: ServiceEntry, service: ServiceAddress): Persistence | undefined => {
  const { persist, group, 'drain-persistence': drainPersistence } = entry
  return nextPersistence(new Map(), service, undefined, {
    ...(persist === undefined ? {} : { persist: parseDuration('persist', String(persist)) }),
    ...(entry['persist-mask'] === undefined ? {} : { persistMask: entry['persist-mask'] }),
    ...(entry['persist-mask6'] === undefined ? {} : { persistMask6: entry['persist-mask6'] }),
    ...(drainPersistence === undefined ? {} : { drainPersistence }),
    ...(group === undefined ? {} : { group }),
  })
}

const serviceOf = (entry: ServiceEntry, where: string, faults: string[]): Service | undefined => {
  const address = collect(faults, where, () => parseService(entry.service))
  if (address === undefined) return undefined
  const backends = backendsOf(entry, address, where, faults)
  const scheduler = entry.scheduler ?? DEFAULT_SCHEDULER
  const service: Service = {
    ...address,
    scheduler,
    forward: entry.forward ?? 'dsr',
    hash: entry.hash ?? defaultHash(scheduler),
    ringSize: entry['ring-size'] ?? 0,
    seed: entry.seed === undefined ? 0n : BigInt(entry.seed),
    ops: entry.ops ?? false,
    ...askedOf(entry, address, where, faults),
    ...persisting(collect(faults, where, () => persistenceOf(entry, address))),
    backends,
  }
  for (const fault of serviceFaults(service)) faults.push(`${where}: ${fault.message}; ${fault.mend}`)
  return service
}

/** @throws Refusal that lists every fault of the file */
export const readConfig = (file: string): Config => {
  const config = validate(file, parse(file, readText(file)))
  const faults: string[] = []
  const services = new Map<string, Service>()
  const seeded = new Set<string>()
  config.services.forEach((entry, i) => {
    const where = `services[${i}]`
    const service = serviceOf(entry, where, faults)
    if (service === undefined) return
    const name = formatService(service)
    if (services.has(name)) faults.push(`${where}: ${name} is there twice; keep one of the two`)
    services.set(name, service)
    if (entry.seed !== undefined) seeded.add(name)
  })
  for (const fault of rangeFaults(services.keys())) faults.push(`services: ${fault.message}; ${fault.mend}`)
  for (const fault of groupFaults(services.values())) faults.push(`services: ${fault.message}; ${fault.mend}`)
  collect(faults, 'services', () => checkCircles(services))
  const filter = filterOf(config.filter, 'filter', faults)
  const timeouts = { ...DEFAULT_TIMEOUTS }
  for (const state of CONNECTION_STATES) {
    const text = config.timeouts[state]
    if (text === undefined) continue
    timeouts[state] = collect(faults, 'timeouts', () => parseTimeout(state, text)) ?? timeouts[state]
  }
  if (faults.length > 0) refuse(file, faults, 'mend these places and restore again')
  const { limits } = config
  return {
    interfaces: config.interfaces,
    filter,
    timeouts,
    ...(limits['new-flows'] === undefined ? {} : { newFlows: limits['new-flows'] }),
    capacity: {
      ...(limits.services === undefined ? {} : { services: limits.services }),
      ...(limits.backends === undefined ? {} : { backends: limits.backends }),
      ...(limits.flows === undefined ? {} : { flows: limits.flows }),
      ...(limits.flows6 === undefined ? {} : { flows6: limits.flows6 }),
      ...(limits.prefixes === undefined ? {} : { prefixes: limits.prefixes }),
      ...(limits.clients === undefined ? {} : { clients: limits.clients }),
    },
    desired: (have, random) =>
      new Map(
        [...services].map(([name, service]) => {
          if (seeded.has(name)) return [name, service]
          return [name, { ...service, seed: have.get(name)?.seed ?? random() }]
        }),
      ),
  }
}
