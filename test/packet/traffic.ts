// SPDX-License-Identifier: Apache-2.0
// Random frames and random changes of configuration for the differential test.
import { parseBackend, parseService } from '../../src/core/address.ts'
import {
  addService,
  type DesiredState,
  isLeaving,
  isTracked,
  removeService,
  type Scheduler,
  setService,
  takesTurns,
} from '../../src/core/desired.ts'
import { beforePort, familyOf } from '../../src/core/ip.ts'
import { FLOW_FATES, removeBackend } from '../../src/core/leaving.ts'
import type { PersistenceOptions } from '../../src/core/persistence.ts'
import { isPrefix } from '../../src/core/prefix.ts'
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
  tcp,
  udp,
} from './frames.ts'
import { type BackendSpec, backendAddress, backendMac, LOCAL, linkPath, UNRESOLVED, withBackend } from './plane.ts'
import type { Random } from './random.ts'
import { withRandomFilter } from './random-filter.ts'

const VIPS = ['192.0.2.10', '192.0.2.11', '198.18.7.9', '0.0.0.0', '192.0.2.12'] as const
/** Some within others; to the last of them and beside, the first two VIPs belong. */
const PREFIXES = ['198.18.0.0/15', '192.0.2.128/25', '192.0.2.8/30', '192.0.2.0/24'] as const
/** In each of these; two of them have the number that the directory gives to a prefix. */
const IN_PREFIXES = ['192.0.2.9', '192.0.2.77', '192.0.2.128', '192.0.2.201', '198.19.0.0', '198.18.1.2'] as const
/** Two of one network, and one that has another's lower half. */
const VIPS6 = ['2001:db8::10', '2001:db8::11', '2001:db8:7::10', '::', '2001:db8::12'] as const
/** Ports of services; some ranges overlap, and are refused. */
const PORTS = ['80', '81', '53', '50-60', '80-90', '82-200', '201-65535', '*'] as const
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
const SERVICES_MAX = 44
const BACKENDS = 9

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

const randomFrame4 = (random: Random): Buffer => {
  const fields: FrameFields = {
    tags: tags(random),
    ...(random.once(6) ? { sourceMac: backendMac(1 + random.below(BACKENDS)) } : {}),
    source: `10.0.${random.below(2)}.${random.below(24)}`,
    sourcePort: 1024 + random.below(24),
    vip: random.once(3) ? random.pick(IN_PREFIXES) : random.pick(random.once(6) ? VIPS : VIPS.slice(0, 3)),
    port: random.once(12) ? random.below(65536) : random.pick(FRAME_PORTS),
    flags: random.once(12) ? random.below(256) : random.pick(FLAGS),
    fragment: random.once(2) ? 0x4000 : 0,
    identification: random.below(4),
    payload: Buffer.alloc(random.below(20)),
    padding: random.once(4) ? random.below(40) : 0,
    ...(random.once(10) ? { options: Buffer.alloc(4 * (1 + random.below(10)), 1) } : {}),
  }
  const overUdp = random.once(3)
  const body = overUdp ? udp(fields) : tcp(fields)
  if (random.once(12)) return mutated(random, errorFrame(random, fields, overUdp))
  if (random.once(10)) fields.fragment = random.pick([FRAGMENT.MORE, FRAGMENT.MORE | 100, 200])
  return mutated(random, datagram({ ...fields, protocol: overUdp ? 17 : 6, ...lies(random) }, body))
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

const randomFrame6 = (random: Random): Buffer => {
  const overUdp = random.once(3)
  const pieces = random.once(8) ? [randomPiece(random)] : []
  const fields: Frame6Fields = {
    tags: tags(random),
    ...(random.once(6) ? { sourceMac: backendMac(1 + random.below(BACKENDS)) } : {}),
    // Alike in either half.
    source: `2001:db8:c${random.below(2)}::${1 + random.below(24)}`,
    sourcePort: 1024 + random.below(24),
    vip: random.pick(random.once(6) ? VIPS6 : VIPS6.slice(0, 3)),
    port: random.once(12) ? random.below(65536) : random.pick(FRAME_PORTS),
    flags: random.once(12) ? random.below(256) : random.pick(FLAGS),
    payload: Buffer.alloc(random.below(20)),
    padding: random.once(4) ? random.below(40) : 0,
    extensions: [...randomExtensions(random), ...pieces, ...(random.once(6) ? randomExtensions(random) : [])],
    protocol: overUdp ? PROTOCOL.UDP : PROTOCOL.TCP,
  }
  if (random.once(12)) return mutated(random, errorFrame6(random, fields, overUdp))
  return mutated(random, packet6({ ...fields, ...lies6(random) }, overUdp ? udp(fields) : tcp(fields)))
}

export const randomFrame = (random: Random): Buffer => (random.once(2) ? randomFrame4 : randomFrame6)(random)

const SCHEDULERS: readonly Scheduler[] = ['rr', 'wrr', 'mh', 'sh']
const OF_PREFIXES: readonly Scheduler[] = [...SCHEDULERS, 'dh', 'dh']

/** Services of one group have the same terms. */
const PERSISTENCES: readonly PersistenceOptions[] = [
  { persist: 300 },
  { persist: 60, persistMask: 30, drainPersistence: 'cut' },
  { persist: 300, persistMask: 28, group: 'one' },
  { persist: 300, persistMask: 28, group: 'one' },
  { persist: 600, persistMask: 32, drainPersistence: 'cut', group: 'two' },
]

const addOne = (random: Random, state: DesiredState): DesiredState => {
  const ofPrefix = random.once(8)
  const ofVips = random.once(2) ? VIPS.slice(0, 3) : VIPS6.slice(0, 3).map(beforePort)
  const vip = random.pick<string>(ofPrefix ? PREFIXES : ofVips)
  const name = `${random.once(3) ? 'udp' : 'tcp'}://${vip}:${random.pick(PORTS)}`
  if (state.has(name)) return state
  const ops = name.startsWith('udp') && random.once(3)
  const options = {
    scheduler: random.pick(ofPrefix ? OF_PREFIXES : SCHEDULERS),
    ringSize: random.pick([31, 127, 251]),
    seed: BigInt(random.word()) * 0x100000001n,
    ops,
    ...(!ops && !ofPrefix && random.once(3) ? random.pick(PERSISTENCES) : {}),
  }
  let next = addService(state, parseService(name), options, 0n)
  for (let i = random.below(5); i > 0; i--)
    next = withBackend(next, name, 1 + random.below(BACKENDS), randomSpec(random))
  return next
}

const randomSpec = (random: Random): BackendSpec => ({
  ...(random.once(2) ? { weight: random.below(5) } : {}),
})

const changedBackend = (random: Random, state: DesiredState, name: string): DesiredState => {
  const backend = 1 + random.below(BACKENDS)
  const address = backendAddress(backend, familyOf(parseService(name).vip))
  const found = state.get(name)?.backends.find((each) => each.address === address)
  const known = found !== undefined
  const leaving = known && isLeaving(found)
  const spec = randomSpec(random)
  switch (random.below(8)) {
    case 0:
    case 7:
      return known
        ? removeBackend(state, parseService(name), parseBackend(address, parseService(name)), random.pick(FLOW_FATES))
        : state
    case 1:
      return known && !leaving ? withBackend(state, name, backend, { drained: true }) : state
    case 2:
      return withBackend(state, name, backend, {
        ...spec,
        path: random.pick([UNRESOLVED, LOCAL, linkPath(backend, 1)]),
      })
    case 3:
      return withBackend(state, name, backend, {
        ...spec,
        path: linkPath(backend, random.below(2), random.once(4) ? undefined : 1 + random.below(4094)),
      })
    default:
      return withBackend(state, name, backend, spec)
  }
}

/** A UDP service stays on its side of the table: what a crossing does to UDP flows is marks-schedulers.test.ts's. */
const changedService = (random: Random, state: DesiredState, name: string): DesiredState => {
  const service = state.get(name)
  if (service === undefined) return state
  const isFree = service.protocol === 'tcp' || service.persistence !== undefined
  const choice = isPrefix(service)
    ? service.protocol === 'tcp'
      ? OF_PREFIXES
      : isTracked(service)
        ? SCHEDULERS.slice(0, 2)
        : OF_PREFIXES.slice(2)
    : isFree
      ? SCHEDULERS
      : isTracked(service)
        ? SCHEDULERS.slice(0, 2)
        : SCHEDULERS.slice(2)
  const persists = !isPrefix(service) && (service.protocol === 'tcp' || takesTurns(service)) && !service.ops
  if (persists && random.once(4)) {
    const options = random.once(3) ? { persist: false as const } : random.pick(PERSISTENCES)
    return setService(state, service, service.persistence?.group === undefined ? { group: false, ...options } : options)
  }
  if (service.protocol === 'udp' && random.once(3)) return setService(state, service, { ops: !service.ops })
  const options = random.once(4) ? { seed: BigInt(random.word()) } : { scheduler: random.pick(choice) }
  return setService(state, service, options)
}

/** One verb, or several in one change. @throws Refusal as verbs do */
export const randomChange = (random: Random, state: DesiredState): DesiredState => {
  let next = state
  for (let verbs = random.once(4) ? 3 : 1; verbs > 0; verbs--) {
    const names = [...next.keys()].sort() // Live services come in the order of a randomly laid out directory.
    if (names.length < 30 || (names.length < SERVICES_MAX && random.once(6))) next = addOne(random, next)
    else if (random.once(30)) next = removeService(next, parseService(random.pick(names)))
    else if (random.once(5)) next = changedService(random, next, random.pick(names))
    else if (random.once(8)) next = withRandomFilter(random, next, random.pick(names))
    else next = changedBackend(random, next, random.pick(names))
  }
  return next
}
