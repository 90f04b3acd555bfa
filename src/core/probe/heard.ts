// SPDX-License-Identifier: Apache-2.0
// What a frame that came in says to who has sent probes. Frames are anybody's octets: what is cut off or is no answer is nothing.
import { AF, readAddress } from '../ip.ts'
import { ETHERNET_BYTES, ETHERTYPE, type PortedRoute, PROTOCOL, type Route, TCP } from './packets.ts'

/** All but `neighbour` name the MAC that the frame came from. */
export type Heard =
  | { kind: 'neighbour'; address: string; mac: string }
  | ({ kind: 'echo'; mac: string; isReply: boolean; id: number; sequence: number } & Route)
  | ({ kind: 'tcp'; mac: string; flags: number; acknowledged: number; mss: number | undefined } & PortedRoute)
  | ({ kind: 'udp'; mac: string } & PortedRoute)
  /** An ICMP error: who says so, and the packet that it is about. `isPort`: nobody listens there. */
  | { kind: 'unreachable'; mac: string; says: string; isPort: boolean; about: PortedRoute & { protocol: number } }

const macText = (frame: Uint8Array, at: number): string =>
  Array.from(frame.subarray(at, at + 6), (octet) => octet.toString(16).padStart(2, '0')).join(':')

interface Packet extends Route {
  protocol: number
  /** Octet at which it begins. */
  at: number
}

const FRAGMENT_HEADER = 44
const FRAGMENT_OFFSET = 0x1fff

const readIpv4 = (view: DataView, at: number): Packet | undefined => {
  // A later fragment has no ports.
  if ((view.getUint16(at + 6) & FRAGMENT_OFFSET) !== 0) return undefined
  return {
    protocol: view.getUint8(at + 9),
    source: readAddress(view, at + 12, AF.ipv4),
    destination: readAddress(view, at + 16, AF.ipv4),
    at: at + (view.getUint8(at) & 0xf) * 4,
  }
}

const readIpv6 = (view: DataView, at: number): Packet | undefined => {
  const route = { source: readAddress(view, at + 8, AF.ipv6), destination: readAddress(view, at + 24, AF.ipv6) }
  const protocol = view.getUint8(at + 6)
  if (protocol !== FRAGMENT_HEADER) return { ...route, protocol, at: at + 40 }
  if (view.getUint16(at + 42) >> 3 !== 0) return undefined
  return { ...route, protocol: view.getUint8(at + 40), at: at + 48 }
}

const readPacket = (view: DataView, at: number, type: number): Packet | undefined => {
  if (type === ETHERTYPE.ipv4) return readIpv4(view, at)
  return type === ETHERTYPE.ipv6 ? readIpv6(view, at) : undefined
}

const ported = (view: DataView, { source, destination, at }: Packet): PortedRoute => ({
  source,
  destination,
  sourcePort: view.getUint16(at),
  destinationPort: view.getUint16(at + 2),
})

const MSS_OPTION = 2

/** RFC 9293 section 3.2: kind, length, value; two kinds have neither of the last. */
const mssOf = (view: DataView, at: number): number | undefined => {
  const end = at + (view.getUint8(at + 12) >> 4) * 4
  for (let option = at + 20; option < end; ) {
    const kind = view.getUint8(option)
    if (kind === 0) return undefined
    if (kind === MSS_OPTION) return view.getUint16(option + 2)
    option += kind === 1 ? 1 : Math.max(2, view.getUint8(option + 1))
  }
  return undefined
}

const readNeighbour = (view: DataView, frame: Uint8Array, { at }: { at: number }, mac: string): Heard => {
  const address = readAddress(view, at + 8, AF.ipv6)
  // Target link-layer address, the only option that comes first (RFC 4861 section 4.4).
  const isNamed = frame.length >= at + 32 && view.getUint8(at + 24) === 2
  return { kind: 'neighbour', address, mac: isNamed ? macText(frame, at + 26) : mac }
}

const PORT_UNREACHABLE = { icmp: 3, icmp6: 4 } as const

const readError = (view: DataView, packet: Packet, mac: string): Heard | undefined => {
  const isIpv6 = packet.protocol === PROTOCOL.icmp6
  const quoted = readPacket(view, packet.at + 8, isIpv6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4)
  if (quoted === undefined) return undefined
  return {
    kind: 'unreachable',
    mac,
    says: packet.source,
    isPort: view.getUint8(packet.at + 1) === (isIpv6 ? PORT_UNREACHABLE.icmp6 : PORT_UNREACHABLE.icmp),
    about: { ...ported(view, quoted), protocol: quoted.protocol },
  }
}

const readIcmp = (view: DataView, frame: Uint8Array, packet: Packet, mac: string): Heard | undefined => {
  const isIpv6 = packet.protocol === PROTOCOL.icmp6
  const type = view.getUint8(packet.at)
  if (type === (isIpv6 ? 1 : 3)) return readError(view, packet, mac)
  if (isIpv6 && type === 136) return readNeighbour(view, frame, packet, mac)
  const isReply = type === (isIpv6 ? 129 : 0)
  if (!isReply && type !== (isIpv6 ? 128 : 8)) return undefined
  const { source, destination, at } = packet
  const [id, sequence] = [view.getUint16(at + 4), view.getUint16(at + 6)]
  return { kind: 'echo', mac, isReply, id, sequence, source, destination }
}

const readIp = (view: DataView, frame: Uint8Array, packet: Packet, mac: string): Heard | undefined => {
  switch (packet.protocol) {
    case PROTOCOL.icmp:
    case PROTOCOL.icmp6:
      return readIcmp(view, frame, packet, mac)
    case PROTOCOL.udp:
      return { kind: 'udp', mac, ...ported(view, packet) }
    case PROTOCOL.tcp: {
      const flags = view.getUint8(packet.at + 13)
      const opens = (flags & (TCP.syn | TCP.ack)) === (TCP.syn | TCP.ack)
      return {
        kind: 'tcp',
        mac,
        flags,
        acknowledged: view.getUint32(packet.at + 8),
        mss: opens ? mssOf(view, packet.at) : undefined,
        ...ported(view, packet),
      }
    }
    default:
      return undefined
  }
}

const readArp = (view: DataView, frame: Uint8Array): Heard => ({
  kind: 'neighbour',
  address: readAddress(view, ETHERNET_BYTES + 14, AF.ipv4),
  mac: macText(frame, ETHERNET_BYTES + 8),
})

/** @param frame untagged, or its start */
export const readHeard = (frame: Uint8Array): Heard | undefined => {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  try {
    const type = view.getUint16(12)
    if (type === ETHERTYPE.arp) return readArp(view, frame)
    const packet = readPacket(view, ETHERNET_BYTES, type)
    return packet && readIp(view, frame, packet, macText(frame, 6))
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** The records of RawSocket.read. */
export function* framesOf(batch: Uint8Array): Generator<{ ifindex: number; frame: Uint8Array }> {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.length)
  for (let at = 0; at < batch.length; ) {
    const length = view.getUint32(at + 4, true)
    yield { ifindex: view.getUint32(at, true), frame: batch.subarray(at + 8, at + 8 + length) }
    at += 8 + ((length + 7) & ~7)
  }
}
