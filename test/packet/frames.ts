// SPDX-License-Identifier: Apache-2.0
// Frames, octet by octet. Every field can be given a value that contradicts the rest: malformed frames are cases too.
import { addressOctets, parseIpv4 } from '../../src/core/ip.ts'

export const TCP = { FIN: 0x01, SYN: 0x02, RST: 0x04, PSH: 0x08, ACK: 0x10, URG: 0x20 } as const
export const ETHERTYPE = { IPV4: 0x0800, ARP: 0x0806, VLAN: 0x8100, IPV6: 0x86dd, QINQ: 0x88a8 } as const
export const PROTOCOL = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const
/** IPv6 extension headers: RFC 8200 section 4, RFC 4302. */
export const EXTENSION = {
  HOP_BY_HOP: 0,
  ROUTING: 43,
  FRAGMENT: 44,
  AUTHENTICATION: 51,
  NONE: 59,
  DESTINATION: 60,
} as const
export const FRAGMENT = { DONT: 0x4000, MORE: 0x2000 } as const

/** The interface that the program under test is attached to, and the VIP of most cases. */
export const OWN_MAC = '02:00:00:00:00:01'
export const CLIENT_MAC = '02:cc:00:00:00:01'
export const VIP = '192.0.2.10'
export const CLIENT = '203.0.113.5'
export const VIP6 = '2001:db8::10'
export const CLIENT6 = '2001:db8:cc::5'

export interface Tag {
  type: number
  id: number
}

export interface EthernetFields {
  destination?: string
  sourceMac?: string
  tags?: readonly Tag[]
  etherType?: number
}

export interface Ipv4Fields {
  source?: string
  vip?: string
  protocol?: number
  version?: number
  /** Header length in words, as the header says it; the octets of `options` are there all the same. */
  ihl?: number
  totalLength?: number
  /** Flags and offset: the whole 16 bits. */
  fragment?: number
  options?: Buffer
  identification?: number
  ttl?: number
}

export interface TransportFields {
  sourcePort?: number
  port?: number
  /** TCP flags; SYN where none are given. */
  flags?: number
  payload?: Buffer
}

/** An extension header as it stands before the next one: its own number, and what follows the octet that names the next. */
export interface Extension {
  header: number
  rest: Buffer
}

export interface Ipv6Fields {
  source?: string
  vip?: string
  version?: number
  payloadLength?: number
  extensions?: readonly Extension[]
  /** What the last header, or the IPv6 header itself, says comes next. */
  protocol?: number
  hopLimit?: number
}

/** Octets after the datagram, as Ethernet adds them up to its smallest frame. */
export interface FrameFields extends EthernetFields, Ipv4Fields, TransportFields {
  padding?: number
}

export const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex')

export const ethernet = (fields: EthernetFields, payload: Uint8Array): Buffer => {
  const tags = (fields.tags ?? []).map(({ type, id }) => u16s(type, id))
  // Each tag is TPID and control; the EtherType of what it carries follows the last.
  const type = u16s(fields.etherType ?? ETHERTYPE.IPV4)
  return Buffer.concat([
    macBytes(fields.destination ?? OWN_MAC),
    macBytes(fields.sourceMac ?? CLIENT_MAC),
    ...tags,
    type,
    payload,
  ])
}

export const u16s = (...words: number[]): Buffer => {
  const bytes = Buffer.alloc(words.length * 2)
  words.forEach((word, i) => {
    bytes.writeUInt16BE(word, i * 2)
  })
  return bytes
}

const headerChecksum = (header: Buffer): number => {
  let sum = 0
  for (let at = 0; at + 1 < header.length; at += 2) sum += header.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

export const ipv4 = (fields: Ipv4Fields, payload: Uint8Array): Buffer => {
  const options = fields.options ?? Buffer.alloc(0)
  const header = Buffer.concat([Buffer.alloc(20), options])
  header[0] = ((fields.version ?? 4) << 4) | (fields.ihl ?? header.length / 4)
  header.writeUInt16BE(fields.totalLength ?? header.length + payload.length, 2)
  header.writeUInt16BE(fields.identification ?? 0x1234, 4)
  header.writeUInt16BE(fields.fragment ?? FRAGMENT.DONT, 6)
  header[8] = fields.ttl ?? 64
  header[9] = fields.protocol ?? PROTOCOL.TCP
  header.writeUInt32BE(parseIpv4(fields.source ?? CLIENT) ?? 0, 12)
  header.writeUInt32BE(parseIpv4(fields.vip ?? VIP) ?? 0, 16)
  header.writeUInt16BE(headerChecksum(header), 10)
  return Buffer.concat([header, payload])
}

/** An extension header of `words` times eight octets, filled up with zeros. */
export const extension = (header: number, words = 1): Extension => {
  const rest = Buffer.alloc(8 * words - 1)
  // AH counts words of four octets, less two; all others words of eight, less one.
  rest[0] = header === EXTENSION.AUTHENTICATION ? 2 * words - 2 : words - 1
  return { header, rest }
}

/** @param offset of the fragment's data in octets, a multiple of eight */
export const fragmentHeader = (identification: number, offset: number, more: boolean): Extension => {
  const rest = Buffer.alloc(7)
  rest.writeUInt16BE(offset | (more ? 1 : 0), 1)
  rest.writeUInt32BE(identification, 3)
  return { header: EXTENSION.FRAGMENT, rest }
}

export const ipv6 = (fields: Ipv6Fields, payload: Uint8Array): Buffer => {
  const extensions = fields.extensions ?? []
  const last = fields.protocol ?? PROTOCOL.TCP
  const following = [...extensions.map(({ header }) => header), last]
  const chain = extensions.map(({ rest }, i) => Buffer.concat([Buffer.from([following[i + 1] ?? last]), rest]))
  const body = Buffer.concat([...chain, payload])
  const header = Buffer.alloc(40)
  header[0] = (fields.version ?? 6) << 4
  header.writeUInt16BE(fields.payloadLength ?? body.length, 4)
  header[6] = following[0] ?? last
  header[7] = fields.hopLimit ?? 64
  header.set(addressOctets(fields.source ?? CLIENT6), 8)
  header.set(addressOctets(fields.vip ?? VIP6), 24)
  return Buffer.concat([header, body])
}

export const tcp = (fields: TransportFields): Buffer => {
  const header = Buffer.alloc(20)
  header.writeUInt16BE(fields.sourcePort ?? 40000, 0)
  header.writeUInt16BE(fields.port ?? 80, 2)
  header.writeUInt32BE(0x01020304, 4)
  header[12] = 5 << 4
  header[13] = fields.flags ?? TCP.SYN
  header.writeUInt16BE(0xfaf0, 14)
  return Buffer.concat([header, fields.payload ?? Buffer.alloc(0)])
}

export const udp = (fields: TransportFields): Buffer => {
  const payload = fields.payload ?? Buffer.alloc(0)
  return Buffer.concat([u16s(fields.sourcePort ?? 40000, fields.port ?? 53, 8 + payload.length, 0), payload])
}

/** Any IPv4 datagram over a frame; `body` is what follows the IPv4 header and its options. */
export const datagram = (fields: FrameFields, body: Uint8Array): Buffer =>
  Buffer.concat([ethernet(fields, ipv4(fields, body)), Buffer.alloc(fields.padding ?? 0, 0xee)])

export const tcpFrame = (fields: FrameFields = {}): Buffer => datagram(fields, tcp(fields))

export const udpFrame = (fields: FrameFields = {}): Buffer =>
  datagram({ ...fields, protocol: fields.protocol ?? PROTOCOL.UDP }, udp(fields))

export const icmpFrame = (fields: FrameFields = {}): Buffer =>
  datagram({ ...fields, protocol: fields.protocol ?? PROTOCOL.ICMP }, Buffer.from('0800f7ff00000000', 'hex'))

export interface Frame6Fields extends EthernetFields, Ipv6Fields, TransportFields {
  padding?: number
}

/** Any IPv6 packet over a frame; `body` is what follows the IPv6 header and its extensions. */
export const packet6 = (fields: Frame6Fields, body: Uint8Array): Buffer =>
  Buffer.concat([
    ethernet({ etherType: ETHERTYPE.IPV6, ...fields }, ipv6(fields, body)),
    Buffer.alloc(fields.padding ?? 0, 0xee),
  ])

export const tcp6Frame = (fields: Frame6Fields = {}): Buffer => packet6(fields, tcp(fields))

export const udp6Frame = (fields: Frame6Fields = {}): Buffer =>
  packet6({ ...fields, protocol: fields.protocol ?? PROTOCOL.UDP }, udp(fields))

/** RFC 4443: any message; an error quotes the packet that it is about after eight octets. */
export const icmp6 = (type: number, code: number, body: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([type, code, 0, 0, 0, 0, 0, 0]), body])

/** RFC 792: an error's type and code, then what it quotes of the datagram that it is about. */
export const icmpError = (type: number, code: number, quoted: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([type, code, 0, 0, 0, 0, 0, 0]), quoted])

/**
 * The frame in another segment: the innermost of at most two tags is the segment's. It gets another id, goes, or comes; what it
 * says beside the id stays. Undefined: untagged.
 */
export const inSegment = (frame: Uint8Array, vlan: number | undefined): Buffer => {
  const bytes = Buffer.from(frame)
  const isTag = (at: number): boolean =>
    bytes.readUInt16BE(at) === ETHERTYPE.VLAN || bytes.readUInt16BE(at) === ETHERTYPE.QINQ
  const at = isTag(12) ? (isTag(16) ? 16 : 12) : undefined
  const [head, tail] = [bytes.subarray(0, at ?? 12), bytes.subarray(at === undefined ? 12 : at + 4)]
  if (vlan === undefined) return Buffer.concat([head, tail])
  if (at === undefined) return Buffer.concat([head, u16s(ETHERTYPE.VLAN, vlan), tail])
  return Buffer.concat([head, u16s(bytes.readUInt16BE(at), (bytes.readUInt16BE(at + 2) & 0xf000) | vlan), tail])
}

/** The frame as it has to leave: the two MACs differ, no other octet. */
export const rewritten = (frame: Uint8Array, destination: string, source: string): Buffer =>
  Buffer.concat([macBytes(destination), macBytes(source), frame.subarray(12)])
