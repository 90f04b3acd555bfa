// SPDX-License-Identifier: Apache-2.0
// The keys by which a directory knows services (enum service_key in bpf/xlb.h), and the names that people know them by.
import { formatService, type Protocol, swap16, swap32, vipOf } from '../core/address.ts'
import { AF, type Family, familyOf, readAddress } from '../core/ip.ts'
import { formatVip, formatVip6, isPrefix } from '../core/prefix.ts'
import { Address6, Handle, ServiceKey } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { viewOf } from './views.ts'

/** What the 32 bits of a VIP in a key are: an address, a prefix, or the handle of one. */
export type VipKind = Family | 'prefix' | 'prefix6'

export const vipKind = (vip: string): VipKind => {
  if (!isPrefix({ vip })) return familyOf(vip)
  return familyOf(vip) === 'ipv4' ? 'prefix' : 'prefix6'
}

/** Is there a service of an IPv6 prefix? @param names of services */
export const hasPrefixes6 = (names: Iterable<string>): boolean =>
  [...names].some((name) => vipKind(vipOf(name)) === 'prefix6')

const IPV6 = 1n << BigInt(ServiceKey.KEY_IPV6_SHIFT)
const PREFIX = 1n << BigInt(ServiceKey.KEY_PREFIX_SHIFT)

const KIND_BITS: Readonly<Record<VipKind, bigint>> = { ipv4: 0n, ipv6: IPV6, prefix: PREFIX, prefix6: IPV6 | PREFIX }

/** What of a key says which VIP or prefix it is of. */
export const KEY_VIP_MASK = KIND_BITS.prefix6 | 0xffffffffn

/**
 * struct target's key: VIP and first port in network order as a little-endian machine loads them, and the protocol.
 *
 * @param vip the VIP's number, most significant octet first; of IPv6 its handle's, of a prefix its word, likewise
 */
export const serviceKey = (
  { protocol, port, kind }: { protocol: Protocol; port: number; kind: VipKind },
  vip: number,
): bigint =>
  BigInt(swap32(vip)) |
  (BigInt(swap16(port)) << BigInt(ServiceKey.KEY_PORT_SHIFT)) |
  (BigInt(protocol === 'tcp' ? 6 : 17) << BigInt(ServiceKey.KEY_PROTOCOL_SHIFT)) |
  KIND_BITS[kind]

/** A key as two numbers of 32 bits. */
export interface KeyHalves {
  low: number
  high: number
}

/** A key that leads to a run of ranges, told by the upper half of it. */
export const RUN_BIT = 1 << (ServiceKey.KEY_RUN_SHIFT - 32)
const IPV6_BIT = 1 << (ServiceKey.KEY_IPV6_SHIFT - 32)
const PREFIX_BIT = 1 << (ServiceKey.KEY_PREFIX_SHIFT - 32)

/** formatService of a target's key, given as its two halves. */
export const nameOf = (memory: PlaneMemory, { low, high }: KeyHalves, lastPort: number): string => {
  const protocol = ((high >>> 16) & 0xff) === 6 ? 'tcp' : 'udp'
  const isPrefix = (high & PREFIX_BIT) !== 0
  const vip =
    (high & IPV6_BIT) === 0
      ? formatVip({ word: swap32(low), isPrefix })
      : formatVip6(addressOfHandle(memory, low), isPrefix)
  return formatService({ protocol, vip, port: swap16(high & 0xffff), lastPort })
}

/** The address that a handle stands for (enum handle of bpf/xlb.h): an IPv6 VIP's, or a prefix's number. */
const addressOfHandle = (memory: PlaneMemory, handle: number): string => {
  const place = (handle >>> Handle.HANDLE_SHIFT) - 1
  return readAddress(viewOf(memory, 'vip6_buckets'), place * Address6.size, AF.ipv6)
}

/** HASHED_DESTINATION of bpf/xlb.h, whose enums have 31 bits. */
export const HASHED_DESTINATION = 1n << 63n
