// SPDX-License-Identifier: Apache-2.0
// Filters and rates of IPv6 sources.
import test, { type ExecutionContext } from 'ava'
import { parseService } from '../../src/core/address.ts'
import { withFilter } from '../../src/core/filter.ts'
import { AF, formatIpv6 } from '../../src/core/ip.ts'
import { type Address, longestMatch, PrefixCollector, prefixAt, wordMask } from '../../src/core/prefixes.ts'
import { TCP, tcp6Frame, tcpFrame, VIP, VIP6 } from './frames.ts'
import { Balancer, type BalancerOptions, breathe, type ReasonName } from './plane.ts'
import { makeRandom } from './random.ts'
import { testTable } from './table.ts'

test.beforeEach(breathe)

const SERVICE6 = `tcp://[${VIP6}]:80`
const SERVICE4 = `tcp://${VIP}:80`

const open = (t: ExecutionContext, options: BalancerOptions = {}): Balancer => {
  const balancer = new Balancer(options)
  t.teardown(() => balancer.close())
  return balancer
}

const many = new Balancer()
many.add(SERVICE6, { scheduler: 'mh' }, { 3: {} })
many.add(`tcp://[${VIP6}]:443`, { scheduler: 'mh' }, { 4: {} })
many.add(SERVICE4, { scheduler: 'mh' }, { 5: {} })
many.filter(
  undefined,
  'deny 2001:db8:bad::/48',
  'allow 2001:db8:bad:1::/64',
  'deny 2001:db8:bad:1::66',
  'deny 198.51.100.0/24',
)
many.filter(SERVICE6, 'deny 2001:db8:5::/64', 'allow 2001:db8:5::8000:0:0:0/65')
many.filter(`tcp://[${VIP6}]:443`, 'default deny', 'allow ::/1', 'deny 2001::/16', 'allow 2001:db8::/32')
test.after.always(() => many.close())

const from = (source: string, port = 80): Buffer => tcp6Frame({ source, port })

testTable(
  () => many,
  (
    [
      ['what no prefix covers is let through', from('2001:db8::1'), 3, 'TX_FORWARDED'],
      ['the filter of all denies', from('2001:db8:bad::1'), 'nowhere', 'DROP_DENIED_GLOBAL'],
      ['its last address', from('2001:db8:bad:ffff:ffff:ffff:ffff:ffff'), 'nowhere', 'DROP_DENIED_GLOBAL'],
      ['the one below it', from('2001:db8:bac:ffff:ffff:ffff:ffff:ffff'), 3, 'TX_FORWARDED'],
      ['the one above it', from('2001:db8:bae::'), 3, 'TX_FORWARDED'],
      ['a longer prefix allows', from('2001:db8:bad:1::65'), 3, 'TX_FORWARDED'],
      ['one address within that', from('2001:db8:bad:1::66'), 'nowhere', 'DROP_DENIED_GLOBAL'],
      ['its neighbour', from('2001:db8:bad:1::67'), 3, 'TX_FORWARDED'],
      ['the lower half of a /64 of a service', from('2001:db8:5::7fff:ffff:ffff:ffff'), 'nowhere', 'DROP_DENIED'],
      ['the upper half, which it allows', from('2001:db8:5::8000:0:0:0'), 3, 'TX_FORWARDED'],
      ['a default of deny', from('fd00::1', 443), 'nowhere', 'DROP_DENIED'],
      ['the longest of three', from('2001:db8::1', 443), 4, 'TX_FORWARDED'],
      ['the second of three', from('2001:db7::1', 443), 'nowhere', 'DROP_DENIED'],
      ['the shortest of three', from('1::1', 443), 4, 'TX_FORWARDED'],
      ['IPv4 prefixes say nothing of IPv6', from('::c633:6401'), 3, 'TX_FORWARDED'],
      ['IPv4 in the same list', tcpFrame({ source: '198.51.100.1' }), 'nowhere', 'DROP_DENIED_GLOBAL'],
      ['IPv6 prefixes say nothing of IPv4', tcpFrame({ source: '32.1.13.184' }), 5, 'TX_FORWARDED'],
      ['what is for no service is the stack’s', from('2001:db8:bad::1', 22), 'stack', 'PASS_NO_SERVICE'],
    ] as const
  ).map(([name, frame, goes, reason]) => ({ name: `sources: ${name}`, frame, goes, reason: reason as ReasonName })),
)

const randomWords = (word: () => number): Address['words'] => [word(), word(), word(), word()]

const masked = (words: Address['words'], bits: number): Address['words'] => {
  const [a, b, c, d] = words.map((word, i) => (word & wordMask(bits, i)) >>> 0)
  return [a ?? 0, b ?? 0, c ?? 0, d ?? 0]
}

const text = (words: Address['words']): string => formatIpv6(words.flatMap((word) => [word >>> 16, word & 0xffff]))

test.serial('100,000 random prefixes, nested and apart: each answer is that of the longest one that covers it', (t) => {
  const balancer = open(t, { capacity: { prefixes: 2 ** 17 } })
  balancer.add(SERVICE6, { scheduler: 'mh' }, 1)
  const random = makeRandom(6)
  const collector = new PrefixCollector()
  const bases = Array.from({ length: 50 }, () => randomWords(random.word))
  while (collector.count < 100_000) {
    const bits = random.pick([16, 32, 33, 47, 48, 63, 64, 65, 96, 127, 128])
    const base = random.pick(bases)
    // Of one base up to some bit, then anything: so many are nested.
    const shared = random.below(129)
    const other = randomWords(random.word)
    const mixed = base.map((word, i) => ((word & wordMask(shared, i)) | ((other[i] ?? 0) & ~wordMask(shared, i))) >>> 0)
    const words = masked([mixed[0] ?? 0, mixed[1] ?? 0, mixed[2] ?? 0, mixed[3] ?? 0], bits)
    collector.add({ family: AF.ipv6, words, bits }, random.once(2) ? 'allow' : 'deny')
  }
  const prefixes = collector.list()
  balancer.change((state) => withFilter(state, parseService(SERVICE6), () => ({ fallback: 'deny', prefixes })))
  const seen = { DROP_DENIED: 0, TX_FORWARDED: 0 }
  for (let i = 0; i < 1500; i++) {
    const near = prefixAt(prefixes, random.below(prefixes.length / 5))
    const spread = randomWords(random.word)
    const [a, b, c, d] = near.words.map((word, at) => (word | ((spread[at] ?? 0) & ~wordMask(near.bits, at))) >>> 0)
    const words: Address['words'] = [a ?? 0, b ?? 0, c ?? 0, d ?? 0]
    const match = longestMatch(prefixes, { family: AF.ipv6, words })
    const wanted = match >= 0 && prefixAt(prefixes, match).verdict === 'allow' ? 'TX_FORWARDED' : 'DROP_DENIED'
    t.deepEqual(balancer.send(tcp6Frame({ source: text(words), flags: TCP.ACK })).reasons, { [wanted]: 1 }, text(words))
    seen[wanted]++
  }
  t.true(seen.DROP_DENIED > 300 && seen.TX_FORWARDED > 300, JSON.stringify(seen))
})

test.serial('a /64 is one source of an IPv6 service, unless it is said otherwise', (t) => {
  const balancer = open(t, { settings: { jiffiesPerSecond: 2 ** 31 }, capacity: { flows: 2 ** 21 } })
  const passed = (frames: readonly Buffer[]) =>
    frames.filter((frame) => balancer.send(frame).reasons.DROP_RATE_LIMITED === undefined).length
  const hosts = (network: string) => Array.from({ length: 9 }, (_, i) => tcp6Frame({ source: `${network}::${i + 1}` }))
  balancer.add(SERVICE6, { scheduler: 'rr', sourceRate: 4 }, 2)
  t.is(balancer.live(SERVICE6).want.sourceRate?.bits, 64)
  t.is(passed(hosts('2001:db8:1:1')), 4)
  t.is(passed(hosts('2001:db8:1:2')), 4)
  balancer.set(SERVICE6, { sourcePrefix: 48 })
  t.is(passed(hosts('2001:db8:2:1')), 4)
  t.is(passed(hosts('2001:db8:2:2')), 0)
  balancer.set(SERVICE6, { sourcePrefix: 128 })
  t.is(passed([...hosts('2001:db8:3:1'), ...hosts('2001:db8:3:1')]), 18)
  t.is(passed(Array.from({ length: 9 }, () => tcp6Frame({ source: '2001:db8:3:1::1' }))), 2)
})

test.serial('an established IPv6 flow is heard no more from the moment its source is denied', (t) => {
  const balancer = open(t)
  balancer.add(SERVICE6, { scheduler: 'rr' }, 2)
  const source = '2001:db8:7::7'
  const backend = balancer.to(tcp6Frame({ source }))
  t.is(balancer.to(tcp6Frame({ source, flags: TCP.ACK })), backend)
  balancer.filter(undefined, 'deny 2001:db8:7::/48')
  t.deepEqual(balancer.send(tcp6Frame({ source, flags: TCP.ACK })).reasons, { DROP_DENIED_GLOBAL: 1 })
  balancer.filter(undefined)
  t.is(balancer.to(tcp6Frame({ source, flags: TCP.ACK })), backend)
})
