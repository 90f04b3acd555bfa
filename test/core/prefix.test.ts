// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { formatService, parseBackend, parseService } from '../../src/core/address.ts'
import { addService, checkCircles, setBackend, setService } from '../../src/core/desired.ts'
import { formatIpv4, parseIpv4 } from '../../src/core/ip.ts'
import { formatVip, holds, prefixesOf, prefixLengths, vipWord } from '../../src/core/prefix.ts'
import { Refusal } from '../../src/core/refusal.ts'

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
      const asked = [...prefixesOf(address, prefixLengths(vips))].map((word) => formatVip({ word, isPrefix: true }))
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

for (const text of [
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
  ['tcp://[2001:db8::]/64:80', 'services of a prefix are of IPv4 alone', 'write tcp://[2001:db8::]:80'],
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
