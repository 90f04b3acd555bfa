// SPDX-License-Identifier: Apache-2.0
// The IPv6 inputs that fuzzing starts from: whole connections, fragments, ICMPv6 errors and odd headers, for a prefix and for a VIP.
import {
  EXTENSION,
  extension,
  type Frame6Fields,
  fragmentHeader,
  icmp6,
  ipv6,
  PROTOCOL,
  packet6,
  TCP,
  tcp,
  tcp6Frame,
  udp,
  udp6Frame,
} from '../packet/frames.ts'
import { type Row, STEP } from './row.ts'

/** In a prefix of 64 bits; the second one is that one's number in the directory. */
const IN_PREFIX = ['2001:db8:5::7', '2001:db8:5:0:8000::']

const SERVICES: readonly Frame6Fields[] = [
  { vip: '2001:db8::10', port: 80 },
  ...IN_PREFIX.flatMap((vip) => [80, 443, 81].map((port) => ({ vip, port }))),
  ...IN_PREFIX.map((vip) => ({ vip, port: 53, protocol: PROTOCOL.UDP })),
  { vip: '2001:db8:6::7', port: 80 },
]

const isUdp = ({ protocol }: Frame6Fields): boolean => protocol === PROTOCOL.UDP
const frameOf = (fields: Frame6Fields): Buffer => (isUdp(fields) ? udp6Frame(fields) : tcp6Frame(fields))
const row = (step: number, frames: readonly Buffer[]): Row => frames.map((frame) => [step, frame] as const)

const connection = (fields: Frame6Fields): Buffer[] =>
  [TCP.SYN, TCP.ACK, TCP.ACK, TCP.FIN | TCP.ACK, TCP.SYN, TCP.RST, TCP.SYN].map((flags) =>
    frameOf({ ...fields, flags }),
  )

/** New flows of many clients and to many addresses, more than the bound and the table allow. */
const flood = (fields: Frame6Fields): Buffer[] =>
  Array.from({ length: 24 }, (_, i) =>
    frameOf({ ...fields, sourcePort: 1024 + 77 * i, ...(i % 3 === 0 ? { source: `2001:db8:cc::${i}` } : {}) }),
  )

const { HOP_BY_HOP, DESTINATION, AUTHENTICATION } = EXTENSION
const PAYLOAD = Buffer.alloc(24, 0x61)

const piece = (fields: Frame6Fields, offset: number, identification = 7): Buffer => {
  const whole = { ...fields, extensions: [fragmentHeader(identification, offset, true)] }
  return offset === 0 ? frameOf({ ...whole, flags: TCP.ACK }) : packet6(whole, PAYLOAD)
}

const errorAbout = (fields: Frame6Fields, type: number, extensions: Frame6Fields['extensions'] = []): Buffer => {
  const vip = fields.vip ?? ''
  const turned = { sourcePort: fields.port ?? 80, port: fields.sourcePort ?? 40000 }
  const quoted = ipv6(
    { source: vip, vip: fields.source ?? '2001:db8:cc::5', protocol: fields.protocol ?? PROTOCOL.TCP, extensions },
    isUdp(fields) ? udp(turned) : tcp(turned),
  )
  return packet6({ source: '2001:db8:ff::1', vip, protocol: PROTOCOL.ICMPV6 }, icmp6(type, 0, quoted))
}

const odd = (fields: Frame6Fields): Buffer[] => [
  frameOf({ ...fields, extensions: [extension(HOP_BY_HOP), extension(DESTINATION, 2)] }),
  frameOf({ ...fields, extensions: [extension(AUTHENTICATION, 2)] }),
  frameOf({ ...fields, extensions: Array.from({ length: 9 }, () => extension(DESTINATION)) }),
  frameOf({ ...fields, payloadLength: 10 }),
  frameOf({ ...fields, payloadLength: 200 }),
  frameOf({ ...fields, version: 4 }),
  frameOf({ ...fields, tags: [{ type: 0x8100, id: 7 }] }),
  frameOf(fields).subarray(0, 60),
  packet6({ ...fields, protocol: PROTOCOL.ICMPV6 }, icmp6(128, 0, PAYLOAD)),
  packet6({ ...fields, protocol: 112 }, PAYLOAD),
]

export function* rows6(): Generator<readonly [name: string, row: Row]> {
  for (const [i, fields] of SERVICES.entries()) {
    yield [`ipv6-${i}-connection`, row(STEP.NONE, connection(fields))]
    yield [`ipv6-${i}-slow-connection`, row(STEP.AGE, connection(fields))]
    yield [`ipv6-${i}-flood`, row(STEP.NONE, flood(fields))]
    yield [`ipv6-${i}-slow-flood`, row(STEP.AGES, flood(fields))]
    yield [`ipv6-${i}-odd`, row(STEP.NONE, odd(fields))]
    yield [`ipv6-${i}-fragments`, row(STEP.NONE, [piece(fields, 0), piece(fields, 800), piece(fields, 1600)])]
    yield [`ipv6-${i}-out-of-order`, row(STEP.NONE, [piece(fields, 800), piece(fields, 0), piece(fields, 800)])]
    yield [`ipv6-${i}-too-late`, row(STEP.AGES, [piece(fields, 0), piece(fields, 800)])]
    yield [
      `ipv6-${i}-errors`,
      row(
        STEP.NONE,
        [1, 2, 3, 4, 5].map((type) => errorAbout(fields, type)),
      ),
    ]
    yield [
      `ipv6-${i}-error-of-flow`,
      row(STEP.AGE, [
        frameOf({ ...fields, flags: TCP.SYN }),
        errorAbout(fields, 2),
        frameOf({ ...fields, flags: TCP.ACK }),
        errorAbout(fields, 3, [extension(DESTINATION)]),
        errorAbout(fields, 3, [fragmentHeader(7, 8, false)]),
        errorAbout({ ...fields, vip: '2001:db8:5::99' }, 2),
      ]),
    ]
  }
}
