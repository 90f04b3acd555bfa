// SPDX-License-Identifier: Apache-2.0
// Places that packets come from or go to, as people write them: one, or all that are alike in some bits.
import { parsePort, splitPort, usage } from './address.ts'
import { addressOctets, beforePort, type Family, familyOf, formatIpv6, parseIpv4, parseIpv6 } from './ip.ts'
import { Refusal } from './refusal.ts'

/** `address` is text, as everywhere within xlb. */
export interface Endpoint {
  address: string
  port: number
}

/** Any address, in the form that it has within xlb; undefined where it is none. */
const anyAddress = (text: string): string | undefined => {
  if (parseIpv4(text) !== undefined) return text
  const groups = parseIpv6(text)
  return groups === undefined ? undefined : formatIpv6(groups)
}

/** `198.51.100.7:40000` or `[2001:db8::7]:40000`. @throws Refusal with what is wrong; `where` names the place. */
export const parseEndpoint = (where: string, text: string): Endpoint => {
  const place = splitPort(text)
  const address = anyAddress(place?.host ?? '')
  if (place?.port === undefined || address === undefined) {
    throw new Refusal(
      `${where} '${text}': is not of the form ADDRESS:PORT`,
      'write 198.51.100.7:40000 or [2001:db8::7]:40000',
      usage,
    )
  }
  return { address, port: parsePort(`${where} '${text}'`, place.port) }
}

export const formatEndpoint = ({ address, port }: Endpoint): string => `${beforePort(address)}:${port}`

/** Sources that are alike in some bits. Words are 32 bits each, as a little-endian machine loads them: one, or four of IPv6. */
export interface SourceRange {
  family: Family
  words: number[]
  masks: number[]
  /** Undefined: any. */
  port: number | undefined
}

const wordsOf = (octets: Uint8Array, count: number): number[] => {
  const view = new DataView(octets.buffer)
  return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true))
}

/** Octets of which the first `bits` bits are set. */
const maskOctets = (bits: number): Uint8Array =>
  Uint8Array.from({ length: 16 }, (_, i) => 0xff00 >> Math.min(8, Math.max(0, bits - 8 * i)))

/** A prefix, with or without brackets, and a port: which form it has. */
const splitSource = (text: string): { prefix: string; port: string | undefined } | undefined => {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text)
  if (bracketed !== null) return { prefix: bracketed[1] ?? '', port: bracketed[2] }
  if (text.split(':').length > 2) return { prefix: text, port: undefined }
  const plain = /^([^:]*)(?::(.*))?$/.exec(text)
  return plain === null ? undefined : { prefix: plain[1] ?? '', port: plain[2] }
}

/**
 * `198.51.100.7`, `198.51.100.0/24`, `198.51.100.7:40000`, `198.51.100.0/24:40000`, `2001:db8::/32`, `[2001:db8::7]:40000`,
 * `[2001:db8::/32]:40000`. @throws Refusal with what is wrong.
 */
export const parseSource = (text: string): SourceRange => {
  const where = `source '${text}'`
  const split = splitSource(text)
  const [host = '', bitsText, ...more] = split?.prefix.split('/') ?? []
  const address = anyAddress(host)
  if (split === undefined || address === undefined || more.length > 0) {
    throw new Refusal(
      `${where}: is not of the form ADDRESS[/PREFIX][:PORT]`,
      'write 198.51.100.7, 198.51.100.0/24, 198.51.100.7:40000 or [2001:db8::/32]:40000',
      usage,
    )
  }
  const family = familyOf(address)
  const width = family === 'ipv4' ? 32 : 128
  const bits = bitsText ?? `${width}`
  if (!/^[0-9]{1,3}$/.test(bits) || Number(bits) > width) {
    throw new Refusal(`${where}: '${bits}' is no prefix length`, `choose 0 to ${width}`, usage)
  }
  const masks = wordsOf(maskOctets(Number(bits)), width / 32)
  const words = wordsOf(addressOctets(address), width / 32).map((word, i) => (word & (masks[i] ?? 0)) >>> 0)
  return { family, words, masks, port: split.port === undefined ? undefined : parsePort(where, split.port) }
}
