// SPDX-License-Identifier: Apache-2.0
// The VLAN that a frame leaves in: whatever tags it came with, by whichever way through the program.
import test from 'ava'
import {
  datagram,
  ETHERTYPE,
  FRAGMENT,
  icmpError,
  inSegment,
  ipv4,
  OWN_MAC,
  PROTOCOL,
  rewritten,
  type Tag,
  TCP,
  tcp,
  tcp6Frame,
  tcpFrame,
  udpFrame,
  VIP,
  VIP6,
} from './frames.ts'
import { Balancer, backendMac, breathe, GONE_SLOT, linkPath, SECOND_INTERFACE, VERDICT } from './plane.ts'

test.beforeEach(breathe)

const SERVICE = `tcp://${VIP}:80`
const vlan = (control: number): Tag => ({ type: ETHERTYPE.VLAN, id: control })
const provider: Tag = { type: ETHERTYPE.QINQ, id: 0x3007 }

const CAME: Readonly<Record<string, readonly Tag[]>> = {
  'no tag': [],
  'the tag of its own VLAN': [vlan(300)],
  'the tag of another VLAN': [vlan(100)],
  'a priority tag': [vlan(0xe000)],
  'a tag of a priority and eligible to be dropped': [vlan(0xb064)],
  'the provider’s tag alone': [provider],
  'a provider’s tag and one of a VLAN': [provider, vlan(0x2064)],
  'two tags of VLANs': [vlan(7), vlan(100)],
}

const balancer = new Balancer()
test.after.always(() => balancer.close())

for (const scheduler of ['mh', 'rr'] as const) {
  for (const [slot, verdict, source] of [
    [0, VERDICT.TX, OWN_MAC],
    [1, VERDICT.REDIRECT, SECOND_INTERFACE.mac],
  ] as const) {
    for (const wanted of [undefined, 1, 300, 4094]) {
      for (const [title, tags] of Object.entries(CAME)) {
        const way = verdict === VERDICT.TX ? 'back' : 'by another interface'
        test.serial(
          `${scheduler}: ${title}, ${way}, for a backend ${wanted === undefined ? 'without a VLAN' : `in VLAN ${wanted}`}`,
          (t) => {
            balancer.reset()
            balancer.add(SERVICE, { scheduler }, { 1: { path: linkPath(1, slot, wanted) } })
            for (const flags of [TCP.SYN, TCP.ACK, TCP.ACK, TCP.FIN | TCP.ACK]) {
              const frame = tcpFrame({ tags, flags, payload: Buffer.from('payload') })
              const sent = balancer.send(frame)
              t.is(sent.verdict, verdict)
              t.is(
                sent.frame.toString('hex'),
                rewritten(inSegment(frame, wanted), backendMac(1), source).toString('hex'),
              )
            }
            const expected = BigInt(4 * tcpFrame({ tags, payload: Buffer.from('payload') }).length)
            t.deepEqual(balancer.counters(SERVICE, 1), { packets: 4n, bytes: expected, flows: 1n })
          },
        )
      }
    }
  }
}

test.serial('a full frame of 1,514 octets gets a tag, and has 1,518 then; it loses one, and has 1,514', (t) => {
  balancer.reset()
  balancer.add(SERVICE, { scheduler: 'mh' }, { 1: { path: linkPath(1, 0, 20) } })
  const payload = Buffer.alloc(1460, 0x5a)
  t.is(balancer.send(tcpFrame({ payload, flags: TCP.ACK })).frame.length, 1518)
  t.is(balancer.send(tcpFrame({ payload, flags: TCP.ACK, tags: [vlan(9)] })).frame.length, 1518)
  balancer.setBackend(SERVICE, 1, { path: linkPath(1) })
  const sent = balancer.send(tcpFrame({ payload, flags: TCP.ACK, tags: [vlan(9)] }))
  t.is(
    sent.frame.toString('hex'),
    rewritten(tcpFrame({ payload, flags: TCP.ACK }), backendMac(1), OWN_MAC).toString('hex'),
  )
})

test.serial('the shortest frame that has its headers whole loses and gets a tag', (t) => {
  balancer.reset()
  balancer.add('udp://192.0.2.10:53', { scheduler: 'mh' }, { 1: {} })
  const frame = udpFrame({ tags: [vlan(100)] })
  t.is(balancer.send(frame).frame.length, 42)
  balancer.setBackend('udp://192.0.2.10:53', 1, { path: linkPath(1, 0, 5) })
  t.is(balancer.send(udpFrame()).frame.length, 46)
})

test.serial('a fragment, and an ICMP error about a flow, leave in the backend’s VLAN as its segments do', (t) => {
  balancer.reset()
  balancer.add(SERVICE, { scheduler: 'rr' }, { 1: { path: linkPath(1, 0, 42) } })
  const first = tcpFrame({ fragment: FRAGMENT.MORE, payload: Buffer.alloc(16) })
  const later = datagram({ fragment: 5, protocol: PROTOCOL.TCP }, Buffer.alloc(24, 1))
  const quoted = ipv4({ source: VIP, vip: '203.0.113.5' }, tcp({ sourcePort: 80, port: 40000 }))
  const error = datagram({ source: '198.18.0.1', protocol: PROTOCOL.ICMP }, icmpError(3, 4, quoted.subarray(0, 28)))
  for (const frame of [first, later, error]) {
    const sent = balancer.send(frame)
    t.is(sent.verdict, VERDICT.TX)
    t.is(sent.frame.toString('hex'), rewritten(inSegment(frame, 42), backendMac(1), OWN_MAC).toString('hex'))
  }
})

for (const scheduler of ['mh', 'rr'] as const) {
  test.serial(`${scheduler}: IPv6 leaves in the backend’s VLAN, whatever tags it came with`, (t) => {
    balancer.reset()
    const service = `tcp://[${VIP6}]:80`
    for (const wanted of [undefined, 42]) {
      balancer.change(() => new Map())
      balancer.add(service, { scheduler }, { 1: { path: linkPath(1, 0, wanted) } })
      for (const tags of Object.values(CAME)) {
        for (const flags of [TCP.SYN, TCP.ACK, TCP.ACK]) {
          const frame = tcp6Frame({ tags, flags })
          const sent = balancer.send(frame)
          t.is(sent.verdict, VERDICT.TX)
          t.is(sent.frame.toString('hex'), rewritten(inSegment(frame, wanted), backendMac(1), OWN_MAC).toString('hex'))
        }
      }
    }
  })
}

test.serial('backends of one service, each in a VLAN of its own or in none, get their own frames', (t) => {
  balancer.reset()
  const wanted = new Map([1, 2, 3, 4].map((backend) => [backend, backend === 4 ? undefined : backend * 10]))
  const specs = Object.fromEntries([...wanted].map(([backend, id]) => [backend, { path: linkPath(backend, 0, id) }]))
  balancer.add(SERVICE, { scheduler: 'mh' }, specs)
  const met = new Set<number>()
  for (let sourcePort = 1; sourcePort < 200; sourcePort++) {
    const frame = tcpFrame({ sourcePort, tags: sourcePort % 3 === 0 ? [vlan(77)] : [] })
    const sent = balancer.send(frame)
    const backend = sent.backend ?? 0
    met.add(backend)
    t.deepEqual(sent.frame, rewritten(inSegment(frame, wanted.get(backend)), backendMac(backend), OWN_MAC))
  }
  t.is(met.size, 4)
})

test.serial('a tagged frame for a backend behind an interface that is gone is dropped', (t) => {
  balancer.reset()
  balancer.add(SERVICE, { scheduler: 'mh' }, { 1: { path: linkPath(1, GONE_SLOT, 42) } })
  t.deepEqual(balancer.send(tcpFrame()).reasons, { DROP_NO_EGRESS: 1 })
  t.is(balancer.counters(SERVICE, 1).packets, 0n)
})
