// SPDX-License-Identifier: Apache-2.0
// One service of the reference balancer: its backends' lives, its flows, and what its ring has been.
import { effectiveWeight, isTracked, type Service } from '../../src/core/desired.ts'
import { type Life, ReferenceChoice } from './reference-choice.ts'
import type { ReferenceClients } from './reference-clients.ts'
import { lookUp, numberOf, type Ring, ringOf } from './ring.ts'

export interface Packet {
  /** An ICMP error about this packet's flow. */
  error?: boolean
  /** A later fragment, without ports. */
  later?: boolean
  source: string
  sourcePort: number
  destination: string
  port: number
  syn: boolean
  fin: boolean
  rst: boolean
  bytes: number
}

interface Flow {
  life: Life
  ended: boolean
  /** It counts as an active connection: opening or established. */
  active: boolean
}

/** Where a tuple stands in a ring that changes. */
interface Place {
  version: number
  marked: boolean
  /** The ring before is found by a hash of its own: a backend that goes from it leaves a gap that nothing can fill. */
  rehashed: boolean
  before: number | undefined
  now: number | undefined
}

interface Version {
  ring: Ring
  /** Every slot is marked: another hash, or flows that the ring knows nothing of. */
  markAll: boolean
  rehashed: boolean
  removed: ReadonlySet<number>
}

const flowOf = (packet: Packet): string => `${packet.source}:${packet.sourcePort} ${packet.destination}:${packet.port}`

/** Where two of these are equal, so are the rings. */
const ringInput = (service: Service): string =>
  [
    `${service.seed} ${service.hash} ${service.ringSize}`,
    ...service.backends.map((backend) => `${backend.address} ${effectiveWeight(service, backend)}`),
  ].join()

export class ReferenceService {
  readonly name: string
  want: Service
  readonly #clients: ReferenceClients
  readonly lives = new Map<number, Life>()
  readonly #flows = new Map<string, Flow>()
  readonly #places = new Map<string, Place>()
  readonly #versions: Version[]
  /** Any slot of the ring is marked: one whose backend has changed, or all. No mark ends, as no time passes. */
  #isMarked = false
  readonly #choice: ReferenceChoice

  constructor(name: string, want: Service, clients: ReferenceClients) {
    this.name = name
    this.#clients = clients
    this.want = want
    this.#choice = new ReferenceChoice(this.lives, want)
    this.#versions = [{ ring: ringOf(want), markAll: false, rehashed: false, removed: new Set() }]
    this.#settle(want)
  }

  change(want: Service): void {
    const before = this.want
    if (want.ops) {
      // No flow of it is anywhere, so that nothing is remembered of the ring before.
      this.#versions.splice(0, Infinity, { ring: ringOf(want), markAll: false, rehashed: false, removed: new Set() })
      this.#places.clear()
      this.#isMarked = false
      this.#settle(want)
      return
    }
    const staying = new Set(want.backends.map(({ address }) => numberOf(address)))
    const rehashed = before.seed !== want.seed || before.hash !== want.hash
    const markAll = rehashed || (isTracked(before) && !isTracked(want))
    const removed = new Set([...this.lives.keys()].filter((number) => !staying.has(number)))
    if (markAll || removed.size > 0 || ringInput(before) !== ringInput(want)) {
      const slots = this.#versions.at(-1)?.ring.slots ?? []
      const ring = ringOf(want)
      this.#isMarked ||= markAll || slots.some((slot, i) => slot !== undefined && slot !== ring.slots[i])
      this.#versions.push({ ring, markAll, rehashed, removed })
    }
    this.#settle(want)
  }

  /** Removed backends' indices are free only after the change that removes them. */
  #settle(want: Service): void {
    this.want = want
    const used = new Set([...this.lives.values()].map(({ index }) => index))
    const wanted = want.backends.map(({ address }) => numberOf(address))
    for (const number of wanted) {
      if (this.lives.has(number)) continue
      let index = 0
      while (used.has(index)) index++
      used.add(index)
      this.lives.set(number, { number, index, packets: 0, octets: 0, active: 0, inactive: 0 })
    }
    for (const number of this.lives.keys()) if (!wanted.includes(number)) this.lives.delete(number)
    this.#choice.settle(want)
  }

  #isAlive(number: number | undefined): boolean {
    const backend = this.want.backends.find(({ address }) => numberOf(address) === number)
    if (backend === undefined || backend.admin === 'cut' || backend.admin === 'maint') return false
    return backend.path.kind !== 'unresolved' && backend.health?.alive !== false
  }

  /** Removed, and whatever belongs to a flow of it is dropped. */
  #isCut(number: number | undefined): boolean {
    return this.want.backends.some(({ address, admin }) => numberOf(address) === number && admin === 'cut')
  }

  #place(packet: Packet): Place {
    const key = `${packet.source}:${packet.sourcePort} ${packet.destination}`
    let place = this.#places.get(key)
    if (place === undefined) {
      const [first] = this.#versions
      const now = first === undefined ? undefined : lookUp(first.ring, packet)
      place = { version: 0, marked: false, rehashed: false, before: undefined, now }
      this.#places.set(key, place)
    }
    while (place.version + 1 < this.#versions.length) this.#age(place, packet)
    return place
  }

  /** One change further: a slot whose backend changes is marked, and remembers the oldest backend that is still there. */
  #age(place: Place, packet: Packet): void {
    const version = this.#versions[++place.version]
    if (version === undefined) return
    const next = lookUp(version.ring, packet)
    if (place.marked || version.markAll || (next !== place.now && place.now !== undefined)) {
      const oldest = place.marked ? (place.before ?? (place.rehashed ? undefined : place.now)) : place.now
      place.before = oldest !== undefined && version.removed.has(oldest) ? undefined : oldest
      place.marked = true
      place.rehashed ||= version.rehashed
    }
    place.now = next
  }

  #oldest(place: Place): number | undefined {
    return place.marked && this.#isAlive(place.before) ? place.before : place.now
  }

  /** Flows count for their lives: those that open or are established as active. */
  #record(key: string, flow: Flow): void {
    const before = this.#flows.get(key)
    if (before !== undefined) before.life[before.active ? 'active' : 'inactive']--
    flow.life[flow.active ? 'active' : 'inactive']++
    this.#flows.set(key, flow)
  }

  /** What a packet of it makes of a flow. */
  #advance(flow: Flow, packet: Packet): void {
    flow.life[flow.active ? 'active' : 'inactive']--
    if (packet.fin || packet.rst) Object.assign(flow, { ended: true, active: false })
    flow.life[flow.active ? 'active' : 'inactive']++
  }

  /** Whom an ICMP error about a flow is for: nothing changes by it. */
  #ofError(packet: Packet, place: Place): number | undefined {
    if (this.want.ops || (!isTracked(this.want) && !place.marked)) return place.now
    const flow = this.#flows.get(flowOf(packet))
    return flow !== undefined && this.#holds(flow, packet)
      ? flow.life.number
      : (this.#noted(packet) ?? this.#oldest(place))
  }

  /** Whom the packet's client was given, where there is persistence. */
  #noted(packet: Packet): number | undefined {
    return this.#clients.find(this.name, this.want, packet.source)
  }

  /** Its ring alone says where packets go, and hashes one address: no port is needed to know the backend. */
  get goesByAddress(): boolean {
    return !isTracked(this.want) && this.want.hash !== 'source-port' && !this.#isMarked
  }

  /** Does the packet count as a new connection of its source? */
  asksForFlow(packet: Packet): boolean {
    if (packet.error === true || packet.later === true) return false
    if (this.want.protocol === 'tcp') return packet.syn
    if (!isTracked(this.want) || this.want.ops) return true
    const flow = this.#flows.get(flowOf(packet))
    return flow === undefined || !this.#holds(flow, packet)
  }

  choose(packet: Packet): { number: number | undefined; inserted: boolean; noted?: boolean; full?: boolean } {
    if (packet.error === true) return { number: this.#ofError(packet, this.#place(packet)), inserted: false }
    const udp = this.want.protocol === 'udp'
    const place = this.#place(packet)
    if (this.want.ops) return { number: isTracked(this.want) ? this.#choice.nextTurn() : place.now, inserted: false }
    if (!isTracked(this.want) && !place.marked) return { number: place.now, inserted: false }
    const key = flowOf(packet)
    const flow = this.#flows.get(key)
    if (flow !== undefined && this.#holds(flow, packet)) {
      if (!this.#isCut(flow.life.number)) this.#advance(flow, packet)
      return { number: flow.life.number, inserted: false }
    }
    // UDP is recorded while its service is tracked, and no longer.
    if (udp && !isTracked(this.want)) return { number: this.#oldest(place), inserted: false }
    const isNew = packet.syn || udp
    const known = this.#noted(packet)
    if (known === undefined && !isNew && place.marked && this.#isCut(place.before)) {
      return { number: place.before, inserted: false }
    }
    const number = known ?? (isNew ? this.#choice.forNew(place.now, packet.destination) : this.#oldest(place))
    if (number === 'full') return { number: undefined, inserted: false, full: true }
    const life = this.lives.get(number ?? -1)
    if (number === undefined || life === undefined) return { number: undefined, inserted: false }
    const ended = !isNew && (packet.fin || packet.rst)
    this.#record(key, { life, ended, active: isNew && !udp })
    this.#choice.got(life)
    const noted = isNew && known === undefined && this.#clients.note(this.name, this.want, packet.source, number)
    return { number, inserted: true, noted }
  }

  #holds(flow: Flow, packet: Packet): boolean {
    if (packet.syn && flow.ended) return false
    if (this.lives.get(flow.life.number) !== flow.life) return false
    return this.#isAlive(flow.life.number) || (!packet.syn && this.#isCut(flow.life.number))
  }
}
