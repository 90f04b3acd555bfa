// SPDX-License-Identifier: Apache-2.0
// Addresses, services and backends as people write them. Parsed here once; within, they are trusted.
import { beforePort, type Family, familyOf, formatIpv6, ipv6Fault, parseIpv4, parseIpv6 } from './ip.ts'
import { parsePrefix } from './prefix.ts'
import { Refusal } from './refusal.ts'

export type Protocol = 'tcp' | 'udp'

/** First and last of a service's ports: the same twice where it has one, 0 to 65535 where it has every port (`*`). */
export interface Ports {
  port: number
  lastPort: number
}

/**
 * `tcp://192.0.2.10:80`, `tcp://192.0.2.10:8000-8099`, `tcp://192.0.2.10:*` or `tcp://[2001:db8::1]:80`. `vip` may be a prefix
 * too (prefix.ts): `192.0.2.0/24`, `2001:db8:5::/64`. IPv6's stands in brackets as a whole: `tcp://[2001:db8:5::/64]:80`.
 */
export interface ServiceAddress extends Ports {
  protocol: Protocol
  vip: string
}

/**
 * `192.0.2.21`, `192.0.2.21:80`, `2001:db8::21` or `[2001:db8::21]:80`. The port is the service's, as direct server return rewrites none: 0 where the service has
 * several, and the packet's own is kept.
 */
export interface BackendAddress {
  address: string
  port: number
}

export const EVERY_PORT: Ports = { port: 0, lastPort: 65535 }

/** `*`. A packet for port 0, which nobody has, is for it too. */
export const isEveryPort = ({ port }: Pick<Ports, 'port'>): boolean => port === EVERY_PORT.port

/** `8000-8099`. */
export const isRange = ({ port, lastPort }: Ports): boolean => port !== lastPort && port !== EVERY_PORT.port

/** The port that a service's backends have: its own, or 0. */
export const backendPort = ({ port, lastPort }: Ports): number => (port === lastPort ? port : 0)

export const usage = { usage: true }

/** Reverses the octets of a 32-bit number: network order as a little-endian machine loads it, and back. */
export const swap32 = (word: number): number =>
  ((word >>> 24) | ((word >>> 8) & 0xff00) | ((word << 8) & 0xff0000) | (word << 24)) >>> 0

/** Reverses the octets of a 16-bit number. */
export const swap16 = (word: number): number => ((word >>> 8) | (word << 8)) & 0xffff

const refuseAddress = (where: string, what: string, family: Family = 'ipv4'): never => {
  const example = family === 'ipv4' ? '192.0.2.10' : '2001:db8::10'
  throw new Refusal(`${where}: ${what}`, `give a unicast address such as ${example}`, usage)
}

const unicast4 = (where: string, text: string): string => {
  const address = parseIpv4(text)
  if (address === undefined) return refuseAddress(where, `'${text}' is neither an IPv4 nor an IPv6 address`)
  const first = address >>> 24
  if (first === 0) refuseAddress(where, `${text} is in 0.0.0.0/8, which names no host (RFC 1122 section 3.2.1.3)`)
  if (first === 127) refuseAddress(where, `${text} is a loopback address, which no packet on a wire carries`)
  if (first >= 240) refuseAddress(where, `${text} is reserved or broadcast (RFC 1112 section 4)`)
  if (first >= 224) refuseAddress(where, `${text} is a multicast address`)
  return text
}

const unicast6 = (where: string, text: string): string => {
  const groups = parseIpv6(text)
  if (groups === undefined) return refuseAddress(where, `'${text}' is not an IPv6 address`, 'ipv6')
  const fault = ipv6Fault(groups)
  return fault === undefined ? formatIpv6(groups) : refuseAddress(where, `${text} ${fault}`, 'ipv6')
}

/** An address of one host, in the form that it has within xlb. */
const unicast = (where: string, text: string): string =>
  text.includes(':') ? unicast6(where, text) : unicast4(where, text)

/** `[2001:db8::1]:80` or `192.0.2.1:80`, taken apart; a port is not asked for. Undefined: of no such form. */
export const splitPort = (text: string): { host: string; port: string | undefined } | undefined => {
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/.exec(text)
  if (parts === null) return undefined
  const [, bracketed, plain, port] = parts
  // Brackets are for what has colons.
  if (bracketed?.includes(':') === false) return undefined
  return { host: bracketed ?? plain ?? '', port }
}

export const parsePort = (where: string, text: string): number => {
  const mend = 'choose a port from 1 to 65535'
  if (!/^[0-9]+$/.test(text)) throw new Refusal(`${where}: '${text}' is not a port number`, mend, usage)
  const number = Number(text)
  if (number > 65535) throw new Refusal(`${where}: port ${text} exceeds 65535`, mend, usage)
  if (number === 0) throw new Refusal(`${where}: port 0 is reserved`, mend, usage)
  return number
}

/** `8000-8099`. @param written the service without its ports, to show how they are to be written */
const range = (where: string, written: string, text: string): Ports => {
  const dash = text.indexOf('-')
  const first = parsePort(where, text.slice(0, dash))
  const last = parsePort(where, text.slice(dash + 1))
  if (first === last) {
    throw new Refusal(`${where}: the range ${text} is of one port`, `write ${written}:${first}`, usage)
  }
  if (first > last) {
    throw new Refusal(`${where}: the range ${text} runs backwards`, `write ${written}:${last}-${first}`, usage)
  }
  return { port: first, lastPort: last }
}

const ports = (where: string, written: string, text: string): Ports => {
  if (text === '*') return EVERY_PORT
  if (text.includes('-')) return range(where, written, text)
  const only = parsePort(where, text)
  return { port: only, lastPort: only }
}

/** A service, taken apart: `[2001:db8:5::/64]:80` has its length within the brackets, `192.0.2.0/24:80` before the port. */
const splitService = (text: string) => {
  const bracketed = /^([A-Za-z0-9]+):\/\/\[([^\]/]*)\/([^\]/]*)\](:[^/]*)?$/.exec(text)
  const parts = bracketed ?? /^([A-Za-z0-9]+):\/\/([^/]*?)(?:\/([^:/]*)(:[^/]*)?)?$/.exec(text)
  if (parts === null) return undefined
  const [, scheme = '', host = '', bits, behind = ''] = parts
  const isBracketed = bracketed !== null
  return { scheme, host: isBracketed ? `[${host}]` : host, bits, behind, isBracketed }
}

/** @throws Refusal with what is wrong. */
export const parseService = (text: string): ServiceAddress => {
  const parts = splitService(text)
  const { host = '', bits, behind = '' } = parts ?? {}
  const written = `${host}${behind}`
  const isBare = parseIpv6(written) !== undefined
  // A prefix's length stands before the port.
  const place = isBare || (bits !== undefined && splitPort(host)?.port !== undefined) ? undefined : splitPort(written)
  if (parts === undefined || place === undefined) {
    throw new Refusal(
      `service '${text}': is not of the form PROTOCOL://VIP:PORT`,
      isBare ? `write ${parts?.scheme}://[${written}]:80` : 'write tcp://192.0.2.10:80 or tcp://[2001:db8::10]:80',
      usage,
    )
  }
  const { scheme } = parts
  const protocol = scheme.toLowerCase()
  if (protocol !== 'tcp' && protocol !== 'udp') {
    throw new Refusal(`service '${text}': protocol '${scheme}' is not balanced`, 'choose tcp or udp', usage)
  }
  const where = `service '${text}'`
  const address = unicast(where, place.host)
  const write = (vip: string) => `${protocol}://${beforePort(vip)}:${behind.slice(1) || '80'}`
  const vip = bits === undefined ? address : parsePrefix(where, address, bits, write)
  if (bits !== undefined && familyOf(vip) === 'ipv6' && !parts.isBracketed) {
    throw new Refusal(`${where}: the length of an IPv6 prefix stands in the brackets`, `write ${write(vip)}`, usage)
  }
  const withoutPort = `${protocol}://${beforePort(vip)}`
  if (place.port === undefined || place.port === '') {
    throw new Refusal(`${where}: has no port`, `write ${withoutPort}:80`, usage)
  }
  return { protocol, vip, ...ports(where, withoutPort, place.port) }
}

/** What parseBackend has to know of the service; `vip` where it is known. */
export type BackendsService = Ports & { vip?: string }

const familyName = { ipv4: 'IPv4', ipv6: 'IPv6' } as const

/** @throws Refusal for a backend of another family than its VIP: the packet is not translated */
const checkFamily = (where: string, address: string, vip: string | undefined): void => {
  if (vip === undefined || familyOf(vip) === familyOf(address)) return
  throw new Refusal(
    `${where}: is an ${familyName[familyOf(address)]} address and its service is ${familyName[familyOf(vip)]}`,
    `give the real server's ${familyName[familyOf(vip)]} address: direct server return does not translate packets`,
    usage,
  )
}

/**
 * @param service whose backend it is. Where no port is written it is the service's; with direct server return a backend has no
 * other, as the packet is not rewritten.
 * @throws Refusal with what is wrong.
 */
export const parseBackend = (text: string, service: BackendsService): BackendAddress => {
  const where = `backend '${text}'`
  const place = parseIpv6(text) === undefined ? splitPort(text) : { host: text, port: undefined }
  if (place === undefined) return refuseAddress(where, 'is not of the form ADDRESS or ADDRESS:PORT')
  const address = unicast(where, place.host)
  checkFamily(where, address, service.vip)
  const own = backendPort(service)
  if (place.port === undefined) return { address, port: own }
  if (place.port === '*') {
    throw new Refusal(`${where}: '*' is no backend's port`, `leave the port out: ${address}`, usage)
  }
  const given = parsePort(where, place.port)
  if (own === 0) {
    throw new Refusal(
      `${where}: the service has ports ${formatPorts(service)}, and direct server return keeps the packet's port`,
      `leave the port out: ${address}`,
      usage,
    )
  }
  if (given !== own) {
    throw new Refusal(
      `${where}: port ${given} differs from the service's ${own}, and direct server return rewrites no port`,
      `leave the port out, or let the real server listen on ${own}`,
      usage,
    )
  }
  return { address, port: given }
}

/** `80`, `8000-8099` or `*`. */
export const formatPorts = (ports: Ports): string => {
  if (isEveryPort(ports)) return '*'
  return isRange(ports) ? `${ports.port}-${ports.lastPort}` : `${ports.port}`
}

/** The one text form of a service, which parseService reads. */
export const formatService = (service: ServiceAddress): string =>
  `${service.protocol}://${beforePort(service.vip)}:${formatPorts(service)}`

/** The VIP in a service's name, without parsing it: names are formatService's. */
export const vipOf = (name: string): string => {
  const host = name.slice(name.indexOf('//') + 2, name.lastIndexOf(':'))
  return host.startsWith('[') ? host.slice(1, -1) : host
}

/** `02:00:00:00:00:01` as a 48-bit number whose lowest octet is the first one, as struct backend holds it. */
export const parseMac = (text: string): bigint =>
  text.split(':').reduceRight((word, octet) => (word << 8n) | BigInt(Number.parseInt(octet, 16)), 0n)

/** The reverse of parseMac; bits above 48 are ignored. */
export const formatMac = (word: bigint): string =>
  Array.from({ length: 6 }, (_, i) => ((word >> BigInt(8 * i)) & 0xffn).toString(16).padStart(2, '0')).join(':')
