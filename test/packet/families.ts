// SPDX-License-Identifier: Apache-2.0
// What differs between the families, so that one test states a rule for both: for (const { family, ... } of FAMILIES).
import { addressOctets, beforePort, type Family, familyOf } from '../../src/core/ip.ts'
import {
  CLIENT,
  CLIENT6,
  datagram,
  ETHERTYPE,
  type EthernetFields,
  EXTENSION,
  type Extension,
  extension,
  FRAGMENT,
  fragmentHeader,
  icmp6,
  icmpError,
  icmpFrame,
  ipv4,
  ipv6,
  PROTOCOL,
  packet6,
  type TransportFields,
  tcp,
  tcp6Frame,
  tcpFrame,
  udp,
  udp6Frame,
  udpFrame,
  VIP,
  VIP6,
} from './frames.ts'

/** What frames of both families have. */
export interface CommonFields extends EthernetFields, TransportFields {
  source?: string
  vip?: string
  protocol?: number
  padding?: number
  /** What `optional` and `piece` answer. */
  options?: Buffer
  fragment?: number
  identification?: number
  extensions?: readonly Extension[]
}

export interface Kit {
  family: Family
  VIP: string
  OTHER_VIP: string
  /** No service has it. */
  NO_VIP: string
  /** The VIPs as they stand before a port. */
  HOST: string
  OTHER_HOST: string
  /** A third one. */
  EVERY_VIP: string
  EVERY_HOST: string
  /** Of every frame that names no source. */
  CLIENT: string
  /** A client's address, another for each number from 0 to 65535. */
  source: (client: number) => string
  /** Fields of a header that has so many words more: options of IPv4, one extension header of IPv6. */
  optional: (words: number) => Pick<CommonFields, 'options' | 'extensions'>
  tcpFrame: (fields?: CommonFields) => Buffer
  udpFrame: (fields?: CommonFields) => Buffer
  /** `body` is what follows the IP header. */
  packet: (fields: CommonFields, body: Uint8Array) => Buffer
  /** Fields of a fragment's header. @param offset in octets, a multiple of eight */
  piece: (
    identification: number,
    offset: number,
    more: boolean,
  ) => Pick<CommonFields, 'fragment' | 'identification' | 'extensions'>
  /** The IP packet that a backend sent from the VIP, without a frame around it. */
  ip: (fields: CommonFields, body: Uint8Array) => Buffer
  /** An ICMP error that quotes `quoted`, in a frame. */
  errorFrame: (fields: CommonFields, error: { type: number; code: number }, quoted: Uint8Array) => Buffer
  /** Names of ICMP errors, as type and code. */
  errors: Readonly<Record<string, { type: number; code: number }>>
  /** ICMP messages that are none, by their types. */
  notErrors: Readonly<Record<string, number>>
  /** On a client's way. */
  ROUTER: string
  /** Octets of an IP header without options or extension headers. */
  headerBytes: number
  etherType: number
  /** An echo request to the VIP. */
  pingFrame: (fields?: CommonFields) => Buffer
  flowsPerBucket: number
  /** The flow table with so many places. */
  flowCapacity: (places: number) => { flows: number } | { flows6: number }
}

const OTHER_VIP = '192.0.2.11'
const OTHER_VIP6 = '2001:db8::11'

export const KITS: Readonly<Record<Family, Kit>> = {
  ipv4: {
    family: 'ipv4',
    VIP,
    OTHER_VIP,
    NO_VIP: '192.0.2.99',
    HOST: VIP,
    OTHER_HOST: OTHER_VIP,
    EVERY_VIP: '192.0.2.12',
    EVERY_HOST: '192.0.2.12',
    CLIENT,
    source: (client) => `203.0.${client >> 8}.${client & 255}`,
    optional: (words) => ({ options: Buffer.alloc(4 * words, 1) }),
    tcpFrame,
    udpFrame,
    packet: datagram,
    piece: (identification, offset, more) => ({ identification, fragment: offset / 8 + (more ? FRAGMENT.MORE : 0) }),
    ip: ipv4,
    errorFrame: (fields, { type, code }, quoted) =>
      datagram({ ...fields, protocol: PROTOCOL.ICMP }, icmpError(type, code, quoted)),
    errors: {
      'fragmentation needed': { type: 3, code: 4 },
      'host unreachable': { type: 3, code: 1 },
      'port unreachable': { type: 3, code: 3 },
      'time exceeded': { type: 11, code: 0 },
      'parameter problem': { type: 12, code: 0 },
    },
    notErrors: { 'a redirect': 5, 'a ping': 8, 'an answer to a ping': 0 },
    ROUTER: '203.0.113.254',
    headerBytes: 20,
    etherType: ETHERTYPE.IPV4,
    pingFrame: icmpFrame,
    flowsPerBucket: 4,
    flowCapacity: (flows) => ({ flows }),
  },
  ipv6: {
    family: 'ipv6',
    VIP: VIP6,
    OTHER_VIP: OTHER_VIP6,
    NO_VIP: '2001:db8::99',
    HOST: beforePort(VIP6),
    OTHER_HOST: beforePort(OTHER_VIP6),
    EVERY_VIP: '2001:db8::12',
    EVERY_HOST: '[2001:db8::12]',
    CLIENT: CLIENT6,
    source: (client) => `2001:db8:cc:${(client >> 8).toString(16)}::${(client & 255).toString(16)}`,
    optional: (words) => ({ extensions: [extension(EXTENSION.DESTINATION, words)] }),
    tcpFrame: tcp6Frame,
    udpFrame: udp6Frame,
    packet: packet6,
    piece: (identification, offset, more) => ({ extensions: [fragmentHeader(identification, offset, more)] }),
    ip: ipv6,
    errorFrame: (fields, { type, code }, quoted) =>
      packet6({ ...fields, protocol: PROTOCOL.ICMPV6 }, icmp6(type, code, quoted)),
    errors: {
      'no route to destination': { type: 1, code: 0 },
      'port unreachable': { type: 1, code: 4 },
      'packet too big': { type: 2, code: 0 },
      'time exceeded': { type: 3, code: 0 },
      'parameter problem': { type: 4, code: 1 },
    },
    notErrors: {
      'a message of type 0': 0,
      'a message of type 5': 5,
      'a ping': 128,
      'an answer to a ping': 129,
      'a router solicitation': 133,
      'a neighbour solicitation': 135,
      'a neighbour advertisement': 136,
      'a redirect': 137,
    },
    ROUTER: '2001:db8:ff::1',
    headerBytes: 40,
    etherType: ETHERTYPE.IPV6,
    pingFrame: (fields = {}) => packet6({ ...fields, protocol: PROTOCOL.ICMPV6 }, icmp6(128, 0, Buffer.alloc(8))),
    flowsPerBucket: 2,
    flowCapacity: (flows6) => ({ flows6 }),
  },
}

export const FAMILIES: readonly Kit[] = Object.values(KITS)

export const kitOf = (address: string): Kit => KITS[familyOf(address)]

/** An address in the octets that a frame has of it. */
export const octetsOf = (address: string): Uint8Array =>
  addressOctets(address).subarray(0, familyOf(address) === 'ipv4' ? 4 : 16)

/** TCP or UDP, as a whole packet's body. */
export const bodyOf = (protocol: 'tcp' | 'udp', fields: TransportFields): Buffer =>
  (protocol === 'tcp' ? tcp : udp)(fields)
