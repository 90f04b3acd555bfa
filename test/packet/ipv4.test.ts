// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { datagram, FRAGMENT, icmpFrame, PROTOCOL, tcp, tcpFrame, udpFrame, VIP } from './frames.ts'
import { Balancer } from './plane.ts'
import { type Case, testTable } from './table.ts'

const balancer = new Balancer()
balancer.add(`tcp://${VIP}:80`, { scheduler: 'mh' }, 1)
test.after.always(() => balancer.close())

/** RFC 791 section 3.1: no-operation, then a record-route that takes up the rest. */
const options = (words: number): Buffer => {
  const bytes = Buffer.alloc(words * 4, 1)
  if (words > 1) bytes.set([7, words * 4 - 1, 4], 1)
  return bytes
}

const toStack = (name: string, frame: Buffer, reason: Case['reason']): Case => ({ name, frame, goes: 'stack', reason })
const dropped = (name: string, frame: Buffer, reason: Case['reason']): Case => ({
  name,
  frame,
  goes: 'nowhere',
  reason,
})
const balanced = (name: string, frame: Buffer): Case => ({ name, frame, goes: 1, reason: 'TX_FORWARDED' })

testTable(
  () => balancer,
  [
    toStack('what is for no VIP is left to the stack', tcpFrame({ vip: '192.0.2.11' }), 'PASS_NOT_VIP'),
    toStack('an address one bit from a VIP is no VIP', tcpFrame({ vip: '192.0.3.10' }), 'PASS_NOT_VIP'),
    toStack(
      '0.0.0.0, which marks a free place of the directory, is no VIP',
      tcpFrame({ vip: '0.0.0.0' }),
      'PASS_NOT_VIP',
    ),
    toStack(
      'a fragment for 0.0.0.0 is left to the stack',
      tcpFrame({ vip: '0.0.0.0', fragment: FRAGMENT.MORE }),
      'PASS_NOT_VIP',
    ),
    toStack('a VIP as the source alone is none of ours', tcpFrame({ source: VIP, vip: '203.0.113.9' }), 'PASS_NOT_VIP'),
    toStack(
      'what is for no VIP may be as malformed as it likes',
      tcpFrame({ vip: '192.0.2.11', ihl: 2 }),
      'PASS_NOT_VIP',
    ),
    toStack('fragments for no VIP are left to the stack', tcpFrame({ vip: '192.0.2.11', fragment: 3 }), 'PASS_NOT_VIP'),

    toStack('a port of a VIP without a service is left to the stack', tcpFrame({ port: 81 }), 'PASS_NO_SERVICE'),
    toStack(
      "a service's port in the other octet order is another port",
      tcpFrame({ port: 80 << 8 }),
      'PASS_NO_SERVICE',
    ),
    toStack('UDP to the port of a TCP service is left to the stack', udpFrame({ port: 80 }), 'PASS_NO_SERVICE'),
    toStack('a ping of a VIP is left to the stack', icmpFrame(), 'PASS_NOT_BALANCED'),
    toStack('VRRP to a VIP is left to the stack', datagram({ protocol: 112 }, Buffer.alloc(20)), 'PASS_NOT_BALANCED'),
    toStack('SCTP to a VIP is left to the stack', datagram({ protocol: 132 }, tcp({})), 'PASS_NOT_BALANCED'),
    toStack('IP protocol 0 to a VIP is left to the stack', datagram({ protocol: 0 }, tcp({})), 'PASS_NOT_BALANCED'),
    toStack(
      'an ICMP fragment for a VIP is left to the stack',
      icmpFrame({ fragment: FRAGMENT.MORE }),
      'PASS_NOT_BALANCED',
    ),

    dropped(
      'a middle fragment whose first one was not seen is dropped',
      tcpFrame({ fragment: FRAGMENT.MORE | 185 }),
      'DROP_FRAGMENT',
    ),
    dropped('a last fragment whose first one was not seen is dropped', tcpFrame({ fragment: 185 }), 'DROP_FRAGMENT'),
    dropped('a last fragment at the greatest offset is dropped', tcpFrame({ fragment: 0x1fff }), 'DROP_FRAGMENT'),
    dropped(
      'a fragment too short for ports is dropped as a fragment',
      datagram({ fragment: 370, protocol: PROTOCOL.UDP }, Buffer.alloc(4)),
      'DROP_FRAGMENT',
    ),
    balanced('a datagram that may not be fragmented is whole', tcpFrame({ fragment: FRAGMENT.DONT })),
    balanced('a datagram that may be fragmented, and is not, is whole', tcpFrame({ fragment: 0 })),
    balanced('the reserved flag makes no fragment', tcpFrame({ fragment: 0x8000 })),

    ...[1, 2, 5, 10].map((words) =>
      balanced(`${words} words of IP options are stepped over, and stay`, tcpFrame({ options: options(words) })),
    ),
    balanced(
      'a first fragment with IP options is balanced',
      tcpFrame({ options: options(3), fragment: FRAGMENT.MORE, identification: 9 }),
    ),
    ...[0, 1, 2, 3, 4].map((ihl) =>
      dropped(`a header that claims ${ihl} words is malformed`, tcpFrame({ ihl }), 'DROP_MALFORMED'),
    ),
    dropped(
      'a header that claims more words than the frame has is malformed',
      datagram({ ihl: 15, totalLength: 60 }, Buffer.alloc(8)),
      'DROP_MALFORMED',
    ),
    dropped('a total length beyond the frame is malformed', tcpFrame({ totalLength: 41 }), 'DROP_MALFORMED'),
    dropped(
      'the greatest total length is malformed in a short frame',
      tcpFrame({ totalLength: 65535 }),
      'DROP_MALFORMED',
    ),
    dropped('a total length of 0 is malformed', tcpFrame({ totalLength: 0 }), 'DROP_MALFORMED'),
    dropped('a total length shorter than the header is malformed', tcpFrame({ totalLength: 19 }), 'DROP_MALFORMED'),
    dropped(
      'a total length shorter than header and options is malformed',
      tcpFrame({ options: options(2), totalLength: 27 }),
      'DROP_MALFORMED',
    ),
    ...[0, 5, 6, 15].map((version) =>
      dropped(`version ${version} under IPv4's EtherType is malformed`, tcpFrame({ version }), 'DROP_MALFORMED'),
    ),
    dropped('a malformed ICMP message for a VIP is dropped', icmpFrame({ ihl: 4 }), 'DROP_MALFORMED'),
    balanced('padding behind the datagram is sent on', tcpFrame({ padding: 6 })),
    balanced('much padding behind the datagram is sent on', tcpFrame({ padding: 1000 })),
    balanced('a full frame is sent on whole', tcpFrame({ payload: Buffer.alloc(1460, 0x5a) })),
    balanced('the smallest time to live is sent on: the real server is on the same link', tcpFrame({ ttl: 1 })),
  ],
)
