// SPDX-License-Identifier: Apache-2.0
// Prefixes as VIPs: `192.0.2.0/24` or `2001:db8:5::/64` stands in a service's `vip` where another service has an address. Within the
// maps a prefix is a number as an address is (struct directory of bpf/xlb.h): its address with the first bit behind it set.
import { PrefixLimit } from '../dataplane/layout.gen.ts'
import {
  AF,
  addressOctets,
  type Family,
  familyOf,
  formatIpv4,
  halves6,
  leadingBits,
  parseIpv4,
  readAddress,
} from './ip.ts'
import { Refusal } from './refusal.ts'

/** How many leading bits a prefix may have. */
const BOUNDS: Readonly<Record<Family, { least: number; most: number; of: string }>> = {
  ipv4: { least: PrefixLimit.PREFIX_BITS_MIN, most: PrefixLimit.PREFIX_BITS_MAX, of: '' },
  ipv6: { least: PrefixLimit.PREFIX6_BITS_MIN, most: PrefixLimit.PREFIX6_BITS_MAX, of: ' of IPv6' },
}

/** Of an address. */
const BITS: Readonly<Record<Family, number>> = { ipv4: 32, ipv6: 128 }

/** What most people mean by a network. */
const USUAL: Readonly<Record<Family, number>> = { ipv4: 24, ipv6: 64 }

/** A VIP's word, most significant octet first, and whether it is a prefix. */
export interface VipWord {
  word: number
  isPrefix: boolean
}

/** Where the text of a prefix has its slash; -1: it is an address. */
const slashOf = (vip: string): number => vip.indexOf('/')

/** Is it a service of a prefix, and not of one address? */
export const isPrefix = ({ vip }: { vip: string }): boolean => slashOf(vip) >= 0

/** The bit behind a prefix of so many bits. */
const behind = (bits: number): number => 2 ** (31 - bits)

/** Of a VIP that is a prefix: its address, and its length. */
export const splitPrefix = (vip: string): { address: string; bits: number } => {
  const slash = slashOf(vip)
  return { address: vip.slice(0, slash), bits: Number(vip.slice(slash + 1)) }
}

/** @param vip IPv4, as parseService made it */
export const vipWord = (vip: string): VipWord => {
  if (slashOf(vip) < 0) return { word: parseIpv4(vip) ?? 0, isPrefix: false }
  const { address, bits } = splitPrefix(vip)
  return { word: ((parseIpv4(address) ?? 0) | behind(bits)) >>> 0, isPrefix: true }
}

/** The reverse of vipWord. */
export const formatVip = ({ word, isPrefix }: VipWord): string => {
  if (!isPrefix) return formatIpv4(word)
  const bit = (word & -word) >>> 0
  return `${formatIpv4((word ^ bit) >>> 0)}/${31 - Math.log2(bit)}`
}

const textOf = (octets: Uint8Array): string => readAddress(new DataView(octets.buffer), 0, AF.ipv6)

/** As vipWord, of IPv6: the number that stands for a VIP, written as an address. */
export const vipNumber6 = (vip: string): string => {
  if (slashOf(vip) < 0) return vip
  const { address, bits } = splitPrefix(vip)
  const octets = addressOctets(address)
  octets[bits >> 3] = (octets[bits >> 3] ?? 0) | (0x80 >> (bits & 7))
  return textOf(octets)
}

/** The reverse of vipNumber6. */
export const formatVip6 = (number: string, isPrefix: boolean): string => {
  if (!isPrefix) return number
  const octets = addressOctets(number)
  const last = octets.findLastIndex((octet) => octet !== 0)
  const octet = octets[last] ?? 0
  const bit = octet & -octet
  octets[last] = octet ^ bit
  return `${textOf(octets)}/${last * 8 + 7 - Math.log2(bit)}`
}

/** The mask of a prefix of so many bits, 1 to 32. */
const maskOf = (bits: number): number => (-1 << (32 - bits)) >>> 0

/** Does the prefix hold the address? Both as they are within xlb. */
export const holds = (prefix: string, address: string): boolean => {
  const { address: first, bits } = splitPrefix(prefix)
  if (familyOf(first) !== familyOf(address)) return false
  if (familyOf(first) === 'ipv6') return leadingBits(address, bits) === first
  // Asked of each of many backends.
  return (((parseIpv4(first) ?? 0) ^ (parseIpv4(address) ?? 0)) & maskOf(bits)) === 0
}

/** The prefix of usual length that an address is in. */
export const prefixAround = (address: string): string => {
  const bits = USUAL[familyOf(address)]
  return `${leadingBits(address, bits)}/${bits}`
}

/**
 * Reads what stands behind a service's slash.
 *
 * @param address a unicast address, parsed
 * @param write what the service is to be written as, for a VIP that takes the place of this one
 * @throws Refusal with what is wrong
 */
export const parsePrefix = (where: string, address: string, text: string, write: (vip: string) => string): string => {
  const usage = { usage: true }
  const family = familyOf(address)
  const { least, most, of } = BOUNDS[family]
  const bits = Number(text)
  if (text === `${BITS[family]}`) throw new Refusal(`${where}: is of one address`, `write ${write(address)}`, usage)
  if (!/^[0-9]{1,3}$/.test(text) || bits < least || bits > most) {
    throw new Refusal(
      `${where}: '${text}' is not the length of a prefix${of} from ${least} to ${most}`,
      `write ${write(prefixAround(address))}`,
      usage,
    )
  }
  const first = leadingBits(address, bits)
  if (first !== address) {
    throw new Refusal(
      `${where}: ${address} has bits behind the first ${bits}`,
      `write ${write(`${first}/${bits}`)}`,
      usage,
    )
  }
  return `${address}/${bits}`
}

/** The lengths of prefixes, as struct directory has them: of each the bit behind it. */
export interface PrefixLengths {
  prefixes: number
  prefixes6High: bigint
  prefixes6Low: bigint
}

/** Those of VIPs, of both families. */
export const prefixLengths = (vips: Iterable<string>): PrefixLengths => {
  let lengths = 0
  let lengths6 = 0n
  for (const vip of vips) {
    if (slashOf(vip) < 0) continue
    const { address, bits } = splitPrefix(vip)
    if (familyOf(address) === 'ipv4') lengths |= behind(bits)
    else lengths6 |= 1n << BigInt(127 - bits)
  }
  return {
    prefixes: lengths >>> 0,
    prefixes6High: lengths6 >> 64n,
    prefixes6Low: BigInt.asUintN(64, lengths6),
  }
}

/** The words of the prefixes that may hold an address, of these lengths, the longest first. */
export function* prefixesOf(address: number, lengths: number): Generator<number> {
  for (let left = lengths; left !== 0; left &= left - 1) {
    const bit = left & -left
    yield ((address & -(bit << 1)) | bit) >>> 0
  }
}

/** As prefixesOf, of an IPv6 address: the numbers, written as addresses. */
export function* prefixesOf6(
  address: string,
  { prefixes6High, prefixes6Low }: Omit<PrefixLengths, 'prefixes'>,
): Generator<string> {
  const { high, low } = halves6(address)
  const number = (high << 64n) | low
  for (let left = (prefixes6High << 64n) | prefixes6Low; left !== 0n; left &= left - 1n) {
    const bit = left & -left
    yield textOf6((number & -(bit << 1n)) | bit)
  }
}

const textOf6 = (number: bigint): string => {
  const view = new DataView(new ArrayBuffer(16))
  view.setBigUint64(0, number >> 64n)
  view.setBigUint64(8, BigInt.asUintN(64, number))
  return readAddress(view, 0, AF.ipv6)
}
