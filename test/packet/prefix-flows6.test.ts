// SPDX-License-Identifier: Apache-2.0
// Flows to addresses of an IPv6 prefix: each is told apart by both its addresses, in a table of its own.
import test, { type ExecutionContext } from 'ava'
import type { Scheduler } from '../../src/core/desired.ts'
import { parseSource } from '../../src/core/endpoint.ts'
import { formatIpv6 } from '../../src/core/ip.ts'
import { Connections } from '../../src/dataplane/connections.ts'
import { explain } from '../../src/dataplane/explain.ts'
import { countFlows } from '../../src/dataplane/flows.ts'
import { miscounted } from './counted.ts'
import { entries, makeAllOlder } from './flowtable.ts'
import {
  type Frame6Fields,
  icmp6,
  ipv6,
  PROTOCOL,
  packet6,
  tcp as segment,
  TCP,
  tcp6Frame as tcp,
  udp6Frame as udp,
} from './frames.ts'
import { notes } from './notes.ts'
import { Balancer, type BalancerOptions, breathe } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)

const PREFIX = '[2001:db8:5::/64]'
const WEB = `tcp://${PREFIX}:80`
const ALICE = '2001:db8:cc::5'
const BOB = '2001:db8:cc::6'

const open = (
  t: ExecutionContext,
  scheduler: Scheduler,
  backends = 3,
  options: BalancerOptions & { service?: string; persist?: number } = {},
): Balancer => {
  const { service = WEB, persist, ...others } = options
  const balancer = new Balancer({ ...others, capacity: { destinations: 512, ...others.capacity } })
  t.teardown(() => balancer.close())
  const given = Object.fromEntries(Array.from({ length: backends }, (_, i) => [i + 1, { weight: 50 }]))
  balancer.add(service, { scheduler, ...(persist === undefined ? {} : { persist }) }, given)
  return balancer
}

/** Addresses that are alike in either half of what a prefix leaves. */
const host = (i: number): string => formatIpv6([0x2001, 0xdb8, 5, 0, i >> 4, 0, 0, i & 15])
const HOSTS = Array.from({ length: 48 }, (_, i) => host(i))

for (const protocol of ['tcp', 'udp'] as const) {
  test.serial(`${protocol}: flows of one client port to several addresses of a prefix are several flows`, (t) => {
    const service = `${protocol}://${PREFIX}:80`
    const balancer = open(t, 'rr', 3, { service })
    const frame = protocol === 'tcp' ? tcp : (fields: Frame6Fields) => udp({ port: 80, ...fields })
    const opened = HOSTS.map((vip) => balancer.to(frame({ vip })))
    t.deepEqual(
      opened,
      HOSTS.map((_, i) => 1 + (i % 3)),
    )
    t.is(balancer.moved().FLOW_INSERTED, undefined)
    for (let i = 0; i < 3; i++)
      t.deepEqual(
        HOSTS.map((vip) => balancer.to(frame({ vip, flags: TCP.ACK }))),
        opened,
      )
    t.is(balancer.moved().FLOW_INSERTED, undefined)
    const listed = [...new Connections(balancer.plane, [balancer.live(service)])]
    t.deepEqual(
      listed.map(({ source, virtual, destination }) => `${source} ${virtual} ${destination}`).sort(),
      HOSTS.map((vip, i) => `[${ALICE}]:40000 [${vip}]:80 [2001:db8:be::${opened[i]}]:80`).sort(),
    )
    const from = (text: string) => [
      ...new Connections(balancer.plane, [balancer.live(service)], { source: parseSource(text) }),
    ]
    t.is(from('2001:db8:cc::/64').length, HOSTS.length)
    t.is(from(`[${ALICE}]:40000`).length, HOSTS.length)
    t.is(from(BOB).length, 0)
    t.is(from('0.0.0.0/0').length, 0)
  })
}

test.serial('flows of two clients to one address are two flows too', (t) => {
  const balancer = open(t, 'rr')
  t.is(balancer.to(tcp({ vip: host(1), source: ALICE })), 1)
  t.is(balancer.to(tcp({ vip: host(1), source: BOB })), 2)
  // Source and destination of one are those of the other, turned round.
  t.is(balancer.to(tcp({ vip: host(2), source: host(3) })), 3)
  t.is(balancer.to(tcp({ vip: host(3), source: host(2) })), 1)
  t.is(balancer.to(tcp({ vip: host(2), source: host(3), flags: TCP.ACK })), 3)
  t.is(balancer.to(tcp({ vip: host(1), source: ALICE, flags: TCP.ACK })), 1)
})

test.serial('they stand in a table of their own, and flows of single VIPs do not', (t) => {
  const balancer = open(t, 'rr')
  balancer.add('tcp://[2001:db8:5::7]:80', { scheduler: 'rr' }, 1)
  balancer.add('tcp://192.0.2.0/24:80', { scheduler: 'rr' }, 1)
  balancer.to(tcp({ vip: host(1) }))
  balancer.to(tcp({ vip: '2001:db8:5::7' }))
  const { prefix6, ipv6: single } = countFlows(balancer.plane, balancer.plane.age()).tables
  t.is(prefix6.used, 1)
  t.is(single.used, 1)
  t.deepEqual(
    entries(balancer)
      .map(({ table }) => table)
      .sort(),
    ['flows6', 'prefix_flows6'],
  )
})

test.serial('the end of a flow to one address of a prefix is not the end of another', (t) => {
  const balancer = open(t, 'rr')
  t.is(balancer.to(tcp({ vip: host(1) })), 1)
  t.is(balancer.to(tcp({ vip: host(2) })), 2)
  t.is(balancer.to(tcp({ vip: host(1), flags: TCP.RST })), 1)
  t.is(balancer.to(tcp({ vip: host(1) })), 3, 'a new one has its own turn')
  t.is(balancer.to(tcp({ vip: host(2), flags: TCP.ACK })), 2)
  t.deepEqual(miscounted(balancer), [])
})

test.serial('an ICMPv6 error follows the flow to the address that it is about, and changes nothing', (t) => {
  const balancer = open(t, 'rr')
  const hosts = HOSTS.slice(0, 9)
  const opened = hosts.map((vip) => balancer.to(tcp({ vip })))
  const about = (vip: string, bytes: number) =>
    packet6(
      { source: '2001:db8:ff::1', vip, protocol: PROTOCOL.ICMPV6 },
      icmp6(2, 0, ipv6({ source: vip, vip: ALICE }, segment({ sourcePort: 80, port: 40000 })).subarray(0, bytes)),
    )
  const before = entries(balancer)
  for (const bytes of [48, 60])
    t.deepEqual(
      hosts.map((vip) => balancer.to(about(vip, bytes))),
      opened,
    )
  t.deepEqual(entries(balancer), before)
})

for (const scheduler of ['rr', 'wrr', 'lc', 'wlc', 'sed', 'nq', 'lblc', 'lblcr', 'mh', 'sh', 'dh'] as const) {
  test.serial(`${scheduler}: what trace says of a packet for a prefix is what the program does`, (t) => {
    const balancer = open(t, scheduler, 4)
    const seen = new Set<number | undefined>()
    for (let i = 0; i < 200; i++) {
      const source = `2001:db8:cc::${1 + (i % 9)}`
      const vip = host((7 * i) % 23)
      const opens = i % 4 !== 3
      const sourcePort = 2000 + (i >> 2)
      const at = { now: balancer.plane.age(), interfaceSlot: 0, budget: 'left' as const }
      const said = explain(balancer.plane, { protocol: 'tcp', source, sourcePort, vip, port: 80, opens }, at)
      const sent = balancer.send(tcp({ source, vip, sourcePort, flags: opens ? TCP.SYN : TCP.ACK }))
      const index = sent.backend === undefined ? undefined : balancer.indexOf(WEB, sent.backend)
      seen.add(sent.backend)
      t.is(index, said.look?.choice.backend, `${i}: ${said.look?.choice.by}`)
      t.is(sent.reasons.FLOW_INSERTED ?? 0, said.look?.recorded === 'FLOW_INSERTED' ? 1 : 0, `${i}`)
    }
    t.true(seen.size > 1)
    t.deepEqual(miscounted(balancer), [])
  })

  test.serial(`${scheduler}: with persistence a client has one server over all addresses of a prefix`, (t) => {
    const balancer = open(t, scheduler, 4, { persist: 300 })
    for (const source of [ALICE, BOB]) {
      const first = balancer.to(tcp({ source, vip: host(40), sourcePort: 5 }))
      for (const [i, vip] of HOSTS.entries()) {
        t.is(balancer.to(tcp({ source, vip, sourcePort: 1024 + i })), first)
        t.is(balancer.to(tcp({ source, vip, sourcePort: 1024 + i, flags: TCP.ACK })), first)
      }
    }
    t.is(notes(balancer).size, 2)
  })
}

test.serial('a packet in mid-flow without an entry goes by the ring, and is recorded', (t) => {
  const balancer = open(t, 'rr', 8)
  for (const vip of HOSTS) {
    const expected = ringBackend(balancer, WEB, { source: ALICE, sourcePort: 9 })
    const sent = balancer.send(tcp({ vip, sourcePort: 9, flags: TCP.ACK }))
    t.is(sent.backend, expected)
    t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_INSERTED: 1 })
  }
})

test.serial('a full table: established flows stay, and what finds no place goes by the ring', (t) => {
  const balancer = open(t, 'rr', 8, { capacity: { prefixFlows6: 8 } })
  const flows = Array.from({ length: 40 }, (_, i) => ({ vip: host(i), sourcePort: 3000 + i }))
  for (const flow of flows) {
    balancer.to(tcp(flow))
    balancer.to(tcp({ ...flow, flags: TCP.ACK }))
  }
  const kept = entries(balancer)
  t.is(kept.length, 8)
  t.true(kept.every(({ state }) => state === 'FLOW_ESTABLISHED'))
  balancer.moved()
  for (let i = 0; i < 100; i++) {
    const flow = { vip: host(100 + i), sourcePort: 5000 + i }
    const sent = balancer.send(tcp(flow))
    t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_REFUSED_FULL: 1 })
    t.is(sent.backend, ringBackend(balancer, WEB, { source: ALICE, sourcePort: flow.sourcePort }))
  }
  t.deepEqual(entries(balancer), kept)
  t.deepEqual(miscounted(balancer), [])
  // An hour later they have expired, and give way.
  makeAllOlder(balancer, 2000)
  t.is(balancer.send(tcp({ vip: host(1), sourcePort: 9 })).reasons.FLOW_INSERTED, 1)
  t.deepEqual(miscounted(balancer), [])
})

test.serial('half-open flows give way to new ones, the oldest first, and what they counted goes with them', (t) => {
  const balancer = open(t, 'lc', 4, { capacity: { prefixFlows6: 8 } })
  for (let i = 0; i < 200; i++) t.is(balancer.send(tcp({ vip: host(i & 63), sourcePort: i })).reasons.FLOW_INSERTED, 1)
  t.is(entries(balancer).length, 8)
  t.deepEqual(miscounted(balancer), [])
})

test.serial('what has expired is swept, in time for schedulers that count', (t) => {
  const balancer = open(t, 'lc', 4)
  for (const vip of HOSTS) balancer.to(tcp({ vip }))
  t.is(entries(balancer).length, HOSTS.length)
  makeAllOlder(balancer, 2000)
  balancer.sweep()
  t.is(entries(balancer).length, 0)
  t.deepEqual(miscounted(balancer), [])
})

test.serial("a service that takes a removed one's id has none of its flows", (t) => {
  const balancer = open(t, 'rr')
  for (const vip of HOSTS) balancer.to(tcp({ vip }))
  balancer.remove(WEB)
  balancer.add(WEB, { scheduler: 'rr' }, 3)
  t.is(entries(balancer).length, 0)
  t.deepEqual(
    [0, 1, 2].map((i) => balancer.to(tcp({ vip: host(i) }))),
    [1, 2, 3],
  )
})

test.serial('from dh to mh and back flows stay, and marks of both hashes are told apart', (t) => {
  const balancer = open(t, 'dh', 6)
  const flags = TCP.ACK
  const before = HOSTS.map((vip) => balancer.to(tcp({ vip, flags })))
  balancer.set(WEB, { scheduler: 'mh' })
  t.deepEqual(
    HOSTS.map((vip) => balancer.to(tcp({ vip, flags }))),
    before,
  )
  const opened = HOSTS.map((vip) => balancer.to(tcp({ vip, sourcePort: 7 })))
  t.is(new Set(opened).size, 1, 'of one source and port')
  t.deepEqual(
    HOSTS.map((vip) => balancer.to(tcp({ vip, sourcePort: 7, flags }))),
    opened,
  )
})

for (const scheduler of ['lblc', 'lblcr'] as const) {
  test.serial(`${scheduler}: flows to one address stay with one backend, and others go to the least loaded`, (t) => {
    const balancer = open(t, scheduler, 3)
    const establish = (vip: string, sourcePort: number): number | undefined => {
      const backend = balancer.to(tcp({ vip, sourcePort }))
      balancer.to(tcp({ vip, sourcePort, flags: TCP.ACK }))
      return backend
    }
    t.deepEqual(
      [1, 2, 3].map((i) => establish(host(i), 1000)),
      [1, 2, 3],
    )
    for (let port = 2000; port < 2020; port++) t.is(establish(host(1), port), 1)
    for (let port = 2000; port < 2010; port++) t.is(establish(host(2), port), 2)
    // Backend 1 has 21 active connections, of a weight of 50: it is not overloaded. With 51 it is.
    for (let port = 3000; port < 3030; port++) t.is(establish(host(1), port), 1)
    t.is(establish(host(1), 4000), 3)
  })
}
