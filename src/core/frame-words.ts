// SPDX-License-Identifier: Apache-2.0
// What a frame says of itself, for a line of text: addresses, ports, protocol. As much as is there; a capture may hold any octets.
import { AF, beforePort, readAddress } from './ip.ts'

export interface FrameWords {
  /** 802.1Q tags' VLANs, outer first. */
  vlans: number[]
  /** Of the frame, or of what it carries: arp, ip6-icmp... A protocol without a name here is its number. */
  protocol: string
  /** With `:PORT` where the frame has ports. Undefined: the frame has no IP addresses. */
  source: string | undefined
  destination: string | undefined
  sourcePort: number | undefined
  /** S, F, R, P, U and `.` for ACK, as tcpdump has them. Undefined: no TCP header. */
  flags: string | undefined
  /** A later fragment, or the first of several. */
  fragment: boolean
}

const IPV4 = 0x0800
const IPV6 = 0x86dd
const TAGS: readonly number[] = [0x8100, 0x88a8]
const ETHERTYPES: Readonly<Record<number, string>> = { 2054: 'arp', 35020: 'lldp' }
const TCP = 6
const UDP = 17
const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  [TCP]: 'tcp',
  [UDP]: 'udp',
  47: 'gre',
  50: 'esp',
  58: 'icmp6',
  112: 'vrrp',
}
const FLAG_LETTERS: readonly (readonly [bit: number, letter: string])[] = [
  [0x02, 'S'],
  [0x01, 'F'],
  [0x04, 'R'],
  [0x08, 'P'],
  [0x20, 'U'],
  [0x10, '.'],
]
/** Headers that stand between IPv6 and what it carries (RFC 8200 section 4.1), but the fragment's, which is told apart. */
const EXTENSIONS: readonly number[] = [0, 43, 60]
const FRAGMENT_HEADER = 44
const AUTHENTICATION = 51

/** What stands behind an IP header. */
interface Carried {
  protocol: number
  /** Octet of the frame at which it begins; undefined: this is a later fragment, and it begins in another. */
  at: number | undefined
  fragment: boolean
}

const carriedByIpv4 = (view: DataView, at: number): Carried => {
  const fragmentBits = view.getUint16(at + 6) & 0x3fff
  const begins = at + (view.getUint8(at) & 0xf) * 4
  return {
    protocol: view.getUint8(at + 9),
    at: (fragmentBits & 0x1fff) === 0 ? begins : undefined,
    fragment: fragmentBits !== 0,
  }
}

const carriedByIpv6 = (view: DataView, at: number): Carried => {
  let protocol = view.getUint8(at + 6)
  let next = at + 40
  let fragment = false
  while (next + 8 <= view.byteLength) {
    if (protocol === FRAGMENT_HEADER) {
      fragment = true
      if (view.getUint16(next + 2) >>> 3 !== 0) return { protocol: view.getUint8(next), at: undefined, fragment }
      protocol = view.getUint8(next)
      next += 8
    } else if (EXTENSIONS.includes(protocol) || protocol === AUTHENTICATION) {
      // RFC 4302 section 2.2 counts by four octets, from the second.
      const count = view.getUint8(next + 1)
      const length = protocol === AUTHENTICATION ? (count + 2) * 4 : (count + 1) * 8
      protocol = view.getUint8(next)
      next += length
    } else break
  }
  return { protocol, at: next, fragment }
}

const flagsOf = (octet: number): string =>
  FLAG_LETTERS.filter(([bit]) => (octet & bit) !== 0)
    .map(([, letter]) => letter)
    .join('')

const NO_IP = { source: undefined, destination: undefined, sourcePort: undefined, flags: undefined, fragment: false }

/** Reads a frame, or the start of one. */
export const readFrame = (frame: Uint8Array): FrameWords => {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  if (frame.length < 14) return { vlans: [], protocol: 'cut off', ...NO_IP }
  const vlans: number[] = []
  let type = view.getUint16(12)
  let at = 14
  while (TAGS.includes(type) && at + 4 <= frame.length) {
    vlans.push(view.getUint16(at) & 0xfff)
    type = view.getUint16(at + 2)
    at += 4
  }
  const isIpv4 = type === IPV4 && at + 20 <= frame.length
  if (!isIpv4 && !(type === IPV6 && at + 40 <= frame.length)) {
    return { vlans, protocol: ETHERTYPES[type] ?? `0x${type.toString(16).padStart(4, '0')}`, ...NO_IP }
  }
  const addressAt = (offset: number) => readAddress(view, at + offset, isIpv4 ? AF.ipv4 : AF.ipv6)
  const [source, destination] = isIpv4 ? [addressAt(12), addressAt(16)] : [addressAt(8), addressAt(24)]
  const { protocol, at: body, fragment } = isIpv4 ? carriedByIpv4(view, at) : carriedByIpv6(view, at)
  const hasPorts = (protocol === TCP || protocol === UDP) && body !== undefined && body + 4 <= frame.length
  const named = (address: string, offset: number): string =>
    hasPorts ? `${beforePort(address)}:${view.getUint16(body + offset)}` : address
  return {
    vlans,
    protocol: PROTOCOLS[protocol] ?? `protocol ${protocol}`,
    source: named(source, 0),
    destination: named(destination, 2),
    sourcePort: hasPorts ? view.getUint16(body) : undefined,
    flags: protocol === TCP && hasPorts && body + 14 <= frame.length ? flagsOf(view.getUint8(body + 13)) : undefined,
    fragment,
  }
}
