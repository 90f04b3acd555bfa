// SPDX-License-Identifier: Apache-2.0
// Persistence: a client has one server in all services of a group, and in each service of several ports.
import test from 'ava'
import { TCP, tcp6Frame, udpFrame, VIP, VIP6 } from './frames.ts'
import { notes } from './notes.ts'
import { ALICE, BOB, CAROL, DNS, open, syn, TLS, WEB } from './persistence.ts'
import { breathe } from './plane.ts'

test.beforeEach(breathe)

test.serial('services of a group send a client to one server, whatever the order of their backends', (t) => {
  const balancer = open(t, { group: 'web' }, { backends: 3 })
  balancer.add(TLS, { scheduler: 'mh', group: 'web' }, { 3: {} })
  for (const backend of [2, 9, 1]) balancer.setBackend(TLS, backend)
  t.not(balancer.indexOf(TLS, 1), balancer.indexOf(WEB, 1))
  for (let client = 1; client <= 30; client++) {
    const source = `198.18.1.${client}`
    const first = client % 2 === 0 ? balancer.to(syn(source)) : balancer.to(syn(source, { port: 443 }))
    if (first === 9) continue
    t.is(balancer.to(syn(source)), first)
    t.is(balancer.to(syn(source, { port: 443 })), first)
  }
})

test.serial('a server that a service of the group lacks: its scheduler chooses, and the others follow', (t) => {
  const balancer = open(t, { group: 'web' }, { backends: 2 })
  balancer.add(TLS, { scheduler: 'rr', group: 'web' }, { 2: {} })
  t.is(balancer.to(syn(ALICE)), 1)
  const sent = balancer.send(syn(ALICE, { port: 443 }))
  t.is(sent.backend, 2)
  t.is(sent.reasons.CLIENT_NOTED, 1)
  t.is(balancer.to(syn(ALICE)), 2)
})

test.serial('services without a group have nothing in common, nor have two groups', (t) => {
  const balancer = open(t, {}, { backends: 3 })
  balancer.add(TLS, { scheduler: 'rr', persist: 300, group: 'one' }, 3)
  balancer.add(`tcp://${VIP}:8443`, { scheduler: 'rr', persist: 300, group: 'two' }, 3)
  t.is(balancer.to(syn(BOB)), 1)
  t.is(balancer.to(syn(ALICE)), 2)
  t.is(balancer.to(syn(ALICE, { port: 443 })), 1)
  t.is(balancer.to(syn(CAROL, { port: 8443 })), 1)
  t.is(balancer.to(syn(ALICE, { port: 8443 })), 2)
})

test.serial('a group may span VIPs and protocols', (t) => {
  const balancer = open(t, { group: 'all' }, { backends: 3 })
  balancer.add('tcp://192.0.2.11:80', { scheduler: 'rr', group: 'all' }, 3)
  balancer.add(DNS, { scheduler: 'rr', group: 'all' }, 3)
  balancer.to(syn(BOB))
  t.is(balancer.to(syn(ALICE)), 2)
  t.is(balancer.to(syn(ALICE, { vip: '192.0.2.11' })), 2)
  t.is(balancer.to(udpFrame({ source: ALICE, port: 53 })), 2)
})

test.serial('a group may span families, but an IPv4 client is none of IPv6', (t) => {
  const balancer = open(t, { group: 'both' }, { backends: 3 })
  balancer.add(`tcp://[${VIP6}]:80`, { scheduler: 'rr', group: 'both' }, 3)
  t.is(balancer.to(syn(ALICE)), 1)
  t.is(balancer.to(tcp6Frame({ source: '::203.0.113.5', flags: TCP.SYN })), 1)
  t.is(balancer.to(tcp6Frame({ source: '2001:db8::9', flags: TCP.SYN })), 2)
  t.is(notes(balancer).size, 3)
})

test.serial('persistence holds for a range of ports, and for every port', (t) => {
  const balancer = open(t, {}, { service: `tcp://${VIP}:8000-8099` })
  balancer.add(`tcp://${VIP}:*`, { scheduler: 'rr', persist: 60 }, 4)
  const range = balancer.to(syn(ALICE, { port: 8000 }))
  t.is(balancer.to(syn(ALICE, { port: 8099 })), range)
  balancer.to(syn(BOB, { port: 1 }))
  const every = balancer.to(syn(ALICE, { port: 9999 }))
  t.not(every, range)
  t.is(balancer.to(syn(ALICE, { port: 22 })), every)
})
