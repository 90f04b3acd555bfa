// SPDX-License-Identifier: Apache-2.0
// Sources that services do not hear: lists of prefixes, of all services and of one.
import test, { type ExecutionContext } from 'ava'
import { parseService } from '../../src/core/address.ts'
import { withFilter } from '../../src/core/filter.ts'
import { AF, formatIpv4 } from '../../src/core/ip.ts'
import { longestMatch, PrefixCollector, prefixAt } from '../../src/core/prefixes.ts'
import { addService } from '../../src/core/verbs.ts'
import { ServiceFlag } from '../../src/dataplane/layout.gen.ts'
import {
  CLIENT,
  datagram,
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
} from './frames.ts'
import { Balancer, type BalancerOptions, breathe, LOCAL, type ReasonName, VERDICT } from './plane.ts'
import { makeRandom } from './random.ts'
import { testTable } from './table.ts'

test.beforeEach(breathe)

const SERVICE = `tcp://${VIP}:80`
const UDP_SERVICE = `udp://${VIP}:53`

const open = (t: ExecutionContext, options: BalancerOptions = {}): Balancer => {
  const balancer = new Balancer(options)
  t.teardown(() => balancer.close())
  return balancer
}

/** The one thing that is said of a frame. */
const reasonOf = (balancer: Balancer, frame: Buffer): ReasonName | undefined => {
  const said = Object.keys(balancer.send(frame).reasons).filter((name) => !name.startsWith('FLOW_')) as ReasonName[]
  return said.length === 1 ? said[0] : undefined
}

// ---- one frame each ----

const many = new Balancer()
many.add(SERVICE, { scheduler: 'mh' }, { 3: {} })
many.add(`tcp://${VIP}:443`, { scheduler: 'rr' }, { 4: {} })
many.add(`tcp://${VIP}:444`, { scheduler: 'mh' }, { 4: {} })
many.add(`tcp://${VIP}:8000-8099`, { scheduler: 'sh' }, { 5: {} })
many.add('tcp://192.0.2.11:80', { scheduler: 'mh' }, { 6: {} })
many.filter(undefined, 'deny 198.51.100.0/24', 'allow 198.51.100.128/25', 'deny 198.51.100.200')
many.filter(SERVICE, 'deny 203.0.113.0/24', 'allow 203.0.113.64/26', 'deny 203.0.113.100', 'deny 198.51.100.129')
many.filter(`tcp://${VIP}:8000-8099`, 'default deny', 'allow 203.0.113.7')
test.after.always(() => many.close())

const from = (source: string, fields: FrameFields = {}): Buffer => tcpFrame({ source, ...fields })

testTable(
  () => many,
  [
    { name: 'what no prefix covers is let through', frame: from('192.0.2.200'), goes: 3, reason: 'TX_FORWARDED' },
    { name: 'the filter of all denies', frame: from('198.51.100.1'), goes: 'nowhere', reason: 'DROP_DENIED_GLOBAL' },
    { name: 'its first address', frame: from('198.51.100.0'), goes: 'nowhere', reason: 'DROP_DENIED_GLOBAL' },
    { name: 'the one below is not denied', frame: from('198.51.99.255'), goes: 3, reason: 'TX_FORWARDED' },
    { name: 'the one above is not denied', frame: from('198.51.101.0'), goes: 3, reason: 'TX_FORWARDED' },
    { name: 'a longer prefix allows', frame: from('198.51.100.128'), goes: 3, reason: 'TX_FORWARDED' },
    { name: 'the last of a longer prefix', frame: from('198.51.100.255'), goes: 3, reason: 'TX_FORWARDED' },
    { name: 'the last before it', frame: from('198.51.100.127'), goes: 'nowhere', reason: 'DROP_DENIED_GLOBAL' },
    {
      name: 'one address within a prefix within a prefix',
      frame: from('198.51.100.200'),
      goes: 'nowhere',
      reason: 'DROP_DENIED_GLOBAL',
    },
    { name: 'its neighbour', frame: from('198.51.100.201'), goes: 3, reason: 'TX_FORWARDED' },
    { name: 'a service’s own filter denies', frame: from('203.0.113.5'), goes: 'nowhere', reason: 'DROP_DENIED' },
    { name: 'a service’s own, a longer prefix', frame: from('203.0.113.64'), goes: 3, reason: 'TX_FORWARDED' },
    { name: 'a service’s own, an address', frame: from('203.0.113.100'), goes: 'nowhere', reason: 'DROP_DENIED' },
    {
      name: 'what the filter of all allows, a service may deny',
      frame: from('198.51.100.129'),
      goes: 'nowhere',
      reason: 'DROP_DENIED',
    },
    {
      name: 'another service of the VIP has no part in that',
      frame: from('203.0.113.5', { port: 444 }),
      goes: 4,
      reason: 'TX_FORWARDED',
    },
    {
      name: 'the filter of all holds at other services',
      frame: from('198.51.100.1', { vip: '192.0.2.11' }),
      goes: 'nowhere',
      reason: 'DROP_DENIED_GLOBAL',
    },
    {
      name: 'the filter of all holds at a tracked service',
      frame: from('198.51.100.1', { port: 443 }),
      goes: 'nowhere',
      reason: 'DROP_DENIED_GLOBAL',
    },
    {
      name: 'who is not listed is denied by default',
      frame: from('192.0.2.200', { port: 8010 }),
      goes: 'nowhere',
      reason: 'DROP_DENIED',
    },
    {
      name: 'who is listed is allowed',
      frame: from('203.0.113.7', { port: 8010 }),
      goes: 5,
      reason: 'TX_FORWARDED',
    },
    {
      name: 'IP options',
      frame: from('198.51.100.1', { options: Buffer.alloc(4, 1) }),
      goes: 'nowhere',
      reason: 'DROP_DENIED_GLOBAL',
    },
    {
      name: 'VLAN tags',
      frame: from('203.0.113.5', { tags: [{ type: 0x8100, id: 7 }] }),
      goes: 'nowhere',
      reason: 'DROP_DENIED',
    },
    {
      name: 'the first fragment',
      frame: from('203.0.113.5', { fragment: FRAGMENT.MORE }),
      goes: 'nowhere',
      reason: 'DROP_DENIED',
    },
    {
      name: 'what is for no service is the stack’s to filter',
      frame: from('198.51.100.1', { port: 22 }),
      goes: 'stack',
      reason: 'PASS_NO_SERVICE',
    },
    { name: 'so is a ping', frame: icmpFrame({ source: '198.51.100.1' }), goes: 'stack', reason: 'PASS_NOT_BALANCED' },
    {
      name: 'what is for no VIP is not touched',
      frame: from('198.51.100.1', { vip: '192.0.2.99' }),
      goes: 'stack',
      reason: 'PASS_NOT_VIP',
    },
  ].map((each) => ({ ...each, name: `sources: ${each.name}` }) as const) as Parameters<typeof testTable>[1],
)

// ---- in sequences ----

for (const scheduler of ['mh', 'sh', 'rr', 'wrr'] as const) {
  test.serial(`${scheduler}: an established flow is heard no more from the moment its source is denied`, (t) => {
    const balancer = open(t)
    balancer.add(SERVICE, { scheduler }, 3)
    const backend = balancer.to(tcpFrame())
    t.is(balancer.to(tcpFrame({ flags: TCP.ACK })), backend)
    balancer.filter(SERVICE, `deny ${CLIENT}`)
    t.deepEqual(balancer.send(tcpFrame({ flags: TCP.ACK })).reasons, { DROP_DENIED: 1 })
    balancer.filter(SERVICE)
    t.is(balancer.to(tcpFrame({ flags: TCP.ACK })), backend)
    balancer.filter(undefined, `deny ${CLIENT}`)
    t.deepEqual(balancer.send(tcpFrame({ flags: TCP.ACK })).reasons, { DROP_DENIED_GLOBAL: 1 })
    balancer.filter(undefined)
    t.is(balancer.to(tcpFrame({ flags: TCP.ACK })), backend)
  })
}

test.serial('an ICMP error is judged by the client that it is about, not by the router that sends it', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'mh' }, 3)
  const backend = balancer.to(tcpFrame())
  const quoted = ipv4({ source: VIP, vip: CLIENT }, tcp({ sourcePort: 80, port: 40000, flags: TCP.ACK }))
  const error = datagram({ source: '203.0.113.254', protocol: PROTOCOL.ICMP }, icmpError(3, 4, quoted.subarray(0, 28)))
  balancer.filter(SERVICE, 'default deny', `allow ${CLIENT}`)
  t.is(balancer.to(error), backend)
  balancer.filter(SERVICE, `deny ${CLIENT}`)
  t.deepEqual(balancer.send(error).reasons, { DROP_DENIED: 1 })
  balancer.filter(undefined, `deny ${CLIENT}`)
  t.deepEqual(balancer.send(error).reasons, { DROP_DENIED_GLOBAL: 1 })
})

test.serial('later fragments of a source that was denied in between are dropped by that name', (t) => {
  const balancer = open(t)
  balancer.add(UDP_SERVICE, { scheduler: 'rr' }, 2)
  const fields = { protocol: PROTOCOL.UDP, identification: 7 }
  balancer.to(datagram({ ...fields, fragment: FRAGMENT.MORE }, udp({ payload: Buffer.alloc(16) })))
  const later = datagram({ ...fields, fragment: 3 }, Buffer.alloc(8))
  t.is(balancer.send(later).verdict, VERDICT.TX)
  balancer.filter(UDP_SERVICE, `deny ${CLIENT}`)
  t.deepEqual(balancer.send(later).reasons, { DROP_DENIED: 1 })
})

test.serial('what another director has sent here was judged there', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'mh' }, { 1: { path: LOCAL }, 2: {} })
  balancer.filter(SERVICE, 'default deny')
  t.is(reasonOf(balancer, tcpFrame({ sourceMac: '02:be:00:00:00:02' })), 'PASS_FROM_PEER')
  t.is(reasonOf(balancer, tcpFrame()), 'DROP_DENIED')
})

test.serial('a change of backends or weights keeps the filter, and costs it no new place', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'wrr' }, 2)
  balancer.filter(SERVICE, `deny ${CLIENT}`)
  const { filter } = balancer.live(SERVICE)
  t.not(filter, 0)
  balancer.setBackend(SERVICE, 2, { weight: 9 })
  balancer.setBackend(SERVICE, 3)
  balancer.set(SERVICE, { scheduler: 'mh' })
  t.is(balancer.live(SERVICE).filter, filter)
  t.is(reasonOf(balancer, tcpFrame()), 'DROP_DENIED')
})

test.serial(
  'services that come while there is a filter of all are under it; without one they go the short way',
  (t) => {
    const balancer = open(t)
    const flags = () => balancer.live(SERVICE).service.flags & ServiceFlag.SERVICE_LONG_WAY
    balancer.filter(undefined, `deny ${CLIENT}`)
    balancer.add(SERVICE, { scheduler: 'mh' }, 2)
    t.is(reasonOf(balancer, tcpFrame()), 'DROP_DENIED_GLOBAL')
    balancer.setBackend(SERVICE, 3)
    t.is(reasonOf(balancer, tcpFrame()), 'DROP_DENIED_GLOBAL')
    t.is(flags(), ServiceFlag.SERVICE_FILTERED)
    balancer.filter(undefined)
    t.is(flags(), 0)
    t.is(reasonOf(balancer, tcpFrame()), 'TX_FORWARDED')
  },
)

test.serial('a kill before the commit leaves what was there, and the next change takes back what it left', (t) => {
  const balancer = open(t, { capacity: { prefixes: 1024 } })
  balancer.add(SERVICE, { scheduler: 'mh' }, 2)
  const lists = [1, 2, 3, 4, 5, 6, 7, 8].map((octet) =>
    Array.from({ length: 1000 }, (_, i) => `deny ${octet}.0.${i >> 8}.${i & 255}`),
  )
  balancer.filter(undefined, `deny ${CLIENT}`)
  for (const list of lists) {
    t.throws(() => balancer.filterInterrupted(list), { message: 'killed' })
    t.is(reasonOf(balancer, tcpFrame()), 'DROP_DENIED_GLOBAL')
    t.is(reasonOf(balancer, from('1.0.0.1')), 'TX_FORWARDED')
  }
  for (const list of lists) balancer.filter(undefined, ...list)
  t.is(reasonOf(balancer, from('8.0.3.231')), 'DROP_DENIED_GLOBAL')
  t.is(reasonOf(balancer, from('1.0.0.1')), 'TX_FORWARDED')
})

test.serial('100,000 random prefixes: each answer is that of the longest one that covers the source', (t) => {
  const balancer = open(t, { capacity: { prefixes: 2 ** 17 } })
  balancer.add(UDP_SERVICE, { scheduler: 'mh' }, 1)
  const random = makeRandom(100)
  const collector = new PrefixCollector()
  while (collector.count < 100_000) {
    const bits = random.pick([8, 12, 16, 20, 22, 24, 24, 24, 28, 32])
    const word = (random.word() & (-1 << (32 - bits))) >>> 0
    collector.add({ family: AF.ipv4, words: [word, 0, 0, 0], bits }, random.once(3) ? 'allow' : 'deny')
  }
  const prefixes = collector.list()
  const address = parseService(UDP_SERVICE)
  balancer.change((state) => withFilter(state, address, () => ({ fallback: 'allow', prefixes })))
  const seen = { DROP_DENIED: 0, TX_FORWARDED: 0 }
  for (let i = 0; i < 1000; i++) {
    // Near an end of a prefix, or anywhere.
    const near = prefixAt(prefixes, random.below(prefixes.length / 5))
    const size = 2 ** (32 - near.bits)
    const word = random.once(4) ? random.word() : (near.words[0] + random.pick([-1, 0, size - 1, size])) >>> 0
    const match = longestMatch(prefixes, { family: AF.ipv4, words: [word, 0, 0, 0] })
    const wanted = match >= 0 && prefixAt(prefixes, match).verdict === 'deny' ? 'DROP_DENIED' : 'TX_FORWARDED'
    t.is(reasonOf(balancer, udpFrame({ source: formatIpv4(word) })), wanted, formatIpv4(word))
    seen[wanted]++
  }
  t.true(seen.DROP_DENIED > 250 && seen.TX_FORWARDED > 250, JSON.stringify(seen))
})

test.serial('more prefixes than there is room for are refused, and nothing is changed', (t) => {
  const balancer = open(t, { capacity: { prefixes: 64 } })
  balancer.add(SERVICE, { scheduler: 'mh' }, 1)
  balancer.filter(SERVICE, `deny ${CLIENT}`)
  const list = Array.from({ length: 64 }, (_, i) => `deny 10.0.0.${i}`)
  const refused = t.throws(() => balancer.filter(undefined, ...list))
  t.regex(refused?.message ?? '', /table of prefixes is full: 65 are wanted, and it holds 64/)
  t.is(reasonOf(balancer, from('10.0.0.1')), 'TX_FORWARDED')
  balancer.filter(undefined, ...list.slice(1))
  t.is(reasonOf(balancer, from('10.0.0.1')), 'DROP_DENIED_GLOBAL')
})

test.serial('a service that comes again does not have the filter that it had', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'mh' }, 1)
  balancer.filter(SERVICE, 'default deny')
  balancer.remove(SERVICE)
  balancer.change((state) => addService(state, parseService(SERVICE), { scheduler: 'mh' }, 7n))
  t.is(reasonOf(balancer, tcpFrame()), 'DROP_NO_BACKEND')
})
