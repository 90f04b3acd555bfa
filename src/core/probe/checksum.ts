// SPDX-License-Identifier: Apache-2.0
// Partial checksums: what Linux leaves to hardware. A packet that is made on this machine, and reaches XDP over a veth, has the sum of
// its addresses and length alone where its checksum should be, and whoever receives it drops it.
import { AF, readAddress } from '../ip.ts'
import { ETHERNET_BYTES, ETHERTYPE, ipBytes, onesSum, PROTOCOL, pseudoSum } from './packets.ts'

export interface SummedPacket {
  source: string
  mac: string
  isPartial: boolean
}

const TAGS: readonly number[] = [ETHERTYPE.vlan, 0x88a8]

const CHECKSUM_AT: Readonly<Record<number, number>> = { [PROTOCOL.tcp]: 16, [PROTOCOL.udp]: 6 }

/** Of a whole frame with TCP or UDP in it; undefined: it is none, or a fragment. */
export const sumUp = (frame: Uint8Array): SummedPacket | undefined => {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  try {
    let at = ETHERNET_BYTES
    while (TAGS.includes(view.getUint16(at - 2))) at += 4
    const isIpv4 = view.getUint16(at - 2) === ETHERTYPE.ipv4
    if (!isIpv4 && view.getUint16(at - 2) !== ETHERTYPE.ipv6) return undefined
    if (isIpv4 && (view.getUint16(at + 6) & 0x3fff) !== 0) return undefined
    const family = isIpv4 ? AF.ipv4 : AF.ipv6
    const source = readAddress(view, at + (isIpv4 ? 12 : 8), family)
    const destination = readAddress(view, at + (isIpv4 ? 16 : 24), family)
    const protocol = view.getUint8(at + (isIpv4 ? 9 : 6))
    const header = isIpv4 ? (view.getUint8(at) & 0xf) * 4 : ipBytes(source)
    const length = isIpv4 ? view.getUint16(at + 2) - header : view.getUint16(at + 4)
    const place = CHECKSUM_AT[protocol]
    if (place === undefined || at + header + length > frame.length) return undefined
    const written = view.getUint16(at + header + place)
    const start = pseudoSum({ source, destination }, protocol, length)
    const sum = onesSum(frame.subarray(at + header, at + header + length), start)
    const mac = Array.from(frame.subarray(6, 12), (octet) => octet.toString(16).padStart(2, '0')).join(':')
    return { source, mac, isPartial: sum !== 0xffff && written === start }
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}
