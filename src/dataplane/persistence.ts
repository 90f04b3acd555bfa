// SPDX-License-Identifier: Apache-2.0
// Numbers of persistence: an id for each group (and for each service without one), and in it a number for each server, which notes
// name. Services of a group agree on them, whatever the indices of their backends, and none is given out anew with notes on it.
import { Arena } from '../core/arena.ts'
import type { Backend, Service } from '../core/desired.ts'
import { familyOf } from '../core/ip.ts'
import { type Persistence, takesClients } from '../core/persistence.ts'
import { Refusal } from '../core/refusal.ts'
import { BackendLimit, ClientLimit, RingSlot, ServiceFlag, type ServicePolicy, type Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import type { LiveService, LiveState } from './reader.ts'
import { slotsAt } from './views.ts'

type PersistFields = Pick<
  ServicePolicy,
  'persistLine' | 'persistAges' | 'persistServers' | 'persistId' | 'persistPrefix'
>

const NO_PERSISTENCE: PersistFields = {
  persistLine: 0,
  persistAges: 0,
  persistServers: 0,
  persistId: 0,
  persistPrefix: 0,
}

export const isPersistent = ({ service }: Pick<LiveService, 'service'>): boolean =>
  (service.flags & ServiceFlag.SERVICE_PERSISTENT) !== 0

/** What services of one persistence have in common: their group's name, else their own. */
const keyOf = (name: string, group: string | undefined): string =>
  group === undefined ? `service ${name}` : `group ${group}`

/** Ids fit in 16 bits of a note. */
const IDS = 65536

/** Which notes go, because what they name is given out anew. */
export interface ForgottenClients {
  ids: ReadonlySet<number>
  /** Persistence id -> numbers of servers. */
  servers: ReadonlyMap<number, ReadonlySet<number>>
}

interface Servers {
  byAddress: Map<string, number>
  free: Arena
}

/** Each server's number, from the services of a persistence that packets see. */
const readServers = (memory: PlaneMemory, services: readonly LiveService[]): Servers => {
  const byAddress = new Map<string, number>()
  const free = new Arena(BackendLimit.BACKENDS_PER_SERVICE_MAX)
  for (const { backends, service, policy } of services) {
    const slots = persistSlots(memory, { service, policy })
    for (const { index, want } of backends) {
      const server = slots[policy.persistServers + index] ?? RingSlot.SLOT_NONE
      byAddress.set(want.address, server)
      free.use(server, 1)
    }
  }
  return { byAddress, free }
}

/** Address of each server, by its number, from the services of one persistence. */
export const serversOf = (memory: PlaneMemory, services: readonly LiveService[]): ReadonlyMap<number, string> =>
  new Map([...readServers(memory, services).byAddress].map(([address, server]) => [server, address]))

/** Slots of a service: for each server its backend, then for each backend its server. */
export const persistSlots = (memory: PlaneMemory, service: Pick<LiveService, 'service' | 'policy'>): Uint16Array =>
  slotsAt(memory, service.policy.persistLine, persistSlotCount(service))

export const persistSlotCount = ({ service, policy }: Pick<LiveService, 'service' | 'policy'>): number =>
  isPersistent({ service }) ? policy.persistServers + service.backendCount : 0

/** The numbers of one change. Read from the maps when they are first asked for. */
export class Persistences {
  readonly #memory: PlaneMemory
  readonly #live: LiveState
  readonly #newIds = new Set<number>()
  readonly #newServers = new Map<number, Set<number>>()
  readonly #servers = new Map<number, Servers>()
  #ids: Map<string, number> | undefined
  #freeIds = new Arena(IDS)
  #byId = new Map<number, LiveService[]>()

  constructor(memory: PlaneMemory, live: LiveState) {
    this.#memory = memory
    this.#live = live
  }

  get forgotten(): ForgottenClients {
    return { ids: this.#newIds, servers: this.#newServers }
  }

  /** @throws Refusal where a group would have more servers than notes can name */
  idOf(name: string, { group }: Persistence): number {
    const key = keyOf(name, group)
    const ids = this.#readIds()
    const known = ids.get(key)
    if (known !== undefined) return known
    const id = this.#freeIds.take(1)
    if (id < 0) throw new Refusal(`${key}: ${IDS} persistences are there already`, 'put services into groups')
    ids.set(key, id)
    this.#newIds.add(id)
    return id
  }

  serverOf(id: number, address: string): number {
    let servers = this.#servers.get(id)
    if (servers === undefined) {
      servers = readServers(this.#memory, this.#newIds.has(id) ? [] : (this.#byId.get(id) ?? []))
      this.#servers.set(id, servers)
    }
    const known = servers.byAddress.get(address)
    if (known !== undefined) return known
    const server = servers.free.take(1)
    if (server < 0) {
      throw new Refusal(
        `backend ${address}: its group would have more than ${BackendLimit.BACKENDS_PER_SERVICE_MAX} servers, those that go included`,
        'remove backends in one step and add the new ones in the next, or split the group',
      )
    }
    servers.byAddress.set(address, server)
    const fresh = this.#newServers.get(id)
    if (fresh === undefined) this.#newServers.set(id, new Set([server]))
    else fresh.add(server)
    return server
  }

  #readIds(): Map<string, number> {
    if (this.#ids !== undefined) return this.#ids
    const ids = new Map<string, number>()
    this.#ids = ids
    for (const service of this.#live.services.values()) {
      if (!isPersistent(service)) continue
      const id = service.policy.persistId
      ids.set(keyOf(service.name, service.group), id)
      this.#freeIds.use(id, 1)
      const same = this.#byId.get(id)
      if (same === undefined) this.#byId.set(id, [service])
      else same.push(service)
    }
    return ids
  }
}

/** A span of time in units of age, as notes have it. */
const agesOf = (seconds: number, { ageShift, jiffiesPerSecond }: Pick<Settings, 'ageShift' | 'jiffiesPerSecond'>) =>
  Math.min(ClientLimit.PERSIST_AGES_MAX, Math.ceil((seconds * jiffiesPerSecond) / 2 ** ageShift))

/** What packets need of a service's persistence; `slots` are to stand where persistLine says. */
export const persistFields = (
  name: string,
  want: Service,
  placed: readonly { index: number; want: Backend }[],
  numbers: Persistences,
  settings: Settings,
): { fields: PersistFields; slots: Uint16Array } => {
  const { persistence } = want
  if (persistence === undefined) return { fields: NO_PERSISTENCE, slots: new Uint16Array(0) }
  const id = numbers.idOf(name, persistence)
  const servers = placed.map(({ want: { address } }) => numbers.serverOf(id, address))
  const count = Math.max(0, ...servers.map((server) => server + 1))
  const records = Math.max(0, ...placed.map(({ index }) => index + 1))
  const slots = new Uint16Array(count + records).fill(RingSlot.SLOT_NONE)
  for (const [i, { index, want: backend }] of placed.entries()) {
    const server = servers[i] ?? 0
    if (takesClients(want, backend)) slots[server] = index
    slots[count + index] = server
  }
  return {
    fields: {
      persistLine: 0,
      persistAges: agesOf(persistence.seconds, settings),
      persistServers: count,
      persistId: id,
      persistPrefix: familyOf(want.vip) === 'ipv6' ? persistence.prefix6 : persistence.prefix,
    },
    slots,
  }
}
