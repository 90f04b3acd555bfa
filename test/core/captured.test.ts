// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { type Captured, commentOf, lineOf, objectOf, timeOfDay } from '../../src/core/captured.ts'
import { readFrame } from '../../src/core/frame-words.ts'
import { ETHERTYPE, ethernet, FRAGMENT, icmpFrame, TCP, tcpFrame, u16s, udpFrame } from '../packet/frames.ts'

const captured: Captured = {
  timeNs: BigInt(Date.UTC(2026, 10, 21, 15, 4, 5)) * 1_000_000n + 123_456_789n,
  interface: 'eth0',
  verdict: 'tx',
  reason: 'tx_forwarded',
  flow: ['flow_inserted'],
  service: 'tcp://192.0.2.10:80',
  backend: '192.0.2.21',
  frameLength: 54,
  frame: tcpFrame({ source: '203.0.113.5', sourcePort: 40000, vip: '192.0.2.10', port: 80 }),
}

const without = (change: Partial<Captured>): Captured => ({ ...captured, flow: [], ...change })

test('a comment names verdict, reason, backend and service, and what became of the flow', (t) => {
  t.is(commentOf(captured), 'xlb: tx, tx_forwarded, backend 192.0.2.21 of tcp://192.0.2.10:80, flow_inserted')
})

test('a comment leaves out what a packet did not come to', (t) => {
  const drop = { verdict: 'drop', backend: undefined } as const
  t.is(commentOf(without({ ...drop, reason: 'drop_no_backend' })), 'xlb: drop, drop_no_backend, tcp://192.0.2.10:80')
  t.is(commentOf(without({ ...drop, reason: 'drop_fragment', service: undefined })), 'xlb: drop, drop_fragment')
  t.is(commentOf(without({ verdict: 'pass', reason: undefined, service: undefined, backend: undefined })), 'xlb: pass')
})

test('a line has the time, the interface, the packet, and the comment', (t) => {
  t.is(
    lineOf(captured),
    '15:04:05.123456 eth0 tcp 203.0.113.5:40000 > 192.0.2.10:80 [S] 54 octets: tx, tx_forwarded, backend 192.0.2.21 of tcp://192.0.2.10:80, flow_inserted',
  )
})

test('as JSON, what is not there is null and the time is text', (t) => {
  const json = objectOf(without({ service: undefined, backend: undefined }))
  t.like(json, { service: null, backend: null, source: '203.0.113.5:40000', flags: 'S', bytes: 54 })
  t.is(json.timeNs, captured.timeNs.toString())
  t.notThrows(() => JSON.stringify(json))
})

test('a time of day has six decimals, of any second', (t) => {
  t.is(timeOfDay(0n), '00:00:00.000000')
  t.is(timeOfDay(86_399_999_999_999n), '23:59:59.999999')
})

const ipv6 = (next: number, payload: Uint8Array): Buffer =>
  ethernet(
    { etherType: ETHERTYPE.IPV6 },
    Buffer.concat([
      Buffer.from([0x60, 0, 0, 0, payload.length >> 8, payload.length & 255, next, 64]),
      Buffer.from('20010db8000000000000000000000005', 'hex'),
      Buffer.from('20010db8000000000000000000000010', 'hex'),
      payload,
    ]),
  )

const words = (frame: Uint8Array): string => {
  const { vlans, protocol, source, destination, flags, fragment } = readFrame(frame)
  return [...vlans, protocol, source, destination, flags, fragment ? 'fragment' : undefined]
    .filter((each) => each !== undefined)
    .join(' ')
}

const CASES: readonly (readonly [what: string, frame: Buffer, says: string])[] = [
  ['TCP', tcpFrame({ flags: TCP.ACK | TCP.PSH }), 'tcp 203.0.113.5:40000 192.0.2.10:80 P.'],
  ['UDP', udpFrame(), 'udp 203.0.113.5:40000 192.0.2.10:53'],
  ['ICMP, which has no ports', icmpFrame(), 'icmp 203.0.113.5 192.0.2.10'],
  [
    'two VLAN tags',
    udpFrame({
      tags: [
        { type: ETHERTYPE.QINQ, id: 7 },
        { type: ETHERTYPE.VLAN, id: 0x2009 },
      ],
    }),
    '7 9 udp 203.0.113.5:40000 192.0.2.10:53',
  ],
  ['IP options before the ports', tcpFrame({ options: Buffer.alloc(8, 1) }), 'tcp 203.0.113.5:40000 192.0.2.10:80 S'],
  ['a first fragment', udpFrame({ fragment: FRAGMENT.MORE }), 'udp 203.0.113.5:40000 192.0.2.10:53 fragment'],
  ['a later fragment, whose ports are not there', udpFrame({ fragment: 100 }), 'udp 203.0.113.5 192.0.2.10 fragment'],
  ['ARP', ethernet({ etherType: ETHERTYPE.ARP }, Buffer.alloc(28)), 'arp'],
  ['another EtherType', ethernet({ etherType: 0x88b5 }, Buffer.alloc(28)), '0x88b5'],
  ['a header that is cut off', tcpFrame().subarray(0, 30), '0x0800'],
  ['TCP that is cut off behind its ports', tcpFrame().subarray(0, 40), 'tcp 203.0.113.5:40000 192.0.2.10:80'],
  ['a protocol without a name', tcpFrame({ protocol: 200 }), 'protocol 200 203.0.113.5 192.0.2.10'],
  ['IPv6', ipv6(17, u16s(40000, 53, 8, 0)), 'udp [2001:db8::5]:40000 [2001:db8::10]:53'],
  [
    'IPv6 with a hop-by-hop header',
    ipv6(0, Buffer.concat([Buffer.from([17, 0, 1, 4, 0, 0, 0, 0]), u16s(40000, 53, 8, 0)])),
    'udp [2001:db8::5]:40000 [2001:db8::10]:53',
  ],
  [
    'IPv6 with an authentication header',
    ipv6(51, Buffer.concat([Buffer.from([17, 4, 0, 0]), Buffer.alloc(20), u16s(40000, 53, 8, 0)])),
    'udp [2001:db8::5]:40000 [2001:db8::10]:53',
  ],
  [
    'a later fragment of IPv6',
    ipv6(44, Buffer.concat([Buffer.from([17, 0, 0, 8, 0, 0, 0, 1]), u16s(40000, 53, 8, 0)])),
    'udp 2001:db8::5 2001:db8::10 fragment',
  ],
]

for (const [what, frame, says] of CASES) {
  test(`a frame in words: ${what}`, (t) => t.is(words(frame), says))
}

test('any octets are read without a fault, also where a frame is cut off anywhere', (t) => {
  const frames = CASES.map(([, frame]) => frame)
  fc.assert(
    fc.property(fc.constantFrom(...frames), fc.nat(120), fc.uint8Array({ maxLength: 80 }), (frame, cut, noise) => {
      readFrame(frame.subarray(0, cut))
      readFrame(noise)
      readFrame(Buffer.concat([frame.subarray(0, cut), noise]))
      return true
    }),
  )
  t.pass()
})
