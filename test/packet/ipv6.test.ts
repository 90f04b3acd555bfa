// SPDX-License-Identifier: Apache-2.0
// IPv6: header and extension headers. What holds for both families is tested for both elsewhere (families.ts).
import test from 'ava'
import {
  CLIENT_MAC,
  ETHERTYPE,
  EXTENSION,
  type Extension,
  ethernet,
  extension,
  type Frame6Fields,
  fragmentHeader,
  icmp6,
  ipv6,
  OWN_MAC,
  PROTOCOL,
  packet6,
  tcp,
  tcp6Frame,
  udp,
  udp6Frame,
  VIP6,
} from './frames.ts'
import { Balancer } from './plane.ts'
import { type Case, testTable } from './table.ts'

const balancer = new Balancer()
balancer.add(`tcp://[${VIP6}]:80`, { scheduler: 'mh' }, { 1: {} })
balancer.add(`udp://[${VIP6}]:*`, { scheduler: 'sh' }, { 3: {} })
test.after.always(() => balancer.close())

const toStack = (name: string, frame: Buffer, reason: Case['reason']): Case => ({ name, frame, goes: 'stack', reason })
const dropped = (name: string, frame: Buffer, reason: Case['reason']): Case => ({
  name,
  frame,
  goes: 'nowhere',
  reason,
})
const balanced = (name: string, frame: Buffer, goes = 1): Case => ({ name, frame, goes, reason: 'TX_FORWARDED' })

const { HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, NONE, DESTINATION } = EXTENSION
const KINDS = { 'hop-by-hop': HOP_BY_HOP, routing: ROUTING, destination: DESTINATION, authentication: AUTHENTICATION }
const FRAGMENT_HEADER_BYTES = 8
/** Octets before what follows the IPv6 header. */
const BEFORE = 14 + 40

const chain = (count: number, kind: number = DESTINATION): Extension[] =>
  Array.from({ length: count }, () => extension(kind))
const behind = (...extensions: Extension[]): Frame6Fields => ({ extensions })
/** A header that says it has so many units beyond its first eight octets, and has `octets` in all. */
const lying = (header: number, units: number, octets: number): Extension => {
  const rest = Buffer.alloc(octets - 1)
  rest[0] = units
  return { header, rest }
}
/** What a source sends that has cut nothing off, with so many of its octets replaced by padding. */
const short = (fields: Frame6Fields, octets: number): Buffer => {
  const whole = tcp6Frame(fields)
  return tcp6Frame({ ...fields, payloadLength: whole.length - BEFORE - octets })
}
const ping = (fields: Frame6Fields = {}): Buffer =>
  packet6({ ...fields, protocol: PROTOCOL.ICMPV6 }, icmp6(128, 0, Buffer.alloc(8)))
const solicitation = (destination: string, vip: string): Buffer =>
  packet6({ destination, vip, protocol: PROTOCOL.ICMPV6, hopLimit: 255 }, icmp6(135, 0, Buffer.alloc(24)))

const addresses: Case[] = [
  toStack('what is for no VIP is left to the stack', tcp6Frame({ vip: '2001:db8::11' }), 'PASS_NOT_VIP'),
  toStack(
    'one bit of the lower half makes another address',
    tcp6Frame({ vip: '2001:db8::8000:0:0:10' }),
    'PASS_NOT_VIP',
  ),
  toStack('one bit of the upper half makes another address', tcp6Frame({ vip: '2001:db9::10' }), 'PASS_NOT_VIP'),
  toStack('with its halves exchanged it is another address', tcp6Frame({ vip: '::10:2001:db8:0:0' }), 'PASS_NOT_VIP'),
  toStack('the unspecified address, which marks a free place, is no VIP', tcp6Frame({ vip: '::' }), 'PASS_NOT_VIP'),
  toStack('nor is it for a datagram', udp6Frame({ vip: '::' }), 'PASS_NOT_VIP'),
  toStack('nor behind extension headers', tcp6Frame({ vip: '::', ...behind(extension(ROUTING)) }), 'PASS_NOT_VIP'),
  toStack('nor is it of a fragment', tcp6Frame({ vip: '::', ...behind(fragmentHeader(1, 8, true)) }), 'PASS_NOT_VIP'),
  toStack('the loopback address is no VIP', tcp6Frame({ vip: '::1' }), 'PASS_NOT_VIP'),
  toStack('a multicast address is no VIP', tcp6Frame({ vip: 'ff02::1' }), 'PASS_NOT_VIP'),
  toStack(
    'a VIP as the source alone is none of ours',
    tcp6Frame({ source: VIP6, vip: '2001:db8::99' }),
    'PASS_NOT_VIP',
  ),
  toStack(
    'what is for no VIP may be as malformed as it likes',
    tcp6Frame({ vip: '2001:db8::11', version: 3, payloadLength: 9999 }),
    'PASS_NOT_VIP',
  ),
  toStack(
    'and may have as many extension headers as it likes',
    tcp6Frame({ vip: '2001:db8::11', extensions: chain(12) }),
    'PASS_NOT_VIP',
  ),
  toStack('a port of a VIP without a service is left to the stack', tcp6Frame({ port: 81 }), 'PASS_NO_SERVICE'),
  toStack(
    'so it is behind extension headers',
    tcp6Frame({ port: 81, ...behind(extension(DESTINATION)) }),
    'PASS_NO_SERVICE',
  ),
  balanced('a link-local client is a client', tcp6Frame({ source: 'fe80::5' })),
  balanced('a client that is an IPv4 one mapped is a client', tcp6Frame({ source: '::ffff:203.0.113.5' })),
  balanced('the unspecified address as the source is balanced like any other', tcp6Frame({ source: '::' })),
  balanced('so is the VIP itself', tcp6Frame({ source: VIP6 })),
]

const headers: Case[] = [
  ...[0, 4, 5, 7, 15].flatMap((version) => [
    dropped(`version ${version} under IPv6's EtherType is malformed`, tcp6Frame({ version }), 'DROP_MALFORMED'),
    dropped(`so it is in a datagram: version ${version}`, udp6Frame({ version }), 'DROP_MALFORMED'),
  ]),
  balanced('the smallest hop limit is sent on: the real server is on the same link', tcp6Frame({ hopLimit: 1 })),
  balanced('a hop limit of 0 is the real server’s to judge', tcp6Frame({ hopLimit: 0 })),
  balanced('traffic class and flow label make no difference', withLabel(tcp6Frame())),
  dropped('a payload that the frame does not hold is malformed', tcp6Frame({ payloadLength: 21 }), 'DROP_MALFORMED'),
  dropped('so is the greatest payload length', tcp6Frame({ payloadLength: 65535 }), 'DROP_MALFORMED'),
  dropped('a payload that ends within the TCP header', tcp6Frame({ payloadLength: 19 }), 'DROP_TRUNCATED'),
  dropped('a payload that ends behind the ports', tcp6Frame({ payloadLength: 8 }), 'DROP_TRUNCATED'),
  dropped('a payload of one octet', tcp6Frame({ payloadLength: 1 }), 'DROP_TRUNCATED'),
  dropped('a payload length of 0, as a jumbogram has', tcp6Frame({ payloadLength: 0 }), 'DROP_TRUNCATED'),
  dropped(
    'a jumbogram with its option (RFC 2675)',
    tcp6Frame({ payloadLength: 0, ...behind({ header: HOP_BY_HOP, rest: Buffer.from('00c20400010000', 'hex') }) }),
    'DROP_TRUNCATED',
  ),
  dropped('a UDP payload that ends within its header', udp6Frame({ payloadLength: 7 }), 'DROP_TRUNCATED'),
  balanced(
    'a payload that ends with the TCP header, data behind it',
    tcp6Frame({ payloadLength: 20, payload: Buffer.alloc(9) }),
  ),
  balanced('padding behind the packet is sent on', tcp6Frame({ padding: 6 })),
  balanced('much padding behind the packet is sent on', tcp6Frame({ padding: 1000 })),
  balanced('a full frame is sent on whole', tcp6Frame({ payload: Buffer.alloc(1440, 0x5a) })),
  balanced('a datagram shorter than a TCP header', udp6Frame({ payload: Buffer.alloc(3) }), 3),
  balanced(
    'a datagram with two tags',
    udp6Frame({
      tags: [
        { type: 0x88a8, id: 1 },
        { type: 0x8100, id: 2 },
      ],
    }),
    3,
  ),
]

/** A flow label of all bits, and a traffic class. */
function withLabel(frame: Buffer): Buffer {
  frame.writeUInt32BE(0x6fffffff, 14)
  return frame
}

const extensions: Case[] = [
  ...Object.entries(KINDS).flatMap(([name, kind]) => [
    balanced(`a ${name} header before TCP is stepped over`, tcp6Frame(behind(extension(kind)))),
    balanced(`a ${name} header before UDP is stepped over`, udp6Frame(behind(extension(kind))), 3),
    balanced(
      `a ${name} header behind a VLAN tag is stepped over`,
      tcp6Frame({ tags: [{ type: 0x8100, id: 7 }], ...behind(extension(kind)) }),
    ),
    balanced(`a long ${name} header is stepped over`, tcp6Frame(behind(extension(kind, 20)))),
    toStack(`a ping behind a ${name} header is left to the stack`, ping(behind(extension(kind))), 'PASS_NOT_BALANCED'),
    ...[0, 1, 2, 4, 7].map((octets) =>
      dropped(
        `a frame that ends ${octets} octets into a ${name} header`,
        shortened(tcp6Frame(behind(extension(kind))), BEFORE + octets),
        'DROP_TRUNCATED',
      ),
    ),
    dropped(
      `a ${name} header that says it goes beyond the frame`,
      tcp6Frame(behind(lying(kind, 200, 8))),
      'DROP_TRUNCATED',
    ),
    dropped(
      `a ${name} header that says it ends with the frame`,
      tcp6Frame(behind(lying(kind, kind === AUTHENTICATION ? 5 : 2, 8))),
      'DROP_TRUNCATED',
    ),
    dropped(
      `a ${name} header that the packet holds half, and padding the rest`,
      packet6({ ...behind(extension(kind)), payloadLength: 4 }, tcp({})),
      'DROP_TRUNCATED',
    ),
    dropped(
      `a ${name} header behind the end of its packet`,
      packet6({ ...behind(extension(kind)), payloadLength: 0 }, tcp({})),
      'DROP_TRUNCATED',
    ),
    dropped(`TCP behind a ${name} header, its last octet padding`, short(behind(extension(kind)), 1), 'DROP_TRUNCATED'),
    toStack(
      `no next header, behind a ${name} header`,
      packet6({ ...behind(extension(kind)), protocol: NONE }, Buffer.alloc(0)),
      'PASS_NOT_BALANCED',
    ),
  ]),
  // RFC 4302 section 2.2: its length is in words of four octets, less two; every other header's in words of eight, less one.
  ...[1, 2, 3, 4, 5, 7, 30].map((units) =>
    balanced(
      `an authentication header of ${8 + 4 * units} octets`,
      tcp6Frame(behind(lying(AUTHENTICATION, units, 8 + 4 * units))),
    ),
  ),
  ...[0, 1, 2, 3, 30].map((units) =>
    balanced(
      `a destination header of ${8 + 8 * units} octets`,
      tcp6Frame(behind(lying(DESTINATION, units, 8 + 8 * units))),
    ),
  ),
  balanced(
    'every kind in the order of RFC 8200 section 4.1',
    tcp6Frame(
      behind(
        extension(HOP_BY_HOP),
        extension(DESTINATION),
        extension(ROUTING, 3),
        fragmentHeader(1, 0, false),
        extension(AUTHENTICATION, 2),
        extension(DESTINATION, 2),
      ),
    ),
  ),
  balanced(
    'and in another order',
    tcp6Frame(behind(extension(AUTHENTICATION, 3), extension(ROUTING), extension(HOP_BY_HOP))),
  ),
  ...[2, 7, 8].flatMap((count) => [
    balanced(`${count} extension headers before TCP are walked`, tcp6Frame({ extensions: chain(count) })),
    balanced(`${count} extension headers before UDP are walked`, udp6Frame({ extensions: chain(count, ROUTING) }), 3),
  ]),
  balanced(
    'eight of the greatest length that a frame has room for',
    tcp6Frame({ extensions: Array.from({ length: 8 }, () => extension(DESTINATION, 20)) }),
  ),
  ...[9, 10, 30].flatMap((count) => [
    dropped(`${count} extension headers are not walked`, tcp6Frame({ extensions: chain(count) }), 'DROP_EXTENSIONS'),
    dropped(`nor in front of UDP: ${count}`, udp6Frame({ extensions: chain(count) }), 'DROP_EXTENSIONS'),
    dropped(
      `nor in front of a ping, which may be one of anything: ${count}`,
      ping({ extensions: chain(count) }),
      'DROP_EXTENSIONS',
    ),
  ]),
  dropped(
    'an atomic fragment header is one of the eight',
    tcp6Frame({ extensions: [...chain(8), fragmentHeader(1, 0, false)] }),
    'DROP_EXTENSIONS',
  ),
  dropped(
    'nine of which the frame holds eight',
    shortened(tcp6Frame({ extensions: chain(9) }), BEFORE + 8 * 8),
    'DROP_EXTENSIONS',
  ),
  dropped(
    'nine of which the frame holds six',
    shortened(tcp6Frame({ extensions: chain(9) }), BEFORE + 8 * 6),
    'DROP_TRUNCATED',
  ),
  ...[HOP_BY_HOP, 50, 112, 132, 135, 139, 140, 253, 255]
    .slice(1)
    .map((protocol) =>
      toStack(`next header ${protocol} is left to the stack`, packet6({ protocol }, tcp({})), 'PASS_NOT_BALANCED'),
    ),
  toStack('no next header', packet6({ protocol: NONE }, Buffer.alloc(0)), 'PASS_NOT_BALANCED'),
  toStack(
    'IPv4’s ICMP is none of IPv6’s',
    packet6({ protocol: PROTOCOL.ICMP }, icmp6(3, 4, Buffer.alloc(60))),
    'PASS_NOT_BALANCED',
  ),
  toStack('a packet within a packet', packet6({ protocol: 41 }, ipv6({}, tcp({}))), 'PASS_NOT_BALANCED'),
]

const atomic: Case[] = [
  balanced(
    'a fragment that is the only one is a whole packet (RFC 6946)',
    tcp6Frame(behind(fragmentHeader(1, 0, false))),
  ),
  balanced('so it is of UDP', udp6Frame(behind(fragmentHeader(1, 0, false))), 3),
  balanced('whatever its reserved bits say', tcp6Frame(behind(reserved(fragmentHeader(0xffffffff, 0, false))))),
  balanced('two of them', tcp6Frame(behind(fragmentHeader(1, 0, false), fragmentHeader(2, 0, false)))),
  toStack('a ping in one', ping(behind(fragmentHeader(1, 0, false))), 'PASS_NOT_BALANCED'),
  dropped(
    'one whose TCP header is cut off',
    packet6(behind(fragmentHeader(1, 0, false)), tcp({}).subarray(0, 19)),
    'DROP_TRUNCATED',
  ),
  ...[0, 3, 7].map((octets) =>
    dropped(
      `a frame that ends ${octets} octets into a fragment header`,
      shortened(tcp6Frame(behind(fragmentHeader(1, 0, false))), BEFORE + octets),
      'DROP_TRUNCATED',
    ),
  ),
  dropped(
    'a fragment header that is padding',
    packet6({ ...behind(fragmentHeader(1, 800, true)), payloadLength: FRAGMENT_HEADER_BYTES - 1 }, tcp({})),
    'DROP_TRUNCATED',
  ),
]

/** RFC 8200 section 4.5: an octet and two bits that are ignored. */
function reserved(header: Extension): Extension {
  const rest = Buffer.from(header.rest)
  rest[0] = 0xff
  rest[2] = (rest[2] ?? 0) | 6
  return { header: FRAGMENT, rest }
}

/** Cut off behind so many octets, and the payload length says so. */
function shortened(frame: Buffer, octets: number): Buffer {
  const cut = Buffer.from(frame.subarray(0, octets))
  cut.writeUInt16BE(Math.max(0, octets - BEFORE), 14 + 4)
  return cut
}

const messages: Case[] = [
  toStack('a ping of a VIP is left to the stack', ping(), 'PASS_NOT_BALANCED'),
  toStack('a neighbour solicitation for a VIP, to this host’s MAC', solicitation(OWN_MAC, VIP6), 'PASS_NOT_BALANCED'),
  toStack(
    'a neighbour solicitation for a VIP, to its multicast group',
    solicitation('33:33:ff:00:00:10', 'ff02::1:ff00:10'),
    'PASS_OTHER_MAC',
  ),
  toStack(
    'a neighbour advertisement',
    packet6({ protocol: PROTOCOL.ICMPV6 }, icmp6(136, 0, Buffer.alloc(24))),
    'PASS_NOT_BALANCED',
  ),
  toStack('an empty ICMPv6 message', packet6({ protocol: PROTOCOL.ICMPV6 }, Buffer.alloc(0)), 'PASS_NOT_BALANCED'),
  dropped(
    'an ICMPv6 message with a payload that the frame does not hold',
    ping({ payloadLength: 200 }),
    'DROP_MALFORMED',
  ),
  toStack(
    'an IPv6 header in a frame of IPv4',
    ethernet({ etherType: ETHERTYPE.IPV4 }, ipv6({}, tcp({}))),
    'PASS_NOT_VIP',
  ),
  toStack('a frame from another MAC’s owner for another MAC', tcp6Frame({ destination: CLIENT_MAC }), 'PASS_OTHER_MAC'),
  balanced('a UDP checksum of 0 is the real server’s to judge (RFC 6935)', udp6Frame({ payload: udp({}) }), 3),
]

testTable(() => balancer, [...addresses, ...headers, ...extensions, ...atomic, ...messages], 'ipv6')
