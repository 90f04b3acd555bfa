// SPDX-License-Identifier: Apache-2.0
// What an IP packet says, octet by octet from the RFCs, for the reference balancer: nothing of bpf/ or frames.ts is used.
import { type Family, formatAddress6 } from '../../src/core/ip.ts'
import type { ReasonName } from './plane.ts'

/** An IP packet, read up to the header that is none of IP's own. */
export interface Datagram {
  family: Family
  source: string
  destination: string
  /** What follows; of a later fragment what it says of the first. */
  next: number
  part: 'whole' | 'first' | 'later'
  /** By which fragments belong together. */
  name: string
  body: Buffer
}

/** What an ICMP error quotes of a packet: whose it was, and its ports. */
export interface Quoted {
  source: string
  destination: string
  protocol: 'tcp' | 'udp'
  sourcePort: number
  port: number
}

const TYPE: Readonly<Record<number, Family>> = { 2048: 'ipv4', 34525: 'ipv6' }
const HEADER_BYTES: Readonly<Record<Family, number>> = { ipv4: 20, ipv6: 40 }
/** RFC 8200 section 4, RFC 4302 */
const EXTENSIONS = [0, 43, 44, 51, 60]
const EXTENSIONS_MAX = 8
const PORTS_BYTES = 8

export const word = (octets: Buffer, at: number): number => octets.readUInt16BE(at)

export const protocolOf = (number: number | undefined): 'tcp' | 'udp' | undefined =>
  number === 6 ? 'tcp' : number === 17 ? 'udp' : undefined

export const isExtension = ({ family, next }: Pick<Datagram, 'family' | 'next'>): boolean =>
  family === 'ipv6' && EXTENSIONS.includes(next)

const addressAt = (ip: Buffer, at: number, family: Family): string =>
  family === 'ipv4'
    ? [...ip.subarray(at, at + 4)].join('.')
    : formatAddress6({ high: ip.readBigUInt64LE(at), low: ip.readBigUInt64LE(at + 8) })

const sourceOf = (ip: Buffer, family: Family): string => addressAt(ip, family === 'ipv4' ? 12 : 8, family)
export const destinationOf = (ip: Buffer, family: Family): string => addressAt(ip, family === 'ipv4' ? 16 : 24, family)

/** What stands behind Ethernet's header and two tags at most; undefined: no whole IP header. */
export const findIp = (frame: Buffer): { family: Family; ip: Buffer } | undefined => {
  const isTag = (type: number): boolean => type === 0x8100 || type === 0x88a8
  let at = 14
  for (let tags = 0; tags < 2 && isTag(word(frame, at - 2)); tags++) {
    if (frame.length < at + 4) return undefined
    at += 4
  }
  const family = TYPE[word(frame, at - 2)]
  return family === undefined || frame.length < at + HEADER_BYTES[family]
    ? undefined
    : { family, ip: frame.subarray(at) }
}

const partOf = (offset: number, more: boolean): Datagram['part'] => (offset > 0 ? 'later' : more ? 'first' : 'whole')

/** RFC 791 */
const readIpv4 = (ip: Buffer): Datagram | ReasonName => {
  const header = ((ip[0] ?? 0) & 15) * 4
  const total = word(ip, 2)
  if ((ip[0] ?? 0) >> 4 !== 4 || header < 20 || total < header || total > ip.length) return 'DROP_MALFORMED'
  const [source, destination, next] = [sourceOf(ip, 'ipv4'), destinationOf(ip, 'ipv4'), ip[9] ?? 0]
  const fragment = word(ip, 6)
  return {
    family: 'ipv4',
    source,
    destination,
    next,
    part: partOf(fragment & 0x1fff, (fragment & 0x2000) !== 0),
    name: `${source} ${destination} ${next} ${word(ip, 4)}`,
    body: ip.subarray(header, total),
  }
}

interface Walked {
  next: number
  part: Datagram['part']
  identification: number
  body: Buffer
}

/** RFC 8200 section 4: from the first header behind the IPv6 header on. */
const walk = (first: number, octets: Buffer): Walked | ReasonName => {
  const walked: Walked = { next: first, part: 'whole', identification: 0, body: octets }
  for (let count = 0; EXTENSIONS.includes(walked.next) && walked.part !== 'later'; count++) {
    if (count === EXTENSIONS_MAX) return 'DROP_EXTENSIONS'
    const { next, body } = walked
    if (body.length < 8) return 'DROP_TRUNCATED'
    const units = body[1] ?? 0
    const length = next === 44 ? 8 : next === 51 ? 4 * (units + 2) : 8 * (units + 1)
    if (body.length < length) return 'DROP_TRUNCATED'
    const fragment = word(body, 2)
    if (next === 44 && (fragment & 0xfff9) !== 0) {
      walked.part = partOf(fragment >> 3, true)
      walked.identification = body.readUInt32BE(4)
    }
    walked.next = body[0] ?? 0
    walked.body = body.subarray(length)
  }
  return walked
}

const readIpv6 = (ip: Buffer): Datagram | ReasonName => {
  const payload = word(ip, 4)
  if ((ip[0] ?? 0) >> 4 !== 6 || payload > ip.length - 40) return 'DROP_MALFORMED'
  const walked = walk(ip[6] ?? 0, ip.subarray(40, 40 + payload))
  if (typeof walked === 'string') return walked
  const [source, destination] = [sourceOf(ip, 'ipv6'), destinationOf(ip, 'ipv6')]
  const { identification, ...rest } = walked
  return { family: 'ipv6', source, destination, name: `${source} ${destination} ${identification}`, ...rest }
}

/** @returns by which reason it is dropped, where that is all there is to say */
export const readIp = ({ family, ip }: { family: Family; ip: Buffer }): Datagram | ReasonName =>
  family === 'ipv4' ? readIpv4(ip) : readIpv6(ip)

export const isIcmp = ({ family, next, part }: Datagram): boolean =>
  part === 'whole' && next === (family === 'ipv4' ? 1 : 58)

const ERRORS: Readonly<Record<Family, readonly number[]>> = { ipv4: [3, 11, 12], ipv6: [1, 2, 3, 4] }

/** RFC 792, RFC 4443: type, code, checksum, four octets more, then what fits of the packet that the error is about. */
export const quotedBy = ({ family, body }: Datagram): Quoted | undefined => {
  const ip = body.subarray(8)
  if (!ERRORS[family].includes(body[0] ?? -1) || ip.length < HEADER_BYTES[family]) return undefined
  if ((ip[0] ?? 0) >> 4 !== (family === 'ipv4' ? 4 : 6)) return undefined
  const header = ((ip[0] ?? 0) & 15) * 4
  if (family === 'ipv4' && (header < 20 || (word(ip, 6) & 0x1fff) !== 0)) return undefined
  const walked =
    family === 'ipv4'
      ? { part: 'whole', next: ip[9] ?? 0, body: ip.subarray(header) }
      : walk(ip[6] ?? 0, ip.subarray(40))
  if (typeof walked === 'string' || walked.part === 'later' || walked.body.length < PORTS_BYTES) return undefined
  const protocol = protocolOf(walked.next)
  if (protocol === undefined) return undefined
  return {
    source: sourceOf(ip, family),
    destination: destinationOf(ip, family),
    protocol,
    sourcePort: word(walked.body, 0),
    port: word(walked.body, 2),
  }
}
