// SPDX-License-Identifier: Apache-2.0
// A balancer written from the rules alone (DESIGN.md "The packet's itinerary", bpf/xlb.h): it parses by itself, and keeps its
// flows in a map of its own. No age passes, the flow table is never full and the bound on new flows never reached.
import { formatMac } from '../../src/core/address.ts'
import { effectiveWeight, isTracked, type Service, takesTurns } from '../../src/core/desired.ts'
import { isPrefix } from '../../src/core/prefix.ts'
import type { Filter } from '../../src/core/prefixes.ts'
import { OWN_MAC } from './frames.ts'
import type { ReasonName } from './plane.ts'
import { isDenied } from './random-filter.ts'
import { ReferenceClients } from './reference-clients.ts'
import {
  type Datagram,
  destinationOf,
  findIp,
  isExtension,
  isIcmp,
  protocolOf,
  quotedBy,
  readIp,
  word,
} from './reference-headers.ts'
import { lookUp, numberOf, type Ring, ringOf } from './ring.ts'

export interface Expected {
  reason: ReasonName
  /** FLOW_INSERTED counts beside the reason. */
  inserted: boolean
  /** CLIENT_NOTED likewise. */
  noted?: boolean
  /** Whom it is for, in so far as the packet is balanced: also where it is passed to this host. */
  backend?: number
  /** The segment that it is to leave in, unless that is the untagged one. */
  vlan?: number
}

interface Packet {
  /** An ICMP error about this packet's flow. */
  error?: boolean
  source: string
  sourcePort: number
  destination: string
  port: number
  syn: boolean
  fin: boolean
  rst: boolean
  bytes: number
}

/** A backend's life from when it is added until it is removed: flows of an earlier life do not come back to it. */
interface Life {
  number: number
  index: number
  packets: number
  octets: number
}

interface Flow {
  life: Life
  ended: boolean
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

class ReferenceService {
  readonly name: string
  want: Service
  readonly #clients: ReferenceClients
  readonly lives = new Map<number, Life>()
  readonly #flows = new Map<string, Flow>()
  readonly #places = new Map<string, Place>()
  readonly #versions: Version[]
  #schedule: number[] = []
  #turns = 0

  constructor(name: string, want: Service, clients: ReferenceClients) {
    this.name = name
    this.#clients = clients
    this.want = want
    this.#versions = [{ ring: ringOf(want), markAll: false, rehashed: false, removed: new Set() }]
    this.#settle(want)
  }

  change(want: Service): void {
    const before = this.want
    if (want.ops) {
      // No flow of it is anywhere, so that nothing is remembered of the ring before.
      this.#versions.splice(0, Infinity, { ring: ringOf(want), markAll: false, rehashed: false, removed: new Set() })
      this.#places.clear()
      this.#settle(want)
      return
    }
    const staying = new Set(want.backends.map(({ address }) => numberOf(address)))
    const rehashed = before.seed !== want.seed || before.hash !== want.hash
    this.#versions.push({
      ring: ringOf(want),
      markAll: rehashed || (isTracked(before) && !isTracked(want)),
      rehashed,
      removed: new Set([...this.lives.keys()].filter((number) => !staying.has(number))),
    })
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
      this.lives.set(number, { number, index, packets: 0, octets: 0 })
    }
    for (const number of this.lives.keys()) if (!wanted.includes(number)) this.lives.delete(number)
    this.#schedule = this.#makeSchedule()
  }

  /** nginx's smooth weighted round robin, turn by turn, in the order of indices. */
  #makeSchedule(): number[] {
    const takers = this.want.backends
      .map((backend) => ({ number: numberOf(backend.address), weight: effectiveWeight(this.want, backend), credit: 0 }))
      .filter(({ weight }) => weight > 0)
      .sort((a, b) => (this.lives.get(a.number)?.index ?? 0) - (this.lives.get(b.number)?.index ?? 0))
    const order: number[] = []
    const sum = takers.reduce((total, { weight }) => total + weight, 0)
    do {
      let best = takers[0]
      if (best === undefined) return []
      for (const taker of takers) {
        taker.credit += taker.weight
        if (taker.credit > best.credit) best = taker
      }
      best.credit -= sum
      order.push(best.number)
    } while (takers.some(({ credit }) => credit !== 0))
    return order
  }

  #isAlive(number: number | undefined): boolean {
    const backend = this.want.backends.find(({ address }) => numberOf(address) === number)
    return backend !== undefined && backend.path.kind !== 'unresolved' && backend.admin !== 'cut'
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

  #nextTurn(): number | undefined {
    return this.#schedule.length === 0 ? undefined : this.#schedule[this.#turns++ % this.#schedule.length]
  }

  /** Whom an ICMP error about a flow is for: nothing changes by it. */
  #ofError(packet: Packet, place: Place): number | undefined {
    if (this.want.ops || (!isTracked(this.want) && !place.marked)) return place.now
    const flow = this.#flows.get(`${packet.source}:${packet.sourcePort} ${packet.destination}:${packet.port}`)
    return flow !== undefined && this.#holds(flow, packet)
      ? flow.life.number
      : (this.#noted(packet) ?? this.#oldest(place))
  }

  /** Whom the packet's client was given, where there is persistence. */
  #noted(packet: Packet): number | undefined {
    return this.#clients.find(this.name, this.want, packet.source)
  }

  /** Its ring was never changed, and hashes one address alone: no port is needed to know the backend. */
  get goesByAddress(): boolean {
    return !isTracked(this.want) && this.want.hash !== 'source-port' && this.#versions.length === 1
  }

  choose(packet: Packet): { number: number | undefined; inserted: boolean; noted?: boolean } {
    if (packet.error === true) return { number: this.#ofError(packet, this.#place(packet)), inserted: false }
    const udp = this.want.protocol === 'udp'
    const place = this.#place(packet)
    if (this.want.ops) return { number: isTracked(this.want) ? this.#nextTurn() : place.now, inserted: false }
    if (!isTracked(this.want) && !place.marked) return { number: place.now, inserted: false }
    const key = `${packet.source}:${packet.sourcePort} ${packet.destination}:${packet.port}`
    const flow = this.#flows.get(key)
    if (flow !== undefined && this.#holds(flow, packet)) {
      if (!this.#isCut(flow.life.number)) flow.ended ||= packet.fin || packet.rst
      return { number: flow.life.number, inserted: false }
    }
    // UDP is recorded while its service is tracked, and no longer.
    if (udp && !isTracked(this.want)) return { number: this.#oldest(place), inserted: false }
    const isNew = packet.syn || udp
    const scheduled = takesTurns(this.want) ? () => this.#nextTurn() : () => place.now
    const known = this.#noted(packet)
    if (known === undefined && !isNew && place.marked && this.#isCut(place.before)) {
      return { number: place.before, inserted: false }
    }
    const number = known ?? (isNew ? scheduled() : this.#oldest(place))
    const life = this.lives.get(number ?? -1)
    if (number === undefined || life === undefined) return { number: undefined, inserted: false }
    this.#flows.set(key, { life, ended: !isNew && (packet.fin || packet.rst) })
    const noted = isNew && known === undefined && this.#clients.note(this.name, this.want, packet.source, number)
    return { number, inserted: true, noted }
  }

  #holds(flow: Flow, packet: Packet): boolean {
    if (packet.syn && flow.ended) return false
    if (this.lives.get(flow.life.number) !== flow.life) return false
    return this.#isAlive(flow.life.number) || (!packet.syn && this.#isCut(flow.life.number))
  }
}

const isSender = (mac: Parameters<typeof formatMac>[0], frame: Buffer): boolean =>
  formatMac(mac).replaceAll(':', '') === frame.subarray(6, 12).toString('hex')

const just = (reason: ReasonName): Expected => ({ reason, inserted: false })

/** Where the first fragment of a datagram went. */
interface Note {
  protocol: 'tcp' | 'udp'
  port: number
  life: Life
}

const kindOf = ({ vip, port, lastPort, ops, persistence }: Service): string =>
  `${isPrefix({ vip }) ? 'prefix, ' : vip.includes(':') ? 'ipv6, ' : ''}${port === lastPort ? 'one port' : port === 0 ? 'every port' : 'range'}${ops ? ', ops' : ''}${persistence ? ', persistent' : ''}`

/** The whole numbers of 8 bits that an address is. */
const octetsOf = (text: string): number[] => text.split('.').map(Number)

/** Are the first `bits` bits of two addresses the same? Octet by octet. */
const sameBits = (a: string, b: string, bits: number): boolean => {
  const other = octetsOf(b)
  return octetsOf(a).every((octet, i) => {
    const left = Math.max(0, 8 - Math.max(0, bits - 8 * i))
    return octet >> left === (other[i] ?? 0) >> left
  })
}

export class Reference {
  readonly services = new Map<string, ReferenceService>()
  /** Packets that found a service, by its kind. */
  readonly kinds = new Map<string, number>()
  /** Of all services. */
  filter: Filter | undefined
  readonly #notes = new Map<string, Note>()
  readonly #clients = new ReferenceClients()

  /** What is configured from now on. */
  follow(state: ReadonlyMap<string, Service>): void {
    this.#clients.follow(state)
    for (const name of this.services.keys()) {
      if (state.has(name)) continue
      this.services.delete(name)
      this.#notes.clear() // Its ports may be another service's from now on.
    }
    for (const [name, want] of state) {
      const known = this.services.get(name)
      const before = new Set(known?.lives.values())
      if (known === undefined) this.services.set(name, new ReferenceService(name, want, this.#clients))
      else known.change(want)
      // A place that is given out anew must not be one that a note names.
      const after = [...(this.services.get(name)?.lives.values() ?? [])]
      if (known === undefined || after.some((life) => !before.has(life))) this.#notes.clear()
    }
  }

  /** @returns undefined where it has no opinion: a later fragment by itself, for a ring that was changed */
  expect(frame: Buffer): Expected | undefined {
    if (frame.subarray(0, 6).toString('hex') !== OWN_MAC.replaceAll(':', '')) return just('PASS_OTHER_MAC')
    const found = findIp(frame)
    if (found === undefined) return just('PASS_NOT_IP')
    const vip = this.#vipOf(destinationOf(found.ip, found.family))
    if (vip === undefined) return just('PASS_NOT_VIP')
    const datagram = readIp(found)
    return typeof datagram === 'string' ? just(datagram) : this.#balance(frame, datagram, vip)
  }

  /** The VIP, or the longest prefix, that an address belongs to. */
  #vipOf(destination: string): string | undefined {
    const vips = [...this.services.values()].map(({ want }) => want.vip)
    if (vips.includes(destination)) return destination
    if (destination.includes(':')) return undefined
    const bitsOf = (vip: string) => Number(vip.split('/')[1])
    return vips
      .filter((vip) => vip.includes('/') && sameBits(vip.split('/')[0] ?? '', destination, bitsOf(vip)))
      .sort((a, b) => bitsOf(b) - bitsOf(a))[0]
  }

  /** A service of the port alone goes first, then one of a range, then one of every port. */
  #find(protocol: string, vip: string, port: number): ReferenceService | undefined {
    const own = [...this.services.values()].filter(({ want }) => want.protocol === protocol && want.vip === vip)
    return (
      own.find(({ want }) => want.port === port && want.lastPort === port) ??
      own.find(({ want }) => want.port > 0 && want.port <= port && port <= want.lastPort) ??
      own.find(({ want }) => want.port === 0)
    )
  }

  #balance(frame: Buffer, datagram: Datagram, vip: string): Expected | undefined {
    const { source, destination, next, part, name, body } = datagram
    if (part === 'later') return this.#later(frame, datagram, vip)
    if (isIcmp(datagram)) return this.#error(frame, datagram, vip)
    const protocol = protocolOf(next)
    if (protocol === undefined) return just('PASS_NOT_BALANCED')
    if (body.length < (protocol === 'tcp' ? 20 : 8)) return just('DROP_TRUNCATED')
    const port = word(body, 2)
    const service = this.#find(protocol, vip, port)
    if (service === undefined) return just('PASS_NO_SERVICE')
    const kind = kindOf(service.want)
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1)
    const flags = protocol === 'tcp' ? (body[13] ?? 0) : 0
    const delivered = this.#deliver(
      service,
      {
        source,
        sourcePort: word(body, 0),
        destination,
        port,
        syn: (flags & 0x12) === 0x02,
        fin: (flags & 0x01) !== 0,
        rst: (flags & 0x04) !== 0,
        bytes: frame.length,
      },
      frame,
    )
    const life = service.lives.get(delivered.backend ?? -1)
    if (part === 'first' && life !== undefined) this.#notes.set(name, { protocol, port, life })
    return delivered
  }

  #error(frame: Buffer, datagram: Datagram, vip: string): Expected {
    const { destination } = datagram
    const quoted = quotedBy(datagram)
    if (quoted === undefined || quoted.source !== destination) return just('PASS_NOT_BALANCED')
    const service = this.#find(quoted.protocol, vip, quoted.sourcePort)
    if (service === undefined) return just('PASS_NO_SERVICE')
    const flow = { source: quoted.destination, sourcePort: quoted.port, destination, port: quoted.sourcePort }
    const flags = { syn: false, fin: false, rst: false }
    return this.#deliver(service, { ...flow, ...flags, error: true, bytes: frame.length }, frame)
  }

  #later(frame: Buffer, datagram: Datagram, vip: string): Expected | undefined {
    const { source, destination, next, name } = datagram
    const note = this.#notes.get(name)
    if (note !== undefined) {
      const service = this.#find(note.protocol, vip, note.port)
      if (service === undefined) return just('PASS_NO_SERVICE')
      if (this.#isFromPeer(service, frame)) return just('PASS_FROM_PEER')
      return this.#refused(service, source) ?? this.#hand(service, note.life, frame, frame.length, false)
    }
    const protocol = protocolOf(next)
    if (protocol === undefined) return just(isExtension(datagram) ? 'DROP_FRAGMENT' : 'PASS_NOT_BALANCED')
    const services = [...this.services.values()].filter(({ want }) => want.vip === vip)
    const [only] = services
    if (services.length !== 1 || only === undefined || only.want.protocol !== protocol) return just('DROP_FRAGMENT')
    const { port, lastPort, hash } = only.want
    // A range is not looked for without a port.
    if (isTracked(only.want) || hash === 'source-port' || (port !== lastPort && port !== 0))
      return just('DROP_FRAGMENT')
    if (!only.goesByAddress) return undefined
    const packet = { source, sourcePort: 0, destination, port: 0, syn: false, fin: false, rst: false }
    return this.#deliver(only, { ...packet, bytes: frame.length }, frame)
  }

  /** Where this host is a backend too, what comes from another one was sent here by that one, as a director. */
  #isFromPeer({ want }: ReferenceService, frame: Buffer): boolean {
    const paths = want.backends.map(({ path }) => path)
    return (
      paths.some(({ kind }) => kind === 'local') &&
      paths.some((path) => path.kind === 'link' && isSender(path.mac, frame))
    )
  }

  /** The filter of all goes first. An ICMP error's source is the client that it is about. */
  #refused({ want }: ReferenceService, source: string): Expected | undefined {
    if (isDenied(this.filter, source)) return just('DROP_DENIED_GLOBAL')
    return isDenied(want.filter, source) ? just('DROP_DENIED') : undefined
  }

  #deliver(service: ReferenceService, packet: Packet, frame: Buffer): Expected {
    if (this.#isFromPeer(service, frame)) return just('PASS_FROM_PEER')
    const refused = this.#refused(service, packet.source)
    if (refused !== undefined) return refused
    const { number, inserted, noted = false } = service.choose(packet)
    const life = service.lives.get(number ?? -1)
    return life === undefined
      ? { reason: 'DROP_NO_BACKEND', inserted }
      : { ...this.#hand(service, life, frame, packet.bytes, inserted), noted }
  }

  #hand(service: ReferenceService, life: Life, frame: Buffer, bytes: number, inserted: boolean): Expected {
    const backend = service.want.backends.find((each) => numberOf(each.address) === life.number)
    if (backend === undefined || service.lives.get(life.number) !== life) {
      const records = Math.max(0, ...[...service.lives.values()].map(({ index }) => index + 1))
      return { reason: life.index < records ? 'DROP_BACKEND_DOWN' : 'DROP_NO_BACKEND', inserted }
    }
    const { path } = backend
    if (backend.admin === 'cut') return { reason: 'DROP_BACKEND_CUT', inserted, backend: life.number }
    if (path.kind === 'unresolved') return { reason: 'DROP_BACKEND_DOWN', inserted, backend: life.number }
    if (path.kind === 'link' && isSender(path.mac, frame))
      return { reason: 'DROP_TO_SENDER', inserted, backend: life.number }
    life.packets++
    life.octets += bytes
    const reason = path.kind === 'local' ? 'PASS_LOCAL' : path.interfaceSlot === 0 ? 'TX_FORWARDED' : 'TX_REDIRECTED'
    const vlan = path.kind === 'link' ? path.vlan : undefined
    return { reason, inserted, backend: life.number, ...(vlan === undefined ? {} : { vlan }) }
  }
}
