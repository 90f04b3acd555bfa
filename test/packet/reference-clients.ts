// SPDX-License-Identifier: Apache-2.0
// What the reference balancer remembers of clients of persistent services. No note ends, and there is room for all.
import { isLeaving, type Service } from '../../src/core/desired.ts'
import { familyOf, leadingBits } from '../../src/core/ip.ts'
import { numberOf } from './ring.ts'

/** A server's life in a persistence, from when one of its services has it until none does. */
interface ServerLife {
  /** Not its number: a group may have services of both families, and two of their servers one number. */
  address: string
}

const keyOf = (name: string, { persistence }: Service): string | undefined =>
  persistence === undefined ? undefined : (persistence.group ?? `only ${name}`)

export class ReferenceClients {
  #servers = new Map<string, Map<string, ServerLife>>()
  readonly #notes = new Map<string, ServerLife>()

  follow(state: ReadonlyMap<string, Service>): void {
    const after = new Map<string, Map<string, ServerLife>>()
    for (const [name, service] of state) {
      const key = keyOf(name, service)
      if (key === undefined) continue
      const servers = after.get(key) ?? new Map<string, ServerLife>()
      after.set(key, servers)
      for (const { address } of service.backends) {
        servers.set(address, this.#servers.get(key)?.get(address) ?? servers.get(address) ?? { address })
      }
    }
    this.#servers = after
  }

  /** The backend that a client's note leads to. */
  find(name: string, service: Service, source: string): number | undefined {
    const key = keyOf(name, service)
    const life = key === undefined ? undefined : this.#notes.get(this.#clientOf(key, service, source))
    if (key === undefined || life === undefined || this.#servers.get(key)?.get(life.address) !== life) return undefined
    const backend = service.backends.find(({ address }) => address === life.address)
    if (backend === undefined || backend.path.kind === 'unresolved' || isLeaving(backend)) return undefined
    if (backend.admin === 'maint' || backend.health?.alive === false) return undefined
    const isDrained = backend.admin === 'drain' || backend.weight === 0 || backend.health?.percent === 0
    return isDrained && service.persistence?.drain === 'cut' ? undefined : numberOf(life.address)
  }

  /** @returns whether there is anything to note */
  note(name: string, service: Service, source: string, number: number): boolean {
    const key = keyOf(name, service)
    const address = service.backends.find((backend) => numberOf(backend.address) === number)?.address ?? ''
    const life = key === undefined ? undefined : this.#servers.get(key)?.get(address)
    if (key === undefined || life === undefined) return false
    this.#notes.set(this.#clientOf(key, service, source), life)
    return true
  }

  #clientOf(key: string, { persistence }: Service, source: string): string {
    const prefix = (familyOf(source) === 'ipv6' ? persistence?.prefix6 : persistence?.prefix) ?? 0
    return `${key} ${leadingBits(source, prefix)}/${prefix}`
  }
}
