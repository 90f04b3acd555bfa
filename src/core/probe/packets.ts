// SPDX-License-Identifier: Apache-2.0
// Frames that ask: ARP and neighbour solicitations, echoes, the first segment of a connection, empty datagrams.
import { addressOctets, familyOf } from '../ip.ts'

/** Source ports of probes, and identifiers of their echoes: above Linux's own (net.ipv4.ip_local_port_range). */
export const PROBE_PORTS = { first: 61000, last: 65535 } as const

export const ETHERTYPE = { arp: 0x0806, ipv4: 0x0800, ipv6: 0x86dd, vlan: 0x8100 } as const
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const
export const TCP = { fin: 1, syn: 2, rst: 4, ack: 16 } as const

export const ETHERNET_BYTES = 14
export const ipBytes = (address: string): number => (familyOf(address) === 'ipv4' ? 20 : 40)
const ECHO_BYTES = 8

/** Between which MACs a frame goes, and with which tag. */
export interface Hop {
  source: string
  destination: string
  /** Absent: untagged. */
  vlan?: number
}

/** Between which addresses; both of one family. */
export interface Route {
  source: string
  destination: string
}

export interface PortedRoute extends Route {
  sourcePort: number
  destinationPort: number
}

const macOctets = (mac: string): number[] => mac.split(':').map((octet) => Number.parseInt(octet, 16))

const octetsOf = (address: string): Uint8Array =>
  addressOctets(address).subarray(0, familyOf(address) === 'ipv4' ? 4 : 16)

/** RFC 1071: the sum of 16-bit words, each carry added again. */
export const onesSum = (octets: Uint8Array, start = 0): number => {
  let sum = start
  for (let i = 0; i < octets.length; i += 2) sum += ((octets[i] ?? 0) << 8) | (octets[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  return sum
}

/** What TCP, UDP and ICMPv6 sum up before their own octets (RFC 9293 section 3.1, RFC 8200 section 8.1). */
export const pseudoSum = ({ source, destination }: Route, protocol: number, length: number): number =>
  onesSum(octetsOf(destination), onesSum(octetsOf(source), protocol + length))

const frame = ({ source, destination, vlan }: Hop, type: number, packet: Uint8Array): Uint8Array => {
  const tag = vlan === undefined ? [] : [ETHERTYPE.vlan >> 8, ETHERTYPE.vlan & 0xff, vlan >> 8, vlan & 0xff]
  const head = [...macOctets(destination), ...macOctets(source), ...tag, type >> 8, type & 0xff]
  const octets = new Uint8Array(head.length + packet.length)
  octets.set(head)
  octets.set(packet, head.length)
  return octets
}

const HOPS = 64

const ipv4 = (route: Route, protocol: number, payload: Uint8Array): Uint8Array => {
  const packet = new Uint8Array(20 + payload.length)
  const view = new DataView(packet.buffer)
  packet[0] = 0x45
  view.setUint16(2, packet.length)
  view.setUint16(6, 0x4000) // do not fragment
  packet[8] = HOPS
  packet[9] = protocol
  packet.set(octetsOf(route.source), 12)
  packet.set(octetsOf(route.destination), 16)
  view.setUint16(10, ~onesSum(packet.subarray(0, 20)) & 0xffff)
  packet.set(payload, 20)
  return packet
}

const ipv6 = (route: Route, protocol: number, payload: Uint8Array, hops = HOPS): Uint8Array => {
  const packet = new Uint8Array(40 + payload.length)
  packet[0] = 0x60
  new DataView(packet.buffer).setUint16(4, payload.length)
  packet[6] = protocol
  packet[7] = hops
  packet.set(octetsOf(route.source), 8)
  packet.set(octetsOf(route.destination), 24)
  packet.set(payload, 40)
  return packet
}

const ipFrame = (hop: Hop, route: Route, protocol: number, payload: Uint8Array): Uint8Array =>
  familyOf(route.destination) === 'ipv4'
    ? frame(hop, ETHERTYPE.ipv4, ipv4(route, protocol, payload))
    : frame(hop, ETHERTYPE.ipv6, ipv6(route, protocol, payload))

const setChecksum = (octets: Uint8Array, at: number, start: number): void => {
  const sum = ~onesSum(octets, start) & 0xffff
  new DataView(octets.buffer, octets.byteOffset).setUint16(at, sum)
}

/** `size` is that of the whole IP packet; as small as can be where it is left out. */
export const echoRequest = (
  hop: Hop,
  route: Route,
  { id, sequence, size = 0 }: { id: number; sequence: number; size?: number },
): Uint8Array => {
  const isIpv6 = familyOf(route.destination) === 'ipv6'
  const echo = new Uint8Array(Math.max(ECHO_BYTES, size - ipBytes(route.destination)))
  const view = new DataView(echo.buffer)
  echo[0] = isIpv6 ? 128 : 8
  view.setUint16(4, id)
  view.setUint16(6, sequence)
  setChecksum(echo, 2, isIpv6 ? pseudoSum(route, PROTOCOL.icmp6, echo.length) : 0)
  return ipFrame(hop, route, isIpv6 ? PROTOCOL.icmp6 : PROTOCOL.icmp, echo)
}

const segment = (hop: Hop, route: PortedRoute, flags: number, numbers: { sequence: number }): Uint8Array => {
  const octets = new Uint8Array(20)
  const view = new DataView(octets.buffer)
  view.setUint16(0, route.sourcePort)
  view.setUint16(2, route.destinationPort)
  view.setUint32(4, numbers.sequence)
  octets[12] = 5 << 4
  octets[13] = flags
  view.setUint16(14, 0xffff)
  setChecksum(octets, 16, pseudoSum(route, PROTOCOL.tcp, octets.length))
  return ipFrame(hop, route, PROTOCOL.tcp, octets)
}

/** Opens a connection. */
export const tcpSyn = (hop: Hop, route: PortedRoute, sequence: number): Uint8Array =>
  segment(hop, route, TCP.syn, { sequence })

/** Ends it again: `sequence` is what the other end has acknowledged (RFC 9293 section 3.10.7.4). */
export const tcpReset = (hop: Hop, route: PortedRoute, sequence: number): Uint8Array =>
  segment(hop, route, TCP.rst, { sequence })

/** Without data. */
export const udpDatagram = (hop: Hop, route: PortedRoute): Uint8Array => {
  const octets = new Uint8Array(8)
  const view = new DataView(octets.buffer)
  view.setUint16(0, route.sourcePort)
  view.setUint16(2, route.destinationPort)
  view.setUint16(4, octets.length)
  setChecksum(octets, 6, pseudoSum(route, PROTOCOL.udp, octets.length))
  // RFC 768: 0 would say that there is none.
  if (view.getUint16(6) === 0) view.setUint16(6, 0xffff)
  return ipFrame(hop, route, PROTOCOL.udp, octets)
}

const BROADCAST = 'ff:ff:ff:ff:ff:ff'

/** Who has `address`? Asked of all; `asker` is 0.0.0.0 where the interface has no address (RFC 5227 section 1.1). */
export const arpRequest = (mac: string, asker: string, address: string, vlan?: number): Uint8Array => {
  const packet = new Uint8Array(28)
  packet.set([0, 1, 8, 0, 6, 4, 0, 1, ...macOctets(mac)])
  packet.set(octetsOf(asker), 14)
  packet.set(octetsOf(address), 24)
  const hop = { source: mac, destination: BROADCAST, ...(vlan === undefined ? {} : { vlan }) }
  return frame(hop, ETHERTYPE.arp, packet)
}

/** The same of IPv6 (RFC 4861 section 4.3), asked of the solicited nodes. */
export const neighbourSolicitation = (mac: string, asker: string, address: string, vlan?: number): Uint8Array => {
  const target = octetsOf(address)
  const [a = 0, b = 0, c = 0] = target.subarray(13)
  const group = `ff02::1:ff${a.toString(16).padStart(2, '0')}:${((b << 8) | c).toString(16)}`
  // RFC 4861 section 4.3: asked by nobody's address it names no MAC, and is answered to all.
  const own = asker === '::' ? [] : [1, 1, ...macOctets(mac)]
  const solicitation = new Uint8Array(24 + own.length)
  solicitation[0] = 135
  solicitation.set(target, 8)
  solicitation.set(own, 24)
  const route = { source: asker, destination: group }
  setChecksum(solicitation, 2, pseudoSum(route, PROTOCOL.icmp6, solicitation.length))
  const hex = (octet: number) => octet.toString(16).padStart(2, '0')
  const hop = {
    source: mac,
    destination: `33:33:ff:${hex(a)}:${hex(b)}:${hex(c)}`,
    ...(vlan === undefined ? {} : { vlan }),
  }
  return frame(hop, ETHERTYPE.ipv6, ipv6(route, PROTOCOL.icmp6, solicitation, 255))
}

/** Whoever has `address` is asked for its MAC. `asker` undefined: by nobody's address, which IPv6 has for this too. */
export const whoHas = (mac: string, asker: string | undefined, address: string, vlan?: number): Uint8Array =>
  familyOf(address) === 'ipv4'
    ? arpRequest(mac, asker ?? '0.0.0.0', address, vlan)
    : neighbourSolicitation(mac, asker ?? '::', address, vlan)
