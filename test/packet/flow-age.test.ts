// SPDX-License-Identifier: Apache-2.0
// Ages and timeouts of flows. No age passes (plane.ts, FROZEN_CLOCK): entries are made old.
import test from 'ava'
import { FAMILIES } from './families.ts'
import { entries, entryOf, makeIdle, setState, stateOf } from './flowtable.ts'
import { TCP } from './frames.ts'
import { Balancer, breathe } from './plane.ts'

test.beforeEach(breathe)

const shared = new Balancer()
test.after.always(() => shared.close())

for (const { family, HOST, tcpFrame, udpFrame } of FAMILIES) {
  const SERVICE = `tcp://${HOST}:80`
  const UDP = `udp://${HOST}:53`

  const open = (backends = 3): Balancer => {
    const balancer = shared.reset()
    balancer.add(SERVICE, { scheduler: 'rr' }, backends)
    balancer.add(UDP, { scheduler: 'rr' }, backends)
    return balancer
  }

  const syn = (sourcePort: number): Buffer => tcpFrame({ sourcePort })
  const ack = (sourcePort: number): Buffer => tcpFrame({ sourcePort, flags: TCP.ACK })

  test.serial(
    `${family}: an adopted flow counts as established when it is seen again in a later unit of age, not before`,
    (t) => {
      const balancer = open()
      balancer.to(ack(1))
      balancer.to(ack(1))
      t.is(stateOf(balancer, 1), 'FLOW_ADOPTED')
      makeIdle(balancer, 1, 1)
      balancer.to(ack(1))
      t.is(stateOf(balancer, 1), 'FLOW_ESTABLISHED')
    },
  )

  test.serial(`${family}: a UDP flow counts as one when it is seen again in a later unit of age, not before`, (t) => {
    const balancer = open()
    balancer.to(udpFrame({ sourcePort: 1 }))
    balancer.to(udpFrame({ sourcePort: 1 }))
    t.is(stateOf(balancer, 1), 'FLOW_UDP_ONCE')
    makeIdle(balancer, 1, 1)
    t.is(balancer.to(udpFrame({ sourcePort: 1 })), 1)
    t.is(stateOf(balancer, 1), 'FLOW_UDP')
  })

  test.serial(`${family}: a packet refreshes the age of its flow`, (t) => {
    const balancer = open()
    balancer.to(syn(1))
    balancer.to(ack(1))
    makeIdle(balancer, 1, 500)
    balancer.to(ack(1))
    t.is(entryOf(balancer, 1).age, balancer.plane.age() & 0xfff)
  })

  /** Ages after which each state expires, in the units of these tests (of the real clock: 1.024 s). */
  const timeoutOf = (balancer: Balancer, state: number): number =>
    new DataView(balancer.plane.buffer('settings')).getUint16(state * 2, true)

  for (const [name, state, index] of [
    ['half-open', 'FLOW_HALF_OPEN', 2],
    ['adopted', 'FLOW_ADOPTED', 3],
    ['established', 'FLOW_ESTABLISHED', 4],
  ] as const) {
    test.serial(
      `${family}: a SYN within the timeout of an ${name} flow keeps its backend, one after it is scheduled afresh`,
      (t) => {
        const balancer = open()
        balancer.to(syn(1))
        setState(balancer, 1, state)
        makeIdle(balancer, 1, timeoutOf(balancer, index))
        t.is(balancer.to(syn(1)), 1)
        setState(balancer, 1, state) // An adopted flow that is seen again has become an established one.
        makeIdle(balancer, 1, timeoutOf(balancer, index) + 1)
        const sent = balancer.send(syn(1))
        t.is(sent.backend, 2)
        t.is(sent.reasons.FLOW_INSERTED, 1)
        t.is(entries(balancer).length, 1)
      },
    )
  }

  test.serial(
    `${family}: a TCP flow that was idle past its timeout, and whose place nobody took, is still that flow`,
    (t) => {
      const balancer = open()
      balancer.to(syn(1))
      balancer.to(ack(1))
      makeIdle(balancer, 1, 2000)
      t.deepEqual(balancer.send(ack(1)).reasons, { TX_FORWARDED: 1 })
      t.is(balancer.to(ack(1)), 1)
    },
  )

  for (const [state, index] of [
    ['FLOW_UDP_ONCE', 7],
    ['FLOW_UDP', 8],
  ] as const) {
    test.serial(`${family}: a UDP flow (${state}) past its timeout is scheduled afresh`, (t) => {
      const balancer = open()
      balancer.to(udpFrame({ sourcePort: 1 }))
      setState(balancer, 1, state)
      makeIdle(balancer, 1, timeoutOf(balancer, index))
      t.is(balancer.to(udpFrame({ sourcePort: 1 })), 1)
      makeIdle(balancer, 1, timeoutOf(balancer, index) + 1)
      t.is(balancer.to(udpFrame({ sourcePort: 1 })), 2)
    })
  }
}
