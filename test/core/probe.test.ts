// SPDX-License-Identifier: Apache-2.0
// Probes as frames, the filter that lets their answers through, and what is read of them.
import test from 'ava'
import fc from 'fast-check'
import { sumUp } from '../../src/core/probe/checksum.ts'
import { probeFilter } from '../../src/core/probe/filter.ts'
import { framesOf, readHeard } from '../../src/core/probe/heard.ts'
import {
  echoRequest,
  onesSum,
  PROTOCOL,
  pseudoSum,
  tcpReset,
  tcpSyn,
  udpDatagram,
  whoHas,
} from '../../src/core/probe/packets.ts'
import { runFilter } from './classic-bpf.ts'

const HERE = '02:00:0a:59:00:02'
const THERE = '02:00:0a:59:00:15'
const hop = { source: HERE, destination: THERE }
const back = { source: THERE, destination: HERE }
const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replace(/\s/g, ''), 'hex'))
const hex = (frame: Uint8Array) => Buffer.from(frame).toString('hex')

const FAMILIES = [
  { name: 'IPv4', director: '10.89.0.2', vip: '10.89.0.100', header: 20, icmp: PROTOCOL.icmp },
  { name: 'IPv6', director: 'fd00:89::2', vip: 'fd00:89::100', header: 40, icmp: PROTOCOL.icmp6 },
]

test('an ARP request asks all of a segment, in the name of its sender', (t) => {
  t.is(
    hex(whoHas(HERE, '10.89.0.2', '10.89.0.100')),
    'ffffffffffff02000a5900020806 0001 0800 06 04 0001 02000a590002 0a590002 000000000000 0a590064'.replace(/ /g, ''),
  )
  t.is(hex(whoHas(HERE, undefined, '10.89.0.100')).slice(56, 64), '00000000')
  t.is(hex(whoHas(HERE, undefined, '10.89.0.100', 5)).slice(24, 36), '810000050806')
})

test('a neighbour solicitation goes to the solicited nodes; by nobody it names no MAC', (t) => {
  const asked = whoHas(HERE, 'fd00:89::2', 'fd00:89::100')
  t.is(hex(asked).slice(0, 12), '3333ff000100')
  t.is(asked.length, 14 + 40 + 32)
  t.is(asked[21], 255)
  t.is(hex(asked).slice(-16), `0101${HERE.replaceAll(':', '')}`)
  t.is(whoHas(HERE, undefined, 'fd00:89::100').length, 14 + 40 + 24)
})

for (const { name, director, vip, header, icmp } of FAMILIES) {
  const route = { source: director, destination: vip }
  const ports = { ...route, sourcePort: 61001, destinationPort: 80 }

  test(`${name}: what is sent has right checksums`, (t) => {
    const cases: [Uint8Array, number][] = [
      [tcpSyn(hop, ports, 7), PROTOCOL.tcp],
      [tcpReset(hop, ports, 8), PROTOCOL.tcp],
      [udpDatagram(hop, ports), PROTOCOL.udp],
      [echoRequest(hop, route, { id: 61001, sequence: 2, size: 333 }), icmp],
    ]
    for (const [frame, protocol] of cases) {
      const carried = frame.subarray(14 + header)
      const start = protocol === PROTOCOL.icmp ? 0 : pseudoSum(route, protocol, carried.length)
      t.is(onesSum(carried, start), 0xffff)
      if (name === 'IPv4') t.is(onesSum(frame.subarray(14, 34)), 0xffff)
    }
    t.is(echoRequest(hop, route, { id: 1, sequence: 1, size: 1500 }).length, 1514)
    t.is(echoRequest({ ...hop, vlan: 100 }, route, { id: 1, sequence: 1, size: 1500 }).length, 1518)
  })

  test(`${name}: answers are read, and come through the filter`, (t) => {
    const answer = { source: vip, destination: director }
    const echo = echoRequest(back, answer, { id: 61001, sequence: 3 })
    t.like(readHeard(echo), { kind: 'echo', isReply: false, id: 61001, sequence: 3, source: vip, mac: THERE })
    const reply = Uint8Array.from(echo)
    reply[14 + header] = name === 'IPv4' ? 0 : 129
    t.like(readHeard(reply), { kind: 'echo', isReply: true, source: vip, destination: director })
    const reset = tcpReset(back, { ...answer, sourcePort: 80, destinationPort: 61001 }, 5)
    t.like(readHeard(reset), { kind: 'tcp', flags: 4, sourcePort: 80, destinationPort: 61001, mac: THERE })
    const datagram = udpDatagram(back, { ...answer, sourcePort: 53, destinationPort: 61001 })
    t.like(readHeard(datagram), { kind: 'udp', sourcePort: 53 })
    for (const frame of [echo, reply, reset, datagram]) t.is(runFilter(probeFilter(), frame), 256)
  })

  test(`${name}: what is no answer to a probe does not come through the filter`, (t) => {
    const answer = { source: vip, destination: director }
    const segment = tcpSyn(back, { ...answer, sourcePort: 61001, destinationPort: 60999 }, 1)
    const echo = echoRequest(back, answer, { id: 60999, sequence: 3 })
    for (const frame of [segment, echo]) t.is(runFilter(probeFilter(), frame), 0)
  })
}

test('a SYN-ACK names its MSS, and what it acknowledges', (t) => {
  const frame = bytes(`
    02000a590002 02000a590015 0800
    4500 002c 0000 4000 40 06 0000 0a590064 0a590002
    0050 ee49 11111111 786c6201 60 12 ffff 0000 0000  02 04 05b4`)
  t.like(readHeard(frame), { kind: 'tcp', flags: 0x12, acknowledged: 0x786c6201, mss: 1460 })
  const behindNop = Uint8Array.from([
    ...frame.subarray(0, 46),
    0x80,
    ...frame.subarray(47, 54),
    1,
    2,
    4,
    5,
    0x78,
    0,
    0,
    0,
  ])
  t.like(readHeard(behindNop), { mss: 1400 })
})

test('an ICMP error says which port nobody listens at', (t) => {
  const question = udpDatagram(hop, {
    source: '10.89.0.2',
    destination: '10.89.0.100',
    sourcePort: 61001,
    destinationPort: 53,
  })
  const frame = bytes(`
    02000a590002 02000a590015 0800
    4500 0038 0000 4000 40 01 0000 0a590064 0a590002
    0303 0000 00000000 ${hex(question.subarray(14))}`)
  t.deepEqual(readHeard(frame), {
    kind: 'unreachable',
    mac: THERE,
    says: '10.89.0.100',
    isPort: true,
    about: { source: '10.89.0.2', destination: '10.89.0.100', sourcePort: 61001, destinationPort: 53, protocol: 17 },
  })
  t.is(runFilter(probeFilter(), frame), 256)
})

test('ARP replies and neighbour advertisements name who has an address; requests are nothing', (t) => {
  const request = whoHas(THERE, '10.89.0.100', '10.89.0.2')
  t.is(runFilter(probeFilter(), request), 0)
  const reply = Uint8Array.from(request)
  reply[21] = 2
  t.deepEqual(readHeard(reply), { kind: 'neighbour', address: '10.89.0.100', mac: THERE })
  t.is(runFilter(probeFilter(), reply), 256)
  const advertisement = whoHas('02:00:00:00:00:77', 'fd00:89::15', 'fd00:89::100')
  advertisement[54] = 136
  advertisement[78] = 2
  t.deepEqual(readHeard(advertisement), { kind: 'neighbour', address: 'fd00:89::100', mac: '02:00:00:00:00:77' })
  t.is(runFilter(probeFilter(), advertisement), 256)
})

test('any octets are read without an error', (t) => {
  const start = fc.constantFrom('0800', '86dd', '0806').map((type) => bytes(`${'00'.repeat(12)}${type}`))
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 120 }), (head, rest) => {
      const frame = Uint8Array.from([...head, ...rest])
      readHeard(frame)
      sumUp(frame)
      runFilter(probeFilter(), frame)
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

test('a batch of a packet socket is taken apart', (t) => {
  const batch = bytes('02000000 03000000 aabbcc0000000000 05000000 08000000 0102030405060708')
  t.deepEqual(
    [...framesOf(batch)].map(({ ifindex, frame }) => [ifindex, hex(frame)]),
    [
      [2, 'aabbcc'],
      [5, '0102030405060708'],
    ],
  )
})

for (const { name, director, vip, header } of FAMILIES) {
  test(`${name}: a partial checksum is told from a right one, and from one that is merely wrong`, (t) => {
    const route = { source: director, destination: vip, sourcePort: 40000, destinationPort: 80 }
    const right = tcpSyn(hop, route, 9)
    t.deepEqual(sumUp(right), { source: director, mac: HERE, isPartial: false })
    const view = new DataView(right.buffer)
    const at = 14 + header + 16
    view.setUint16(at, pseudoSum(route, PROTOCOL.tcp, 20))
    t.is(sumUp(right)?.isPartial, true)
    view.setUint16(at, 0x1234)
    t.is(sumUp(right)?.isPartial, false)
    t.is(sumUp(right.subarray(0, right.length - 1)), undefined)
    const tagged = tcpSyn({ ...hop, vlan: 5 }, route, 9)
    t.deepEqual(sumUp(tagged), { source: director, mac: HERE, isPartial: false })
  })
}
