// SPDX-License-Identifier: Apache-2.0
// A balancer written from the rules alone (DESIGN.md "The packet's itinerary", bpf/xlb.h): it parses by itself, and keeps its
// flows in a map of its own. No age passes, the flow table is never full and the bound on new flows never reached.
import { formatMac } from '../../src/core/address.ts'
import type { Service } from '../../src/core/desired.ts'
import { addressOctets, familyOf } from '../../src/core/ip.ts'
import { isPrefix } from '../../src/core/prefix.ts'
import type { Filter } from '../../src/core/prefixes.ts'
import { OWN_MAC } from './frames.ts'
import { GONE_SLOT, type ReasonName } from './plane.ts'
import { isDenied } from './random-filter.ts'
import type { Life } from './reference-choice.ts'
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
import { ReferenceRates } from './reference-rates.ts'
import { type Packet, ReferenceService } from './reference-service.ts'
import { numberOf } from './ring.ts'

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

const isSender = (mac: Parameters<typeof formatMac>[0], frame: Buffer): boolean =>
  formatMac(mac).replaceAll(':', '') === frame.subarray(6, 12).toString('hex')

const just = (reason: ReasonName): Expected => ({ reason, inserted: false })

/** Where the first fragment of a datagram went. */
interface Note {
  protocol: 'tcp' | 'udp'
  port: number
  life: Life
}

/** How its VIP is written: an address of either family, or a prefix. */
const sortOf = ({ vip }: Service): string => (isPrefix({ vip }) ? `prefix of ${familyOf(vip)}` : familyOf(vip))

/** What is special about a service, in words. */
const kindsOf = (service: Service): string[] => {
  const { port, lastPort, scheduler, ops, persistence, sourceRate, filter, backends } = service
  return [
    scheduler,
    port === 0 ? 'every port' : port === lastPort ? 'one port' : 'range',
    ...(ops ? ['ops'] : []),
    ...(persistence === undefined ? [] : ['persistent']),
    ...(backends.some(({ maxConns }) => maxConns !== undefined) ? ['limited'] : []),
    ...(sourceRate === undefined ? [] : ['rated']),
    ...(filter === undefined ? [] : ['filtered']),
  ]
}

/** Are the first `bits` bits of two addresses of one family the same? Octet by octet. */
const sameBits = (a: string, b: string, bits: number): boolean => {
  const other = addressOctets(b)
  return addressOctets(a).every((octet, i) => {
    const left = Math.max(0, 8 - Math.max(0, bits - 8 * i))
    return octet >> left === (other[i] ?? 0) >> left
  })
}

export class Reference {
  readonly services = new Map<string, ReferenceService>()
  /** Packets that found a service, by what is special about it and what became of them. */
  readonly kinds = new Map<string, number>()
  /** Of all services. */
  filter: Filter | undefined
  readonly #notes = new Map<string, Note>()
  readonly #clients = new ReferenceClients()
  /** At which sources open connections. */
  readonly rates = new ReferenceRates()

  /** What is configured from now on. */
  follow(state: ReadonlyMap<string, Service>): void {
    this.#clients.follow(state)
    for (const name of this.services.keys()) {
      if (state.get(name)?.sourceRate === undefined) this.rates.forget(name)
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

  expect(frame: Buffer): Expected {
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
    const bitsOf = (vip: string) => Number(vip.split('/')[1])
    return vips
      .filter((vip) => vip.includes('/') && familyOf(vip) === familyOf(destination))
      .filter((vip) => sameBits(vip.split('/')[0] ?? '', destination, bitsOf(vip)))
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

  #balance(frame: Buffer, datagram: Datagram, vip: string): Expected {
    const { source, destination, next, part, name, body } = datagram
    if (part === 'later') return this.#later(frame, datagram, vip)
    if (isIcmp(datagram)) return this.#error(frame, datagram, vip)
    const protocol = protocolOf(next)
    if (protocol === undefined) return just('PASS_NOT_BALANCED')
    if (body.length < (protocol === 'tcp' ? 20 : 8)) return just('DROP_TRUNCATED')
    const port = word(body, 2)
    const service = this.#find(protocol, vip, port)
    if (service === undefined) return just('PASS_NO_SERVICE')
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
    for (const kind of [...kindsOf(service.want), delivered.reason]) this.#tally(`${sortOf(service.want)} ${kind}`)
    const life = service.lives.get(delivered.backend ?? -1)
    if (part === 'first' && life !== undefined) this.#notes.set(name, { protocol, port, life })
    return delivered
  }

  #tally(kind: string): void {
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1)
  }

  #error(frame: Buffer, datagram: Datagram, vip: string): Expected {
    const { destination } = datagram
    const quoted = quotedBy(datagram)
    if (quoted === undefined || quoted.source !== destination) return just('PASS_NOT_BALANCED')
    const service = this.#find(quoted.protocol, vip, quoted.sourcePort)
    if (service === undefined) return just('PASS_NO_SERVICE')
    this.#tally(`${sortOf(service.want)} error`)
    const flow = { source: quoted.destination, sourcePort: quoted.port, destination, port: quoted.sourcePort }
    const flags = { syn: false, fin: false, rst: false }
    return this.#deliver(service, { ...flow, ...flags, error: true, bytes: frame.length }, frame)
  }

  #later(frame: Buffer, datagram: Datagram, vip: string): Expected {
    const { source, destination, next, name } = datagram
    const note = this.#notes.get(name)
    if (note !== undefined) {
      this.#tally(`${datagram.family} fragment after its first`)
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
    const { port, lastPort } = only.want
    // A range is not looked for without a port.
    if (!only.goesByAddress || (port !== lastPort && port !== 0)) return just('DROP_FRAGMENT')
    this.#tally(`${datagram.family} fragment without its first`)
    const packet = { source, sourcePort: 0, destination, port: 0, syn: false, fin: false, rst: false }
    return this.#deliver(only, { ...packet, later: true, bytes: frame.length }, frame)
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
    if (service.asksForFlow(packet) && !this.rates.allows(service.name, service.want, packet.source)) {
      return just('DROP_RATE_LIMITED')
    }
    const { number, inserted, noted = false, full = false } = service.choose(packet)
    const life = service.lives.get(number ?? -1)
    return life === undefined
      ? { reason: full ? 'DROP_BACKENDS_FULL' : 'DROP_NO_BACKEND', inserted }
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
    if (path.kind === 'link' && path.interfaceSlot === GONE_SLOT) {
      return { reason: 'DROP_NO_EGRESS', inserted, backend: life.number }
    }
    life.packets++
    life.octets += bytes
    const reason = path.kind === 'local' ? 'PASS_LOCAL' : path.interfaceSlot === 0 ? 'TX_FORWARDED' : 'TX_REDIRECTED'
    const vlan = path.kind === 'link' ? path.vlan : undefined
    return { reason, inserted, backend: life.number, ...(vlan === undefined ? {} : { vlan }) }
  }
}
