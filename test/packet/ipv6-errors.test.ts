// SPDX-License-Identifier: Apache-2.0
// ICMPv6 errors (RFC 4443), of which both what carries them and what they quote may have extension headers. What holds for both
// families is in icmp.test.ts.
import test from 'ava'
import {
  EXTENSION,
  extension,
  type Frame6Fields,
  fragmentHeader,
  type Ipv6Fields,
  icmp6,
  ipv6,
  PROTOCOL,
  packet6,
  TCP,
  tcp,
  udp,
  VIP6,
} from './frames.ts'
import { Balancer } from './plane.ts'
import { type Case, testTable } from './table.ts'

const balancer = new Balancer()
balancer.add(`tcp://[${VIP6}]:80`, { scheduler: 'mh' }, { 1: {} })
balancer.add(`udp://[${VIP6}]:53`, { scheduler: 'mh' }, { 2: {} })
balancer.add('tcp://[2001:db8::20]:80', { scheduler: 'mh' }, { 3: {} })
test.after.always(() => balancer.close())

const ROUTER = '2001:db8:ff::1'
const CLIENT = '2001:db8:cc::5'
const { HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION } = EXTENSION

interface ErrorFields {
  type?: number
  code?: number
  inner?: Ipv6Fields
  outer?: Frame6Fields
  /** What the backend sent behind IPv6 and extension headers. */
  sent?: Buffer
  /** So many octets of what the backend sent are left out at the end. */
  cut?: number
}

const SEGMENT = tcp({ sourcePort: 80, port: 40000, flags: TCP.ACK })
const DATAGRAM = udp({ sourcePort: 53, port: 40000 })

const error = ({ type = 2, code = 0, inner = {}, outer = {}, sent = SEGMENT, cut = 0 }: ErrorFields): Buffer => {
  const quoted = ipv6({ source: VIP6, vip: CLIENT, ...inner }, sent)
  const body = icmp6(type, code, quoted.subarray(0, quoted.length - cut))
  return packet6({ source: ROUTER, protocol: PROTOCOL.ICMPV6, ...outer }, body)
}

const followed = (name: string, fields: ErrorFields, goes = 1): Case => ({
  name,
  frame: error(fields),
  goes,
  reason: 'TX_FORWARDED',
})
const left = (name: string, fields: ErrorFields, reason: Case['reason'] = 'PASS_NOT_BALANCED'): Case => ({
  name,
  frame: error(fields),
  goes: 'stack',
  reason,
})
const udpInner = { protocol: PROTOCOL.UDP }
const chain = (count: number) => Array.from({ length: count }, () => extension(DESTINATION))

testTable(
  () => balancer,
  [
    ...[1, 2, 3, 4].flatMap((type) => [
      followed(`an error of type ${type} about TCP goes to its backend`, { type }),
      followed(`an error of type ${type} about UDP goes to its backend`, { type, sent: DATAGRAM, inner: udpInner }, 2),
    ]),
    followed('a code that nobody knows makes no difference', { code: 200 }),
    ...[0, 5, 100, 127, 128, 130, 135, 255].map((type) => left(`a message of type ${type} is no error`, { type })),
    ...[8, 9, 19, 20].map((octets) =>
      followed(`${octets} quoted octets of TCP are enough`, { cut: SEGMENT.length - octets }),
    ),
    ...[0, 1, 4, 7].map((octets) =>
      left(`${octets} quoted octets of TCP are too few`, { cut: SEGMENT.length - octets }),
    ),
    left('with padding either', { cut: SEGMENT.length - 7, outer: { padding: 20 } }),
    left('a quoted port that the payload length leaves out', { outer: { payloadLength: 8 + 40 + 7 } }),
    followed('a quote that ends with the payload length', { outer: { payloadLength: 8 + 40 + 8 } }),
    left('a quote that ends within the IPv6 header', { cut: SEGMENT.length + 1 }),
    left('a quote of nothing', { cut: SEGMENT.length + 40 }),
    left('an error without its own header whole', { outer: { payloadLength: 7 } }),
    left('a quote of another version', { inner: { version: 4 } }),
    left('a quote of what another host sent', { inner: { source: '2001:db8::99' } }),
    left('a quote of what another VIP’s backend sent', { inner: { source: '2001:db8::20' } }),
    left('a quote of what a client sent to the VIP', { inner: { source: CLIENT, vip: VIP6 } }),
    followed(
      'an error about another VIP’s flow is that VIP’s',
      { inner: { source: '2001:db8::20' }, outer: { vip: '2001:db8::20' } },
      3,
    ),
    left('a quote of a ping', { sent: icmp6(129, 0, Buffer.alloc(20)), inner: { protocol: PROTOCOL.ICMPV6 } }),
    left('a quote of an error', { sent: error({}), inner: { protocol: PROTOCOL.ICMPV6 } }),
    left('a quote of no next header', { inner: { protocol: EXTENSION.NONE } }),
    left('a port without a service', { sent: tcp({ sourcePort: 81 }) }, 'PASS_NO_SERVICE'),
    left('the port of a UDP service, of TCP', { sent: tcp({ sourcePort: 53 }) }, 'PASS_NO_SERVICE'),
    left('no VIP', { outer: { vip: '2001:db8::99' }, inner: { source: '2001:db8::99' } }, 'PASS_NOT_VIP'),
    followed('what was sent may have been longer than what is quoted', { inner: { payloadLength: 60000 } }),
    followed('a client may have any address', { inner: { vip: '::1' } }),

    ...Object.entries({
      'hop-by-hop': HOP_BY_HOP,
      routing: ROUTING,
      authentication: AUTHENTICATION,
      destination: DESTINATION,
    }).flatMap(([name, kind]) => [
      followed(`a quoted ${name} header is stepped over`, { inner: { extensions: [extension(kind, 2)] } }),
      followed(`the error’s own ${name} header is stepped over`, { outer: { extensions: [extension(kind, 2)] } }),
      left(`a quote that ends within a ${name} header`, {
        inner: { extensions: [extension(kind, 2)] },
        cut: SEGMENT.length + 3,
      }),
      left(`a quote that ends with a ${name} header`, {
        inner: { extensions: [extension(kind, 2)] },
        cut: SEGMENT.length,
      }),
    ]),
    followed('eight quoted headers are walked', { inner: { extensions: chain(8) } }),
    left('nine are not', { inner: { extensions: chain(9) } }),
    followed('eight headers before an error are walked', { outer: { extensions: chain(8) } }),
    followed('eight before it and eight in it', { outer: { extensions: chain(8) }, inner: { extensions: chain(8) } }),
    {
      ...left('nine headers before an error', { outer: { extensions: chain(9) } }, 'DROP_EXTENSIONS'),
      goes: 'nowhere',
    },

    followed('a quoted first fragment has the ports', { inner: { extensions: [fragmentHeader(1, 0, true)] } }),
    followed('a quoted atomic fragment has them', { inner: { extensions: [fragmentHeader(1, 0, false)] } }),
    left('a quoted later fragment has none', { inner: { extensions: [fragmentHeader(1, 8, true)] } }),
    left('nor has the last one', { inner: { extensions: [fragmentHeader(1, 800, false)] } }),
    followed('an error that is an atomic fragment is whole', { outer: { extensions: [fragmentHeader(1, 0, false)] } }),
    left('a first fragment of an error', { outer: { extensions: [fragmentHeader(1, 0, true)] } }),
    left('a later fragment of an error', { outer: { extensions: [fragmentHeader(1, 1200, false)] } }),
    followed('an error behind two tags', {
      outer: {
        tags: [
          { type: 0x88a8, id: 1 },
          { type: 0x8100, id: 2 },
        ],
      },
    }),
    {
      ...left(
        'an error with a payload that the frame does not hold',
        { outer: { payloadLength: 2000 } },
        'DROP_MALFORMED',
      ),
      goes: 'nowhere',
    },
  ],
  'ipv6',
)
