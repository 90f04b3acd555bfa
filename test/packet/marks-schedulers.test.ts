// SPDX-License-Identifier: Apache-2.0
// A service that goes from the flow table to the ring, or back, under living flows.
import test from 'ava'
import { FAMILIES } from './families.ts'
import { closeShared, FLOWS, goTo, marked } from './marked.ts'
import { breathe } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)
test.after.always(closeShared)

for (const kit of FAMILIES) {
  const { family } = kit
  const { ack, client, open, syn, TCP_SERVICE, UDP_SERVICE, udp } = marked(kit)

  for (const tracked of ['rr', 'wrr'] as const) {
    for (const hashed of ['mh', 'sh'] as const) {
      test.serial(`${family}: ${tracked} to ${hashed}: TCP flows keep their backend, new ones go by the ring`, (t) => {
        const balancer = open(t, tracked)
        goTo(balancer, FLOWS, syn)
        const old = goTo(balancer, FLOWS, ack)
        balancer.set(TCP_SERVICE, { scheduler: hashed })
        t.deepEqual(goTo(balancer, FLOWS, ack), old)
        balancer.setBackend(TCP_SERVICE, 6)
        t.deepEqual(goTo(balancer, FLOWS, ack), old)
        for (let flow = 5000; flow < 5040; flow++) {
          t.is(balancer.to(syn(flow)), ringBackend(balancer, TCP_SERVICE, client(flow)))
        }
      })

      test.serial(`${family}: ${tracked} to ${hashed}: UDP flows keep their backend`, (t) => {
        const balancer = open(t, tracked)
        const old = goTo(balancer, FLOWS, udp)
        balancer.set(UDP_SERVICE, { scheduler: hashed })
        t.deepEqual(goTo(balancer, FLOWS, udp), old)
      })

      test.serial(`${family}: ${hashed} to ${tracked}: TCP flows keep their backend, new ones are scheduled`, (t) => {
        const balancer = open(t, hashed)
        const old = goTo(balancer, FLOWS, ack)
        balancer.set(TCP_SERVICE, { scheduler: tracked })
        t.deepEqual(goTo(balancer, FLOWS, ack), old)
        t.deepEqual(goTo(balancer, [7001, 7002, 7003, 7004], syn), [1, 2, 3, 4])
        t.deepEqual(goTo(balancer, FLOWS, ack), old)
      })
    }
  }
}
