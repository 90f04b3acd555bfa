// SPDX-License-Identifier: Apache-2.0
// IPv6: which frames are for a service, and where they go.
import test from 'ava'
import {
  EXTENSION,
  extension,
  fragmentHeader,
  icmp6,
  ipv6,
  PROTOCOL,
  packet6,
  TCP,
  tcp,
  tcp6Frame,
  udp6Frame,
  VIP6,
} from './frames.ts'
import { Balancer } from './plane.ts'
import { type Case, testTable } from './table.ts'

let balancer: Balancer

test.before(() => {
  balancer = new Balancer()
  balancer.add(`tcp://[${VIP6}]:80`, { scheduler: 'mh' }, { 1: {} })
  balancer.add(`tcp://[${VIP6}]:8000-8099`, { scheduler: 'mh' }, { 2: {} })
  balancer.add(`udp://[${VIP6}]:*`, { scheduler: 'sh' }, { 3: {} })
  balancer.add('tcp://[2001:db8::20]:443', { scheduler: 'rr' }, { 4: {} })
})
test.after.always(() => balancer.close())

const cases: Case[] = [
  { name: 'a TCP segment for a service goes to its backend', frame: tcp6Frame(), goes: 1, reason: 'TX_FORWARDED' },
  {
    name: 'one that is tagged too',
    frame: tcp6Frame({ tags: [{ type: 0x8100, id: 7 }] }),
    goes: 1,
    reason: 'TX_FORWARDED',
  },
  { name: 'a port in a range', frame: tcp6Frame({ port: 8050 }), goes: 2, reason: 'TX_FORWARDED' },
  { name: 'UDP for a service of every port', frame: udp6Frame({ port: 5353 }), goes: 3, reason: 'TX_FORWARDED' },
  { name: 'a port without a service', frame: tcp6Frame({ port: 81 }), goes: 'stack', reason: 'PASS_NO_SERVICE' },
  { name: 'another address', frame: tcp6Frame({ vip: '2001:db8::11' }), goes: 'stack', reason: 'PASS_NOT_VIP' },
  { name: 'the unspecified address', frame: tcp6Frame({ vip: '::' }), goes: 'stack', reason: 'PASS_NOT_VIP' },
  {
    name: 'extension headers are walked',
    frame: tcp6Frame({
      extensions: [
        extension(EXTENSION.HOP_BY_HOP),
        extension(EXTENSION.ROUTING, 3),
        extension(EXTENSION.DESTINATION, 2),
        extension(EXTENSION.AUTHENTICATION, 2),
      ],
    }),
    goes: 1,
    reason: 'TX_FORWARDED',
  },
  {
    name: 'eight extension headers are walked',
    frame: tcp6Frame({ extensions: Array.from({ length: 8 }, () => extension(EXTENSION.DESTINATION)) }),
    goes: 1,
    reason: 'TX_FORWARDED',
  },
  {
    name: 'nine are not',
    frame: tcp6Frame({ extensions: Array.from({ length: 9 }, () => extension(EXTENSION.DESTINATION)) }),
    goes: 'nowhere',
    reason: 'DROP_EXTENSIONS',
  },
  {
    name: 'an atomic fragment is a whole packet',
    frame: tcp6Frame({ extensions: [fragmentHeader(1, 0, false)] }),
    goes: 1,
    reason: 'TX_FORWARDED',
  },
  {
    name: 'a ping goes to the stack',
    frame: packet6({ protocol: PROTOCOL.ICMPV6 }, icmp6(128, 0, Buffer.alloc(8))),
    goes: 'stack',
    reason: 'PASS_NOT_BALANCED',
  },
  {
    name: 'packet too big goes to the backend of the flow that it quotes',
    frame: packet6(
      { source: '2001:db8:ff::1', protocol: PROTOCOL.ICMPV6 },
      icmp6(2, 0, ipv6({ source: VIP6, vip: '2001:db8:cc::5' }, tcp({ sourcePort: 80, port: 40000 }))),
    ),
    goes: 1,
    reason: 'TX_FORWARDED',
  },
  {
    name: 'a header that is cut off',
    frame: tcp6Frame({ payloadLength: 19 }),
    goes: 'nowhere',
    reason: 'DROP_TRUNCATED',
  },
  {
    name: 'a payload that the frame does not hold',
    frame: tcp6Frame({ payloadLength: 21 }),
    goes: 'nowhere',
    reason: 'DROP_MALFORMED',
  },
  { name: 'the wrong version', frame: tcp6Frame({ version: 5 }), goes: 'nowhere', reason: 'DROP_MALFORMED' },
]
testTable(() => balancer, cases)

test('a tracked flow stays with its backend', (t) => {
  const service = 'tcp://[2001:db8::20]:443'
  balancer.setBackend(service, 5)
  const flow = { vip: '2001:db8::20', port: 443, sourcePort: 12345 }
  const first = balancer.send(tcp6Frame(flow))
  t.deepEqual(first.reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1 })
  for (let i = 0; i < 3; i++) t.is(balancer.to(tcp6Frame({ ...flow, flags: TCP.ACK })), first.backend)
  t.not(balancer.to(tcp6Frame({ ...flow, sourcePort: 12346 })), first.backend)
  t.is(balancer.to(tcp6Frame({ ...flow, flags: TCP.ACK })), first.backend)
})
