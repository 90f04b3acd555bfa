// SPDX-License-Identifier: Apache-2.0
// Random frames for random-changes.ts's services, and beside them.
import {
  datagram,
  ETHERTYPE,
  EXTENSION,
  type Extension,
  extension,
  FRAGMENT,
  type Frame6Fields,
  type FrameFields,
  fragmentHeader,
  icmp6,
  icmpError,
  ipv4,
  ipv6,
  PROTOCOL,
  packet6,
  type Tag,
  TCP,
  type TransportFields,
  tcp,
  udp,
} from './frames.ts'
import { backendMac } from './plane.ts'
import type { Random } from './random.ts'

export const VIPS = ['192.0.2.10', '192.0.2.11', '198.18.7.9', '0.0.0.0', '192.0.2.12'] as const
/** Some within others; to the last of them and beside, the first two VIPs belong. */
export const PREFIXES = ['198.18.0.0/15', '192.0.2.128/25', '192.0.2.8/30', '192.0.2.0/24'] as const
/** In each of these; two of them have the number that the directory gives to a prefix. */
const IN_PREFIXES = ['192.0.2.9', '192.0.2.77', '192.0.2.128', '192.0.2.201', '198.19.0.0', '198.18.1.2'] as const
/** Two of one network, and one that has another's lower half. */
export const VIPS6 = ['2001:db8::10', '2001:db8::11', '2001:db8:7::10', '::', '2001:db8::12'] as const
/** Some within others; VIPs belong to the first three. The second one's number is the first VIP. */
export const PREFIXES6 = ['2001:db8:7::/64', '2001:db8::/123', '2001:db8::/45', '2001:db8:0:0:8000::/65'] as const
/** As IN_PREFIXES: alike in either half; two have the number of a prefix. */
const IN_PREFIXES6 = [
  '2001:db8::c',
  '2001:db8::9',
  '2001:db8:7::10:1',
  '2001:db8:7:0:8000::',
  '2001:db8:7:0:8000::1',
  '2001:db8:1::1',
  '2001:db8:4::',
  '2001:db8:0:0:8000::1',
] as const
/** Ports of services; some ranges overlap, and are refused. */
export const PORTS = ['80', '81', '53', '50-60', '80-90', '82-200', '201-65535', '*'] as const
/** What frames are for: within and without each of these. */
const FRAME_PORTS = [80, 80, 80, 81, 53, 50, 55, 60, 61, 82, 90, 91, 200, 201, 0, 65535] as const
const FLAGS = [
  TCP.SYN,
  TCP.SYN,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK,
  TCP.ACK | TCP.PSH,
  TCP.FIN | TCP.ACK,
  TCP.RST,
  TCP.SYN | TCP.ACK,
]
export const BACKENDS = 9

const tags = (random: Random): Tag[] =>
  Array.from({ length: random.once(8) ? 1 + random.below(3) : 0 }, () => ({
    type: random.once(3) ? ETHERTYPE.QINQ : ETHERTYPE.VLAN,
    id: random.below(65536),
  }))

/** Fields that contradict the rest, one frame in six. */
const lies = (random: Random): FrameFields => {
  if (!random.once(6)) return {}
  return random.pick<() => FrameFields>([
    () => ({ ihl: random.below(16) }),
    () => ({ totalLength: random.below(80) }),
    () => ({ version: random.below(16) }),
    () => ({ fragment: random.below(65536) }),
    () => ({ protocol: random.pick([0, 1, 6, 17, 50, 112, 132]) }),
    () => ({ etherType: random.pick([0x0800, 0x0806, 0x8100, 0x86dd, 0x88a8]) }),
    () => ({ destination: random.pick(['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', '02:00:00:00:00:02']) }),
  ])()
}

/** Likewise. */
const lies6 = (random: Random): Frame6Fields => {
  if (!random.once(6)) return {}
  return random.pick<() => Frame6Fields>([
    () => ({ payloadLength: random.below(100) }),
    () => ({ payloadLength: random.below(65536) }),
    () => ({ version: random.below(16) }),
    () => ({ protocol: random.pick([0, 1, 6, 17, 43, 44, 50, 51, 58, 59, 60, 112, 135, 255]) }),
    () => ({ etherType: random.pick([0x0800, 0x0806, 0x8100, 0x86dd, 0x88a8]) }),
    () => ({ destination: random.pick(['ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01', '02:00:00:00:00:02']) }),
  ])()
}

const mutated = (random: Random, frame: Buffer): Buffer => {
  if (random.once(8)) return frame.subarray(0, 14 + random.below(Math.max(1, frame.length - 14)))
  if (random.once(8)) {
    for (let i = 1 + random.below(3); i > 0; i--) frame[random.below(frame.length)] = random.below(256)
  }
  return frame
}

/** What a router on a client's way answers to what a backend has sent from the VIP. */
const errorFrame = (random: Random, fields: FrameFields, overUdp: boolean): Buffer => {
  const { source, sourcePort, vip, port } = fields
  const turned = { sourcePort: port ?? 0, port: sourcePort ?? 0, flags: TCP.ACK }
  const quotedFields: FrameFields = {
    source: random.once(12) ? '192.0.2.200' : (vip ?? ''),
    vip: source ?? '',
    protocol: random.once(12) ? PROTOCOL.ICMP : overUdp ? PROTOCOL.UDP : PROTOCOL.TCP,
    fragment: random.once(12) ? random.below(65536) : FRAGMENT.DONT,
    ...(random.once(6) ? { options: Buffer.alloc(8, 1) } : {}),
  }
  const quoted = ipv4(quotedFields, overUdp ? udp(turned) : tcp(turned))
  const header = ((quoted[0] ?? 0) & 15) * 4
  const length = header + (random.once(6) ? random.below(20) : 8)
  const body = icmpError(random.pick([3, 3, 3, 11, 12, 0, 5, 8]), random.below(5), quoted.subarray(0, length))
  const outer = { ...fields, source: `172.16.0.${random.below(4)}`, protocol: PROTOCOL.ICMP }
  return datagram({ ...outer, ...(random.once(12) ? { fragment: random.below(65536) } : {}) }, body)
}

/** Whose flow a frame is of. */
interface Tuple {
  source: string
  sourcePort: number
  vip: string
  port: number
  overUdp: boolean
}

const randomTuple4 = (random: Random): Tuple => ({
  source: `10.0.${random.below(2)}.${random.below(24)}`,
  sourcePort: 1024 + random.below(24),
  vip: random.once(3) ? random.pick(IN_PREFIXES) : random.pick(random.once(6) ? VIPS : VIPS.slice(0, 3)),
  port: random.once(12) ? random.below(65536) : random.pick(FRAME_PORTS),
  overUdp: random.once(3),
})

const randomFields = (random: Random, tuple: Tuple) => ({
  ...tuple,
  tags: tags(random),
  ...(random.once(6) ? { sourceMac: backendMac(1 + random.below(BACKENDS)) } : {}),
  flags: random.once(12) ? random.below(256) : random.pick(FLAGS),
  payload: Buffer.alloc(random.below(20)),
  padding: random.once(4) ? random.below(40) : 0,
})

const randomFrame4 = (random: Random, tuple: Tuple): Buffer => {
  const fields: FrameFields = {
    ...randomFields(random, tuple),
    fragment: random.once(2) ? FRAGMENT.DONT : 0,
    identification: random.below(4),
    ...(random.once(10) ? { options: Buffer.alloc(4 * (1 + random.below(10)), 1) } : {}),
  }
  const { overUdp } = tuple
  const body = overUdp ? udp(fields) : tcp(fields)
  if (random.once(12)) return mutated(random, errorFrame(random, fields, overUdp))
  if (random.once(10)) fields.fragment = random.pick([FRAGMENT.MORE, FRAGMENT.MORE | 100, 200])
  return mutated(random, datagram({ ...fields, protocol: protocolOf(tuple), ...lies(random) }, body))
}

const protocolOf = ({ overUdp }: Tuple): number => (overUdp ? PROTOCOL.UDP : PROTOCOL.TCP)

/** Offset in octets and length of a datagram's pieces; the first one has the ports. */
const randomPieces = (random: Random): { offset: number; bytes: number; more: boolean }[] => {
  const count = 2 + random.below(3)
  return Array.from({ length: count }, (_, i) => ({ offset: 32 * i, bytes: 32, more: i < count - 1 }))
}

const firstBody = (fields: TransportFields, overUdp: boolean): Buffer => {
  const body = (overUdp ? udp : tcp)({ ...fields, payload: Buffer.alloc(32) })
  return body.subarray(0, 32)
}

/** One datagram in fragments. */
const fragments4 = (random: Random, tuple: Tuple): Buffer[] => {
  const fields = { ...randomFields(random, tuple), identification: random.below(65536), protocol: protocolOf(tuple) }
  return randomPieces(random).map(({ offset, bytes, more }) =>
    datagram(
      { ...fields, fragment: offset / 8 + (more ? FRAGMENT.MORE : 0) },
      offset === 0 ? firstBody(fields, tuple.overUdp) : Buffer.alloc(bytes),
    ),
  )
}

const { HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION } = EXTENSION

/** None, few, or about as many as are walked; sometimes one whose length is not its own. */
const randomExtensions = (random: Random): Extension[] => {
  const count = random.once(3) ? (random.once(3) ? 6 + random.below(5) : 1 + random.below(3)) : 0
  return Array.from({ length: count }, () => {
    const made = extension(random.pick([HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION]), 1 + random.below(3))
    if (random.once(30)) made.rest[0] = random.below(8)
    return made
  })
}

/** First and later ones, atomic ones, and such as no sender makes. */
const randomPiece = (random: Random): Extension =>
  fragmentHeader(
    random.once(20) ? random.word() : random.below(4),
    random.pick([0, 0, 8, 1440, 65528, 8 * random.below(8192)]),
    !random.once(3),
  )

const errorFrame6 = (random: Random, fields: Frame6Fields, overUdp: boolean): Buffer => {
  const { source, sourcePort, vip, port } = fields
  const turned = { sourcePort: port ?? 0, port: sourcePort ?? 0, flags: TCP.ACK }
  const sent = overUdp ? udp(turned) : tcp(turned)
  const quoted = ipv6(
    {
      source: random.once(12) ? '2001:db8::99' : (vip ?? ''),
      vip: source ?? '',
      protocol: random.once(12) ? PROTOCOL.ICMPV6 : overUdp ? PROTOCOL.UDP : PROTOCOL.TCP,
      extensions: [...randomExtensions(random), ...(random.once(8) ? [randomPiece(random)] : [])],
      ...(random.once(20) ? { version: random.below(16) } : {}),
    },
    sent,
  )
  const length = quoted.length - (random.once(6) ? random.below(quoted.length) : sent.length - 8)
  const body = icmp6(random.pick([1, 2, 2, 3, 4, 0, 5, 128, 135]), random.below(5), quoted.subarray(0, length))
  const outer = { ...fields, source: `2001:db8:ff::${random.below(4)}`, protocol: PROTOCOL.ICMPV6 }
  return packet6({ ...outer, ...(random.once(20) ? { payloadLength: random.below(120) } : {}) }, body)
}

const randomTuple6 = (random: Random): Tuple => ({
  // Alike in either half.
  source: `2001:db8:c${random.below(2)}::${1 + random.below(24)}`,
  sourcePort: 1024 + random.below(24),
  vip: random.once(3) ? random.pick(IN_PREFIXES6) : random.pick(random.once(6) ? VIPS6 : VIPS6.slice(0, 3)),
  port: random.once(12) ? random.below(65536) : random.pick(FRAME_PORTS),
  overUdp: random.once(3),
})

const randomFrame6 = (random: Random, tuple: Tuple): Buffer => {
  const { overUdp } = tuple
  const pieces = random.once(8) ? [randomPiece(random)] : []
  const fields: Frame6Fields = {
    ...randomFields(random, tuple),
    extensions: [...randomExtensions(random), ...pieces, ...(random.once(6) ? randomExtensions(random) : [])],
    protocol: protocolOf(tuple),
  }
  if (random.once(12)) return mutated(random, errorFrame6(random, fields, overUdp))
  return mutated(random, packet6({ ...fields, ...lies6(random) }, overUdp ? udp(fields) : tcp(fields)))
}

/** What a later fragment says of what follows does not count (RFC 8200 section 4.5). */
const LATER_PROTOCOLS = [PROTOCOL.TCP, PROTOCOL.UDP, PROTOCOL.ICMPV6, EXTENSION.DESTINATION, 112] as const

const fragments6 = (random: Random, tuple: Tuple): Buffer[] => {
  const fields = { ...randomFields(random, tuple), protocol: protocolOf(tuple) }
  const identification = random.word()
  const before = random.once(4) ? [extension(HOP_BY_HOP)] : []
  const behind = random.once(4) ? [extension(DESTINATION)] : []
  return randomPieces(random).map(({ offset, bytes, more }) => {
    const piece = fragmentHeader(identification, offset, more)
    if (offset === 0) {
      return packet6({ ...fields, extensions: [...before, piece, ...behind] }, firstBody(fields, tuple.overUdp))
    }
    const protocol = random.once(6) ? random.pick(LATER_PROTOCOLS) : fields.protocol
    return packet6({ ...fields, protocol, extensions: [...before, piece] }, Buffer.alloc(bytes))
  })
}

const RECENT = 64

/** Frames of flows that come again and again, and of datagrams in fragments, among such as nobody has seen before. */
export class RandomTraffic {
  readonly #random: Random
  readonly #recent: Tuple[] = []
  /** Fragments under way. */
  readonly #due: Buffer[] = []

  constructor(random: Random) {
    this.#random = random
  }

  next(): Buffer {
    const random = this.#random
    const due = this.#due.length > 0 && random.once(2) ? this.#due.shift() : undefined
    if (due !== undefined) return due
    const tuple = this.#tuple()
    const isIpv6 = tuple.source.includes(':')
    if (random.once(25)) return this.#inFragments((isIpv6 ? fragments6 : fragments4)(random, tuple))
    return (isIpv6 ? randomFrame6 : randomFrame4)(random, tuple)
  }

  #tuple(): Tuple {
    const random = this.#random
    if (this.#recent.length > 0 && random.once(2)) return random.pick(this.#recent)
    const tuple = (random.once(2) ? randomTuple4 : randomTuple6)(random)
    this.#recent[this.#recent.length < RECENT ? this.#recent.length : random.below(RECENT)] = tuple
    return tuple
  }

  /** In order, but for one datagram of six. @returns the fragment that comes now */
  #inFragments([first = Buffer.alloc(0), ...later]: Buffer[]): Buffer {
    if (!this.#random.once(6)) {
      this.#due.push(...later)
      return first
    }
    const [second = first, ...others] = later
    this.#due.push(first, ...others)
    return second
  }
}
