// SPDX-License-Identifier: Apache-2.0
// lblc and what lblcr has in common with it: who gets the flows of a destination, and when it is forgotten.
import test from 'ava'
import { readConnections } from '../../src/dataplane/least.ts'
import { age, notes, remembered } from './destinations.ts'
import { datagram, FRAGMENT, icmpError, ipv4, PROTOCOL, tcp as segment, TCP, tcpFrame, udpFrame } from './frames.ts'
import {
  BOTH,
  DAY,
  establish,
  flow,
  host,
  inactive,
  newPort,
  open,
  PREFIX,
  SERVICE,
  send,
  times,
  weights,
} from './locality.ts'
import { breathe, UNRESOLVED } from './plane.ts'

test.beforeEach(breathe)

for (const scheduler of BOTH) {
  test.serial(
    `${scheduler}: a destination's flows go where its first one went, whatever the others have to do`,
    (t) => {
      const balancer = open(t, scheduler, weights(50, 50, 50))
      t.deepEqual(
        times(20, () => establish(balancer, 1)),
        times(20, () => 1),
      )
      t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [1] })
    },
  )

  test.serial(`${scheduler}: each destination's first flow goes to the least loaded backend`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50, 50))
    t.deepEqual(
      [1, 2, 3, 4].map((to) => establish(balancer, to)),
      [1, 2, 3, 1],
    )
    t.deepEqual(
      [4, 3, 2, 1].map((to) => establish(balancer, to)),
      [1, 3, 2, 1],
    )
  })

  test.serial(`${scheduler}: destinations are shared by weights, as wlc shares flows`, (t) => {
    const balancer = open(t, scheduler, weights(10, 30))
    const to = times(40, (i) => establish(balancer, i))
    t.deepEqual(
      [1, 2].map((backend) => to.filter((each) => each === backend).length),
      [10, 30],
    )
  })

  test.serial(`${scheduler}: inactive connections count for the choice as wlc counts them`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50))
    t.is(establish(balancer, 1), 1)
    t.deepEqual(
      times(256, () => inactive(balancer, 2)),
      times(256, () => 2),
    )
    // 256 and 256: the first. Then 257 and 256.
    t.is(inactive(balancer, 3), 1)
    t.is(inactive(balancer, 4), 2)
  })

  test.serial(`${scheduler}: inactive connections overload nobody`, (t) => {
    const balancer = open(t, scheduler, weights(1, 1))
    t.deepEqual(
      times(100, () => inactive(balancer)),
      times(100, () => 1),
    )
  })

  test.serial(`${scheduler}: weight 0, drained, or without a MAC: it gets no new flow`, (t) => {
    const balancer = open(t, scheduler, { 1: { weight: 0 }, 2: { drained: true }, 3: { path: UNRESOLVED }, 4: {} })
    t.deepEqual(
      times(5, (i) => establish(balancer, i)),
      times(5, () => 4),
    )
    balancer.setBackend(SERVICE, 4, { weight: 0 })
    balancer.moved()
    t.deepEqual(balancer.send(tcpFrame({ vip: host(1), sourcePort: newPort() })).reasons, { DROP_NO_BACKEND: 1 })
    t.deepEqual(balancer.send(tcpFrame({ vip: host(99), sourcePort: newPort() })).reasons, { DROP_NO_BACKEND: 1 })
    t.deepEqual(remembered(balancer, SERVICE)[host(99)], undefined)
  })

  test.serial(`${scheduler}: a full backend is passed over, and where all are, a new flow is dropped by name`, (t) => {
    const balancer = open(t, scheduler, {
      1: { weight: 50, maxConns: { upper: 2, lower: 0 } },
      2: { weight: 50, maxConns: { upper: 3, lower: 0 } },
    })
    t.deepEqual(
      times(5, () => establish(balancer)),
      [1, 1, 2, 2, 2],
    )
    balancer.moved()
    t.deepEqual(balancer.send(tcpFrame({ vip: host(1), sourcePort: newPort() })).reasons, { DROP_BACKENDS_FULL: 1 })
  })

  test.serial(`${scheduler}: a full backend that is idle overloads nobody: it could not help`, (t) => {
    const balancer = open(t, scheduler, {
      1: { weight: 1 },
      2: { weight: 50, maxConns: { upper: 1, lower: 0 } },
      3: { weight: 1 },
    })
    t.is(establish(balancer, 9), 1)
    t.is(establish(balancer, 8), 2)
    t.is(establish(balancer, 7), 3)
    t.deepEqual(
      times(5, () => establish(balancer, 9)),
      times(5, () => 1),
    )
  })

  test.serial(`${scheduler}: who was removed is not idle, though flows that it had end for nobody`, (t) => {
    const balancer = open(t, scheduler, weights(1, 1, 1))
    const removed = flow(balancer, 9)
    t.is(removed.backend, 1)
    t.deepEqual(
      [8, 7].map((to) => establish(balancer, to)),
      [2, 3],
    )
    balancer.removeBackend(SERVICE, 1, 'move')
    removed.end()
    // Of nobody there are fewer connections than none now.
    t.true(readConnections(balancer.plane, 0).active < 0)
    t.deepEqual(
      times(5, () => establish(balancer, 8)),
      times(5, () => 2),
    )
  })

  test.serial(`${scheduler}: flows that are there stay, whatever becomes of the destination`, (t) => {
    const balancer = open(t, scheduler, weights(1, 50))
    balancer.setBackend(SERVICE, 2, { weight: 0 })
    const fields = { vip: host(1), sourcePort: newPort() }
    t.is(send(balancer, { ...fields, flags: TCP.SYN }), 1)
    balancer.setBackend(SERVICE, 2, { weight: 50 })
    balancer.setBackend(SERVICE, 1, { weight: 0 })
    t.is(establish(balancer), 2)
    t.is(send(balancer, { ...fields, flags: TCP.ACK }), 1)
    t.is(send(balancer, { ...fields, flags: TCP.ACK | TCP.PSH }), 1)
  })

  test.serial(`${scheduler}: what no flow came for in a day is forgotten, and not a moment earlier`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50))
    for (let i = 0; i < 3; i++) t.is(establish(balancer), 1)
    age(balancer, { idle: DAY })
    t.is(establish(balancer), 1, 'and this flow is one')
    t.is(notes(balancer).get(host(1))?.idle, 0)
    age(balancer, { idle: DAY + 1 })
    t.is(establish(balancer), 2)
    t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [2] })
    t.is(notes(balancer).size, 1)
  })

  test.serial(
    `${scheduler}: a removed backend is nobody's, and who takes its place has none of its destinations`,
    (t) => {
      const balancer = open(t, scheduler, weights(50, 50))
      t.is(establish(balancer, 1), 1)
      t.is(establish(balancer, 2), 2)
      balancer.removeBackend(SERVICE, 1, 'move')
      balancer.setBackend(SERVICE, 7, { weight: 50 })
      t.is(balancer.indexOf(SERVICE, 7), 0)
      t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [undefined], [host(2)]: [2] })
      // So that it has more to do than the other.
      for (const to of [3, 3, 3]) t.is(establish(balancer, to), 7)
      t.is(establish(balancer, 1), 2)
    },
  )

  test.serial(`${scheduler}: a removed backend that keeps its flows gets no new one`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50))
    t.is(establish(balancer), 1)
    balancer.removeBackend(SERVICE, 1, 'keep')
    t.is(establish(balancer), 2)
    t.is(establish(balancer), 2)
  })

  test.serial(`${scheduler}: a service that takes a removed one's place remembers nothing of it`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50))
    t.is(establish(balancer, 1), 1)
    t.is(establish(balancer, 2), 2)
    balancer.remove(SERVICE)
    balancer.add(SERVICE, { scheduler }, weights(50, 50))
    t.is(notes(balancer).size, 0)
    t.is(establish(balancer, 2), 1)
  })

  test.serial(`${scheduler}: another scheduler forgets, another weight does not`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50))
    t.is(establish(balancer, 1), 1)
    balancer.setBackend(SERVICE, 1, { weight: 60 })
    balancer.setBackend(SERVICE, 3, { weight: 50 })
    t.is(establish(balancer, 1), 1)
    balancer.set(SERVICE, { scheduler: scheduler === 'lblc' ? 'lblcr' : 'lblc' })
    t.is(notes(balancer).size, 0)
    t.is(establish(balancer, 1), 2)
    balancer.set(SERVICE, { scheduler })
    t.is(establish(balancer, 1), 3)
  })

  test.serial(`${scheduler}: two services remember an address each for itself`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50))
    balancer.add(`tcp://${PREFIX}:81`, { scheduler }, { 1: { weight: 50 }, 2: { weight: 50 } })
    balancer.add(`tcp://192.0.2.128/25:80`, { scheduler }, { 1: { weight: 50 }, 2: { weight: 50 } })
    t.is(establish(balancer, 9), 1)
    t.is(establish(balancer, 8), 2)
    t.is(send(balancer, { vip: host(7), port: 81, sourcePort: newPort() }), 1)
    t.is(send(balancer, { vip: host(8), port: 81, sourcePort: newPort() }), 2)
    t.is(send(balancer, { vip: host(9), port: 81, sourcePort: newPort() }), 1)
    t.is(establish(balancer, 128), 1)
    t.is(notes(balancer).size, 4) // of 9, and 8, which two services have; and of 7, and 128
    t.deepEqual(remembered(balancer, SERVICE), { [host(9)]: [1], [host(8)]: [2] })
  })

  test.serial(`${scheduler}: UDP flows are inactive, so that they overload nobody`, (t) => {
    const balancer = open(t, scheduler, weights(1, 1))
    const service = `udp://${PREFIX}:53`
    balancer.add(service, { scheduler }, weights(1, 1))
    const query = (to: number) => balancer.to(udpFrame({ vip: host(to), sourcePort: newPort() }))
    t.deepEqual(
      times(50, () => query(1)),
      times(50, () => 1),
    )
    t.is(query(2), 2)
    t.deepEqual(remembered(balancer, service), { [host(1)]: [1], [host(2)]: [2] })
  })

  test.serial(`${scheduler}: what opens no flow remembers nothing, and goes by the hash of its destination`, (t) => {
    const balancer = open(t, scheduler, 8)
    const to = times(30, () => send(balancer, { vip: host(3), sourcePort: newPort(), flags: TCP.ACK }))
    t.is(new Set(to).size, 1)
    t.true(new Set(times(60, (i) => send(balancer, { vip: host(i), sourcePort: newPort(), flags: TCP.ACK }))).size > 4)
    const quoted = ipv4({ source: host(3), vip: '203.0.113.5' }, segment({ sourcePort: 80, port: 40000 }))
    send(balancer, {})
    const before = notes(balancer)
    t.is(before.size, 1)
    balancer.to(datagram({ source: '172.16.0.1', vip: host(3), protocol: PROTOCOL.ICMP }, icmpError(3, 4, quoted)))
    send(balancer, { vip: host(5), fragment: 100 })
    t.deepEqual(notes(balancer), before)
  })

  test.serial(`${scheduler}: a first fragment opens a flow as any packet does`, (t) => {
    const balancer = open(t, scheduler, weights(50, 50))
    t.is(establish(balancer, 2), 1)
    t.is(send(balancer, { vip: host(2), sourcePort: newPort(), flags: TCP.SYN, fragment: FRAGMENT.MORE }), 1)
    t.is(send(balancer, { vip: host(3), sourcePort: newPort(), flags: TCP.SYN, fragment: FRAGMENT.MORE }), 2)
    t.deepEqual(remembered(balancer, SERVICE), { [host(2)]: [1], [host(3)]: [2] })
  })

  test.serial(
    `${scheduler}: beyond the bound on new flows the destination's hash decides, and nothing is remembered`,
    (t) => {
      const balancer = open(t, scheduler, weights(50, 50, 50, 50), { newFlows: 2 })
      t.teardown(() => balancer.native.system.pinToCpu(-1))
      balancer.native.system.pinToCpu(0)
      for (const to of [1, 2]) inactive(balancer, to)
      balancer.moved()
      const sent = times(40, (i) => balancer.send(tcpFrame({ vip: host(3 + (i % 2)), sourcePort: newPort() })))
      t.true(sent.every(({ reasons }) => reasons.FLOW_REFUSED_BUDGET === 1))
      t.true(new Set(sent.map(({ backend }) => backend)).size <= 2)
      t.deepEqual(Object.keys(remembered(balancer, SERVICE)).sort(), [host(1), host(2)])
    },
  )

  test.serial(`${scheduler}: a single VIP is refused, with the reason, and one-packet scheduling too`, (t) => {
    const balancer = open(t, scheduler, 1)
    t.throws(() => balancer.add('tcp://198.51.100.200:80', { scheduler }, 0), {
      message: new RegExp(`${scheduler} chooses by the destination, and a single VIP is the only one`),
    })
    t.throws(() => balancer.add('tcp://[2001:db8::10]:80', { scheduler }, 0), { message: /chooses by the destination/ })
    t.throws(() => balancer.add(`udp://${PREFIX}:53`, { scheduler, ops: true }, 0), { message: /records no flow/ })
    t.throws(() => balancer.set(SERVICE, { hash: 'source' }), { message: /hashes the destination, not source/ })
  })
}

test.serial(
  'lblc: overloaded is more active connections than the weight, while another has less than half its own',
  (t) => {
    const balancer = open(t, 'lblc', weights(2, 4))
    t.is(establish(balancer, 9), 1)
    balancer.setBackend(SERVICE, 2, { weight: 3 })
    // 1 of weight 2, then 2: not more than the weight.
    t.is(establish(balancer, 9), 1)
    t.is(establish(balancer, 9), 1)
    // 3 of weight 2; the other has 0 of weight 3. It is the destination's from now on.
    t.is(establish(balancer, 9), 2)
    t.deepEqual(remembered(balancer, SERVICE), { [host(9)]: [2] })
    t.is(establish(balancer, 9), 2)
    t.is(establish(balancer, 9), 2)
    t.is(establish(balancer, 9), 2)
    // 4 of weight 3; the first has 3 of weight 2, which is not less than half.
    t.is(establish(balancer, 9), 2)
  },
)

test.serial('lblc: half the weight is not less than half', (t) => {
  const balancer = open(t, 'lblc', weights(1, 4))
  balancer.setBackend(SERVICE, 2, { weight: 0 })
  times(3, () => t.is(establish(balancer, 1), 1))
  balancer.setBackend(SERVICE, 1, { weight: 0 })
  balancer.setBackend(SERVICE, 2, { weight: 4 })
  const others = times(2, () => flow(balancer, 2))
  t.true(others.every(({ backend }) => backend === 2))
  balancer.setBackend(SERVICE, 1, { weight: 1 })
  t.is(establish(balancer, 1), 1, '2 of 4 are no reason to leave')
  others[0]?.end()
  t.is(establish(balancer, 1), 2, '1 of 4 is')
})

test.serial('lblc: the least loaded may be the overloaded one itself, and keeps its destination', (t) => {
  // One that counts as idle, with thousands of inactive connections: more than any by wlc.
  const balancer = open(t, 'lblc', weights(2, 1))
  times(3, () => t.is(establish(balancer, 1), 1))
  balancer.setBackend(SERVICE, 1, { weight: 0 })
  times(600, () => t.is(inactive(balancer, 2), 2))
  balancer.setBackend(SERVICE, 1, { weight: 2 })
  t.is(establish(balancer, 1), 1)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [1], [host(2)]: [2] })
})

test.serial('lblc: who was passed over is not remembered, and does not get the destination back', (t) => {
  const balancer = open(t, 'lblc', weights(50, 50))
  t.is(establish(balancer), 1)
  balancer.drain(SERVICE, 1)
  t.is(establish(balancer), 2)
  balancer.setBackend(SERVICE, 1, { weight: 50 })
  t.is(establish(balancer), 2)
})
