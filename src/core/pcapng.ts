// SPDX-License-Identifier: Apache-2.0
// A pcapng file, block by block (draft-ietf-opsawg-pcapng): what Wireshark and tshark open, with a comment on each packet.
// Everything is little-endian, which the section header says.

/** Block types, sections 4.1 to 4.6. */
const SECTION_HEADER = 0x0a0d0d0a
const INTERFACE_DESCRIPTION = 1
const INTERFACE_STATISTICS = 5
const ENHANCED_PACKET = 6

const BYTE_ORDER_MAGIC = 0x1a2b3c4d
const LINKTYPE_ETHERNET = 1
/** if_tsresol: a time is a count of 10^-9 seconds. */
const NANOSECONDS = 9

/** Options of any block, section 3.5; then those of each kind of block. */
const OPTION_END = 0
const OPTION_COMMENT = 1
const SECTION_APPLICATION = 4
const INTERFACE_NAME = 2
const INTERFACE_TIME_RESOLUTION = 9
const PACKET_FLAGS = 2
const STATISTICS_START = 2
const STATISTICS_END = 3
const STATISTICS_RECEIVED = 4
const STATISTICS_DROPPED = 5
const STATISTICS_DELIVERED = 8

/** epb_flags, bits 0-1: inbound. */
const INBOUND = 1

/** An option's length has 16 bits. */
const OPTION_MAX = 65535

type Option = readonly [code: number, value: Uint8Array]

const padded = (octets: number): number => (octets + 3) & ~3

const encoder = new TextEncoder()

/** Text as an option; cut to what an option holds, at the start of a character. */
const textOption = (code: number, text: string): Option => {
  const octets = encoder.encode(text)
  let end = Math.min(octets.length, OPTION_MAX)
  while (end < octets.length && ((octets[end] ?? 0) & 0xc0) === 0x80) end--
  return [code, octets.subarray(0, end)]
}

const u32Option = (code: number, value: number): Option => {
  const octets = new Uint8Array(4)
  new DataView(octets.buffer).setUint32(0, value, true)
  return [code, octets]
}

const u64Option = (code: number, value: bigint): Option => {
  const octets = new Uint8Array(8)
  new DataView(octets.buffer).setBigUint64(0, value, true)
  return [code, octets]
}

/** Times are two words, the upper one first (section 4.3), also in options. */
const setTime = (view: DataView, at: number, time: bigint): void => {
  view.setUint32(at, Number(time >> 32n), true)
  view.setUint32(at + 4, Number(time & 0xffffffffn), true)
}

const timeOption = (code: number, time: bigint): Option => {
  const octets = new Uint8Array(8)
  setTime(new DataView(octets.buffer), 0, time)
  return [code, octets]
}

/** A block of `fixed` octets, then `data`, then options. The fixed part is written by whoever asks for it. */
const block = (
  type: number,
  fixed: number,
  options: readonly Option[],
  data: Uint8Array = new Uint8Array(0),
): { octets: Uint8Array; view: DataView } => {
  const optionOctets = options.reduce((sum, [, value]) => sum + 4 + padded(value.length), options.length > 0 ? 4 : 0)
  const total = 12 + fixed + padded(data.length) + optionOctets
  const octets = new Uint8Array(total)
  const view = new DataView(octets.buffer)
  view.setUint32(0, type, true)
  view.setUint32(4, total, true)
  view.setUint32(total - 4, total, true)
  octets.set(data, 8 + fixed)
  let at = 8 + fixed + padded(data.length)
  for (const [code, value] of options) {
    view.setUint16(at, code, true)
    view.setUint16(at + 2, value.length, true)
    octets.set(value, at + 4)
    at += 4 + padded(value.length)
  }
  if (options.length > 0) view.setUint16(at, OPTION_END, true)
  return { octets, view }
}

/** Section 4.1: what a file begins with. Its length is not known beforehand: -1. */
export const sectionHeader = (application: string): Uint8Array => {
  const { octets, view } = block(SECTION_HEADER, 16, [textOption(SECTION_APPLICATION, application)])
  view.setUint32(8, BYTE_ORDER_MAGIC, true)
  view.setUint16(12, 1, true)
  view.setUint16(14, 0, true)
  view.setBigInt64(16, -1n, true)
  return octets
}

/** Section 4.2: an Ethernet interface. Packets name interfaces by their order in the file, the first being 0. */
export const interfaceDescription = (name: string, snapLength: number): Uint8Array => {
  const options = [textOption(INTERFACE_NAME, name), [INTERFACE_TIME_RESOLUTION, Uint8Array.of(NANOSECONDS)] as const]
  const { octets, view } = block(INTERFACE_DESCRIPTION, 8, options)
  view.setUint16(8, LINKTYPE_ETHERNET, true)
  view.setUint32(12, snapLength, true)
  return octets
}

export interface CapturedPacket {
  /** By order in the file. */
  interface: number
  /** Nanoseconds since 1970. */
  timeNs: bigint
  /** As much of the frame as was captured. */
  data: Uint8Array
  frameLength: number
  comment: string
}

/** Section 4.3. */
export const enhancedPacket = (packet: CapturedPacket): Uint8Array => {
  const options = [textOption(OPTION_COMMENT, packet.comment), u32Option(PACKET_FLAGS, INBOUND)]
  const { octets, view } = block(ENHANCED_PACKET, 20, options, packet.data)
  view.setUint32(8, packet.interface, true)
  setTime(view, 12, packet.timeNs)
  view.setUint32(20, packet.data.length, true)
  view.setUint32(24, packet.frameLength, true)
  return octets
}

export interface InterfaceStatistics {
  interface: number
  startNs: bigint
  endNs: bigint
  /** Packets that the interface received meanwhile, wanted or not. */
  received: bigint
  /** Wanted, but lost for want of room. */
  lost: bigint
  /** Written to the file. */
  delivered: bigint
}

/** Section 4.6. */
export const interfaceStatistics = (statistics: InterfaceStatistics): Uint8Array => {
  const { octets, view } = block(INTERFACE_STATISTICS, 12, [
    timeOption(STATISTICS_START, statistics.startNs),
    timeOption(STATISTICS_END, statistics.endNs),
    u64Option(STATISTICS_RECEIVED, statistics.received),
    u64Option(STATISTICS_DROPPED, statistics.lost),
    u64Option(STATISTICS_DELIVERED, statistics.delivered),
  ])
  view.setUint32(8, statistics.interface, true)
  setTime(view, 12, statistics.endNs)
  return octets
}
