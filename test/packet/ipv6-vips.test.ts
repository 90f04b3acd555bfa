// SPDX-License-Identifier: Apache-2.0
// The directory of IPv6 VIPs: many of them, alike in one half; and the numbers by which they are known.
import test from 'ava'
import { formatService, parseService } from '../../src/core/address.ts'
import type { Service } from '../../src/core/desired.ts'
import { addressOctets, formatAddress6, formatIpv4 } from '../../src/core/ip.ts'
import { addService } from '../../src/core/verbs.ts'
import { Handle } from '../../src/dataplane/layout.gen.ts'
import { datagram, FRAGMENT, PROTOCOL, tcp6Frame, tcpFrame, VIP6 } from './frames.ts'
import { Balancer, breathe, withBackend } from './plane.ts'
import { makeRandom } from './random.ts'

test.beforeEach(breathe)

const VIPS = 4000
const balancer = new Balancer({ capacity: { services: 4096, backends: 8192 } })
test.after.always(() => balancer.close())

const hex = (n: number): string => n.toString(16)
const random = makeRandom(6)
const word = (): bigint => (BigInt(random.word()) << 32n) | BigInt(random.word())

/** Each VIP has one service, its backend's number tells it. */
const addAll = (vips: readonly string[]): void =>
  balancer.change(() => {
    const state = new Map<string, Service>()
    for (const [i, vip] of vips.entries()) {
      const service = parseService(`tcp://[${vip}]:${1 + i}`)
      const alone = addService(new Map(), service, { scheduler: 'sh', ringSize: 11 }, 1n)
      for (const [name, each] of withBackend(alone, formatService(service), i + 1, {})) state.set(name, each)
    }
    return state
  })

for (const [name, vipOf] of [
  ['of one network, in a row', (i: number) => `2001:db8::${hex(i + 1)}`],
  ['of one network, 32 apart', (i: number) => formatAddress6({ high: 0xb80d0120n, low: swapped(32n * BigInt(i + 1)) })],
  ['with equal lower halves, of networks in a row', (i: number) => `2001:db8:1:${hex(i)}::1`],
  ['with equal lower halves, of far networks', (i: number) => `2001:${hex(i + 1)}::1`],
  ['that differ in their first octets', (i: number) => `${hex(0x2000 + i)}::`],
  ['at random', () => formatAddress6({ high: (word() & ~0xe0n) | 0x20n, low: word() })],
] as const) {
  test.serial(`${VIPS} VIPs ${name}: each is found, no other address is`, (t) => {
    t.timeout(120_000)
    balancer.reset()
    const vips = Array.from({ length: VIPS }, (_, i) => vipOf(i))
    addAll(vips)
    const known = new Set(vips)
    let wrong = 0
    let strangers = 0
    for (const [i, vip] of vips.entries()) {
      const frame = balancer.run(tcp6Frame({ vip, port: 1 + i })).data
      if (frame.readUInt16BE(4) !== i + 1) wrong++
      // One bit beside.
      const octets = Buffer.from(addressOctets(vip))
      const bit = random.below(128)
      octets[bit >> 3] = (octets[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const stranger = formatAddress6({ high: octets.readBigUInt64LE(0), low: octets.readBigUInt64LE(8) })
      if (known.has(stranger)) continue
      strangers++
      balancer.run(tcp6Frame({ vip: stranger, port: 1 + i }))
    }
    t.is(wrong, 0)
    t.deepEqual(balancer.moved(), { TX_FORWARDED: VIPS, PASS_NOT_VIP: strangers })
    t.true(strangers > VIPS / 2)
  })
}

function swapped(value: bigint): bigint {
  const octets = Buffer.alloc(8)
  octets.writeBigUInt64BE(value)
  return octets.readBigUInt64LE(0)
}

/** The IPv4 addresses that stand for IPv6 VIPs now (enum handle of bpf/xlb.h): of both directories. */
const handles = (): string[] => {
  const table = Buffer.from(balancer.plane.buffer('vip6_buckets'))
  const wanted = Buffer.from(addressOctets(VIP6))
  return Array.from({ length: table.length / 16 }, (_, place) => place)
    .filter((place) => table.subarray(place * 16, place * 16 + 16).equals(wanted))
    .map((place) => Buffer.from(Uint32Array.of((place + 1) << Handle.HANDLE_SHIFT).buffer).readUInt32BE(0))
    .map(formatIpv4)
}

test.serial('an IPv4 packet for the number by which an IPv6 VIP is known is for no VIP', (t) => {
  balancer.reset()
  balancer.add(`tcp://[${VIP6}]:80`, { scheduler: 'sh' }, 2)
  t.true(handles().length > 0)
  for (const services of [1, 2, 3]) {
    for (const vip of handles()) {
      for (const frame of [
        tcpFrame({ vip }),
        tcpFrame({ vip, port: 81 }),
        tcpFrame({ vip, version: 6 }),
        tcpFrame({ vip, options: Buffer.alloc(4, 1) }),
        datagram({ vip, fragment: 100 }, Buffer.alloc(40)),
        datagram({ vip, fragment: FRAGMENT.MORE | 100, protocol: PROTOCOL.UDP }, Buffer.alloc(40)),
        datagram({ vip }, Buffer.alloc(4)),
      ]) {
        t.deepEqual(balancer.send(frame).reasons, { PASS_NOT_VIP: 1 }, `${vip}, ${services} services`)
      }
    }
    t.is(balancer.to(tcp6Frame()) === undefined, false)
    // A range and every port are looked for too, then.
    balancer.add(`tcp://[${VIP6}]:${services === 1 ? '81-90' : services === 2 ? '*' : '7'}`, { scheduler: 'sh' }, 1)
  }
})

test.serial('a VIP of both directories has flows that outlive its number', (t) => {
  balancer.reset()
  const service = `tcp://[${VIP6}]:80`
  balancer.add(service, { scheduler: 'rr' }, 5)
  const flows = Array.from({ length: 40 }, (_, i) => 1000 + i)
  const before = flows.map((sourcePort) => balancer.to(tcp6Frame({ sourcePort })))
  // Every service that is added makes a new directory, with other multipliers.
  for (let i = 1; i <= 6; i++) {
    balancer.add(`tcp://[2001:db8::a${i}]:80`, { scheduler: 'mh' }, 1)
    t.deepEqual(
      flows.map((sourcePort) => balancer.to(tcp6Frame({ sourcePort, flags: 0x10 }))),
      before,
    )
  }
})
