// SPDX-License-Identifier: Apache-2.0
// The traffic that bpf/bench.bpf.c makes: smallest frames of so many flows to so many services.
import { fileURLToPath } from 'node:url'
import { type Family, formatIpv6 } from '../core/ip.ts'
import type { BpfObject, Native } from '../dataplane/native.ts'

export const BENCH_FILE = fileURLToPath(new URL('../../build/bpf/bench.bpf.o', import.meta.url))

export const TCP_SYN = 0x02
export const TCP_ACK = 0x10

export interface Traffic {
  /** As the report names it: `64 K flows`. */
  name: string
  protocol: 'tcp' | 'udp'
  /** Absent: IPv4. */
  family?: Family
  /** TCP_SYN for floods and first packets, TCP_ACK for established connections. Unused for UDP. */
  flags: number
  /** A power of two up to 2^31; 'new': no flow comes twice in 2^32 packets. */
  flows: number | 'new'
  /** Behind two VLAN tags: a provider's, and one of VLAN 100. Of IPv4 alone. */
  tagged?: boolean
  /** ICMP errors about the flows (fragmentation needed), as routers send them. Of IPv4 alone. */
  errors?: boolean
  /** Each flow goes to one of so many services, up to 65,536; see vipOfService. */
  services: number
}

/** Hardware addresses: the director's own (frames come to it), the client's side, the backend's (the floors send there). */
export interface Macs {
  director: string
  client: string
  backend: string
}

export const DEFAULT_MACS: Macs = {
  director: '02:00:00:be:00:01',
  client: '02:00:00:be:00:02',
  backend: '02:00:00:be:00:03',
}

/** Without FCS. */
export const FRAME_BYTES = 60
const FRAME6_BYTES = 74
const ERROR_BYTES = 70

/** Tags left out. */
const untaggedBytes = ({ family, errors }: Traffic): number => {
  if (errors === true) return ERROR_BYTES
  return family === 'ipv6' ? FRAME6_BYTES : FRAME_BYTES
}

export const frameBytes = (traffic: Traffic): number =>
  untaggedBytes(traffic) + (traffic.tagged === true ? TAGS.length : 0)
export const SERVICE_PORT = 80

const FIRST_VIP = 0xc6_12_00_01
/** All of them. */
export const BENCH_PREFIX = '198.18.0.0/15'
const ETHERNET_BYTES = 14

/** 198.18.0.1 and on (RFC 2544 appendix C.2.2: for benchmarks), in host order. */
export const vipOfService = (service: number): number => FIRST_VIP + service

/** 2001:2:: (RFC 5180 section 8: for benchmarks), with the number of the IPv4 address at its end. */
export const vip6OfService = (service: number): string => {
  const number = vipOfService(service)
  return formatIpv6([0x2001, 2, 0, 0, 0, 0, number >>> 16, number & 0xffff])
}

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex')

/** Those of `tagged`, as they stand behind the MACs. */
const TAGS = Buffer.from('88a8000781000064', 'hex')

const IPV4_BYTES = 20
const IPV6_BYTES = 40

const writeIpv4 = (ip: Buffer, protocol: number): void => {
  ip[0] = 0x45
  ip.writeUInt16BE(ip.length, 2)
  ip.writeUInt16BE(0x4000, 6) // do not fragment
  ip[8] = 64
  ip[9] = protocol
}

const writeIpv6 = (ip: Buffer, protocol: number): void => {
  ip[0] = 0x60
  ip.writeUInt16BE(ip.length - IPV6_BYTES, 4)
  ip[6] = protocol
  ip[7] = 64
  ip.writeUInt32BE(0x20010002, 8)
  ip.writeUInt32BE(0x20010002, 24)
}

/** RFC 792: type 3, code 4; and the next hop's MTU of RFC 1191. What it quotes, a service has sent. */
const writeError = (icmp: Buffer, protocol: number): void => {
  icmp[0] = 3
  icmp[1] = 4
  icmp.writeUInt16BE(1400, 6)
  const quoted = icmp.subarray(8)
  writeIpv4(quoted, protocol)
  quoted.writeUInt16BE(1500, 2)
  quoted.writeUInt16BE(SERVICE_PORT, IPV4_BYTES)
}

/** 203.0.113.1 (RFC 5737). */
const ROUTER = 0xcb007101

/** What all frames of `traffic` share, but for tags. The ends of addresses and the source port are the program's to write. */
export const templateFrame = (traffic: Traffic, macs: Macs): Buffer => {
  const isIpv6 = traffic.family === 'ipv6'
  const frame = Buffer.alloc(untaggedBytes(traffic))
  macBytes(macs.director).copy(frame, 0)
  macBytes(macs.client).copy(frame, 6)
  frame.writeUInt16BE(isIpv6 ? 0x86dd : 0x0800, 12)
  const ip = frame.subarray(ETHERNET_BYTES)
  if (traffic.errors === true) {
    writeIpv4(ip, 1)
    ip.writeUInt32BE(ROUTER, 12)
    writeError(ip.subarray(IPV4_BYTES), 6)
    return frame
  }
  const writeIp = isIpv6 ? writeIpv6 : writeIpv4
  writeIp(ip, traffic.protocol === 'tcp' ? 6 : 17)
  const transport = ip.subarray(isIpv6 ? IPV6_BYTES : IPV4_BYTES)
  transport.writeUInt16BE(SERVICE_PORT, 2)
  if (traffic.protocol === 'tcp') {
    transport[12] = 5 << 4
    transport[13] = traffic.flags
    transport.writeUInt16BE(0xffff, 14)
  } else {
    transport.writeUInt16BE(transport.length, 4)
  }
  return frame
}

const word32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

const macWord = (mac: string): Buffer => Buffer.concat([macBytes(mac), Buffer.alloc(2)])

const checkTraffic = ({ name, flows, services }: Traffic): void => {
  if (flows !== 'new' && (!Number.isInteger(Math.log2(flows)) || flows > 2 ** 31)) {
    throw new RangeError(`traffic '${name}': ${flows} flows; choose a power of two up to 2^31`)
  }
  if (!Number.isInteger(services) || services < 1 || services > 65_536) {
    throw new RangeError(`traffic '${name}': ${services} services; choose 1-65536`)
  }
}

/**
 * Loads these programs of bpf/bench.bpf.c, their frames being those of `traffic`. `floorFlows` is the size of the flow table
 * that bench_floor_lru asks, in flows, `floorBuckets` that of bench_floor_two_buckets, in buckets; powers of two.
 */
export const loadBench = (
  native: Native,
  programs: readonly string[],
  traffic: Traffic,
  options: { macs: Macs; floorFlows?: number; floorBuckets?: number },
): BpfObject => {
  checkTraffic(traffic)
  const object = native.openObject(BENCH_FILE)
  try {
    for (const name of object.programNames) object.setAutoload(name, programs.includes(name))
    object.setMaxEntries('floor_flows', options.floorFlows ?? 1)
    object.setMaxEntries('floor_buckets', options.floorBuckets ?? 1)
    const frame = Buffer.alloc(80)
    templateFrame(traffic, options.macs).copy(frame)
    object.setConstant('frame', frame)
    object.setConstant('flow_mask', word32(traffic.flows === 'new' ? 0xffff_ffff : traffic.flows - 1))
    object.setConstant('flow_step', word32(0x9e37_79b1))
    object.setConstant('tags', traffic.tagged === true ? TAGS : Buffer.alloc(TAGS.length))
    object.setConstant('floor_bucket_mask', word32((options.floorBuckets ?? 1) - 1))
    object.setConstant('services', word32(traffic.services))
    object.setConstant('first_vip', word32(FIRST_VIP))
    object.setConstant('floor_destination_mac', macWord(options.macs.backend))
    object.setConstant('floor_source_mac', macWord(options.macs.director))
    object.load()
    return object
  } catch (error) {
    object.close()
    throw error
  }
}
