// SPDX-License-Identifier: Apache-2.0
// What a daemon remembers beyond a restart of the host: the configuration as it was last loaded, and what was changed since. What is pinned in
// the kernel says the rest, and says it better: these files are asked for when nothing is pinned.
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { configOfValues } from '../config/read.ts'
import type { Config } from '../config/reading.ts'
import { checksEntry, entryOf, type ForAll, forAllEntry } from '../config/write.ts'
import { formatService } from '../core/address.ts'
import type { DesiredState, Service } from '../core/desired.ts'
import type { RuntimeChange } from '../core/merge.ts'
import { type Policies, samePolicy } from '../core/return-policy.ts'
import type { ReturnPolicy } from '../core/standing.ts'
import { DEFAULT_TIMEOUTS } from '../core/timeouts.ts'
import { DEFAULT_NEW_FLOWS } from '../shell/load.ts'

type Interfaces = Config['interfaces']

/** A configuration, as far as it says what shall be. */
export interface Wish extends ForAll {
  interfaces: Interfaces
  services: DesiredState
  policies: Policies
}

/** What was loaded, and the maps that it was loaded onto (KernelPlane.identity). */
export interface Loaded {
  wish: Wish
  maps: string
}

/** What holds for all, and what verbs may change of it. */
export type WishForAll = Omit<Wish, 'services' | 'policies'>

/** What was changed since the configuration was loaded: by service, and of what holds for all both sides. */
export interface Changes {
  services: Map<string, RuntimeChange>
  base: WishForAll
  have: WishForAll
}

const documentOf = (
  { interfaces, ...wish }: WishForAll,
  services: Iterable<Service>,
  policies: Policies = new Map(),
): object => ({
  interfaces,
  ...forAllEntry(wish),
  ...checksEntry(policies),
  services: [...services].map((service) => entryOf(service, policies)),
})

const wishOf = (file: string, value: unknown): Wish => {
  const config = configOfValues([{ file, value }])
  const { interfaces, newFlows = DEFAULT_NEW_FLOWS, filter, timeouts, desired, policies } = config
  // Every entry was written with its seed: there is none to draw.
  return {
    interfaces,
    newFlows,
    filter,
    timeouts: { ...DEFAULT_TIMEOUTS, ...timeouts },
    services: desired(new Map(), () => 0n),
    policies,
  }
}

/** What was renamed within it is so after a crash of the host, too. */
const syncFolder = (folder: string): void => {
  const descriptor = openSync(folder, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** Written beside, made durable and renamed: after a crash there is the old file or the new one; after this has returned, the new one. */
export const writeDurably = (file: string, text: string): void => {
  const beside = `${file}.new`
  const descriptor = openSync(beside, 'w', 0o600)
  try {
    writeSync(descriptor, text)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  renameSync(beside, file)
  syncFolder(dirname(file))
}

const readValue = (file: string): unknown => {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
  return JSON.parse(text)
}

/** Of a document without services. */
const END = '[]}'

export class StateStore {
  readonly #loaded: string
  readonly #changes: string
  /** Of services as they were loaded. */
  readonly #texts = new WeakMap<Service, { policy: ReturnPolicy | undefined; text: string }>()
  #written = ''

  /** @param folder made where it is not there */
  constructor(folder: string) {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    this.#loaded = join(folder, 'loaded.json')
    this.#changes = join(folder, 'changes.json')
  }

  /** @throws what JSON.parse or a faulty configuration does: whoever edited the file has broken it */
  readLoaded(): Loaded | undefined {
    const value = readValue(this.#loaded) as { maps?: string } | undefined
    if (value === undefined) return undefined
    const { maps = '', ...wish } = value
    return { wish: wishOf(this.#loaded, wish), maps }
  }

  readChanges(): Changes | undefined {
    const value = readValue(this.#changes) as { base: unknown; have: unknown } | undefined
    if (value === undefined) return undefined
    const base = wishOf(this.#changes, value.base)
    const have = wishOf(this.#changes, value.have)
    const names = new Set([...base.services.keys(), ...have.services.keys()])
    const services = new Map(
      [...names].map((name): [string, RuntimeChange] => [
        name,
        { base: base.services.get(name) ?? null, have: have.services.get(name) ?? null },
      ]),
    )
    return { services, base, have }
  }

  writeLoaded({ wish, maps }: Loaded): void {
    const head = JSON.stringify({ maps, ...documentOf(wish, [], wish.policies) })
    const texts = Array.from(wish.services.values(), (service) => this.#textOf(service, wish.policies))
    // The list of services comes last.
    writeDurably(this.#loaded, `${head.slice(0, -END.length)}[${texts.join(',')}]}\n`)
  }

  /** Services of another load are mostly the same objects. */
  #textOf(service: Service, policies: Policies): string {
    const policy = policies.get(formatService(service))
    const before = this.#texts.get(service)
    if (before !== undefined && samePolicy(before.policy, policy)) return before.text
    const text = JSON.stringify(entryOf(service, policies))
    this.#texts.set(service, { policy, text })
    return text
  }

  writeChanges({ services, base, have }: Changes): void {
    const side = (name: keyof RuntimeChange): Service[] =>
      [...services.values()].flatMap((change) => change[name] ?? [])
    const text = `${JSON.stringify({ base: documentOf(base, side('base')), have: documentOf(have, side('have')) })}\n`
    if (text === this.#written) return
    writeDurably(this.#changes, text)
    this.#written = text
  }
}
