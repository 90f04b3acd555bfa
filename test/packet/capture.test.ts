// SPDX-License-Identifier: Apache-2.0
// The capturing program: what it does to packets is what the packet path does, and what it tells of them is true.
import test from 'ava'
import { plan } from '../../src/core/plan.ts'
import { Refusal } from '../../src/core/refusal.ts'
import type { CaptureWanted } from '../../src/dataplane/capture.ts'
import { CapturingBalancer, captureOf, openCapture as open } from './capture.ts'
import { ETHERTYPE, ethernet, icmpFrame, TCP, tcp6Frame, tcpFrame, udpFrame, VIP, VIP6 } from './frames.ts'
import { backendAddress, breathe, LOCAL, linkPath, type ReasonName, SECOND_INTERFACE } from './plane.ts'
import { makeRandom } from './random.ts'
import { randomChange } from './random-changes.ts'
import { RandomTraffic } from './random-frames.ts'
import { Reference } from './reference.ts'

test.beforeEach(breathe)

const SERVICE = `tcp://${VIP}:80`
const DNS = `udp://${VIP}:53`
const octets = (...numbers: number[]) => Uint8Array.from(numbers)

test('a forwarded packet is told as it came, with verdict, reason, service and backend', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'mh' }, 1)
  const told = captureOf(t, balancer, tcpFrame({ payload: Buffer.from('GET / HTTP/1.1') }))
  t.like(told, { verdict: 'tx', reason: 'tx_forwarded', service: SERVICE, backend: backendAddress(1), flow: [] })
})

test('what becomes of a flow is told beside: recorded with its first packet, and not with its second', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'rr' }, 2)
  const first = captureOf(t, balancer, tcpFrame())
  t.deepEqual(first?.flow, ['flow_inserted'])
  const second = captureOf(t, balancer, tcpFrame({ flags: TCP.ACK }))
  t.deepEqual(second?.flow, [])
  t.is(second?.backend, first?.backend)
})

test('a redirected packet is told with its verdict, and one for a local backend with its own', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'mh' }, { 1: { path: linkPath(1, SECOND_INTERFACE.slot) } })
  balancer.add(DNS, { scheduler: 'mh' }, { 2: { path: LOCAL } })
  const redirected = captureOf(t, balancer, tcpFrame())
  t.like(redirected, { verdict: 'redirect', reason: 'tx_redirected', backend: backendAddress(1) })
  const local = captureOf(t, balancer, udpFrame())
  t.like(local, { verdict: 'pass', reason: 'pass_local', service: DNS, backend: backendAddress(2) })
})

const ENDS: readonly (readonly [what: string, frame: Buffer, reason: ReasonName, service: string | undefined])[] = [
  ['for no VIP', tcpFrame({ vip: '192.0.2.99' }), 'PASS_NOT_VIP', undefined],
  ['for no service of its VIP', tcpFrame({ port: 81 }), 'PASS_NO_SERVICE', undefined],
  ['that is a ping', icmpFrame(), 'PASS_NOT_BALANCED', undefined],
  ['for another MAC', tcpFrame({ destination: '02:00:00:00:00:77' }), 'PASS_OTHER_MAC', undefined],
  ['whose header contradicts itself', tcpFrame({ ihl: 4 }), 'DROP_MALFORMED', undefined],
  ['whose TCP header is cut off', tcpFrame({ totalLength: 30 }), 'DROP_TRUNCATED', undefined],
  ['that is a later fragment of none', tcpFrame({ fragment: 100 }), 'DROP_FRAGMENT', undefined],
  ['whose service has no backend', udpFrame(), 'DROP_NO_BACKEND', DNS],
]

for (const [what, frame, reason, service] of ENDS) {
  test(`a packet ${what} is told, with no backend`, (t) => {
    const balancer = open(t)
    balancer.add(SERVICE, { scheduler: 'rr' }, 1)
    balancer.add(DNS, { scheduler: 'rr' }, 0)
    const told = captureOf(t, balancer, frame)
    t.is(told?.reason, reason.toLowerCase())
    t.is(told?.service, service)
    t.is(told?.backend, undefined)
  })
}

test('frames of any length are told whole, tagged ones too, also shorter and longer than what is saved first', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'mh' }, 1)
  const tags = [
    { type: ETHERTYPE.QINQ, id: 5 },
    { type: ETHERTYPE.VLAN, id: 6 },
  ]
  for (const length of [0, 1, 2, 3, 17, 18, 19, 500, 1460, 3000]) {
    const payload = Buffer.from(Array.from({ length }, (_, i) => i & 255))
    t.not(captureOf(t, balancer, tcpFrame({ payload })), undefined)
    t.not(captureOf(t, balancer, tcpFrame({ payload, tags })), undefined)
    t.not(captureOf(t, balancer, ethernet({ etherType: 0x88b5 }, payload)), undefined)
  }
})

test('of a frame no more is told than is wanted, and its length all the same', (t) => {
  for (const snapBytes of [1, 14, 31, 32, 33, 64]) {
    const balancer = new CapturingBalancer({ snapBytes })
    balancer.add(SERVICE, { scheduler: 'mh' }, 1)
    const frame = tcpFrame({ payload: Buffer.alloc(200, 7) })
    const came = Buffer.from(frame)
    balancer.send(frame)
    const [told] = balancer.captured()
    t.is(told?.frameLength, came.length)
    // A frame's head is one piece.
    t.deepEqual(Buffer.from(told?.frame ?? []), came.subarray(0, snapBytes))
    balancer.close()
  }
})

const wants = (
  what: string,
  wanted: Partial<CaptureWanted> | ((balancer: CapturingBalancer) => Partial<CaptureWanted>),
  expected: readonly string[],
): void => {
  test(`of many packets are told those ${what}`, (t) => {
    const probe = typeof wanted === 'function' ? open(t) : undefined
    probe?.add(SERVICE, { scheduler: 'rr' }, 1)
    probe?.add(DNS, { scheduler: 'rr' }, 0)
    const balancer = open(t, typeof wanted === 'function' && probe !== undefined ? wanted(probe) : (wanted as object))
    balancer.add(SERVICE, { scheduler: 'rr' }, 1)
    balancer.add(DNS, { scheduler: 'rr' }, 0)
    for (const [, frame] of ENDS) balancer.send(Buffer.from(frame))
    balancer.send(tcpFrame({ source: '203.0.113.5' }))
    balancer.send(tcpFrame({ source: '203.0.114.5' }))
    balancer.send(tcpFrame({ source: '203.0.113.5', tags: [{ type: ETHERTYPE.VLAN, id: 5 }] }))
    t.deepEqual(
      balancer.captured().map(({ reason }) => reason),
      expected,
    )
  })
}

const DROPS = ['drop_malformed', 'drop_truncated', 'drop_fragment', 'drop_no_backend'] as const
const FORWARDED = Array<string>(3).fill('tx_forwarded')

wants('of any reason', {}, [...ENDS.map(([, , reason]) => reason.toLowerCase()), ...FORWARDED])
wants('that are for a VIP, where no more is said', { all: false }, [
  'pass_no_service',
  'pass_not_balanced',
  ...DROPS,
  ...FORWARDED,
])
wants('of a verdict', { verdicts: ['drop'] }, DROPS)
wants('of any of two verdicts', { verdicts: ['drop', 'tx'] }, [...DROPS, ...FORWARDED])
wants('of a reason', { reasons: ['drop_fragment', 'pass_not_vip'] }, ['pass_not_vip', 'drop_fragment'])
wants('of a reason that nobody counts while packets pass', { reasons: ['tx_forwarded'] }, FORWARDED)
wants('whose flow was recorded', { reasons: ['flow_inserted'] }, ['tx_forwarded', 'tx_forwarded'])
wants(
  'of a source, tagged ones too',
  { reasons: ['tx_forwarded'], source: { octets: octets(203, 0, 113, 0), mask: octets(255, 255, 255, 0) } },
  FORWARDED.slice(1),
)
wants(
  'of a service, and those that were dropped before they came to one',
  (probe) => ({
    service: {
      id: probe.live(SERVICE).service.id,
      vip: { octets: octets(192, 0, 2, 10), mask: octets(255, 255, 255, 255) },
    },
  }),
  [...DROPS.slice(0, 3), ...FORWARDED],
)

test('IPv6 is told as IPv4 is, and chosen by its source', (t) => {
  const source = {
    octets: octets(0x20, 1, 0xd, 0xb8, ...new Array(12).fill(0)),
    mask: new Uint8Array(16).fill(255, 0, 4),
  }
  const balancer = open(t, { source })
  const service = `tcp://[${VIP6}]:80`
  balancer.add(SERVICE, { scheduler: 'rr' }, 1)
  balancer.add(service, { scheduler: 'rr' }, 2)
  const told = captureOf(t, balancer, tcp6Frame({ tags: [{ type: ETHERTYPE.VLAN, id: 5 }] }))
  t.like(told, { verdict: 'tx', reason: 'tx_forwarded', service, flow: ['flow_inserted'] })
  t.is(captureOf(t, balancer, tcp6Frame({ source: '2001:db9::5' })), undefined)
  t.is(captureOf(t, balancer, tcpFrame()), undefined)
})

test('where the lease has ended packets go the same way, and nothing is told', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE, { scheduler: 'rr' }, 1)
  balancer.lease(0n)
  t.is(balancer.to(tcpFrame()), 1)
  t.deepEqual(balancer.captured(), [])
  t.deepEqual(balancer.counts(), { packets: 0n, lost: 0n })
})

test('where the ring is full packets go the same way, and those that are not told are counted', (t) => {
  const balancer = open(t, {}, { ringBytes: 4096 })
  balancer.add(SERVICE, { scheduler: 'rr' }, 1)
  for (let i = 0; i < 20; i++) t.is(balancer.to(tcpFrame({ sourcePort: 1000 + i, payload: Buffer.alloc(1000) })), 1)
  const told = balancer.captured()
  t.true(told.length >= 2)
  t.deepEqual(balancer.counts(), { packets: 20n, lost: BigInt(20 - told.length) })
  t.is(balancer.to(tcpFrame()), 1)
  t.is(balancer.captured().length, 1, 'what was read makes room')
})

test('on any traffic, what is told is what came, and what a balancer has to do with it', async (t) => {
  t.timeout(120_000)
  const seed = Number(process.env.XLB_SEED ?? Date.now() % 2 ** 31)
  const random = makeRandom(seed)
  const traffic = new RandomTraffic(random)
  const balancer = open(
    t,
    {},
    {
      capacity: {
        flows: 2 ** 15,
        flows6: 2 ** 17,
        clients: 2 ** 14,
        destinations: 2 ** 12,
        services: 64,
        backends: 1024,
      },
    },
  )
  const reference = new Reference()
  for (let i = 0; i < 4_000; i++) {
    if (i % 300 === 0) {
      await breathe()
      const before = balancer.state
      try {
        balancer.change((state) => randomChange(random, state))
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
      }
      if (plan(before, balancer.state).length > 0) reference.follow(balancer.state)
    }
    const frame = traffic.next()
    const came = Buffer.from(frame)
    const expected = reference.expect(frame)
    balancer.run(frame)
    const [told] = balancer.captured()
    const family = told?.service?.includes('[') === true ? 'ipv6' : 'ipv4'
    const backend = expected.backend === undefined ? undefined : backendAddress(expected.backend, family)
    const agrees =
      told !== undefined &&
      told.reason?.toUpperCase() === expected.reason &&
      told.backend === backend &&
      told.flow.includes('flow_inserted') === expected.inserted &&
      came.equals(told.frame)
    if (!agrees) {
      t.log(`frame ${i}: ${came.toString('hex')}`, 'expected', expected, 'told', told)
      return t.fail(`XLB_SEED=${seed}: frame ${i} differs`)
    }
  }
  t.pass()
})
