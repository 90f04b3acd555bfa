// SPDX-License-Identifier: Apache-2.0
// What a backend is asked, and what its answers say of it.
import test from 'ava'
import { type Heard, readHeard } from '../../src/core/probe/heard.ts'
import { type AskedVip, Listener, sizesToTry, type Target } from '../../src/core/probe/target.ts'

const HERE = '02:00:00:00:00:02'
const RS = '02:00:00:00:00:21'
const OTHER = '02:00:00:00:00:22'
const VIP = '10.89.0.100'
const OWN = '10.89.0.2'
const CLIENT_SIDE = '192.0.2.2'
const PORT = 61003

const web: AskedVip = {
  name: VIP,
  vip: VIP,
  ports: [
    { service: 'tcp://10.89.0.100:80', protocol: 'tcp', port: 80 },
    { service: 'udp://10.89.0.100:53', protocol: 'udp', port: 53 },
  ],
  proofs: [],
  sources: [OWN, CLIENT_SIDE],
}

const target = (changes: Partial<Target> = {}): Target => ({
  index: PORT - 61000,
  ifindex: 2,
  hop: { source: HERE, destination: RS },
  backend: '10.89.0.21',
  source: OWN,
  vips: [web],
  sizes: [1500, 1400, 28],
  ownPorts: [80],
  ...changes,
})

const listener = (changes: Partial<Target> = {}): Listener => new Listener(target(changes), (mac) => mac === OTHER)

const echo = (changes: Partial<Heard & { kind: 'echo' }>): Heard => ({
  kind: 'echo',
  mac: RS,
  isReply: true,
  id: PORT,
  sequence: 0,
  source: '10.89.0.21',
  destination: OWN,
  ...changes,
})

const segment = (changes: Partial<Heard & { kind: 'tcp' }>): Heard => ({
  kind: 'tcp',
  mac: RS,
  flags: 0x12,
  acknowledged: 5,
  mss: 1460,
  source: VIP,
  destination: OWN,
  sourcePort: 80,
  destinationPort: PORT,
  ...changes,
})

/** Frames by what they are and to whom. */
const asked = (frames: Iterable<Uint8Array>): string[] =>
  [...frames].map((frame) => {
    const heard = readHeard(frame)
    if (heard === undefined || heard.kind === 'neighbour' || heard.kind === 'unreachable') return 'nothing'
    const port = 'destinationPort' in heard ? `:${heard.destinationPort}` : ` ${frame.length - 14}`
    return `${heard.kind} ${heard.source} > ${heard.destination}${port}`
  })

const ECHOES = [
  'echo 10.89.0.2 > 10.89.0.21 1500',
  'echo 10.89.0.2 > 10.89.0.21 28',
  'echo 10.89.0.2 > 10.89.0.100 28',
  'echo 192.0.2.2 > 10.89.0.100 28',
]

test('the first questions are echoes; what VIPs are for comes in the second round', (t) => {
  t.deepEqual(asked(listener().questions(0)), ECHOES)
  t.deepEqual(asked(listener().questions(1)), [
    ...ECHOES.slice(0, 2),
    'tcp 10.89.0.2 > 10.89.0.21:80',
    ...ECHOES.slice(2),
    'tcp 192.0.2.2 > 10.89.0.100:80',
    'tcp 10.89.0.2 > 10.89.0.100:80',
    'udp 10.89.0.2 > 10.89.0.100:53',
  ])
})

test('what was answered is not asked again, nor is UDP, and sizes between come in the third round', (t) => {
  const one = listener()
  one.hear(echo({ sequence: 2 }))
  one.hear(segment({}))
  one.hear(echo({ sequence: 257, source: VIP, destination: CLIENT_SIDE }))
  t.deepEqual(asked(one.questions(2)), ['echo 10.89.0.2 > 10.89.0.21 1500', 'echo 10.89.0.2 > 10.89.0.21 1400'])
})

test('what a backend sends on is asked no further', (t) => {
  const one = listener()
  one.hear(echo({ isReply: false, sequence: 256, source: OWN, destination: VIP }))
  t.deepEqual(
    asked(one.questions(1)).filter((frame) => frame.includes(`> ${VIP}:`)),
    [],
  )
})

test('an answer from the VIP says that it is there, and a SYN-ACK is ended by a reset', (t) => {
  const one = listener()
  const reset = one.hear(segment({}))
  t.deepEqual(asked(reset === undefined ? [] : [reset]), ['tcp 10.89.0.2 > 10.89.0.100:80'])
  t.like(readHeard(reset ?? new Uint8Array()), { flags: 4, mac: HERE })
  t.is(new DataView(reset?.buffer ?? new ArrayBuffer(60)).getUint32(38), 5)
  t.like(one.answers.vips[0], { answered: true, returned: false, mss: 1460 })
  t.deepEqual([...(one.answers.vips[0]?.open ?? [])], [0])
})

test('a refusal says that the VIP is there, and that nobody listens', (t) => {
  const one = listener()
  t.is(one.hear(segment({ flags: 0x14 })), undefined)
  one.hear({
    kind: 'unreachable',
    mac: RS,
    says: VIP,
    isPort: true,
    about: { source: OWN, destination: VIP, sourcePort: PORT, destinationPort: 53, protocol: 17 },
  })
  t.true(one.answers.vips[0]?.answered)
  t.deepEqual([...(one.answers.vips[0]?.closed ?? [])], [0, 1])
})

test('a firewall that rejects says that the VIP is there, and that the port is closed', (t) => {
  const one = listener()
  const about = { source: OWN, destination: VIP, sourcePort: PORT, destinationPort: 80, protocol: 6 }
  one.hear({ kind: 'unreachable', mac: RS, says: VIP, isPort: true, about })
  t.true(one.answers.vips[0]?.answered)
  t.deepEqual([...(one.answers.vips[0]?.closed ?? [])], [0])
})

test("answers of others are none of this backend's", (t) => {
  const one = listener()
  one.hear(segment({ mac: OTHER }))
  one.hear(segment({ destinationPort: PORT + 1 }))
  one.hear(echo({ id: PORT - 1 }))
  one.hear(echo({ source: '10.89.0.22' }))
  one.hear({
    kind: 'unreachable',
    mac: RS,
    says: '10.89.0.1',
    isPort: false,
    about: { source: OWN, destination: VIP, sourcePort: PORT, destinationPort: 53, protocol: 17 },
  })
  t.like(one.answers, { reachable: false, passed: 0 })
  t.like(one.answers.vips[0], { answered: false, returned: false })
})

test('an answer to the address where clients come in is that, and no answer to the own segment', (t) => {
  const one = listener()
  // By a router, whose MAC nobody knows.
  one.hear(echo({ sequence: 257, source: VIP, destination: CLIENT_SIDE, mac: '02:00:00:00:00:01' }))
  t.false(one.answers.vips[0]?.answered)
  t.deepEqual([...(one.answers.vips[0]?.heardAt ?? [])], [1])
})

test('a question that comes back was routed on', (t) => {
  const one = listener()
  one.hear(echo({ isReply: false, sequence: 256, source: OWN, destination: VIP }))
  t.like(one.answers.vips[0], { answered: false, returned: true })
})

test('it is settled when all that a sound backend answers has come', (t) => {
  const one = listener()
  const heard: Heard[] = [
    echo({ sequence: 2 }),
    echo({ sequence: 0 }),
    segment({}),
    echo({ sequence: 257, source: VIP, destination: CLIENT_SIDE }),
  ]
  for (const each of heard) {
    t.false(one.isSettled)
    one.hear(each)
  }
  // UDP may be silent.
  t.true(one.isSettled)
  t.is(one.answers.passed, 1500)
})

test('a VIP of which no port is known is proven by a refusal anywhere', (t) => {
  const one = listener({ vips: [{ ...web, ports: [], proofs: [9], sources: [OWN] }] })
  t.true(asked(one.questions(1)).includes('tcp 10.89.0.2 > 10.89.0.100:9'))
  one.hear(segment({ sourcePort: 9, flags: 0x14 }))
  t.true(one.answers.vips[0]?.answered)
  t.false(asked(one.questions(2)).includes('tcp 10.89.0.2 > 10.89.0.100:9'))
})

test('sizes to try begin with the largest, and end with one that goes everywhere', (t) => {
  const sizes = sizesToTry(1500, '10.89.0.21')
  t.deepEqual([sizes[0], sizes.at(-1)], [1500, 28])
  for (const header of [4, 8, 20, 24, 50, 58]) t.true(sizes.includes(1500 - header))
  t.deepEqual(
    sizes,
    [...new Set(sizes)].sort((a, b) => b - a),
  )
  t.true(sizesToTry(9000, 'fd00::1').includes(1500))
  t.deepEqual(sizesToTry(28, '10.0.0.1'), [28])
})
