// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { ETHERTYPE, ethernet, icmpFrame, OWN_MAC, type Tag, tcpFrame, VIP } from './frames.ts'
import { Balancer } from './plane.ts'
import { testTable } from './table.ts'

// A hashed service keeps no flows, so that each frame moves one reason alone.
const balancer = new Balancer()
balancer.add(`tcp://${VIP}:80`, { scheduler: 'mh' }, 1)
test.after.always(() => balancer.close())

const vlan: Tag = { type: ETHERTYPE.VLAN, id: 0x2064 }
const provider: Tag = { type: ETHERTYPE.QINQ, id: 0x0007 }

const arp = (destination: string): Buffer =>
  ethernet(
    { destination, etherType: ETHERTYPE.ARP },
    Buffer.from('000108000604000102cc00000001cb00710500000000000000c000020a'.padEnd(92, '0'), 'hex'),
  )

const ipv6 = Buffer.from(`6000000000140640${'20010db8000000000000000000000001'.repeat(2)}${'00'.repeat(20)}`, 'hex')

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
      name: 'IPv6 for no VIP is left to the stack',
      frame: ethernet({ etherType: ETHERTYPE.IPV6 }, ipv6),
      goes: 'stack',
      reason: 'PASS_NOT_VIP',
    },
    {
      name: 'an IPv4 datagram under an unknown EtherType is no IPv4',
      frame: tcpFrame({ etherType: 0x88cc }),
      goes: 'stack',
      reason: 'PASS_NOT_IP',
    },
    {
      name: 'an Ethernet header alone is left to the stack',
      frame: ethernet({}, Buffer.alloc(0)),
      goes: 'stack',
      reason: 'PASS_NOT_IP',
    },
    {
      name: 'a frame that ends within the IPv4 header is left to the stack',
      frame: tcpFrame().subarray(0, 14 + 19),
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
      name: 'IPv6 for no VIP behind a VLAN tag is left to the stack',
      frame: ethernet({ tags: [vlan], etherType: ETHERTYPE.IPV6 }, ipv6),
      goes: 'stack',
      reason: 'PASS_NOT_VIP',
    },
    {
      name: 'a VLAN frame for another MAC is left to the stack',
      frame: tcpFrame({ tags: [vlan], destination: '02:00:00:00:00:99' }),
      goes: 'stack',
      reason: 'PASS_OTHER_MAC',
    },
    {
      name: 'a ping of a VIP behind a VLAN tag is left to the stack',
      frame: icmpFrame({ tags: [vlan] }),
      goes: 'stack',
      reason: 'PASS_NOT_BALANCED',
    },
  ],
)
