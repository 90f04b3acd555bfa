// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { formatService, parseBackend, parseService } from '../../src/core/address.ts'
import { addressOctets, formatIpv4, formatIpv6, parseIpv4 } from '../../src/core/ip.ts'
import {
  formatVip,
  formatVip6,
  holds,
  prefixesOf,
  prefixesOf6,
  prefixLengths,
  vipNumber6,
  vipWord,
} from '../../src/core/prefix.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { checkCircles } from '../../src/core/state-faults.ts'
import { addService, setBackend, setService } from '../../src/core/verbs.ts'

const bits = fc.integer({ min: 8, max: 31 })
const address = fc.integer({ min: 0, max: 2 ** 32 - 1 })

/** The prefix of so many bits that an address is in, written down once more. */
const prefixOf = (address: number, bits: number): string => {
  const size = 2 ** (32 - bits)
  return `${formatIpv4(Math.floor(address / size) * size)}/${bits}`
}

test('each prefix has a word of its own, and is told from it', (t) => {
  fc.assert(
    fc.property(address, bits, (address, bits) => {
      const prefix = prefixOf(address, bits)
      t.is(formatVip(vipWord(prefix)), prefix)
    }),
  )
  const ofOneNetwork = Array.from({ length: 24 }, (_, i) => vipWord(`10.0.0.0/${i + 8}`).word)
  t.is(new Set(ofOneNetwork).size, 24)
  t.deepEqual(vipWord('192.0.2.0/24'), { word: parseIpv4('192.0.2.128') ?? 0, isPrefix: true })
  t.deepEqual(vipWord('192.0.2.128'), { word: parseIpv4('192.0.2.128') ?? 0, isPrefix: false })
})

test('of an address there is one prefix of each length to be asked for, the longest first', (t) => {
  fc.assert(
    fc.property(address, fc.uniqueArray(bits), (address, lengths) => {
      const vips = ['10.0.0.1', ...lengths.map((each) => prefixOf(0x0a00_0000, each))]
      const asked = [...prefixesOf(address, prefixLengths(vips).prefixes)].map((word) =>
        formatVip({ word, isPrefix: true }),
      )
      t.deepEqual(
        asked,
        lengths.toSorted((a, b) => b - a).map((each) => prefixOf(address, each)),
      )
    }),
  )
})

test('a prefix holds the addresses that begin with its bits, and no other', (t) => {
  fc.assert(
    fc.property(address, address, bits, (a, b, bits) => {
      t.is(holds(prefixOf(a, bits), formatIpv4(b)), prefixOf(a, bits) === prefixOf(b, bits))
      t.true(holds(prefixOf(a, bits), formatIpv4(a)))
    }),
  )
})

const bits6 = fc.integer({ min: 16, max: 127 })
const address6 = fc.array(fc.integer({ min: 0, max: 65535 }), { minLength: 8, maxLength: 8 })

/** The prefix of so many bits that an address of IPv6 is in, written down once more. */
const prefixOf6 = (groups: readonly number[], bits: number): string => {
  const kept = groups.map((group, i) => group & (0xffff0000 >> Math.min(16, Math.max(0, bits - 16 * i))) & 0xffff)
  return `${formatIpv6(kept)}/${bits}`
}

test('each prefix of IPv6 has a number of its own, and is told from it', (t) => {
  fc.assert(
    fc.property(address6, bits6, (groups, bits) => {
      const prefix = prefixOf6(groups, bits)
      t.is(formatVip6(vipNumber6(prefix), true), prefix)
    }),
  )
  const ofOneNetwork = Array.from({ length: 112 }, (_, i) => vipNumber6(`2001::/${i + 16}`))
  t.is(new Set(ofOneNetwork).size, 112)
  t.is(vipNumber6('2001:db8:5::/64'), '2001:db8:5:0:8000::')
  t.is(vipNumber6('2001:db8:5:0:8000::'), '2001:db8:5:0:8000::')
  t.is(formatVip6('2001:db8:5:0:8000::', false), '2001:db8:5:0:8000::')
})

test('of an IPv6 address there is one prefix of each length to be asked for, the longest first', (t) => {
  fc.assert(
    fc.property(address6, fc.uniqueArray(bits6), (groups, lengths) => {
      const other = [0x2001, 0, 0, 0, 0, 0, 0, 0]
      const vips = ['2001:db8::1', '10.0.0.0/8', ...lengths.map((each) => prefixOf6(other, each))]
      const asked = [...prefixesOf6(formatIpv6(groups), prefixLengths(vips))].map((each) => formatVip6(each, true))
      t.deepEqual(
        asked,
        lengths.toSorted((a, b) => b - a).map((each) => prefixOf6(groups, each)),
      )
    }),
  )
})

test('a prefix of IPv6 holds the addresses that begin with its bits, and no other', (t) => {
  const bitsOf = (groups: number[]) =>
    [...addressOctets(formatIpv6(groups))].map((octet) => octet.toString(2).padStart(8, '0')).join('')
  fc.assert(
    fc.property(address6, address6, bits6, fc.integer({ min: 0, max: 8 }), (a, rest, bits, common) => {
      const b = [...a.slice(0, common), ...rest.slice(common)]
      t.is(holds(prefixOf6(a, bits), formatIpv6(b)), bitsOf(a).slice(0, bits) === bitsOf(b).slice(0, bits))
      t.true(holds(prefixOf6(a, bits), formatIpv6(a)))
    }),
  )
  t.false(holds('192.0.2.0/24', '2001:db8::1'))
  t.false(holds('2001:db8::/32', '192.0.2.1'))
})

for (const text of [
  'tcp://[2001:db8:5::/64]:80',
  'udp://[2000::/16]:53',
  'tcp://[2001:db8::6/127]:*',
  'tcp://[2001:db8:5:0:8000::/65]:8000-8099',
  'tcp://192.0.2.0/24:80',
  'udp://10.0.0.0/8:53',
  'tcp://192.0.2.254/31:*',
  'tcp://192.0.2.0/25:8000-8099',
]) {
  test(`${text} is read and written alike`, (t) => t.is(formatService(parseService(text)), text))
}

for (const [text, what, mend] of [
  ['tcp://192.0.2.1/24:80', '192.0.2.1 has bits behind the first 24', 'write tcp://192.0.2.0/24:80'],
  ['udp://192.0.2.129/25:8000-8099', 'has bits behind the first 25', 'write udp://192.0.2.128/25:8000-8099'],
  ['tcp://192.0.2.10/32:80', 'is of one address', 'write tcp://192.0.2.10:80'],
  ['tcp://192.0.2.0/33:80', "'33' is not the length of a prefix from 8 to 31", 'write tcp://192.0.2.0/24:80'],
  ['tcp://192.0.2.0/7:80', "'7' is not the length", 'write tcp://192.0.2.0/24:80'],
  ['tcp://192.0.2.0/:80', "'' is not the length", 'write tcp://192.0.2.0/24:80'],
  ['tcp://192.0.2.77/x:*', "'x' is not the length", 'write tcp://192.0.2.0/24:*'],
  ['tcp://192.0.2.0/24', 'has no port', 'write tcp://192.0.2.0/24:80'],
  ['tcp://[2001:db8::]/64:80', 'an IPv6 prefix stands in the brackets', 'write tcp://[2001:db8::/64]:80'],
  ['tcp://[2001:db8::/128]:80', 'is of one address', 'write tcp://[2001:db8::]:80'],
  [
    'tcp://[2001:db8::/15]:80',
    "'15' is not the length of a prefix of IPv6 from 16 to 127",
    'write tcp://[2001:db8::/64]:80',
  ],
  ['tcp://[2001:db8::1/129]:*', "'129' is not the length", 'write tcp://[2001:db8::/64]:*'],
  ['tcp://[2001:db8::/]:80', "'' is not the length", 'write tcp://[2001:db8::/64]:80'],
  ['tcp://[2001:db8:5::1/64]:80', '2001:db8:5::1 has bits behind the first 64', 'write tcp://[2001:db8:5::/64]:80'],
  ['tcp://[2001:db8::/64]', 'has no port', 'write tcp://[2001:db8::/64]:80'],
  ['tcp://2001:db8::/64:80', 'is not of the form', 'write tcp://192.0.2.10:80 or tcp://[2001:db8::10]:80'],
  ['tcp://[192.0.2.0/24]:80', 'is not of the form', 'write tcp://192.0.2.10:80'],
  ['tcp://[fe80::/64]:80', 'fe80:: is link-local', 'unicast'],
  ['tcp://[ff00::/16]:80', 'ff00:: is a multicast address', 'unicast'],
  ['tcp://224.0.0.0/8:80', '224.0.0.0 is a multicast address', 'unicast'],
] as const) {
  test(`${text} is refused: ${what}`, (t) => {
    const refused = t.throws(() => parseService(text), { instanceOf: Refusal })
    t.true(refused.message.includes(what), refused.message)
    t.true(refused.mend.includes(mend), refused.mend)
    t.true(refused.usage)
  })
}

const PREFIX = parseService('tcp://192.0.2.0/24:80')
const SINGLE = parseService('tcp://192.0.2.10:80')
const add = (service: typeof PREFIX, options: Parameters<typeof addService>[2]) =>
  addService(new Map(), service, options, 1n)

test('dh is refused on a single VIP, with the reason and the prefix that would do', (t) => {
  const refused = t.throws(() => add(SINGLE, { scheduler: 'dh' }), { instanceOf: Refusal })
  t.is(
    refused.message,
    'service tcp://192.0.2.10:80: dh chooses by the destination, and a single VIP is the only one that its packets have',
  )
  t.true(refused.mend.endsWith('make it a service of a prefix: tcp://192.0.2.0/24:80'), refused.mend)
})

test('dh hashes the destination, and nothing else does', (t) => {
  t.is(add(PREFIX, { scheduler: 'dh' }).get('tcp://192.0.2.0/24:80')?.hash, 'destination')
  t.throws(() => add(PREFIX, { scheduler: 'dh', hash: 'source' }), { message: /dh hashes the destination, not source/ })
  t.throws(() => add(PREFIX, { scheduler: 'mh', hash: 'destination' }), { message: /mh does not hash the destination/ })
  const hashed = setService(add(PREFIX, { scheduler: 'dh' }), PREFIX, { scheduler: 'sh' })
  t.is(hashed.get('tcp://192.0.2.0/24:80')?.hash, 'source')
})

test('a backend in the prefix of an IPv6 service is refused, and one beside it is not', (t) => {
  const prefix = parseService('tcp://[2001:db8:5::/64]:80')
  const path = { kind: 'unresolved', why: 'it does not answer' } as const
  const state = addService(new Map(), prefix, { scheduler: 'lblc' }, 1n)
  t.throws(() => setBackend(state, prefix, parseBackend('2001:db8:5::7', prefix), { path }), {
    message: /is in 2001:db8:5::\/64, which is a service/,
  })
  t.notThrows(() => checkCircles(setBackend(state, prefix, parseBackend('2001:db8:6::7', prefix), { path })))
  t.throws(() => setBackend(state, prefix, parseBackend('192.0.2.7', prefix), { path }), { message: /IPv6/ })
})

test('a single VIP of IPv6 is shown the prefix that would do', (t) => {
  const refused = t.throws(() => add(parseService('tcp://[2001:db8:5::7]:80'), { scheduler: 'lblcr' }), {
    instanceOf: Refusal,
  })
  t.true(refused.mend.endsWith('tcp://[2001:db8:5::/64]:80'), refused.mend)
})

test('a backend in the prefix of a service is refused, whichever comes first', (t) => {
  const other = parseService('tcp://198.51.100.1:80')
  const path = { kind: 'unresolved', why: 'it does not answer' } as const
  const both = addService(add(other, {}), PREFIX, { scheduler: 'dh' }, 1n)
  for (const service of [other, PREFIX]) {
    const refused = t.throws(() => setBackend(both, service, parseBackend('192.0.2.21', service), { path }), {
      instanceOf: Refusal,
    })
    t.regex(refused.message, /is in 192\.0\.2\.0\/24, which is a service/)
  }
  const before = setBackend(add(other, {}), other, parseBackend('192.0.2.21', other), { path })
  t.throws(() => addService(before, PREFIX, { scheduler: 'dh' }, 1n), { message: /is in 192\.0\.2\.0\/24/ })
  t.notThrows(() => checkCircles(setBackend(both, PREFIX, parseBackend('192.0.3.21', PREFIX), { path })))
})
