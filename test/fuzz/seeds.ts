// SPDX-License-Identifier: Apache-2.0
// The inputs that fuzzing starts from: node --import=tsx test/fuzz/seeds.ts FOLDER. test/fuzz/fuzz.c says what an input is, and
// test/fuzz/tables.h which services there are.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  datagram,
  ETHERTYPE,
  ethernet,
  FRAGMENT,
  type FrameFields,
  icmpError,
  icmpFrame,
  ipv4,
  PROTOCOL,
  TCP,
  tcp,
  tcpFrame,
  udp,
  udpFrame,
  VIP,
} from '../packet/frames.ts'
import { type Row, STEP } from './row.ts'
import { rows6 } from './seeds6.ts'

const OTHER_VIP = '192.0.2.11'
/** Each with one service: hashed by source, and tracked. */
const SOURCE_VIP = '192.0.2.12'
const TRACKED_VIP = '192.0.2.13'
const EVERY_PORT_VIP = '192.0.2.14'
/** In a prefix of 16 bits; and in one of 24 within it, the second having that one's word in the directory. */
const IN_PREFIX = '198.18.9.9'
const IN_NESTED = ['198.18.5.7', '198.18.5.128']
const FILTERED_VIP = '192.0.2.15'
const REST = 255
const OTHER_CPU = 0x80

const input = (row: Row): Buffer =>
  Buffer.concat(row.flatMap(([step, frame]) => [Buffer.from([step, Math.min(frame.length, REST)]), frame]))

const once = (frame: Buffer): Row => [[STEP.NONE, frame]]

const SERVICES: readonly FrameFields[] = [
  { port: 80 },
  { port: 443 },
  { port: 53, protocol: PROTOCOL.UDP },
  { port: 5060, protocol: PROTOCOL.UDP },
  { vip: OTHER_VIP, port: 80 },
  { vip: OTHER_VIP, port: 53, protocol: PROTOCOL.UDP },
  { vip: OTHER_VIP, port: 443 },
  { vip: OTHER_VIP, port: 8080 },
  { vip: OTHER_VIP, port: 8081, protocol: PROTOCOL.UDP },
  { vip: OTHER_VIP, port: 9 },
  { vip: SOURCE_VIP, port: 80 },
  { vip: TRACKED_VIP, port: 5353, protocol: PROTOCOL.UDP },
  { vip: FILTERED_VIP, port: 80 },
  { vip: FILTERED_VIP, port: 443 },
  { vip: FILTERED_VIP, port: 53, protocol: PROTOCOL.UDP },
  { vip: FILTERED_VIP, port: 54, protocol: PROTOCOL.UDP },
  ...[0, 80, 81, 7999, 8000, 8050, 8099, 8100, 65535].map((port) => ({ vip: EVERY_PORT_VIP, port })),
  ...[0, 53, 65535].map((port) => ({ vip: EVERY_PORT_VIP, port, protocol: PROTOCOL.UDP })),
  ...[80, 81, 82].map((port) => ({ vip: IN_PREFIX, port })),
  { vip: IN_PREFIX, port: 53, protocol: PROTOCOL.UDP },
  { vip: '198.18.128.0', port: 80 },
  ...IN_NESTED.map((vip) => ({ vip, port: 53, protocol: PROTOCOL.UDP })),
  ...IN_NESTED.flatMap((vip) => [80, 81, 82, 8080].map((port) => ({ vip, port }))),
  { vip: IN_PREFIX, port: 443 },
]

const frameOf = (fields: FrameFields): Buffer =>
  fields.protocol === PROTOCOL.UDP ? udpFrame(fields) : tcpFrame(fields)

const QINQ = [
  { type: ETHERTYPE.QINQ, id: 5 },
  { type: ETHERTYPE.VLAN, id: 6 },
]
/** VLAN 7, with a priority. */
const VLAN = { type: ETHERTYPE.VLAN, id: 0xb007 }
const OPTIONS = Buffer.from('94040000', 'hex') // router alert
const PAYLOAD = Buffer.alloc(20, 0x61)
const FLAGS_LIKE = Buffer.alloc(20, TCP.SYN)

/** What is said of a frame beside whom it is for. */
const VARIANTS: Readonly<Record<string, FrameFields>> = {
  plain: {},
  payload: { payload: PAYLOAD },
  padded: { padding: 6 },
  vlan: { tags: [VLAN] },
  qinq: { tags: QINQ },
  'three-tags': { tags: [...QINQ, VLAN] },
  options: { options: OPTIONS },
  'vlan-options': { tags: [VLAN], options: Buffer.concat(new Array<Buffer>(10).fill(OPTIONS)) },
  'fragment-first': { fragment: FRAGMENT.MORE },
  'fragment-last': { fragment: 185, payload: PAYLOAD },
  'total-short': { totalLength: 30 },
  'total-long': { totalLength: 200 },
  'total-of-header': { totalLength: 20 },
  'ihl-short': { ihl: 4 },
  'ihl-long': { ihl: 15 },
  'version-6': { version: 6 },
  'no-service': { port: 4711 },
  'no-vip': { vip: '198.51.100.1' },
  'zero-vip': { vip: '0.0.0.0' },
  'other-mac': { destination: '02:00:00:00:00:09' },
}

const BARE: Readonly<Record<string, Buffer>> = {
  icmp: icmpFrame(),
  arp: ethernet({ etherType: ETHERTYPE.ARP }, Buffer.alloc(28, 1)),
  ipv6: ethernet(
    { etherType: ETHERTYPE.IPV6 },
    Buffer.from(`60000000001406400${'0'.repeat(63)}${'1f'.repeat(20)}`, 'hex'),
  ),
  'vlan-ipv6': ethernet({ etherType: ETHERTYPE.IPV6, tags: [VLAN] }, Buffer.alloc(60, 0x60)),
  'ipv4-without-transport': ethernet({}, ipv4({}, Buffer.alloc(0))),
  empty: Buffer.alloc(0),
}

/** Where headers begin and end, and one octet to either side. */
const CUTS = [1, 13, 14, 15, 17, 18, 19, 21, 22, 33, 34, 35, 41, 42, 43, 53]

const connection = (fields: FrameFields, step: number): Row =>
  [TCP.SYN, TCP.ACK, TCP.ACK, TCP.ACK | TCP.PSH, TCP.FIN | TCP.ACK, TCP.SYN, TCP.RST, TCP.SYN].map(
    (flags) => [step, frameOf({ ...fields, flags })] as const,
  )

/** New flows of many clients, more than the bound and the table allow. */
const flood = (fields: FrameFields, step: number): Row =>
  Array.from(
    { length: 24 },
    (_, i) => [step | (i % 3 ? 0 : OTHER_CPU), frameOf({ ...fields, sourcePort: 1024 + 77 * i })] as const,
  )

/** Clients that fall on different slots, with a payload that looks like TCP's flags where it is UDP. */
const clients = (fields: FrameFields): Row =>
  Array.from(
    { length: 16 },
    (_, i) => [STEP.NONE, frameOf({ ...fields, source: `203.0.113.${i}`, payload: FLAGS_LIKE })] as const,
  )

/** So many flows that have to be kept that the table has no room for another. */
const fullTable = (fields: FrameFields): Row =>
  Array.from({ length: 14 }, (_, i) => 5000 + i).flatMap((sourcePort) => [
    [STEP.AGE, frameOf({ ...fields, sourcePort, flags: TCP.SYN })] as const,
    [STEP.AGE, frameOf({ ...fields, sourcePort, flags: TCP.ACK })] as const,
  ])

/** Of 185 times eight octets each, but for the last. */
const LATER = FRAGMENT.MORE | 185
const LAST = 370

const later = (fields: FrameFields, fragment = LATER): Buffer => datagram({ ...fields, fragment }, PAYLOAD)

const first = (fields: FrameFields): Buffer => frameOf({ flags: TCP.ACK, ...fields, fragment: FRAGMENT.MORE })

/** Fragments in order, out of order, too late, of another datagram, and of so many that notes give way. */
const fragments = (fields: FrameFields): Readonly<Record<string, Row>> => ({
  'in-order': [first(fields), later(fields), later(fields, LAST)].map((frame) => [STEP.NONE, frame] as const),
  'out-of-order': [later(fields, LAST), first(fields), later(fields)].map((frame) => [STEP.NONE, frame] as const),
  'in-time': [first(fields), later(fields), later(fields), later(fields), later(fields)].map(
    (frame) => [STEP.AGE | OTHER_CPU, frame] as const,
  ),
  'too-late': [first(fields), later(fields)].map((frame) => [STEP.AGES, frame] as const),
  others: [
    first(fields),
    later({ ...fields, identification: 0x1235 }),
    later({ ...fields, source: '203.0.113.6' }),
    later({ ...fields, protocol: fields.protocol === PROTOCOL.UDP ? PROTOCOL.TCP : PROTOCOL.UDP }),
  ].map((frame) => [STEP.NONE, frame] as const),
  many: Array.from({ length: 20 }, (_, i) => ({ ...fields, source: `203.0.113.${i}`, identification: i }))
    .flatMap((each) => [first(each), later(each)])
    .map((frame) => [STEP.NONE, frame] as const),
  'of-a-new-flow': [first({ ...fields, flags: TCP.SYN }), later(fields), later(fields)].map(
    (frame) => [STEP.NONE, frame] as const,
  ),
})

/** An error about what a backend sent to the client. */
const errorAbout = (fields: FrameFields, type: number, outer: FrameFields = {}, quote: FrameFields = {}): Buffer => {
  const vip = fields.vip ?? VIP
  const turned = {
    ...fields,
    source: vip,
    vip: '203.0.113.5',
    sourcePort: fields.port ?? 80,
    port: fields.sourcePort ?? 40000,
    ...quote,
  }
  const quoted = ipv4(turned, fields.protocol === PROTOCOL.UDP ? udp(turned) : tcp(turned))
  const frame = { source: '198.51.100.7', vip, ...outer, protocol: PROTOCOL.ICMP }
  return datagram(frame, icmpError(type, type === 3 ? 4 : 0, quoted))
}

/** Errors about no flow yet, about one, after it has ended, and about one of a client that has others; and such as only look like errors. */
const errors = (fields: FrameFields): Readonly<Record<string, Row>> => ({
  types: [3, 11, 12, 5, 0].map((type) => [STEP.NONE, errorAbout(fields, type)] as const),
  flow: [
    frameOf({ ...fields, flags: TCP.SYN }),
    errorAbout(fields, 3),
    frameOf({ ...fields, flags: TCP.ACK }),
    errorAbout(fields, 11),
    frameOf({ ...fields, flags: TCP.RST }),
    errorAbout(fields, 3),
  ].map((frame) => [STEP.AGE, frame] as const),
  'of-a-client': [frameOf({ ...fields, flags: TCP.SYN }), errorAbout({ ...fields, sourcePort: 40_001 }, 3)].map(
    (frame) => [STEP.AGE, frame] as const,
  ),
  odd: [
    errorAbout(fields, 3, { options: OPTIONS }),
    errorAbout(fields, 3, { tags: [VLAN] }),
    errorAbout(fields, 3, { fragment: FRAGMENT.MORE }),
    errorAbout(fields, 3, { totalLength: 40, padding: 4 }),
    errorAbout(fields, 3, {}, { options: OPTIONS }),
    errorAbout(fields, 3, {}, { fragment: LATER }),
    errorAbout(fields, 3, {}, { fragment: FRAGMENT.MORE }),
    errorAbout(fields, 3, {}, { source: '198.51.100.1' }),
    errorAbout(fields, 3, {}, { ihl: 4 }),
    errorAbout(fields, 3, {}, { version: 6 }),
    errorAbout(fields, 3, {}, { protocol: PROTOCOL.ICMP }),
    errorAbout(fields, 3, {}, { sourcePort: 4711 }),
  ].map((frame) => [STEP.NONE, frame] as const),
})

/** From each of a service's backends, and from this host: whole, fragments, and an error. */
const peers = (fields: FrameFields, service: number): Row =>
  [0, 1, 2, 3, 4, 5].flatMap((backend) => {
    const from = { ...fields, sourceMac: `02:be:00:00:0${service.toString(16)}:0${backend}` }
    return [frameOf(from), first(fields), first(from), later(from), errorAbout(fields, 3, from)].map(
      (frame) => [STEP.NONE, frame] as const,
    )
  })

function* seeds(): Generator<readonly [name: string, row: Row]> {
  for (const [i, fields] of SERVICES.entries()) {
    yield [`full-table-${i}`, fullTable(fields)]
    yield [`clients-${i}`, clients(fields)]
    yield [`peers-${i}`, peers(fields, i)]
    yield [`no-mac-${i}`, once(frameOf({ ...fields, sourceMac: '00:00:00:00:00:00' }))]
    for (const [name, row] of Object.entries(fragments(fields))) yield [`fragments-${i}-${name}`, row]
    for (const [name, row] of Object.entries(errors(fields))) yield [`errors-${i}-${name}`, row]
    for (const [name, variant] of Object.entries(VARIANTS)) {
      yield [`service-${i}-${name}`, once(frameOf({ ...fields, ...variant }))]
    }
    for (const [name, step] of Object.entries(STEP)) {
      yield [`connection-${i}-${name.toLowerCase()}`, connection(fields, step)]
      yield [`flood-${i}-${name.toLowerCase()}`, flood(fields, step)]
    }
  }
  for (const [name, frame] of Object.entries(BARE)) yield [name, once(frame)]
  for (const [name, fields] of Object.entries({ tcp: {}, vlan: { tags: [VLAN] }, options: { options: OPTIONS } })) {
    for (const cut of CUTS) yield [`${name}-cut-${cut}`, once(tcpFrame(fields).subarray(0, cut))]
  }
  for (const cut of CUTS) yield [`udp-cut-${cut}`, once(udpFrame().subarray(0, cut))]
  // The first is tracked, the second is not, and both find the same flows.
  yield ['was-tracked', [VIP, OTHER_VIP].map((vip) => [STEP.NONE, udpFrame({ vip })] as const)]
  yield* rows6()
  yield ['jumbo', once(tcpFrame({ payload: Buffer.alloc(1400, 0x62) }))]
}

const [folder] = process.argv.slice(2)
if (folder === undefined) throw new Error('usage: seeds.ts FOLDER')
mkdirSync(folder, { recursive: true })
for (const [name, row] of seeds()) writeFileSync(join(folder, name), input(row))
