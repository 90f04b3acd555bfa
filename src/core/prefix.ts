// SPDX-License-Identifier: Apache-2.0
// Prefixes of IPv4 addresses as VIPs: `192.0.2.0/24` stands in a service's `vip` where another service has an address. Within the maps both are
// words of 32 bits (struct directory of bpf/xlb.h): a prefix is its address with the first bit behind it set.
import { PrefixLimit } from '../dataplane/layout.gen.ts'
import { familyOf, formatIpv4, parseIpv4 } from './ip.ts'
import { Refusal } from './refusal.ts'

const { PREFIX_BITS_MIN, PREFIX_BITS_MAX } = PrefixLimit

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

/** The mask of a prefix of so many bits, 1 to 32. */
const maskOf = (bits: number): number => (-1 << (32 - bits)) >>> 0

/** Of a VIP that is a prefix: its address, and its length. */
export const splitPrefix = (vip: string): { address: string; bits: number } => {
  const slash = slashOf(vip)
  return { address: vip.slice(0, slash), bits: Number(vip.slice(slash + 1)) }
}

/** @param vip as parseService made it */
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

/** Does the prefix hold the address? Both as they are within xlb. */
export const holds = (prefix: string, address: string): boolean => {
  const { address: first, bits } = splitPrefix(prefix)
  const number = parseIpv4(address)
  return number !== undefined && (((parseIpv4(first) ?? 0) ^ number) & maskOf(bits)) === 0
}

/** The prefix of 24 bits that an address is in. */
export const prefixAround = (address: string): string =>
  `${formatIpv4(((parseIpv4(address) ?? 0) & maskOf(24)) >>> 0)}/24`

/**
 * Reads what stands behind a service's slash.
 *
 * @param address a unicast address, parsed
 * @param write what the service is to be written as, for a VIP that takes the place of this one
 * @throws Refusal with what is wrong
 */
export const parsePrefix = (where: string, address: string, text: string, write: (vip: string) => string): string => {
  const usage = { usage: true }
  const bits = Number(text)
  if (familyOf(address) === 'ipv6') {
    throw new Refusal(`${where}: services of a prefix are of IPv4 alone`, `write ${write(address)}`, usage)
  }
  if (text === '32') throw new Refusal(`${where}: is of one address`, `write ${write(address)}`, usage)
  if (!/^[0-9]{1,2}$/.test(text) || bits < PREFIX_BITS_MIN || bits > PREFIX_BITS_MAX) {
    throw new Refusal(
      `${where}: '${text}' is not the length of a prefix from ${PREFIX_BITS_MIN} to ${PREFIX_BITS_MAX}`,
      `write ${write(prefixAround(address))}`,
      usage,
    )
  }
  const first = formatIpv4(((parseIpv4(address) ?? 0) & maskOf(bits)) >>> 0)
  if (first !== address) {
    throw new Refusal(
      `${where}: ${address} has bits behind the first ${bits}`,
      `write ${write(`${first}/${bits}`)}`,
      usage,
    )
  }
  return `${address}/${bits}`
}

/** The lengths of these VIPs' prefixes, as struct directory has them. */
export const prefixLengths = (vips: Iterable<string>): number => {
  let lengths = 0
  for (const vip of vips) if (slashOf(vip) >= 0) lengths |= behind(splitPrefix(vip).bits)
  return lengths >>> 0
}

/** The words of the prefixes that may hold an address, of these lengths, the longest first. */
export function* prefixesOf(address: number, lengths: number): Generator<number> {
  for (let left = lengths; left !== 0; left &= left - 1) {
    const bit = left & -left
    yield ((address & -(bit << 1)) | bit) >>> 0
  }
}
