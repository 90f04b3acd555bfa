// SPDX-License-Identifier: Apache-2.0
// Services of a range of ports and of every port, and one-packet scheduling.
import test from 'ava'
import { RunLimit } from '../../src/dataplane/layout.gen.ts'
import { FAMILIES } from './families.ts'
import { TCP } from './frames.ts'
import { Balancer } from './plane.ts'
import { ringBackend } from './ring.ts'
import { testTable } from './table.ts'

const shared = new Balancer()
test.after.always(() => shared.close())

for (const {
  family,
  HOST,
  OTHER_VIP,
  OTHER_HOST,
  EVERY_VIP,
  EVERY_HOST,
  flowCapacity,
  packet,
  piece,
  optional,
  tcpFrame: tcp,
  udpFrame: udp,
} of FAMILIES) {
  const mixed = new Balancer({ capacity: { services: 512 } })
  test.after.always(() => mixed.close())
  // Backend numbers tell the services apart.
  mixed.add(`tcp://${HOST}:*`, { scheduler: 'mh' }, { 1: {} })
  mixed.add(`tcp://${HOST}:8000-8099`, { scheduler: 'mh' }, { 2: {} })
  mixed.add(`tcp://${HOST}:8050`, { scheduler: 'mh' }, { 3: {} })
  mixed.add(`tcp://${HOST}:8200-8300`, { scheduler: 'rr' }, { 4: {} })
  mixed.add(`udp://${HOST}:8000-8099`, { scheduler: 'sh' }, { 5: {} })
  // More than its bucket holds: the range and some of the ports stand in the second table.
  for (const port of [1, 2, 3, 4, 5]) mixed.add(`tcp://${OTHER_HOST}:${port}`, { scheduler: 'mh' }, { 6: {} })
  mixed.add(`tcp://${OTHER_HOST}:100-65535`, { scheduler: 'mh' }, { 7: {} })
  mixed.add(`udp://${OTHER_HOST}:*`, { scheduler: 'mh' }, { 8: {} })
  mixed.add(`udp://${EVERY_HOST}:*`, { scheduler: 'rr', ops: true }, { 9: {} })

  const forwarded = (name: string, goes: number, frame: Buffer) => ({
    name,
    frame,
    goes,
    reason: 'TX_FORWARDED' as const,
  })
  const toTheStack = (name: string, frame: Buffer) => ({
    name,
    frame,
    goes: 'stack' as const,
    reason: 'PASS_NO_SERVICE' as const,
  })

  testTable(
    () => mixed,
    [
      forwarded('the first port of a range is of the range', 2, tcp({ port: 8000 })),
      forwarded('the last port of a range is of the range', 2, tcp({ port: 8099 })),
      forwarded('a port by itself goes before the range that it lies in', 3, tcp({ port: 8050 })),
      forwarded('the port before a range is of every port', 1, tcp({ port: 7999 })),
      forwarded('the port behind a range is of every port', 1, tcp({ port: 8100 })),
      forwarded('port 1 is of every port', 1, tcp({ port: 1 })),
      forwarded('port 65535 is of every port', 1, tcp({ port: 65535 })),
      forwarded('port 0 is of every port too', 1, tcp({ port: 0 })),
      forwarded('a packet with options or extension headers finds a range', 2, tcp({ port: 8000, ...optional(2) })),
      forwarded(
        'a tagged packet finds the service of every port',
        1,
        tcp({ port: 9, tags: [{ type: 0x8100, id: 7 }] }),
      ),
      forwarded('a UDP range is another than the TCP range of the same ports', 5, udp({ port: 8050 })),
      forwarded('a short datagram finds a UDP range', 5, udp({ port: 8099, payload: Buffer.alloc(1) })),
      toTheStack('UDP beside its only range is of no service', udp({ port: 8100 })),
      toTheStack('UDP port 0 is of no service where no service has every port', udp({ port: 0 })),
      forwarded('a range is found beside five single ports', 7, tcp({ vip: OTHER_VIP, port: 100 })),
      forwarded('a range may end with port 65535', 7, tcp({ vip: OTHER_VIP, port: 65535 })),
      toTheStack('a port below the only range is of no service', tcp({ vip: OTHER_VIP, port: 99 })),
      ...[1, 2, 3, 4, 5].map((port) =>
        forwarded(`port ${port} is found beside a range`, 6, tcp({ vip: OTHER_VIP, port })),
      ),
      forwarded('every UDP port is found beside TCP services', 8, udp({ vip: OTHER_VIP, port: 4 })),
      toTheStack('TCP to a VIP of which every UDP port is a service is of none', tcp({ vip: EVERY_VIP, port: 80 })),
      forwarded('one-packet scheduling sends a datagram on and records nothing', 9, udp({ vip: EVERY_VIP, port: 80 })),
      forwarded('it does so for one with options or extension headers', 9, udp({ vip: EVERY_VIP, ...optional(1) })),
      forwarded(
        'it does so for one that is longer than a TCP header',
        9,
        udp({ vip: EVERY_VIP, payload: Buffer.alloc(64) }),
      ),
      {
        name: 'a later fragment for a service of every port is dropped by name where its first one was not seen',
        frame: packet(piece(1, 800, true), Buffer.alloc(40)),
        goes: 'nowhere',
        reason: 'DROP_FRAGMENT',
      },
    ],
    family,
  )

  test.serial(`${family}: flows of one client port to several ports of one service are several flows`, (t) => {
    const balancer = shared.reset()
    const name = `tcp://${HOST}:*`
    balancer.add(name, { scheduler: 'rr' }, 3)
    const opened = [80, 443, 8080].map((port) => balancer.to(tcp({ port })))
    t.deepEqual(opened, [1, 2, 3])
    for (let i = 0; i < 3; i++) {
      t.deepEqual(
        [80, 443, 8080].map((port) => balancer.to(tcp({ port, flags: TCP.ACK }))),
        opened,
      )
    }
    t.deepEqual(balancer.to(tcp({ port: 443, flags: TCP.RST })), 2)
    t.deepEqual(
      [80, 8080].map((port) => balancer.to(tcp({ port, flags: TCP.ACK }))),
      [1, 3],
      'the end of one is not the end of the others',
    )
  })

  test.serial(`${family}: flows of one client port to 4,000 ports find places`, (t) => {
    // Four times as many places for IPv4: with twice as many one of 70,000 flows would find none. IPv6's buckets are smaller.
    const balancer = new Balancer({ capacity: flowCapacity(family === 'ipv4' ? 16384 : 65536) })
    t.teardown(() => balancer.close())
    balancer.add(`tcp://${HOST}:*`, { scheduler: 'rr' }, 7)
    const ports = Array.from({ length: 4000 }, (_, i) => i + 1)
    const opened = ports.map((port) => {
      balancer.run(tcp({ port }))
      return balancer.run(tcp({ port, flags: TCP.ACK })).data.readUInt16BE(4)
    })
    t.deepEqual(balancer.moved(), { TX_FORWARDED: 8000, FLOW_INSERTED: 4000 })
    t.deepEqual(
      opened,
      ports.map((_, i) => (i % 7) + 1),
    )
    t.deepEqual(
      ports.map((port) => balancer.run(tcp({ port, flags: TCP.ACK })).data.readUInt16BE(4)),
      opened,
    )
  })

  test.serial(`${family}: a removed backend leaves no flow behind, of whichever port`, (t) => {
    const balancer = shared.reset()
    const name = `udp://${HOST}:1000-1999`
    balancer.add(name, { scheduler: 'rr' }, 2)
    const ports = Array.from({ length: 100 }, (_, i) => 1000 + i)
    for (const port of ports) balancer.run(udp({ port }))
    balancer.removeBackend(name, 2)
    // The index of backend 2 is given out again: to none of its flows.
    balancer.setBackend(name, 3)
    balancer.moved()
    const before = balancer.indexOf(name, 3)
    const now = ports.map((port) => balancer.to(udp({ port })))
    t.is(before, 1)
    t.deepEqual(
      ports.filter((_, i) => i % 2 === 0).map((_, i) => now[2 * i]),
      Array(50).fill(1),
      'flows of backend 1 stay',
    )
    t.is(now.filter((backend) => backend === 3).length, 25, 'flows of backend 2 were scheduled anew, in turn')
  })

  test.serial(`${family}: a changed ring keeps the established flows of all ports of a hashed range`, (t) => {
    const balancer = shared.reset()
    const name = `tcp://${HOST}:8000-8099`
    balancer.add(name, { scheduler: 'mh', ringSize: 251 }, 4)
    const flows = Array.from({ length: 400 }, (_, i) => ({ sourcePort: 2000 + (i >> 2), port: 8000 + (i & 3) * 33 }))
    const before = flows.map((flow) => balancer.to(tcp(flow)))
    t.deepEqual(
      before,
      flows.map((flow) => ringBackend(balancer, name, flow)),
      'the ring goes by the source',
    )
    balancer.removeBackend(name, 4)
    const after = flows.map((flow) => balancer.to(tcp({ ...flow, flags: TCP.ACK })))
    for (const [i, backend] of before.entries()) if (backend !== 4) t.is(after[i], backend)
    t.false(after.includes(4))
  })

  for (const count of [1, 2, 64, RunLimit.RANGES_PER_RUN_MAX]) {
    test.serial(`${family}: ${count} ranges of one VIP are told apart at both ends, and the gaps between them`, (t) => {
      const balancer = new Balancer({ capacity: { services: 512, backends: 1024 } })
      t.teardown(() => balancer.close())
      const first = (i: number): number => 1000 + 10 * i
      for (let i = 0; i < count; i++) {
        balancer.add(`tcp://${HOST}:${first(i)}-${first(i) + 5}`, { scheduler: 'mh', ringSize: 11 }, { [i + 1]: {} })
      }
      for (let i = 0; i < count; i++) {
        t.is(balancer.to(tcp({ port: first(i) - 1 })), undefined)
        t.is(balancer.to(tcp({ port: first(i) })), i + 1)
        t.is(balancer.to(tcp({ port: first(i) + 5 })), i + 1)
        t.is(balancer.to(tcp({ port: first(i) + 6 })), undefined)
      }
    })
  }

  test.serial(
    `${family}: one-packet scheduling gives each datagram of a flow its turn, by weight, and goes by the ring with sh`,
    (t) => {
      const balancer = shared.reset()
      const name = `udp://${HOST}:53`
      balancer.add(name, { scheduler: 'rr', ops: true }, 3)
      const next = (count: number) => Array.from({ length: count }, () => balancer.to(udp({})))
      t.deepEqual(next(6), [1, 2, 3, 1, 2, 3])
      balancer.set(name, { scheduler: 'wrr' })
      balancer.setBackend(name, 1, { weight: 2 })
      t.is(next(8).filter((backend) => backend === 1).length, 4)
      balancer.set(name, { scheduler: 'sh' })
      t.deepEqual(next(4), Array(4).fill(ringBackend(balancer, name, {})))
      t.is(balancer.moved().FLOW_INSERTED, undefined)
      t.is(balancer.counters(name, 1).flows, 0n)
    },
  )

  test.serial(`${family}: one-packet scheduling follows a changed ring at once, and marks nothing`, (t) => {
    const balancer = shared.reset()
    const name = `udp://${HOST}:*`
    balancer.add(name, { scheduler: 'mh', ops: true }, 4)
    for (const change of [
      () => balancer.drain(name, 4),
      () => balancer.set(name, { seed: 99n }),
      () => balancer.set(name, { seed: 100n }),
    ]) {
      change()
      for (let sourcePort = 1; sourcePort < 200; sourcePort++) {
        t.is(balancer.to(udp({ sourcePort, port: 7 })), ringBackend(balancer, name, { sourcePort }))
      }
    }
  })

  test.serial(
    `${family}: with one-packet scheduling taken back, flows stay again, and those from before it are still known`,
    (t) => {
      const balancer = shared.reset()
      const name = `udp://${HOST}:53`
      balancer.add(name, { scheduler: 'rr' }, 3)
      t.deepEqual(
        [1, 2, 3].map((sourcePort) => balancer.to(udp({ sourcePort }))),
        [1, 2, 3],
      )
      balancer.set(name, { ops: true })
      t.deepEqual(
        [1, 1, 1].map((sourcePort) => balancer.to(udp({ sourcePort }))),
        [1, 2, 3],
      )
      balancer.set(name, { ops: false })
      t.deepEqual(
        [3, 2, 1, 3].map((sourcePort) => balancer.to(udp({ sourcePort }))),
        [3, 2, 1, 3],
      )
    },
  )
}
