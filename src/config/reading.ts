// SPDX-License-Identifier: Apache-2.0
// Documents -> what they want, and whatever is wrong with them.
import type { Check } from '../core/check.ts'
import type { DesiredState, Service } from '../core/desired.ts'
import { sharedLabels } from '../core/label.ts'
import { type Notify, notifySeconds } from '../core/notify.ts'
import { groupFaults } from '../core/persistence.ts'
import type { Filter } from '../core/prefixes.ts'
import { rangeFaults } from '../core/ranges.ts'
import type { StateFault } from '../core/refusal.ts'
import { type Policies, samePolicy } from '../core/return-policy.ts'
import { AT_ONCE, type ReturnPolicy } from '../core/standing.ts'
import { circleFaults, serviceFaults } from '../core/state-faults.ts'
import { DEFAULT_TIMEOUTS, parseTimeout, TIMEOUT_NAMES, type Timeouts } from '../core/timeouts.ts'
import type { Capacity } from '../dataplane/memory.ts'
import { type Checks, checksOf } from './checks.ts'
import type { Document } from './document.ts'
import type { Faults, KeyPath } from './faults.ts'
import { filterOf } from './filter.ts'
import { Issues } from './issues.ts'
import { type ReadBefore, servicesOf } from './read-before.ts'
import { Salvage } from './salvage.ts'
import { type ConfigFile, configSchema, type Defaults, type ServiceEntry } from './schema.ts'
import { type Origin, policyOf, type ReadService, serviceOf } from './services.ts'
import type { Written } from './write.ts'

export interface Config {
  /** The file and all that it includes, in the order of reading. */
  files: string[]
  interfaces: ConfigFile['interfaces']
  capacity: Partial<Capacity>
  /** New tracked flows a CPU may record in a second, where a file says it. */
  newFlows?: number
  /** That of all services. */
  filter: Filter | undefined
  /** Whole seconds; those that no file names have their defaults. */
  timeouts: Timeouts
  api: ConfigFile['api']
  /** What is run when something happens; undefined: nothing. */
  notify: Notify | undefined
  /** For whoever writes the file again. */
  written: Written
  services: ReadonlyMap<string, Service>
  /** How backends come back that were out, and are checked. A daemon goes by it; the maps do not hold it. */
  policies: Policies
  /**
   * The services. One without a seed keeps that of the same service in `have`, else gets a drawn one. Backends' paths are
   * yet to be resolved.
   */
  desired: (have: DesiredState, random: () => bigint) => DesiredState
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

interface Part {
  document: Document
  /** Of services that are known: undefined. */
  config: ConfigFile
  /** What its services said before, by their places; undefined: nothing is known of any. */
  known?: readonly (ReadService | undefined)[]
}

/** Lists of all files are joined; each other key at the top stands in one of them. */
const LISTS: readonly string[] = ['include', 'interfaces', 'services']

/** One reading: of a file and of those that it includes. */
export class Reading {
  readonly faults: Faults
  readonly documents: readonly Document[]
  readonly #before: ReadBefore | undefined
  readonly #salvage = new Salvage()
  readonly #parts: Part[]
  readonly #services = new Map<string, ReadService & { origin: Origin; isKnown: boolean }>()
  readonly #seedTexts = new Map<string, { seed: bigint; text: string }>()
  readonly #checks: Check[] = []

  constructor(documents: readonly Document[], faults: Faults, before: ReadBefore | undefined) {
    this.documents = documents
    this.faults = faults
    this.#before = before
    before?.takeShared(documents.map(({ value }) => value))
    this.#parts = this.documents.flatMap((document) => this.#validated(document))
    this.#checkOnce()
  }

  /** Faults or not: what could be read. */
  config(): Config {
    const services = this.#readServices()
    const interfaces = this.#readInterfaces()
    const filterPart = this.#only('filter')
    const filter = filterOf(filterPart?.config.filter, { ...this.#originOf(filterPart), path: ['filter'] }, this.faults)
    const timeouts = this.#readTimeouts()
    const {
      'new-flows': newFlows,
      'prefix-flows6': prefixFlows6,
      ...others
    } = this.#only('limits')?.config.limits ?? {}
    const capacity = { ...others, prefixFlows6 }
    return {
      files: this.documents.map(({ file }) => file),
      interfaces,
      filter,
      timeouts,
      api: this.#only('api')?.config.api ?? { listen: [] },
      notify: this.#readNotify(),
      written: this.#written(),
      ...(newFlows === undefined ? {} : { newFlows }),
      capacity: Object.fromEntries(Object.entries(capacity).filter(([, value]) => value !== undefined)),
      services,
      policies: new Map(
        [...this.#services].flatMap(([name, { policy }]) => (samePolicy(policy, AT_ONCE) ? [] : [[name, policy]])),
      ),
      desired: (have, random) =>
        new Map(
          [...this.#services].map(([name, { service, isSeeded }]) => {
            if (isSeeded) return [name, service]
            const seed = have.get(name)?.seed ?? random()
            return [name, this.#before?.withSeed(service, seed) ?? { ...service, seed }]
          }),
        ),
    }
  }

  #validated(document: Document): Part[] {
    const { value } = document
    if (value === undefined || value === null) return []
    const known = this.#validatedBefore(document)
    if (known !== undefined) return [known]
    const result = configSchema.safeParse(value)
    if (result.success) return [{ document, config: result.data }]
    new Issues(configSchema, document, this.faults).add(result.error.issues)
    const config = this.#salvage.read(configSchema, value)
    return config === undefined ? [] : [{ document, config: config as ConfigFile }]
  }

  /** Where some of its services were read before; undefined: there are none, or something is wrong with the others. */
  #validatedBefore(document: Document): Part | undefined {
    const { value } = document
    const entries = servicesOf(value) ?? []
    const known = entries.map((entry) => this.#before?.service(entry))
    if (!known.some((each) => each !== undefined)) return undefined
    const result = configSchema.safeParse({ ...(value as object), services: entries.filter((_, i) => !known[i]) })
    if (!result.success) return undefined
    const others = result.data.services.values()
    const services = known.map((each) => (each === undefined ? others.next().value : undefined))
    return { document, config: { ...result.data, services: services as ConfigFile['services'] }, known }
  }

  /** Services by the entries that they were read of, as YAML has these. */
  *entries(): Generator<[entry: unknown, read: ReadService]> {
    for (const { origin, isKnown: _, ...read } of this.#services.values()) {
      yield [servicesOf(origin.document.value)?.[Number(origin.path[1])], read]
    }
  }

  /** The part that has this key; any where none has. */
  #only(key: keyof ConfigFile): Part | undefined {
    return this.#parts.find(({ document }) => Object.hasOwn(document.value as object, key))
  }

  #originOf(part: Part | undefined): Omit<Origin, 'path'> {
    return { document: part?.document ?? (this.documents[0] as Document) }
  }

  #checkOnce(): void {
    const first = new Map<string, Document>()
    for (const { document } of this.#parts) {
      for (const key of Object.keys(document.value as object)) {
        if (LISTS.includes(key)) continue
        const other = first.get(key)
        if (other === undefined) first.set(key, document)
        else this.faults.addKey(document, [key], `is in ${other.file} too`, 'keep all of it in one file')
      }
    }
  }

  #readInterfaces(): ConfigFile['interfaces'] {
    const seen = new Map<string, ConfigFile['interfaces'][number]>()
    for (const { document, config } of this.#parts) {
      for (const [i, attachment] of config.interfaces.entries()) {
        if (attachment === undefined) continue
        const { name } = attachment
        if (seen.has(name))
          this.faults.add(document, ['interfaces', i], `${name} is there twice`, 'keep one of the two')
        seen.set(name, attachment)
      }
    }
    return [...seen.values()]
  }

  #readTimeouts(): Timeouts {
    const timeouts = { ...DEFAULT_TIMEOUTS }
    const part = this.#only('timeouts')
    if (part === undefined) return timeouts
    for (const state of TIMEOUT_NAMES) {
      const text = part.config.timeouts[state]
      if (text === undefined) continue
      const seconds = this.faults.collect(part.document, ['timeouts', state], () => parseTimeout(state, text, state))
      timeouts[state] = seconds ?? timeouts[state]
    }
    return timeouts
  }

  #readNotify(): Notify | undefined {
    const part = this.#only('notify')
    const entry = part?.config.notify
    if (part === undefined || entry === undefined) return undefined
    const { command, user, timeout } = entry
    // Some of it may have been left out, as faulty.
    if (command === undefined || timeout === undefined) return undefined
    const seconds = this.faults.collect(part.document, ['notify', 'timeout'], () => notifySeconds(timeout))
    return { command, user, timeoutMs: (seconds ?? 0) * 1000 }
  }

  /** After the services were read. */
  #written(): Written {
    const apiPart = this.#only('api')
    const api = apiPart?.config.api
    const token = apiPart?.document.writtenAt(['api', 'token'])
    const notify = this.#only('notify')?.config.notify
    return {
      ...(api === undefined ? {} : { api: { ...api, ...(token === undefined ? {} : { token }) } }),
      ...(notify === undefined ? {} : { notify }),
      seeds: this.#seedTexts,
      checks: this.#checks,
    }
  }

  #readServices(): Map<string, Service> {
    const part = this.#only('defaults')
    const defaults = part?.config.defaults ?? {}
    const { document: stated } = this.#originOf(part)
    const checks = this.#readChecks(defaults)
    const byDefault = policyOf(defaults, AT_ONCE, checks, (key, read) =>
      this.faults.collect(stated, ['defaults', key], read),
    )
    for (const { document, config, known } of this.#parts) {
      for (const [i, entry] of config.services.entries()) {
        const origin = { document, path: ['services', i] }
        const before = known?.[i]
        if (before !== undefined) this.#place(before, origin, true)
        else if (entry !== undefined) this.#readService(entry, defaults, byDefault, checks, origin)
      }
    }
    const services = new Map([...this.#services].map(([name, { service }]) => [name, service]))
    for (const fault of rangeFaults(services.keys())) this.#addStateFault(fault)
    for (const fault of sharedLabels(services)) this.#addStateFault(fault)
    for (const fault of groupFaults(services.values())) this.#addStateFault(fault)
    for (const fault of circleFaults(services, this.#changed())) this.#addStateFault(fault)
    return services
  }

  /** Undefined: something of them is wrong that leaves open which there are. */
  #readChecks(defaults: Defaults): Checks | undefined {
    const part = this.#only('checks')
    const checks = checksOf(part?.config.checks, defaults, this.#originOf(part).document, this.faults)
    for (const check of checks.values()) if (check !== undefined) this.#checks.push(check)
    const isRead = this.documents.every(
      ({ value }) =>
        isObject(value) &&
        (!Object.hasOwn(value, 'checks') || (isObject(value.checks) && !Array.isArray(value.checks))),
    )
    return isRead ? checks : undefined
  }

  /** Services that say something else than before; undefined: any, as there is one that was not there. */
  #changed(): string[] | undefined {
    const changed: string[] = []
    for (const [name, { isKnown }] of this.#services) {
      if (this.#before?.names.has(name) !== true) return undefined
      if (!isKnown) changed.push(name)
    }
    return changed
  }

  #readService(
    entry: ServiceEntry,
    defaults: Defaults,
    byDefault: ReturnPolicy,
    checks: Checks | undefined,
    origin: Origin,
  ): void {
    const read = serviceOf(entry, defaults, byDefault, checks, origin, this.faults)
    if (read === undefined) return
    const name = this.#place(read, origin, false)
    if (name === undefined) return
    const { document, path } = origin
    const text = document.writtenAt([...path, 'seed'])
    if (text !== undefined) this.#seedTexts.set(name, { seed: read.service.seed, text })
    // Where a key was left out, what is said of the others may be wrong.
    if (this.#salvage.isDamaged(entry)) return
    for (const { keys, refusal } of serviceFaults(read.service)) this.#addStateFault({ service: name, keys, refusal })
  }

  /**
   * @param isKnown it was read before
   * @returns its name; undefined where it is there already
   */
  #place(read: ReadService, origin: Origin, isKnown: boolean): string | undefined {
    const { name } = read
    const { document, path } = origin
    const other = this.#services.get(name)?.origin.document
    if (other === undefined) {
      this.#services.set(name, { ...read, origin, isKnown })
      return name
    }
    const where = other === document ? 'twice' : `twice, also in ${other.file}`
    this.faults.add(document, [...path, 'service'], `${name} is there ${where}`, 'keep one of the two')
    return undefined
  }

  #addStateFault({ service, keys, refusal }: StateFault): void {
    const read = this.#services.get(service)
    if (read === undefined) throw refusal
    const { document, path } = read.origin
    this.faults.addRefusal(document, [...path, ...entryKeys(keys, read.places)], refusal)
  }
}

/** A backend's place among those that were read -> that in the entry's list. */
const entryKeys = (keys: KeyPath, places: ReadService['places']): KeyPath => {
  const [key, place, ...rest] = keys
  return key === 'backends' && typeof place === 'number' ? [key, places?.[place] ?? place, ...rest] : keys
}
