// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { beforePort } from '../../src/core/ip.ts'
import { Backend as BackendRecord, Root } from '../../src/dataplane/layout.gen.ts'
import { FAMILIES } from './families.ts'
import { OWN_MAC, rewritten, TCP } from './frames.ts'
import {
  Balancer,
  backendMac,
  breathe,
  GONE_SLOT,
  LOCAL,
  linkPath,
  SECOND_INTERFACE,
  UNRESOLVED,
  VERDICT,
} from './plane.ts'

test.beforeEach(breathe)

const shared = new Balancer()
test.after.always(() => shared.close())

for (const { family, HOST, optional, source, tcpFrame, udpFrame } of FAMILIES) {
  const SERVICE = `tcp://${HOST}:80`
  const ack = tcpFrame({ flags: TCP.ACK })

  const open = (): Balancer => shared.reset()

  for (const scheduler of ['rr', 'wrr', 'mh', 'sh'] as const) {
    test.serial(`${family}: ${scheduler}: where there is no backend a packet is dropped`, (t) => {
      const balancer = open()
      balancer.add(SERVICE, { scheduler }, 0)
      for (const frame of [tcpFrame(), ack]) {
        const sent = balancer.send(frame)
        t.deepEqual(sent.reasons, { DROP_NO_BACKEND: 1 })
        t.is(sent.verdict, VERDICT.DROP)
        t.deepEqual(sent.frame, frame)
      }
    })

    for (const [what, spec] of [
      ['of weight 0', { weight: 0 }],
      ['that is drained', { drained: true }],
      ['that is in maintenance', { maint: true }],
      ['that is not resolved', { path: UNRESOLVED }],
    ] as const) {
      test.serial(`${family}: ${scheduler}: a backend ${what} takes no new flow, and another takes them all`, (t) => {
        const balancer = open()
        balancer.add(SERVICE, { scheduler }, { 1: spec })
        t.deepEqual(balancer.send(tcpFrame()).reasons, { DROP_NO_BACKEND: 1 })
        balancer.setBackend(SERVICE, 2)
        for (let sourcePort = 1; sourcePort <= 20; sourcePort++) t.is(balancer.to(tcpFrame({ sourcePort })), 2)
      })
    }

    test.serial(
      `${family}: ${scheduler}: a backend that is this host gets its packets through the stack, unchanged and counted`,
      (t) => {
        const balancer = open()
        balancer.add(SERVICE, { scheduler }, { 1: { path: LOCAL } })
        for (const frame of [tcpFrame(), ack]) {
          const sent = balancer.send(frame)
          t.is(sent.reasons.PASS_LOCAL, 1)
          t.is(sent.verdict, VERDICT.PASS)
          t.deepEqual(sent.frame, frame)
        }
        t.deepEqual(balancer.counters(SERVICE, 1), { packets: 2n, bytes: BigInt(2 * ack.length), flows: 1n })
      },
    )

    test.serial(
      `${family}: ${scheduler}: a backend behind another interface is redirected to, from that interface's MAC`,
      (t) => {
        const balancer = open()
        balancer.add(SERVICE, { scheduler }, { 1: { path: linkPath(1, SECOND_INTERFACE.slot) } })
        for (const frame of [tcpFrame(), ack]) {
          const sent = balancer.send(frame)
          t.is(sent.reasons.TX_REDIRECTED, 1)
          t.is(sent.reasons.TX_FORWARDED, undefined)
          t.is(sent.verdict, VERDICT.REDIRECT)
          t.deepEqual(sent.frame, rewritten(frame, backendMac(1), SECOND_INTERFACE.mac))
        }
        t.is(balancer.counters(SERVICE, 1).packets, 2n)
      },
    )

    test.serial(
      `${family}: ${scheduler}: what is to leave by an interface that is gone is dropped and not counted`,
      (t) => {
        const balancer = open()
        balancer.add(SERVICE, { scheduler }, { 1: { path: linkPath(1, GONE_SLOT) } })
        for (const frame of [tcpFrame(), ack]) {
          const sent = balancer.send(frame)
          t.is(sent.reasons.DROP_NO_EGRESS, 1)
          t.is(sent.verdict, VERDICT.DROP)
        }
        t.is(balancer.counters(SERVICE, 1).packets, 0n)
      },
    )

    test.serial(
      `${family}: ${scheduler}: a flow whose backend has just gone down is dropped and not counted as its packet`,
      (t) => {
        const balancer = open()
        balancer.add(SERVICE, { scheduler }, 1)
        balancer.to(tcpFrame())
        const words = new BigUint64Array(balancer.plane.buffer('backends'))
        const { service } = balancer.live(SERVICE)
        words[(service.backendBase * BackendRecord.size) / 8] = 0n
        const sent = balancer.send(ack)
        t.is(sent.verdict, VERDICT.DROP)
        t.is(sent.reasons.DROP_BACKEND_DOWN, 1)
        t.is(balancer.counters(SERVICE, 1).packets, 1n)
      },
    )
  }

  for (const scheduler of ['rr', 'mh'] as const) {
    test.serial(
      `${family}: ${scheduler}: where this host is a backend, what another backend sends was chosen for this host`,
      (t) => {
        const balancer = open()
        balancer.add(SERVICE, { scheduler }, { 1: { path: LOCAL }, 2: {}, 3: {} })
        for (const peer of [2, 3]) {
          for (let sourcePort = 1; sourcePort < 30; sourcePort++) {
            const frame = tcpFrame({ sourceMac: backendMac(peer), sourcePort })
            const sent = balancer.send(Buffer.from(frame))
            t.deepEqual(sent.reasons, { PASS_FROM_PEER: 1 })
            t.is(sent.verdict, VERDICT.PASS)
            t.deepEqual(sent.frame, frame)
          }
        }
        // A neighbour's MAC, one bit beside, is nobody's.
        t.deepEqual(
          Object.keys(balancer.send(tcpFrame({ sourceMac: backendMac(6) })).reasons).includes('PASS_FROM_PEER'),
          false,
        )
        t.is(
          balancer.counters(SERVICE, 1).packets +
            balancer.counters(SERVICE, 2).packets +
            balancer.counters(SERVICE, 3).packets,
          1n,
        )
      },
    )

    test.serial(`${family}: ${scheduler}: where it is none, nothing goes back to the backend that has sent it`, (t) => {
      const balancer = open()
      balancer.add(SERVICE, { scheduler }, 3)
      for (let sourcePort = 1; sourcePort <= 30; sourcePort++) {
        const chosen = balancer.to(tcpFrame({ sourcePort }))
        // A plain frame and a rare one: each by its own way.
        for (const fields of [{}, optional(2)]) {
          for (const sender of [1, 2, 3]) {
            const frame = tcpFrame({ ...fields, sourcePort, flags: TCP.ACK, sourceMac: backendMac(sender) })
            const sent = balancer.send(Buffer.from(frame))
            if (sender !== chosen) {
              t.is(sent.verdict, VERDICT.TX)
              continue
            }
            t.is(sent.verdict, VERDICT.DROP)
            t.deepEqual(sent.reasons, { DROP_TO_SENDER: 1 })
            t.deepEqual(sent.frame, frame)
          }
        }
      }
      const counted = [1, 2, 3].map((backend) => balancer.counters(SERVICE, backend).packets)
      t.is(
        counted.reduce((sum, each) => sum + each, 0n),
        30n * (1n + 2n * 2n),
      )
    })
  }

  test.serial(`${family}: a service of 4,000 backends knows the last of them as a peer`, (t) => {
    const balancer = new Balancer({ capacity: { backends: 8192 } })
    t.teardown(() => balancer.close())
    const all = Object.fromEntries(Array.from({ length: 4000 }, (_, i) => [i + 1, i === 0 ? { path: LOCAL } : {}]))
    balancer.add(SERVICE, { scheduler: 'mh', ringSize: 65537 }, all)
    t.deepEqual(balancer.send(tcpFrame({ sourceMac: backendMac(4000) })).reasons, { PASS_FROM_PEER: 1 })
  })

  test.serial(`${family}: a change of MAC is followed with the next packet`, (t) => {
    const balancer = open()
    balancer.add(SERVICE, { scheduler: 'rr' }, 1)
    t.is(balancer.to(tcpFrame()), 1)
    balancer.setBackend(SERVICE, 1, { path: linkPath(77) })
    t.is(balancer.to(ack), 77)
  })

  test.serial(`${family}: several backends: packets, octets and flows are counted for each`, (t) => {
    const balancer = open()
    balancer.add(SERVICE, { scheduler: 'rr' }, 2)
    const frameBytes = BigInt(ack.length)
    const payload = Buffer.alloc(100)
    balancer.to(tcpFrame({ sourcePort: 1 }))
    balancer.to(tcpFrame({ sourcePort: 2 }))
    balancer.to(tcpFrame({ sourcePort: 1, flags: TCP.ACK }))
    balancer.to(tcpFrame({ sourcePort: 1, flags: TCP.ACK, payload }))
    balancer.to(tcpFrame({ sourcePort: 3 }))
    t.deepEqual(balancer.counters(SERVICE, 1), { packets: 4n, bytes: frameBytes * 4n + 100n, flows: 2n })
    t.deepEqual(balancer.counters(SERVICE, 2), { packets: 1n, bytes: frameBytes, flows: 1n })
  })

  test.serial(`${family}: octets are those of the whole frame, with tags and padding`, (t) => {
    const balancer = open()
    balancer.add(SERVICE, { scheduler: 'mh' }, 1)
    const frame = tcpFrame({ tags: [{ type: 0x8100, id: 5 }], padding: 30 })
    balancer.to(frame)
    t.is(balancer.counters(SERVICE, 1).bytes, BigInt(frame.length))
  })

  test.serial(`${family}: a UDP flow is counted once, when it is recorded`, (t) => {
    const balancer = open()
    balancer.add(`udp://${HOST}:53`, { scheduler: 'rr' }, 1)
    for (let i = 0; i < 5; i++) balancer.to(udpFrame())
    const { packets, flows } = balancer.counters(`udp://${HOST}:53`, 1)
    t.deepEqual({ packets, flows }, { packets: 5n, flows: 1n })
  })

  test.serial(
    `${family}: a service keeps its backends' counts through a change, and one that is added again starts from nought`,
    (t) => {
      const balancer = open()
      balancer.add(SERVICE, { scheduler: 'mh' }, 1)
      balancer.to(tcpFrame())
      balancer.setBackend(SERVICE, 2)
      t.is(balancer.counters(SERVICE, 1).packets, 1n)
      balancer.removeBackend(SERVICE, 1)
      balancer.setBackend(SERVICE, 1)
      t.is(balancer.counters(SERVICE, 1).packets, 0n)
    },
  )

  test.serial(`${family}: another MAC of the interface is followed: frames to the old one are somebody else's`, (t) => {
    const balancer = open()
    balancer.add(SERVICE, { scheduler: 'mh' }, 1)
    t.is(balancer.send(tcpFrame()).verdict, VERDICT.TX)
    new DataView(balancer.plane.buffer('root')).setUint8(Root.offset.interface + 7, 0x42)
    t.deepEqual(balancer.send(tcpFrame()).reasons, { PASS_OTHER_MAC: 1 })
    const mac = `${OWN_MAC.slice(0, -2)}42`
    const sent = balancer.send(tcpFrame({ destination: mac }))
    t.deepEqual(sent.frame, rewritten(tcpFrame(), backendMac(1), mac))
  })

  test.serial(`${family}: a service that is removed leaves its VIP to the stack, and the others as they are`, (t) => {
    const balancer = open()
    balancer.add(SERVICE, { scheduler: 'mh' }, 1)
    balancer.add(`tcp://${HOST}:81`, { scheduler: 'mh' }, 1)
    balancer.remove(SERVICE)
    t.deepEqual(balancer.send(tcpFrame()).reasons, { PASS_NO_SERVICE: 1 })
    t.deepEqual(balancer.send(tcpFrame({ port: 81 })).reasons, { TX_FORWARDED: 1 })
    balancer.remove(`tcp://${HOST}:81`)
    t.deepEqual(balancer.send(tcpFrame()).reasons, { PASS_NOT_VIP: 1 })
  })

  test.serial(`${family}: of two hundred services on many VIPs each gets its own packets`, (t) => {
    const balancer = new Balancer({ capacity: { services: 1024, backends: 2048 } })
    t.teardown(() => balancer.close())
    const services = Array.from({ length: 200 }, (_, i) => ({
      vip: source(256 * (i >> 3) + (i & 7)),
      port: 1 + i * 300,
    }))
    for (const [i, { vip, port }] of services.entries())
      balancer.add(`tcp://${beforePort(vip)}:${port}`, { scheduler: 'mh' }, { [i + 1]: {} })
    for (const [i, { vip, port }] of services.entries()) {
      t.is(balancer.to(tcpFrame({ vip, port })), i + 1)
      t.is(balancer.send(tcpFrame({ vip, port: port + 1 })).reasons.PASS_NO_SERVICE, 1)
    }
  })
}
