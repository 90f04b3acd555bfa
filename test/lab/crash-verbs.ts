// SPDX-License-Identifier: Apache-2.0
// Random verbs for crash.ts: functions from a desired state to the next, as the command line's verbs make them.
import { parseBackend, parseService } from '../../src/core/address.ts'
import { type DesiredState, isLeaving, isTracked, type Path, type Service } from '../../src/core/desired.ts'
import { parseFilterFile, withFilter } from '../../src/core/filter.ts'
import { familyOf } from '../../src/core/ip.ts'
import { FLOW_FATES, removeBackend } from '../../src/core/leaving.ts'
import type { PersistenceOptions } from '../../src/core/persistence.ts'
import { sameFilter } from '../../src/core/prefixes.ts'
import { addService, drainBackend, removeService, setBackend, setService } from '../../src/core/verbs.ts'

/** Numbers from 0 to 1, exclusive; mulberry32, so that a run can be repeated from its seed. */
export const randomFrom = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface Verb {
  kind: string
  /** What the service is that it is about, as `what` tells it; undefined: it is about all. */
  of?: string
  /** Backends whose paths it has the kernel resolve. */
  asks: string[]
  apply: (state: DesiredState, pathOf: (address: string) => Path) => DesiredState
}

const SERVICES_MAX = 6
const PREFIXES = ['198.18.7.0/24', '[2001:db8:7::/64]']
const NAMES = ['tcp', 'udp'].flatMap((protocol) => [
  ...['10.89.0.101', '[fd00:89::101]', '[fd00:89::102]'].flatMap((vip) =>
    [80, 443].map((port) => `${protocol}://${vip}:${port}`),
  ),
  ...PREFIXES.map((prefix) => `${protocol}://${prefix}:80`),
])
const RINGS = [0, 1021, 2039, 4093]
const GROUP = 'web'

const isPrefix = (name: string): boolean => name.includes('/', name.indexOf('://') + 3)
const familyOfService = (name: string) => (name.includes('[') ? 'ipv6' : 'ipv4')

/** `ipv6 prefix`, for instance. */
const what = (name: string): string => `${familyOfService(name)} ${isPrefix(name) ? 'prefix' : 'vip'}`

/** Draws verbs on services other than `spared`, whose backends are of `addresses`. */
export class Verbs {
  readonly #random: () => number
  readonly #addresses: readonly string[]
  readonly #spared: string

  constructor(random: () => number, addresses: readonly string[], spared: string) {
    this.#random = random
    this.#addresses = addresses
    this.#spared = spared
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[this.below(from.length)]
  }

  #addressesFor(name: string): string[] {
    return this.#addresses.filter((address) => familyOf(address) === familyOfService(name))
  }

  #bits(): bigint {
    return BigInt(this.below(2 ** 32)) << 32n
  }

  /** A verb that changes `state`. */
  draw(state: DesiredState): Verb {
    for (;;) {
      const verb = this.#pick([
        ...[this.#add, this.#remove, this.#set, this.#persist, this.#filter],
        ...[this.#weigh, this.#drain, this.#leave, this.#whole],
      ])
      const drawn = verb?.call(this, state)
      if (drawn !== undefined) return drawn
    }
  }

  #own(state: DesiredState): [string, Service] | undefined {
    return this.#pick([...state].filter(([name]) => name !== this.#spared))
  }

  #add(state: DesiredState): Verb | undefined {
    const name = this.#pick(NAMES.filter((each) => !state.has(each)))
    if (name === undefined || state.size >= SERVICES_MAX) return undefined
    const schedulers = isPrefix(name)
      ? (['rr', 'dh', 'lblc', 'lblcr'] as const)
      : (['rr', 'wrr', 'lc', 'mh', 'sh'] as const)
    const scheduler = this.#pick<(typeof schedulers)[number]>(schedulers) ?? 'rr'
    const seed = this.#bits()
    const terms = this.below(2) === 0 || isPrefix(name) ? {} : this.#terms(state)
    return {
      kind: 'service add',
      of: what(name),
      asks: [],
      apply: (have) => addService(have, parseService(name), { scheduler, ...terms }, seed),
    }
  }

  /** A persistence of its own, or that of the group. */
  #terms(state: DesiredState): PersistenceOptions {
    const persist = 60 + this.below(600)
    if (this.below(2) === 0) return { persist }
    const group = [...state.values()].find(({ persistence }) => persistence?.group === GROUP)
    return { persist: group?.persistence?.seconds ?? persist, group: GROUP }
  }

  #persist(state: DesiredState): Verb | undefined {
    const [name, service] = this.#own(state) ?? []
    if (name === undefined || service === undefined || isPrefix(name)) return undefined
    const { seconds } = service.persistence ?? {}
    const options =
      seconds !== undefined && this.below(2) === 0 ? { persist: false as const } : { persist: (seconds ?? 60) + 1 }
    return {
      kind: 'service set --persist',
      of: what(name),
      asks: [],
      apply: (have) => setService(have, parseService(name), options),
    }
  }

  #filter(state: DesiredState): Verb | undefined {
    const [name, service] = this.#own(state) ?? []
    if (name === undefined || service === undefined) return undefined
    const lines = Array.from({ length: this.below(4) }, () =>
      this.below(2) === 0 ? `deny 198.51.${this.below(256)}.0/24` : `allow 2001:db8:${this.below(9999)}::/48`,
    )
    const filter = parseFilterFile('drawn', [...new Set(lines)].join('\n'))
    const next = withFilter(state, parseService(name), () => filter).get(name)
    if (sameFilter(next?.filter, service.filter)) return undefined
    return {
      kind: 'filter load',
      of: what(name),
      asks: [],
      apply: (have) => withFilter(have, parseService(name), () => filter),
    }
  }

  #remove(state: DesiredState): Verb | undefined {
    const [name] = this.#own(state) ?? []
    if (name === undefined) return undefined
    return { kind: 'service rm', of: what(name), asks: [], apply: (have) => removeService(have, parseService(name)) }
  }

  #set(state: DesiredState): Verb | undefined {
    const [name, service] = this.#own(state) ?? []
    const ringSize = this.#pick(RINGS.filter((size) => size !== service?.ringSize))
    if (name === undefined || ringSize === undefined) return undefined
    return {
      kind: 'service set',
      of: what(name),
      asks: [],
      apply: (have) => setService(have, parseService(name), { ringSize }),
    }
  }

  /** Also of the spared service: adding backends and changing weights loses no connection. */
  #weigh(state: DesiredState): Verb | undefined {
    const [name, service] = this.#pick([...state]) ?? []
    const address = this.#pick(this.#addressesFor(name ?? ''))
    if (name === undefined || service === undefined || address === undefined) return undefined
    const weight = (service.backends.find((each) => each.address === address)?.weight ?? 0) + 1 + this.below(5)
    return {
      kind: 'backend set',
      of: what(name),
      asks: [address],
      apply: (have, pathOf) =>
        setBackend(have, parseService(name), parseBackend(address, service), { weight, path: pathOf(address) }),
    }
  }

  #drain(state: DesiredState): Verb | undefined {
    const [name, service] = this.#pick([...state]) ?? []
    const up = service?.backends.filter(({ admin }) => admin === 'up') ?? []
    const backend = this.#pick(up)
    if (name === undefined || backend === undefined || up.length < 2) return undefined
    return {
      kind: 'backend drain',
      of: what(name),
      asks: [],
      apply: (have) => drainBackend(have, parseService(name), backend),
    }
  }

  #leave(state: DesiredState): Verb | undefined {
    const [name, service] = this.#own(state) ?? []
    const backend = this.#pick(service?.backends.filter((each) => !isLeaving(each)) ?? [])
    if (name === undefined || service === undefined || backend === undefined) return undefined
    const knowsFlows = service.protocol === 'tcp' || isTracked(service)
    const flows = this.#pick(knowsFlows ? FLOW_FATES : (['keep', 'move'] as const)) ?? 'move'
    return {
      kind: `backend rm --flows ${flows}`,
      of: what(name),
      asks: [],
      apply: (have) => removeBackend(have, parseService(name), backend, flows),
    }
  }

  /** restore: other services, all at once; or clear, but for the spared one. */
  #whole(state: DesiredState): Verb | undefined {
    const spared = state.get(this.#spared)
    const only: DesiredState = new Map(spared === undefined ? [] : [[this.#spared, spared]])
    if (this.below(3) === 0) {
      return state.size < 2 ? undefined : { kind: 'clear', asks: [], apply: () => only }
    }
    const chosen = NAMES.filter(() => this.below(3) === 0).slice(0, SERVICES_MAX - 1)
    if (chosen.length === 0) return undefined
    const plans = chosen.map((name) => ({ name, seed: this.#bits(), weight: 1 + this.below(9) }))
    return {
      kind: 'restore',
      asks: [...this.#addresses],
      apply: (_, pathOf) =>
        plans.reduce((made, { name, seed, weight }) => {
          const service = parseService(name)
          return this.#addressesFor(name).reduce(
            (next, address) =>
              setBackend(next, service, parseBackend(address, service), { weight, path: pathOf(address) }),
            addService(made, service, {}, seed),
          )
        }, only),
    }
  }
}
