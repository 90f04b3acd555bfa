// SPDX-License-Identifier: Apache-2.0
// IP addresses of both families: text, octets, and words as the packet path has them. Within xlb an address is its text: dotted
// decimal, or RFC 5952's form of IPv6.
import ipaddr from 'ipaddr.js'

export type Family = 'ipv4' | 'ipv6'

/** <sys/socket.h>'s numbers, as the maps and netlink have them. */
export const AF = { ipv4: 2, ipv6: 10 } as const

/** Of an address as it is written within xlb. */
export const familyOf = (address: string): Family => (address.includes(':') ? 'ipv6' : 'ipv4')

/** An IPv6 address as two words, each as a little-endian machine loads its eight octets (struct address6). */
export interface Address6 {
  high: bigint
  low: bigint
}

const DOT = 46
const ZERO = 48
const NINE = 57

/** The 32-bit number of a dotted decimal address, most significant octet first; undefined where it is none. */
export const parseIpv4 = (text: string): number | undefined => {
  // Digit by digit, without a regular expression: a file may hold a hundred thousand of them.
  let address = 0
  let octets = 0
  let digits = 0
  let octet = 0
  for (let i = 0; i <= text.length; i++) {
    const code = i < text.length ? text.charCodeAt(i) : DOT
    if (code === DOT) {
      if (digits === 0 || ++octets > 4) return undefined
      address = address * 256 + octet
      digits = octet = 0
      continue
    }
    // No leading zeros: some programs read them as octal.
    if (code < ZERO || code > NINE || (digits > 0 && octet === 0)) return undefined
    octet = octet * 10 + code - ZERO
    digits++
    if (octet > 255) return undefined
  }
  return octets === 4 ? address : undefined
}

/** The reverse of parseIpv4. */
export const formatIpv4 = (address: number): string =>
  `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`

/** The eight 16-bit groups, most significant octets first; undefined where it is no IPv6 address, or names a zone. */
export const parseIpv6 = (text: string): number[] | undefined => {
  // Two colons at least: an IPv4 address with a port is told apart without the parser, which throws within.
  if (text.indexOf(':') === text.lastIndexOf(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined
  return ipaddr.IPv6.parse(text).parts
}

/** RFC 5952. */
export const formatIpv6 = (groups: number[]): string => new ipaddr.IPv6(groups).toRFC5952String()

const groupsOf = (address: string): number[] => parseIpv6(address) ?? new Array<number>(8).fill(0)

/** Writes an address into 16 octets: IPv4 in the first four. The others are left as they are. */
export const writeAddress = (view: DataView, at: number, address: string): void => {
  if (familyOf(address) === 'ipv4') view.setUint32(at, parseIpv4(address) ?? 0)
  else for (const [i, group] of groupsOf(address).entries()) view.setUint16(at + 2 * i, group)
}

/** The reverse of writeAddress. @param family of AF */
export const readAddress = (view: DataView, at: number, family: number): string => {
  if (family !== AF.ipv6) return formatIpv4(view.getUint32(at))
  return formatIpv6(Array.from({ length: 8 }, (_, i) => view.getUint16(at + 2 * i)))
}

/** 16 octets: IPv4 in the first four. */
export const addressOctets = (address: string): Uint8Array => {
  const octets = new Uint8Array(16)
  writeAddress(new DataView(octets.buffer), 0, address)
  return octets
}

/** @param address IPv6 */
export const address6 = (address: string): Address6 => {
  const view = new DataView(addressOctets(address).buffer)
  return { high: view.getBigUint64(0, true), low: view.getBigUint64(8, true) }
}

/** The two halves of an IPv6 address as numbers. */
export const halves6 = (address: string): Address6 => {
  const view = new DataView(addressOctets(address).buffer)
  return { high: view.getBigUint64(0), low: view.getBigUint64(8) }
}

/** The reverse of address6. */
export const formatAddress6 = ({ high, low }: Address6): string => {
  const view = new DataView(new ArrayBuffer(16))
  view.setBigUint64(0, high, true)
  view.setBigUint64(8, low, true)
  return readAddress(view, 0, AF.ipv6)
}

/** What is equal for two addresses if they are: for tables of many. IPv4's is its number, IPv6's a text that is no address. */
export type AddressKey = number | string

export const addressKey = (address: string): AddressKey =>
  familyOf(address) === 'ipv4' ? (parseIpv4(address) ?? 0) : String.fromCharCode(...groupsOf(address))

/** As addressKey, of 16 octets. @param family of AF */
export const readAddressKey = (view: DataView, at: number, family: number): AddressKey => {
  if (family !== AF.ipv6) return view.getUint32(at)
  let key = ''
  for (let i = 0; i < 16; i += 2) key += String.fromCharCode(view.getUint16(at + i))
  return key
}

/** The reverse of addressKey. */
export const formatAddressKey = (key: AddressKey): string =>
  typeof key === 'number' ? formatIpv4(key) : formatIpv6(Array.from(key, (_, i) => key.charCodeAt(i)))

/** As it stands before a port: `[2001:db8::1]`, or an IPv4 address as it is. */
export const beforePort = (address: string): string => (familyOf(address) === 'ipv6' ? `[${address}]` : address)

/** The network of an address: its first `bits` bits, the others 0. */
export const leadingBits = (address: string, bits: number): string => {
  const octets = addressOctets(address).map((octet, i) => octet & (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))))
  return readAddress(new DataView(octets.buffer), 0, AF[familyOf(address)])
}

/** Why no packet on a wire can have this destination; undefined: it can. @param groups parseIpv6's */
export const ipv6Fault = (groups: readonly number[]): string | undefined => {
  const [first = 0] = groups
  const starts = (count: number) => groups.slice(0, count).every((group) => group === 0)
  if (starts(8)) return 'is the unspecified address, which names no host (RFC 4291 section 2.5.2)'
  if (starts(7) && groups[7] === 1) return 'is the loopback address, which no packet on a wire carries'
  if (starts(5) && groups[5] === 0xffff) return 'is an IPv4-mapped address (RFC 4291 section 2.5.5.2); write it as IPv4'
  if ((first & 0xff00) === 0xff00) return 'is a multicast address'
  if ((first & 0xffc0) === 0xfe80) return 'is link-local, and means nothing without an interface (RFC 4007)'
  return undefined
}
