// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { FAMILIES } from './families.ts'
import { PROTOCOL, TCP, tcp, udp } from './frames.ts'
import { Balancer } from './plane.ts'
import { testTable } from './table.ts'

for (const { family, VIP, HOST, headerBytes, packet, optional, tcpFrame, udpFrame } of FAMILIES) {
  const balancer = new Balancer()
  balancer.add(`tcp://${HOST}:80`, { scheduler: 'mh' }, 1)
  balancer.add(`udp://${HOST}:53`, { scheduler: 'sh' }, { 2: {} })
  balancer.add(`udp://${HOST}:80`, { scheduler: 'mh' }, { 3: {} })
  test.after.always(() => balancer.close())

  const lengths = (end: number): number[] => Array.from({ length: end }, (_, i) => i)
  /** Of IPv4: Ethernet's smallest frame, without FCS. */
  const SMALLEST = 14 + headerBytes + 26
  const padded = (frame: Buffer): Buffer => Buffer.concat([frame, Buffer.alloc(SMALLEST - frame.length, 0xee)])

  const cut = {
    tcp: (length: number): Buffer => packet({}, tcp({}).subarray(0, length)),
    udp: (length: number): Buffer => packet({ protocol: PROTOCOL.UDP }, udp({}).subarray(0, length)),
  }

  testTable(
    () => balancer,
    [
      ...lengths(20).map((length) => ({
        name: `${length} octets of TCP are no whole header`,
        frame: cut.tcp(length),
        goes: 'nowhere' as const,
        reason: 'DROP_TRUNCATED' as const,
      })),
      ...lengths(8).map((length) => ({
        name: `${length} octets of UDP are no whole header`,
        frame: cut.udp(length),
        goes: 'nowhere' as const,
        reason: 'DROP_TRUNCATED' as const,
      })),
      // RFC 791 section 3.1: the datagram ends with its total length. What follows it in the frame is Ethernet's padding.
      ...[0, 4, 8, 19].map((length) => ({
        name: `${length} octets of TCP are no whole header, with padding either`,
        frame: padded(cut.tcp(length)),
        goes: 'nowhere' as const,
        reason: 'DROP_TRUNCATED' as const,
      })),
      ...[0, 4, 7].map((length) => ({
        name: `${length} octets of UDP are no whole header, with padding either`,
        frame: padded(cut.udp(length)),
        goes: 'nowhere' as const,
        reason: 'DROP_TRUNCATED' as const,
      })),
      {
        name: 'a TCP header behind the end of its packet is padding',
        frame: Buffer.concat([packet({}, Buffer.alloc(0)), tcp({})]),
        goes: 'nowhere',
        reason: 'DROP_TRUNCATED',
      },
      {
        name: 'a frame that ends where its options or extension headers end has no whole TCP header',
        frame: packet(optional(2), Buffer.alloc(0)),
        goes: 'nowhere',
        reason: 'DROP_TRUNCATED',
      },
      {
        name: 'what is truncated is dropped whatever port it might be for',
        frame: packet({}, tcp({ port: 81 }).subarray(0, 19)),
        goes: 'nowhere',
        reason: 'DROP_TRUNCATED',
      },
      ...lengths(64).map((flags) => ({
        name: `a hashed service balances TCP flags 0x${flags.toString(16).padStart(2, '0')}`,
        frame: tcpFrame({ flags }),
        goes: 1,
        reason: 'TX_FORWARDED' as const,
      })),
      {
        name: 'the reserved TCP flags make no difference',
        frame: tcpFrame({ flags: 0xc0 | TCP.SYN }),
        goes: 1,
        reason: 'TX_FORWARDED',
      },
      { name: 'a UDP service balances UDP', frame: udpFrame(), goes: 2, reason: 'TX_FORWARDED' },
      {
        name: 'a UDP header without payload is whole',
        frame: packet({ protocol: PROTOCOL.UDP }, udp({})),
        goes: 2,
        reason: 'TX_FORWARDED',
      },
      {
        name: 'a UDP payload is sent on as it is',
        frame: udpFrame({ payload: Buffer.alloc(512, 0x42) }),
        goes: 2,
        reason: 'TX_FORWARDED',
      },
      {
        name: 'TCP and UDP services at one port are two services',
        frame: udpFrame({ port: 80 }),
        goes: 3,
        reason: 'TX_FORWARDED',
      },
      {
        name: 'TCP to the port of a UDP service is left to the stack',
        frame: tcpFrame({ port: 53 }),
        goes: 'stack',
        reason: 'PASS_NO_SERVICE',
      },
      { name: 'source port 0 is a source port', frame: tcpFrame({ sourcePort: 0 }), goes: 1, reason: 'TX_FORWARDED' },
      {
        name: 'the VIP itself as the source is balanced like any other',
        frame: tcpFrame({ source: VIP }),
        goes: 1,
        reason: 'TX_FORWARDED',
      },
    ],
    family,
  )
}
