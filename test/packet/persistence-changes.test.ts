// SPDX-License-Identifier: Apache-2.0
// Persistence: what becomes of clients when backends are drained, removed or added, and the service is changed.
import test from 'ava'
import { TCP, tcpFrame } from './frames.ts'
import { notes } from './notes.ts'
import { ALICE, BOB, CAROL, open, syn, WEB } from './persistence.ts'
import { breathe, LOCAL, UNRESOLVED, VERDICT } from './plane.ts'

test.beforeEach(breathe)

for (const [how, keeps] of [
  ['keep', true],
  ['cut', false],
] as const) {
  for (const [what, spec] of [
    ['drained', { drained: true }],
    ['of weight 0', { weight: 0 }],
  ] as const) {
    test.serial(
      `--drain-persistence ${how}: a backend that is ${what} ${keeps ? 'keeps' : 'loses'} its clients`,
      (t) => {
        const balancer = open(t, { drainPersistence: how })
        t.is(balancer.to(syn(ALICE)), 1)
        balancer.setBackend(WEB, 1, spec)
        const later = balancer.to(syn(ALICE))
        t.is(later === 1, keeps)
        t.not(balancer.to(syn(BOB)), 1)
        balancer.setBackend(WEB, 1, { weight: 1 })
        t.is(balancer.to(syn(ALICE)), later)
      },
    )
  }
}

for (const how of ['keep', 'cut'] as const) {
  test.serial(`--drain-persistence ${how}: a backend without a MAC loses its clients, for good`, (t) => {
    const balancer = open(t, { drainPersistence: how })
    t.is(balancer.to(syn(ALICE)), 1)
    balancer.setBackend(WEB, 1, { path: UNRESOLVED })
    const later = balancer.to(syn(ALICE))
    t.not(later, 1)
    balancer.setBackend(WEB, 1)
    t.is(balancer.to(syn(ALICE)), later)
  })
}

test.serial(
  "a removed backend's clients are scheduled anew, and a backend that takes its number has none of them",
  (t) => {
    const balancer = open(t, {}, { backends: 2 })
    t.is(balancer.to(syn(ALICE)), 1)
    balancer.removeBackend(WEB, 1)
    balancer.setBackend(WEB, 7)
    t.is(notes(balancer).size, 0)
    balancer.setBackend(WEB, 1)
    const later = balancer.to(syn(ALICE))
    t.is(balancer.to(syn(ALICE)), later)
  },
)

test.serial('a backend that is added takes no client from another', (t) => {
  const balancer = open(t, { scheduler: 'mh' })
  const before = [ALICE, BOB, CAROL].map((client) => balancer.to(syn(client)))
  for (const backend of [5, 6, 7, 8, 9]) balancer.setBackend(WEB, backend, { weight: 100 })
  t.deepEqual(
    [ALICE, BOB, CAROL].map((client) => balancer.to(syn(client))),
    before,
  )
})

test.serial('a client may be noted to the director itself', (t) => {
  const balancer = open(t, {}, { backends: 1 })
  balancer.setBackend(WEB, 1, { path: LOCAL })
  t.is(balancer.send(syn(ALICE)).verdict, VERDICT.PASS)
  balancer.setBackend(WEB, 2)
  for (let i = 0; i < 5; i++) t.is(balancer.send(syn(ALICE)).verdict, VERDICT.PASS)
})

test.serial('without a backend nobody is noted', (t) => {
  const balancer = open(t, {}, { backends: 0 })
  t.deepEqual(balancer.send(syn(ALICE)).reasons, { DROP_NO_BACKEND: 1 })
  t.is(notes(balancer).size, 0)
})

test.serial('persistence that is taken away and given again begins anew', (t) => {
  const balancer = open(t)
  t.is(balancer.to(syn(ALICE)), 1)
  balancer.set(WEB, { persist: false })
  t.is(balancer.to(syn(ALICE)), 2)
  balancer.set(WEB, { persist: 300 })
  t.is(notes(balancer).size, 0)
  t.is(balancer.to(syn(ALICE)), 3)
  t.is(balancer.to(syn(ALICE)), 3)
})

for (const scheduler of ['mh', 'sh'] as const) {
  test.serial(`${scheduler}: flows outlive that persistence comes and goes`, (t) => {
    const balancer = open(t, { scheduler, persist: false }, { backends: 8 })
    const flows = Array.from({ length: 30 }, (_, i) => ({ source: ALICE, sourcePort: 5000 + i }))
    const before = flows.map((flow) => balancer.to(tcpFrame(flow)))
    balancer.set(WEB, { persist: 300 })
    const during = flows.map((flow) => balancer.to(tcpFrame({ ...flow, flags: TCP.ACK })))
    t.deepEqual(during, before)
    balancer.set(WEB, { persist: false })
    t.deepEqual(
      flows.map((flow) => balancer.to(tcpFrame({ ...flow, flags: TCP.ACK }))),
      before,
    )
  })
}
