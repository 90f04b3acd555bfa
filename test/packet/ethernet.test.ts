// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { FAMILIES, KITS } from './families.ts'
import { ETHERTYPE, ethernet, OWN_MAC, type Tag } from './frames.ts'
import { Balancer } from './plane.ts'
import { testTable } from './table.ts'

for (const { family, HOST, NO_VIP, etherType, headerBytes, tcpFrame, pingFrame } of FAMILIES) {
  // A hashed service keeps no flows, so that each frame moves one reason alone.
  const balancer = new Balancer()
  balancer.add(`tcp://${HOST}:80`, { scheduler: 'mh' }, 1)
  test.after.always(() => balancer.close())

  const vlan: Tag = { type: ETHERTYPE.VLAN, id: 0x2064 }
  const provider: Tag = { type: ETHERTYPE.QINQ, id: 0x0007 }

  const arp = (destination: string): Buffer =>
    ethernet(
      { destination, etherType: ETHERTYPE.ARP },
      Buffer.from('000108000604000102cc00000001cb00710500000000000000c000020a'.padEnd(92, '0'), 'hex'),
    )

  const { tcpFrame: otherTcpFrame, NO_VIP: otherVip } = family === 'ipv4' ? KITS.ipv6 : KITS.ipv4

  testTable(
    () => balancer,
    [
      { name: "a frame to the interface's own MAC is balanced", frame: tcpFrame(), goes: 1, reason: 'TX_FORWARDED' },
      {
        name: 'a frame to another MAC is left to the stack',
        frame: tcpFrame({ destination: '02:00:00:00:00:99' }),
        goes: 'stack',
        reason: 'PASS_OTHER_MAC',
      },
      ...[0, 1, 2, 3, 4, 5].map((octet) => ({
        name: `a MAC that differs from the interface's in octet ${octet} alone is another MAC`,
        frame: tcpFrame({
          destination: OWN_MAC.split(':')
            .map((text, i) => (i === octet ? '7e' : text))
            .join(':'),
        }),
        goes: 'stack' as const,
        reason: 'PASS_OTHER_MAC' as const,
      })),
      {
        name: 'a broadcast frame for a VIP is left to the stack',
        frame: tcpFrame({ destination: 'ff:ff:ff:ff:ff:ff' }),
        goes: 'stack',
        reason: 'PASS_OTHER_MAC',
      },
      {
        name: 'a multicast frame for a VIP is left to the stack',
        frame: tcpFrame({ destination: '01:00:5e:00:02:0a' }),
        goes: 'stack',
        reason: 'PASS_OTHER_MAC',
      },
      {
        name: 'an ARP question, which is broadcast, is left to the stack',
        frame: arp('ff:ff:ff:ff:ff:ff'),
        goes: 'stack',
        reason: 'PASS_OTHER_MAC',
      },
      {
        name: "an ARP answer to the interface's MAC is left to the stack",
        frame: arp(OWN_MAC),
        goes: 'stack',
        reason: 'PASS_NOT_IP',
      },
      {
        name: 'a packet of the other family under this EtherType is left to the stack',
        frame: otherTcpFrame({ etherType, vip: otherVip }),
        goes: 'stack',
        reason: 'PASS_NOT_VIP',
      },
      {
        name: 'an IP packet under an unknown EtherType is none',
        frame: tcpFrame({ etherType: 0x88cc }),
        goes: 'stack',
        reason: 'PASS_NOT_IP',
      },
      {
        name: 'an Ethernet header alone is left to the stack',
        frame: ethernet({ etherType }, Buffer.alloc(0)),
        goes: 'stack',
        reason: 'PASS_NOT_IP',
      },
      {
        name: 'a frame that ends within the IP header is left to the stack',
        frame: tcpFrame().subarray(0, 14 + headerBytes - 1),
        goes: 'stack',
        reason: 'PASS_NOT_IP',
      },
      {
        name: 'a frame with one VLAN tag is balanced, and leaves untagged',
        frame: tcpFrame({ tags: [vlan] }),
        goes: 1,
        reason: 'TX_FORWARDED',
      },
      {
        name: "a frame with a provider tag and a VLAN tag is balanced, and leaves with the provider's",
        frame: tcpFrame({ tags: [provider, vlan] }),
        goes: 1,
        reason: 'TX_FORWARDED',
      },
      {
        name: 'a frame with two VLAN tags is balanced, and leaves with the outer one',
        frame: tcpFrame({ tags: [vlan, vlan] }),
        goes: 1,
        reason: 'TX_FORWARDED',
      },
      {
        name: 'a frame with three tags is left to the stack',
        frame: tcpFrame({ tags: [provider, vlan, vlan] }),
        goes: 'stack',
        reason: 'PASS_NOT_IP',
      },
      {
        name: 'a frame that ends within its first VLAN tag is left to the stack',
        frame: tcpFrame({ tags: [vlan] }).subarray(0, 14 + 3),
        goes: 'stack',
        reason: 'PASS_NOT_IP',
      },
      {
        name: 'a frame that ends within its second VLAN tag is left to the stack',
        frame: tcpFrame({ tags: [vlan, vlan] }).subarray(0, 14 + 7),
        goes: 'stack',
        reason: 'PASS_NOT_IP',
      },
      {
        name: 'a packet for no VIP behind a VLAN tag is left to the stack',
        frame: tcpFrame({ tags: [vlan], vip: NO_VIP }),
        goes: 'stack',
        reason: 'PASS_NOT_VIP',
      },
      ...[0, 1, 7, 13].map((length) => ({
        name: `a frame that ends ${length} octets behind its EtherType, before its VLAN tag and IP header end, is left to the stack`,
        frame: tcpFrame({ tags: [vlan, vlan] }).subarray(0, 14 + length),
        goes: 'stack' as const,
        reason: 'PASS_NOT_IP' as const,
      })),
      {
        name: 'a VLAN frame for another MAC is left to the stack',
        frame: tcpFrame({ tags: [vlan], destination: '02:00:00:00:00:99' }),
        goes: 'stack',
        reason: 'PASS_OTHER_MAC',
      },
      {
        name: 'a ping of a VIP behind a VLAN tag is left to the stack',
        frame: pingFrame({ tags: [vlan] }),
        goes: 'stack',
        reason: 'PASS_NOT_BALANCED',
      },
    ],
    family,
  )
}
