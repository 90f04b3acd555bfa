// SPDX-License-Identifier: Apache-2.0
// Persistence of a prefix's service: a client keeps its server over all addresses of the prefix.
import test, { type ExecutionContext } from 'ava'
import type { ServiceOptions } from '../../src/core/verbs.ts'
import { explain } from '../../src/dataplane/explain.ts'
import { remembered } from './destinations.ts'
import { datagram, icmpError, ipv4, PROTOCOL, TCP, tcp, tcpFrame, udpFrame } from './frames.ts'
import { agesLeft, endIn, notes } from './notes.ts'
import { Balancer, type BalancerOptions, breathe, LOCAL } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)

const PREFIX = '192.0.2.0/24'
const WEB = `tcp://${PREFIX}:80`
const ALICE = '203.0.113.5'
const BOB = '203.0.113.6'
const CAROL = '198.18.0.9'
const host = (number: number): string => `192.0.2.${number}`
const HOSTS = Array.from({ length: 40 }, (_, i) => host(i))

const open = (t: ExecutionContext, options: ServiceOptions = {}, balancerOptions: BalancerOptions = {}): Balancer => {
  const balancer = new Balancer(balancerOptions)
  t.teardown(() => balancer.close())
  const backends = Object.fromEntries([1, 2, 3, 4].map((backend) => [backend, { weight: 50 }]))
  balancer.add(WEB, { scheduler: 'rr', persist: 300, ...options }, backends)
  return balancer
}

let port = 1024
const syn = (source: string, vip: string, sourcePort = port++) => tcpFrame({ source, vip, sourcePort, flags: TCP.SYN })
const ack = (source: string, vip: string, sourcePort: number) => tcpFrame({ source, vip, sourcePort, flags: TCP.ACK })

for (const scheduler of ['rr', 'wrr', 'lc', 'wlc', 'sed', 'nq', 'lblc', 'lblcr', 'mh', 'sh', 'dh'] as const) {
  test.serial(`${scheduler}: a client's connections to all addresses go to the server of its first`, (t) => {
    const balancer = open(t, { scheduler })
    for (const client of [ALICE, BOB, CAROL]) {
      const first = balancer.to(syn(client, host(200)))
      for (const vip of HOSTS) {
        const sourcePort = port++
        t.is(balancer.to(syn(client, vip, sourcePort)), first)
        t.is(balancer.to(ack(client, vip, sourcePort)), first)
        t.is(balancer.to(ack(client, vip, sourcePort)), first)
      }
    }
    t.is(notes(balancer).size, 3)
  })

  test.serial(`${scheduler}: what trace says of a persistent prefix is what the program does`, (t) => {
    const balancer = open(t, { scheduler })
    for (let i = 0; i < 120; i++) {
      const source = [ALICE, BOB, CAROL][i % 3] ?? ALICE
      const vip = host(i % 7)
      const opens = i % 4 !== 3
      const sourcePort = opens ? port++ : port - 1
      const at = { now: balancer.plane.age(), interfaceSlot: 0, budget: 'left' as const }
      const said = explain(balancer.plane, { protocol: 'tcp', source, sourcePort, vip, port: 80, opens }, at)
      const sent = balancer.send((opens ? syn : ack)(source, vip, sourcePort))
      const index = sent.backend === undefined ? undefined : balancer.indexOf(WEB, sent.backend)
      t.is(index, said.look?.choice.backend, `${i}: ${said.look?.choice.by}`)
      t.is(sent.reasons.CLIENT_NOTED ?? 0, said.look?.noted === 'CLIENT_NOTED' ? 1 : 0)
      if (i % 10 === 9) endIn(balancer, i % 20 === 9 ? -1 : 5)
    }
  })
}

test.serial('dh: a new client goes where its first destination leads, and stays there', (t) => {
  const balancer = open(t, { scheduler: 'dh' })
  for (const [i, vip] of HOSTS.entries()) {
    const source = `203.0.113.${i}`
    const wanted = ringBackend(balancer, WEB, { source, sourcePort: 7, destination: vip })
    t.is(balancer.to(syn(source, vip, 7)), wanted)
    t.is(balancer.to(syn(source, host(250))), wanted)
  }
})

test.serial('lblc: a flow that goes by its client is none that the destination remembers', (t) => {
  const balancer = open(t, { scheduler: 'lblc' })
  t.is(balancer.to(syn(ALICE, host(1))), 1)
  t.is(balancer.to(syn(ALICE, host(2))), 1)
  t.deepEqual(remembered(balancer, WEB), { [host(1)]: [1] })
  // BOB is new: his destination decides, and that has none yet.
  t.is(balancer.to(syn(BOB, host(2))), 2)
  t.is(balancer.to(syn(BOB, host(1))), 2)
  t.is(balancer.to(syn(CAROL, host(1))), 1)
  t.deepEqual(remembered(balancer, WEB), { [host(1)]: [1], [host(2)]: [2] })
})

test.serial('a group of a prefix, a longer one in it, and a VIP', (t) => {
  const balancer = open(t, { group: 'all' })
  balancer.add(`tcp://192.0.2.64/26:80`, { scheduler: 'wrr', group: 'all' }, 4)
  balancer.add('tcp://192.0.2.80:80', { scheduler: 'mh', group: 'all' }, 4)
  for (const client of [ALICE, BOB, CAROL]) {
    const first = balancer.to(syn(client, host(70)))
    for (const vip of [host(1), host(70), host(80), host(2), host(127)]) t.is(balancer.to(syn(client, vip)), first)
  }
})

test.serial(
  'the packets of a connection keep the note; an ICMP error about it goes to its server, and does not',
  (t) => {
    const balancer = open(t)
    const first = balancer.to(syn(ALICE, host(9), 7))
    balancer.to(ack(ALICE, host(9), 7))
    const quoted = ipv4({ source: host(9), vip: ALICE }, tcp({ sourcePort: 80, port: 7 }))
    const whole = agesLeft(balancer)
    endIn(balancer, 0)
    t.is(
      balancer.to(datagram({ source: '172.16.0.1', vip: host(9), protocol: PROTOCOL.ICMP }, icmpError(3, 4, quoted))),
      first,
    )
    t.deepEqual(agesLeft(balancer), [0])
    t.is(balancer.to(syn(ALICE, host(10))), first)
    t.deepEqual(agesLeft(balancer), whole)
  },
)

test.serial('a drained server keeps or loses its clients; UDP; a server on this host', (t) => {
  const balancer = open(t)
  balancer.add(`udp://${PREFIX}:53`, { scheduler: 'rr', persist: 300, drainPersistence: 'cut' }, 3)
  const query = (vip: string) => balancer.to(udpFrame({ source: ALICE, vip, sourcePort: port++ }))
  t.is(query(host(1)), 1)
  t.is(query(host(2)), 1)
  t.is(balancer.to(syn(ALICE, host(1))), 1)
  balancer.drain(`udp://${PREFIX}:53`, 1)
  balancer.drain(WEB, 1)
  t.not(query(host(3)), 1)
  t.is(balancer.to(syn(ALICE, host(3))), 1)
  balancer.setBackend(WEB, 1, { path: LOCAL })
  t.deepEqual(balancer.send(syn(ALICE, host(4))).reasons.PASS_LOCAL, 1)
})
