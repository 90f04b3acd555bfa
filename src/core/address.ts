// SPDX-License-Identifier: Apache-2.0
// Addresses, services and backends as people write them. Parsed here once; within, they are trusted.
import { Refusal } from './refusal.ts'

export type Protocol = 'tcp' | 'udp'

/** First and last of a service's ports: the same twice where it has one, 0 to 65535 where it has every port (`*`). */
export interface Ports {
  port: number
  lastPort: number
}

/** `tcp://192.0.2.10:80`, `tcp://192.0.2.10:8000-8099` or `tcp://192.0.2.10:*`. `vip` is dotted decimal. */
export interface ServiceAddress extends Ports {
  protocol: Protocol
  vip: string
}

/**
 * `192.0.2.21` or `192.0.2.21:80`. The port is the service's, as direct server return rewrites none: 0 where the service has
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

const usage = { usage: true }

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

/** Reverses the octets of a 32-bit number: network order as a little-endian machine loads it, and back. */
export const swap32 = (word: number): number =>
  ((word >>> 24) | ((word >>> 8) & 0xff00) | ((word << 8) & 0xff0000) | (word << 24)) >>> 0

/** Reverses the octets of a 16-bit number. */
export const swap16 = (word: number): number => ((word >>> 8) | (word << 8)) & 0xffff

const refuseAddress = (where: string, what: string): never => {
  throw new Refusal(`${where}: ${what}`, 'give a unicast IPv4 address such as 192.0.2.10', usage)
}

const unicast = (where: string, text: string): string => {
  if (text.includes(':') || text.startsWith('[')) {
    refuseAddress(where, 'is an IPv6 address; xlb balances IPv4 only')
  }
  const address = parseIpv4(text)
  if (address === undefined) return refuseAddress(where, `'${text}' is not an IPv4 address`)
  const first = address >>> 24
  if (first === 0) refuseAddress(where, `${text} is in 0.0.0.0/8, which names no host (RFC 1122 section 3.2.1.3)`)
  if (first === 127) refuseAddress(where, `${text} is a loopback address, which no packet on a wire carries`)
  if (first >= 240) refuseAddress(where, `${text} is reserved or broadcast (RFC 1112 section 4)`)
  if (first >= 224) refuseAddress(where, `${text} is a multicast address`)
  return text
}

const port = (where: string, text: string): number => {
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
  const first = port(where, text.slice(0, dash))
  const last = port(where, text.slice(dash + 1))
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
  const only = port(where, text)
  return { port: only, lastPort: only }
}

/** @throws Refusal with what is wrong. */
export const parseService = (text: string): ServiceAddress => {
  const parts = /^([A-Za-z0-9]+):\/\/(\[.*\]|[^:/]*)(?::([^/]*))?$/.exec(text)
  if (parts === null) {
    throw new Refusal(`service '${text}': is not of the form PROTOCOL://VIP:PORT`, 'write tcp://192.0.2.10:80', usage)
  }
  const [, scheme = '', host = '', portText] = parts
  const protocol = scheme.toLowerCase()
  if (protocol !== 'tcp' && protocol !== 'udp') {
    throw new Refusal(`service '${text}': protocol '${scheme}' is not balanced`, 'choose tcp or udp', usage)
  }
  const where = `service '${text}'`
  const vip = unicast(where, host)
  if (portText === undefined || portText === '') {
    throw new Refusal(`${where}: has no port`, `write ${protocol}://${vip}:80`, usage)
  }
  return { protocol, vip, ...ports(where, `${protocol}://${vip}`, portText) }
}

/**
 * @param service whose backend it is. Where no port is written it is the service's; with direct server return a backend has no
 * other, as the packet is not rewritten.
 * @throws Refusal with what is wrong.
 */
export const parseBackend = (text: string, service: Ports): BackendAddress => {
  const where = `backend '${text}'`
  const colons = text.split(':').length - 1
  if (colons > 1) refuseAddress(where, 'is an IPv6 address and its service is IPv4')
  const [host = '', portText] = text.split(':')
  const address = unicast(where, host)
  const own = backendPort(service)
  if (portText === undefined) return { address, port: own }
  if (portText === '*') {
    throw new Refusal(`${where}: '*' is no backend's port`, `leave the port out: ${address}`, usage)
  }
  const given = port(where, portText)
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

/** A place that packets come from or go to. `address` is a 32-bit number, most significant octet first. */
export interface Endpoint {
  address: number
  port: number
}

/** `198.51.100.7:40000`: of any IPv4 address. @throws Refusal with what is wrong; `where` names the place. */
export const parseEndpoint = (where: string, text: string): Endpoint => {
  const parts = /^([^:]*):([^:]*)$/.exec(text)
  const address = parseIpv4(parts?.[1] ?? '')
  if (parts === null || address === undefined) {
    throw new Refusal(`${where} '${text}': is not of the form ADDRESS:PORT`, 'write 198.51.100.7:40000', usage)
  }
  return { address, port: port(`${where} '${text}'`, parts[2] ?? '') }
}

export const formatEndpoint = ({ address, port }: Endpoint): string => `${formatIpv4(address)}:${port}`

/** Sources that are alike in some bits. `address` and `mask` are 32-bit numbers, most significant octet first. */
export interface SourceRange {
  address: number
  mask: number
  /** Undefined: any. */
  port: number | undefined
}

/** `198.51.100.7`, `198.51.100.0/24`, `198.51.100.7:40000`, `198.51.100.0/24:40000`. @throws Refusal with what is wrong. */
export const parseSource = (text: string): SourceRange => {
  const where = `source '${text}'`
  const parts = /^([^/:]*)(?:\/([^/:]*))?(?::([^:]*))?$/.exec(text)
  const address = parseIpv4(parts?.[1] ?? '')
  if (parts === null || address === undefined) {
    throw new Refusal(
      `${where}: is not of the form ADDRESS[/PREFIX][:PORT]`,
      'write 198.51.100.7, 198.51.100.0/24 or 198.51.100.7:40000',
      usage,
    )
  }
  const bits = parts[2] ?? '32'
  if (!/^[0-9]{1,2}$/.test(bits) || Number(bits) > 32) {
    throw new Refusal(`${where}: '${bits}' is no prefix length`, 'choose 0 to 32', usage)
  }
  const mask = Number(bits) === 0 ? 0 : (-1 << (32 - Number(bits))) >>> 0
  return {
    address: (address & mask) >>> 0,
    mask,
    port: parts[3] === undefined ? undefined : port(where, parts[3]),
  }
}

/** `80`, `8000-8099` or `*`. */
export const formatPorts = (ports: Ports): string => {
  if (isEveryPort(ports)) return '*'
  return isRange(ports) ? `${ports.port}-${ports.lastPort}` : `${ports.port}`
}

/** The one text form of a service, which parseService reads. */
export const formatService = (service: ServiceAddress): string =>
  `${service.protocol}://${service.vip}:${formatPorts(service)}`

/** `02:00:00:00:00:01` as a 48-bit number whose lowest octet is the first one, as struct backend holds it. */
export const parseMac = (text: string): bigint =>
  text.split(':').reduceRight((word, octet) => (word << 8n) | BigInt(Number.parseInt(octet, 16)), 0n)

/** The reverse of parseMac; bits above 48 are ignored. */
export const formatMac = (word: bigint): string =>
  Array.from({ length: 6 }, (_, i) => ((word >> BigInt(8 * i)) & 0xffn).toString(16).padStart(2, '0')).join(':')
