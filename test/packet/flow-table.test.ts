// SPDX-License-Identifier: Apache-2.0
// A table of two buckets. Both are candidates of every flow, or one of them twice.
import test from 'ava'
import { FlowState } from '../../src/dataplane/layout.gen.ts'
import { FAMILIES } from './families.ts'
import { changesOf, type Entry, entries, entryOf, makeIdle, type StateName, setState, TABLES } from './flowtable.ts'
import { TCP } from './frames.ts'
import { Balancer, breathe } from './plane.ts'
import { ringBackend } from './ring.ts'

test.beforeEach(breathe)

const large = new Balancer({ capacity: { flows: 65536, flows6: 65536 } })
test.after.always(() => large.close())

for (const { family, HOST, flowsPerBucket, flowCapacity, tcpFrame, udpFrame } of FAMILIES) {
  const SERVICE = `tcp://${HOST}:80`
  /** Two buckets. */
  const PLACES = 2 * flowsPerBucket

  const small = new Balancer({ capacity: flowCapacity(PLACES) })
  test.after.always(() => small.close())

  const open = (): Balancer => {
    const balancer = small.reset()
    balancer.add(SERVICE, { scheduler: 'rr' }, 3)
    return balancer
  }

  const syn = (sourcePort: number): Buffer => tcpFrame({ sourcePort })
  const ack = (sourcePort: number): Buffer => tcpFrame({ sourcePort, flags: TCP.ACK })

  /** Fills every place with a flow of this state. @returns their source ports, lowest first */
  const fill = (balancer: Balancer, state: StateName): number[] => {
    for (let sourcePort = 1; entries(balancer).length < PLACES; sourcePort++) {
      // One whose two buckets are the same full one is refused.
      if (balancer.send(syn(sourcePort)).reasons.FLOW_INSERTED === 1) setState(balancer, sourcePort, 'FLOW_ESTABLISHED')
    }
    const ports = portsIn(balancer)
    for (const port of ports) setState(balancer, port, state)
    return ports
  }

  /** How a list of changes names an entry's bucket: IPv6's with bit 31. */
  const noteOf = ({ bucket }: Entry): number => bucket + (family === 'ipv6' ? 2 ** 31 : 0)

  const portsIn = (balancer: Balancer): number[] =>
    entries(balancer)
      .map(({ sourcePort }) => sourcePort)
      .sort((a, b) => a - b)

  /** Source ports whose flows have both buckets to choose from: the insert of one asks all eight places. */
  const NEW = Array.from({ length: 64 }, (_, i) => 5000 + i)

  for (const state of ['FLOW_ESTABLISHED', 'FLOW_UDP'] as const) {
    test.serial(`${family}: a table full of ${state} flows refuses new ones, counts that, and keeps its own`, (t) => {
      const balancer = open()
      const ports = fill(balancer, state)
      const before = entries(balancer)
      for (const sourcePort of NEW) {
        for (const frame of [syn(sourcePort), ack(sourcePort)]) {
          const sent = balancer.send(frame)
          t.deepEqual(sent.reasons, { TX_FORWARDED: 1, FLOW_REFUSED_FULL: 1 })
          t.is(sent.backend, ringBackend(balancer, SERVICE, { sourcePort }))
        }
      }
      t.deepEqual(entries(balancer), before)
      for (const port of ports) t.deepEqual(balancer.send(ack(port)).reasons, { TX_FORWARDED: 1 })
    })

    test.serial(`${family}: a ${state} flow gives way when it has expired, not a unit of age earlier`, (t) => {
      const balancer = open()
      const [oldest = 0] = fill(balancer, state)
      const timeout = new DataView(balancer.plane.buffer('settings')).getUint16(FlowState[state] * 2, true)
      makeIdle(balancer, oldest, timeout)
      for (const sourcePort of NEW) t.is(balancer.send(syn(sourcePort)).reasons.FLOW_REFUSED_FULL, 1)
      makeIdle(balancer, oldest, timeout + 1)
      const taker = NEW.find((sourcePort) => balancer.send(syn(sourcePort)).reasons.FLOW_INSERTED === 1)
      t.truthy(taker)
      t.false(portsIn(balancer).includes(oldest))
      t.is(entries(balancer).length, PLACES)
    })
  }

  test.serial(`${family}: UDP to a full table goes by the ring too`, (t) => {
    const balancer = open()
    balancer.add(`udp://${HOST}:53`, { scheduler: 'rr' }, 3)
    fill(balancer, 'FLOW_ESTABLISHED')
    for (const sourcePort of NEW) {
      const sent = balancer.send(udpFrame({ sourcePort }))
      t.is(sent.reasons.FLOW_REFUSED_FULL, 1)
      t.is(sent.backend, ringBackend(balancer, `udp://${HOST}:53`, { sourcePort }))
    }
  })

  for (const state of ['FLOW_HALF_OPEN', 'FLOW_ADOPTED', 'FLOW_UDP_ONCE', 'FLOW_CLOSING', 'FLOW_CLOSED'] as const) {
    test.serial(`${family}: ${state} flows give way to new ones, the oldest first`, (t) => {
      const balancer = open()
      const ports = fill(balancer, 'FLOW_ESTABLISHED')
      const [first = 0, second = 0] = ports
      // Two of one bucket, so that every flow that can take the one can take the other.
      const { bucket } = entryOf(balancer, first)
      const other = ports.find((port) => port !== first && entryOf(balancer, port).bucket === bucket) ?? second
      setState(balancer, first, state)
      setState(balancer, other, state)
      makeIdle(balancer, first, 3)
      makeIdle(balancer, other, 4)
      const taken: number[] = []
      for (const sourcePort of NEW) {
        const before = portsIn(balancer)
        if (balancer.send(syn(sourcePort)).reasons.FLOW_INSERTED !== 1) continue
        setState(balancer, sourcePort, 'FLOW_ESTABLISHED')
        const after = portsIn(balancer)
        taken.push(...before.filter((port) => !after.includes(port)))
      }
      t.deepEqual(taken, [other, first])
    })
  }

  for (const [sooner, later] of [
    ['FLOW_HALF_OPEN', 'FLOW_CLOSING'],
    ['FLOW_HALF_OPEN', 'FLOW_CLOSED'],
    ['FLOW_ADOPTED', 'FLOW_CLOSING'],
    ['FLOW_UDP_ONCE', 'FLOW_CLOSING'],
  ] as const) {
    test.serial(`${family}: ${sooner} gives way before ${later}, however much older that is`, (t) => {
      const balancer = open()
      const ports = fill(balancer, 'FLOW_ESTABLISHED')
      const [first = 0] = ports
      const { bucket } = entryOf(balancer, first)
      const other = ports.find((port) => port !== first && entryOf(balancer, port).bucket === bucket) ?? 0
      setState(balancer, first, sooner)
      setState(balancer, other, later)
      if (later !== 'FLOW_CLOSED') makeIdle(balancer, other, 100)
      const taker = NEW.find((sourcePort) => balancer.send(syn(sourcePort)).reasons.FLOW_INSERTED === 1)
      t.truthy(taker)
      t.false(portsIn(balancer).includes(first))
      t.true(portsIn(balancer).includes(other))
    })
  }

  test.serial(`${family}: an expired flow gives way before a half-open one`, (t) => {
    const balancer = open()
    const [first = 0, second = 0] = fill(balancer, 'FLOW_ESTABLISHED')
    const ports = portsIn(balancer)
    const { bucket } = entryOf(balancer, first)
    const other = ports.find((port) => port !== first && entryOf(balancer, port).bucket === bucket) ?? second
    setState(balancer, first, 'FLOW_HALF_OPEN')
    makeIdle(balancer, first, 50)
    makeIdle(balancer, other, 2000)
    NEW.find((sourcePort) => balancer.send(syn(sourcePort)).reasons.FLOW_INSERTED === 1)
    t.true(portsIn(balancer).includes(first))
    t.false(portsIn(balancer).includes(other))
  })

  test.serial(`${family}: a new flow goes to the emptier of its two buckets`, (t) => {
    const balancer = new Balancer({ capacity: flowCapacity(4096) })
    t.teardown(() => balancer.close())
    balancer.add(SERVICE, { scheduler: 'rr' }, 3)
    // IPv4: 2,048 flows in 4,096 places: with one bucket each about 10 % would find it full. With two, 14 in a million do, whatever
    // the hash (so it is with random numbers too): one here now and then, three once in 200,000 runs. IPv6 has smaller buckets: a
    // table that is a quarter full refuses 2 flows of 10,000.
    const flows = family === 'ipv4' ? 2048 : 1024
    for (let sourcePort = 1; sourcePort <= flows; sourcePort++) {
      balancer.to(syn(sourcePort))
      balancer.to(ack(sourcePort))
    }
    t.true(entries(balancer).length >= flows - 2)
  })

  test.serial(`${family}: a place that a writer has claimed is taken by nobody else`, (t) => {
    const balancer = open()
    for (const port of fill(balancer, 'FLOW_ESTABLISHED')) setState(balancer, port, 'FLOW_CLAIMED')
    for (const sourcePort of NEW) t.is(balancer.send(syn(sourcePort)).reasons.FLOW_REFUSED_FULL, 1)
  })

  test.serial(`${family}: a claimed entry speaks for no packet`, (t) => {
    const balancer = open()
    balancer.to(syn(1))
    setState(balancer, 1, 'FLOW_CLAIMED')
    t.is(balancer.to(syn(1)), 2)
  })

  test.serial(`${family}: an entry whose check bits are not its key's speaks for no packet`, (t) => {
    const balancer = open()
    balancer.to(syn(1))
    const { word } = entryOf(balancer, 1)
    const words = new BigUint64Array(balancer.plane.buffer(TABLES[family]))
    for (let bit = 44n; bit < 64n; bit++) {
      words[word] = (words[word] ?? 0n) ^ (1n << bit)
      t.is(balancer.send(ack(1)).reasons.FLOW_INSERTED, 1, `bit ${bit}`)
      // The new entry goes, the old one is as it was.
      for (const entry of entries(balancer)) if (entry.word !== word) words[entry.word] = 0n
      words[word] = (words[word] ?? 0n) ^ (1n << bit)
      t.deepEqual(balancer.send(ack(1)).reasons, { TX_FORWARDED: 1 })
    }
  })

  test.serial(
    `${family}: each CPU writes down which buckets it changed: at an insert and at a change of state, not at a refresh`,
    (t) => {
      const balancer = large.reset()
      t.teardown(() => balancer.native.system.pinToCpu(-1))
      balancer.add(SERVICE, { scheduler: 'rr' }, 3)
      for (const cpu of [0, 1]) {
        balancer.native.system.pinToCpu(cpu)
        const expected: number[] = []
        for (let sourcePort = cpu * 100 + 1; sourcePort <= cpu * 100 + 20; sourcePort++) {
          const note = (frame: Buffer, noted: boolean): void => {
            balancer.to(frame)
            if (noted) expected.push(noteOf(entryOf(balancer, sourcePort)))
            t.deepEqual(changesOf(balancer, cpu), { written: expected.length, buckets: expected })
          }
          note(syn(sourcePort), true)
          note(syn(sourcePort), false)
          note(ack(sourcePort), true)
          makeIdle(balancer, sourcePort, 9)
          note(ack(sourcePort), false)
          note(tcpFrame({ sourcePort, flags: TCP.RST }), true)
          note(syn(sourcePort), true)
        }
      }
      t.is(changesOf(balancer, 0).written, 80)
    },
  )

  test.serial(`${family}: a CPU's ring of changes goes round, and keeps count`, (t) => {
    const balancer = large.reset()
    t.teardown(() => balancer.native.system.pinToCpu(-1))
    balancer.native.system.pinToCpu(0)
    balancer.add(SERVICE, { scheduler: 'rr' }, 3)
    for (let sourcePort = 1; sourcePort <= 9000; sourcePort++) balancer.run(syn(sourcePort))
    const { written, buckets } = changesOf(balancer, 0)
    t.is(written, 9000)
    t.is(buckets.length, 8192)
    const places = new Map(entries(balancer).map((entry) => [entry.sourcePort, noteOf(entry)]))
    t.true(buckets.every((bucket, i) => bucket === places.get(9000 - 8192 + 1 + i)))
  })
}
