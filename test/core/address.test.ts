// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import {
  formatMac,
  formatService,
  parseBackend,
  parseMac,
  parseService,
  swap16,
  swap32,
  vipOf,
} from '../../src/core/address.ts'
import { formatEndpoint, parseEndpoint, parseSource } from '../../src/core/endpoint.ts'
import { formatIpv4, parseIpv4 } from '../../src/core/ip.ts'
import { Refusal } from '../../src/core/refusal.ts'

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const octet = fc.integer({ min: 0, max: 255 })
const unicast = fc
  .tuple(
    fc.integer({ min: 1, max: 223 }).filter((first) => first !== 127),
    octet,
    octet,
    octet,
  )
  .map((octets) => octets.join('.'))
const port = fc.integer({ min: 1, max: 65535 })
const protocol = fc.constantFrom('tcp' as const, 'udp' as const)

test('an address is the number of its four octets, the first one highest, and goes back to the same text', (t) => {
  fc.assert(
    fc.property(octet, octet, octet, octet, (a, b, c, d) => {
      const number = parseIpv4(`${a}.${b}.${c}.${d}`)
      return number === a * 2 ** 24 + b * 2 ** 16 + c * 256 + d && formatIpv4(number) === `${a}.${b}.${c}.${d}`
    }),
  )
  fc.assert(fc.property(word, (number) => parseIpv4(formatIpv4(number)) === number))
  t.is(formatIpv4(0xc000020a), '192.0.2.10')
})

for (const text of ['', '1.2.3', '1.2.3.4.5', '1.2.3.256', '1.2.3.04', '1.2.3.-4', '1.2.3.4 ', '1..3.4', '0x1.2.3.4']) {
  test(`'${text}' is no address`, (t) => {
    t.is(parseIpv4(text), undefined)
  })
}

test('octets are reversed by writing in one byte order and reading in the other', (t) => {
  const view = new DataView(new ArrayBuffer(4))
  fc.assert(
    fc.property(word, (number) => {
      view.setUint32(0, number, false)
      if (swap32(number) !== view.getUint32(0, true)) return false
      view.setUint16(0, number, false)
      return swap16(number & 0xffff) === view.getUint16(0, true)
    }),
  )
  t.is(swap32(0x01020304), 0x04030201)
})

test('a MAC has its first octet lowest and goes back to the same text', (t) => {
  t.is(parseMac('02:00:00:00:00:01'), 0x010000000002n)
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: 2n ** 48n - 1n }), (mac) => parseMac(formatMac(mac)) === mac))
  t.is(formatMac(0xffff_0100_0000_0002n), '02:00:00:00:00:01')
})

test('a service of a unicast VIP goes to text and back', (t) => {
  fc.assert(
    fc.property(protocol, unicast, port, (protocol, vip, port) => {
      const text = `${protocol}://${vip}:${port}`
      const service = { protocol, vip, port, lastPort: port }
      assert.deepEqual(parseService(text), service)
      assert.deepEqual(parseService(text.toUpperCase()), service)
      assert.equal(formatService(service), text)
    }),
  )
  t.pass()
})

test('a service of a range of ports, or of every port, goes to text and back', (t) => {
  fc.assert(
    fc.property(protocol, unicast, fc.uniqueArray(port, { minLength: 2, maxLength: 2 }), (protocol, vip, both) => {
      const [first = 0, last = 0] = both.toSorted((a, b) => a - b)
      const text = `${protocol}://${vip}:${first}-${last}`
      assert.deepEqual(parseService(text), { protocol, vip, port: first, lastPort: last })
      assert.equal(formatService(parseService(text)), text)
    }),
  )
  for (const text of ['tcp://192.0.2.10:*', 'udp://192.0.2.10:*', 'tcp://192.0.2.10:1-65535']) {
    t.is(formatService(parseService(text)), text)
  }
  t.deepEqual(parseService('tcp://192.0.2.10:*'), { protocol: 'tcp', vip: '192.0.2.10', port: 0, lastPort: 65535 })
})

test('an IPv6 service and its backends go to text and back, in one form', (t) => {
  for (const [text, vip] of [
    ['tcp://[2001:DB8:0:0:0:0:0:1]:80', '2001:db8::1'],
    ['udp://[2001:db8::1:0:0:1]:53', '2001:db8::1:0:0:1'],
    ['tcp://[64:ff9b::192.0.2.1]:8000-8099', '64:ff9b::c000:201'],
    ['tcp://[fd00::]:*', 'fd00::'],
  ] as const) {
    const service = parseService(text)
    t.is(service.vip, vip)
    t.is(vipOf(formatService(service)), vip)
    t.deepEqual(parseService(formatService(service)), service)
  }
  const service = parseService('tcp://[2001:db8::1]:80')
  for (const text of ['2001:db8:0::21', '[2001:db8::21]', '[2001:db8::21]:80']) {
    t.deepEqual(parseBackend(text, service), { address: '2001:db8::21', port: 80 })
  }
  const refused = refusal(() => parseBackend('192.0.2.21', service))
  t.is(refused?.message, "backend '192.0.2.21': is an IPv4 address and its service is IPv6")
  t.regex(refused?.mend ?? '', /real server's IPv6 address/)
})

test('a backend of several ports has none of its own', (t) => {
  t.deepEqual(parseBackend('192.0.2.21', parseService('tcp://192.0.2.10:*')), { address: '192.0.2.21', port: 0 })
  t.deepEqual(parseBackend('192.0.2.21', parseService('tcp://192.0.2.10:1-2')), { address: '192.0.2.21', port: 0 })
})

test('a backend has the port of its service, written or not', (t) => {
  fc.assert(
    fc.property(unicast, port, (address, port) => {
      assert.deepEqual(parseBackend(address, { port, lastPort: port }), { address, port })
      assert.deepEqual(parseBackend(`${address}:${port}`, { port, lastPort: port }), { address, port })
    }),
  )
  t.pass()
})

/** What is said and how it is mended, of whatever `parse` throws. */
const refusal = (parse: () => unknown): Refusal | undefined => {
  try {
    parse()
  } catch (error) {
    if (error instanceof Refusal) return error
    throw error
  }
  return undefined
}

const BAD_SERVICES: readonly (readonly [text: string, what: RegExp, mend: RegExp])[] = [
  ['', /not of the form PROTOCOL:\/\/VIP:PORT/, /write tcp:\/\/192\.0\.2\.10:80/],
  ['192.0.2.10:80', /not of the form/, /write tcp:/],
  ['tcp:192.0.2.10:80', /not of the form/, /write tcp:/],
  ['tcp://192.0.2.10:80/path', /not of the form/, /write tcp:/],
  ['sctp://192.0.2.10:80', /protocol 'sctp'/, /tcp or udp/],
  ['tcp://192.0.2.10', /has no port/, /write tcp:\/\/192\.0\.2\.10:80/],
  ['udp://192.0.2.10:', /has no port/, /write udp:\/\/192\.0\.2\.10:80/],
  ['tcp://192.0.2.10:80-80', /range 80-80 is of one port/, /write tcp:\/\/192\.0\.2\.10:80$/],
  ['udp://192.0.2.10:90-80', /range 90-80 runs backwards/, /write udp:\/\/192\.0\.2\.10:80-90$/],
  ['tcp://192.0.2.10:0-80', /port 0 is reserved/, /from 1 to 65535/],
  ['tcp://192.0.2.10:80-65536', /port 65536 exceeds 65535/, /from 1 to 65535/],
  ['tcp://192.0.2.10:80-', /'' is not a port number/, /from 1 to 65535/],
  ['tcp://192.0.2.10:-80', /'' is not a port number/, /from 1 to 65535/],
  ['tcp://192.0.2.10:80-90-99', /'90-99' is not a port number/, /from 1 to 65535/],
  ['tcp://192.0.2.10:80-*', /'\*' is not a port number/, /from 1 to 65535/],
  ['tcp://192.0.2.10:**', /'\*\*' is not a port number/, /from 1 to 65535/],
  ['tcp://192.0.2.10:http', /'http' is not a port number/, /from 1 to 65535/],
  ['tcp://192.0.2.10:8.0', /'8\.0' is not a port number/, /from 1 to 65535/],
  ['tcp://192.0.2.10:0', /port 0 is reserved/, /from 1 to 65535/],
  ['tcp://192.0.2.10:65536', /port 65536 exceeds 65535/, /from 1 to 65535/],
  ['tcp://2001:db8::1', /not of the form/, /write tcp:\/\/\[2001:db8::1\]:80/],
  ['tcp://[2001:db8::1]', /has no port/, /write tcp:\/\/\[2001:db8::1\]:80/],
  ['tcp://[192.0.2.10]:80', /not of the form/, /tcp:\/\/\[2001:db8::10\]:80/],
  ['tcp://[2001:db8::1:80', /not of the form/, /write tcp/],
  ['tcp://[2001:db8:::1]:80', /'2001:db8:::1' is not an IPv6 address/, /such as 2001:db8::10/],
  ['tcp://[fe80::1%eth0]:80', /'fe80::1%eth0' is not an IPv6 address/, /such as 2001:db8::10/],
  ['tcp://[::]:80', /unspecified/, /such as 2001:db8::10/],
  ['tcp://[::1]:80', /loopback/, /such as 2001:db8::10/],
  ['tcp://[ff02::1]:80', /multicast/, /such as 2001:db8::10/],
  ['tcp://[febf::1]:80', /link-local/, /such as 2001:db8::10/],
  ['tcp://[::ffff:192.0.2.1]:80', /IPv4-mapped/, /such as 2001:db8::10/],
  ['tcp://:80', /'' is neither an IPv4 nor an IPv6 address/, /unicast address such as 192\.0\.2\.10/],
  ['tcp://example.org:80', /'example\.org' is neither an IPv4 nor an IPv6 address/, /such as 192\.0\.2\.10/],
  [
    'tcp://192.0.2.010:80',
    /'192\.0\.2\.010' is neither an IPv4 nor an IPv6 address/,
    /unicast address such as 192\.0\.2\.10/,
  ],
  ['tcp://0.1.2.3:80', /0\.0\.0\.0\/8/, /unicast address such as 192\.0\.2\.10/],
  ['tcp://127.0.0.1:80', /loopback/, /unicast address such as 192\.0\.2\.10/],
  ['tcp://224.0.0.18:80', /multicast/, /unicast address such as 192\.0\.2\.10/],
  ['tcp://239.255.255.255:80', /multicast/, /unicast address such as 192\.0\.2\.10/],
  ['tcp://240.0.0.1:80', /reserved/, /unicast address such as 192\.0\.2\.10/],
  ['tcp://255.255.255.255:80', /broadcast/, /unicast address such as 192\.0\.2\.10/],
]

for (const [text, what, mend] of BAD_SERVICES) {
  test(`service '${text}' is refused with what is wrong and how to mend it`, (t) => {
    const refused = refusal(() => parseService(text))
    t.regex(refused?.message ?? '', what)
    t.true(refused?.message.includes(`'${text}'`), 'names where')
    t.regex(refused?.mend ?? '', mend)
    t.true(refused?.usage)
  })
}

const PORT_80 = { vip: '192.0.2.10', port: 80, lastPort: 80 }

const BAD_BACKENDS: readonly (readonly [text: string, what: RegExp, mend: RegExp])[] = [
  ['', /'' is neither an IPv4 nor an IPv6 address/, /unicast address such as 192\.0\.2\.10/],
  ['web1', /'web1' is neither an IPv4 nor an IPv6 address/, /unicast address such as 192\.0\.2\.10/],
  ['2001:db8::1', /is an IPv6 address and its service is IPv4/, /real server's IPv4 address/],
  ['[2001:db8::1]:80', /is an IPv6 address and its service is IPv4/, /real server's IPv4 address/],
  ['ff02::2', /is a multicast address/, /such as 2001:db8::10/],
  ['127.0.0.1', /loopback/, /unicast address such as 192\.0\.2\.10/],
  ['224.0.0.1:80', /multicast/, /unicast address such as 192\.0\.2\.10/],
  ['192.0.2.21:', /'' is not a port number/, /from 1 to 65535/],
  ['192.0.2.21:99999', /port 99999 exceeds 65535/, /from 1 to 65535/],
  ['192.0.2.21:*', /'\*' is no backend's port/, /leave the port out: 192\.0\.2\.21$/],
  ['192.0.2.21:8080', /port 8080 differs from the service's 80/, /leave the port out, .* listen on 80/],
]

for (const [text, what, mend] of BAD_BACKENDS) {
  test(`backend '${text}' of port 80 is refused with what is wrong and how to mend it`, (t) => {
    const refused = refusal(() => parseBackend(text, PORT_80))
    t.regex(refused?.message ?? '', what)
    t.true(refused?.message.startsWith(`backend '${text}'`), 'names where')
    t.regex(refused?.mend ?? '', mend)
    t.true(refused?.usage)
  })
}

test('an endpoint is read back from what was written of it', (t) => {
  fc.assert(
    fc.property(word.map(formatIpv4), port, (address, number) => {
      const endpoint = { address, port: number }
      assert.deepEqual(parseEndpoint('source', formatEndpoint(endpoint)), endpoint)
    }),
  )
  t.pass()
})

for (const [text, what] of [
  ['', /is not of the form ADDRESS:PORT/],
  ['198.51.100.7', /is not of the form ADDRESS:PORT/],
  ['198.51.100.300:80', /is not of the form ADDRESS:PORT/],
  ['198.51.100.7:80:80', /'80:80' is not a port number/],
  ['2001:db8::7:80', /is not of the form ADDRESS:PORT/],
  ['[2001:db8::7]', /is not of the form ADDRESS:PORT/],
  ['[198.51.100.7]:80', /is not of the form ADDRESS:PORT/],
  ['198.51.100.7:0', /port 0 is reserved/],
  ['198.51.100.7:65536', /port 65536 exceeds 65535/],
  ['198.51.100.7:http', /'http' is not a port number/],
] as const) {
  test(`endpoint '${text}' is refused`, (t) => {
    const refused = refusal(() => parseEndpoint('source', text))
    t.regex(refused?.message ?? '', what)
    t.true(refused?.message.startsWith(`source '${text}'`), 'names where')
    t.true(refused?.usage)
  })
}

test('a range of sources is an address, the bits of it that count, and perhaps a port', (t) => {
  const any = undefined
  const ipv4 = (address: number, mask: number, port?: number) => ({
    family: 'ipv4' as const,
    words: [swap32(address)],
    masks: [swap32(mask)],
    port,
  })
  t.deepEqual(parseSource('198.51.100.7'), ipv4(0xc6336407, 0xffffffff, any))
  t.deepEqual(parseSource('198.51.100.7/24'), ipv4(0xc6336400, 0xffffff00, any))
  t.deepEqual(parseSource('198.51.100.7/1'), ipv4(0x80000000, 0x80000000, any))
  t.deepEqual(parseSource('198.51.100.7/0'), ipv4(0, 0, any))
  t.deepEqual(parseSource('198.51.100.7/32:40000'), ipv4(0xc6336407, 0xffffffff, 40000))
  t.deepEqual(parseSource('198.51.100.7:40000'), ipv4(0xc6336407, 0xffffffff, 40000))
  const ipv6 = (words: number[], masks: number[], port?: number) => ({
    family: 'ipv6' as const,
    words: words.map(swap32),
    masks: masks.map(swap32),
    port,
  })
  const whole = [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff]
  t.deepEqual(parseSource('2001:db8::7'), ipv6([0x20010db8, 0, 0, 7], whole))
  t.deepEqual(parseSource('[2001:db8::7]'), ipv6([0x20010db8, 0, 0, 7], whole))
  t.deepEqual(parseSource('[2001:db8::7]:40000'), ipv6([0x20010db8, 0, 0, 7], whole, 40000))
  t.deepEqual(parseSource('2001:db8:ff::/35'), ipv6([0x20010db8, 0, 0, 0], [0xffffffff, 0xe0000000, 0, 0]))
  t.deepEqual(parseSource('[2001:db8::/32]:9'), ipv6([0x20010db8, 0, 0, 0], [0xffffffff, 0, 0, 0], 9))
  t.deepEqual(parseSource('::/0'), ipv6([0, 0, 0, 0], [0, 0, 0, 0]))
})

for (const [text, what] of [
  ['', /is not of the form ADDRESS\[\/PREFIX\]\[:PORT\]/],
  ['client', /is not of the form/],
  ['198.51.100/24', /is not of the form/],
  ['2001:db8::1/129', /'129' is no prefix length/],
  ['2001:db8:::/32', /is not of the form/],
  ['[2001:db8::]:http', /'http' is not a port number/],
  ['198.51.100.0/33', /'33' is no prefix length/],
  ['198.51.100.0/', /'' is no prefix length/],
  ['198.51.100.0/-1', /'-1' is no prefix length/],
  ['198.51.100.7:', /'' is not a port number/],
  ['198.51.100.7:70000', /port 70000 exceeds 65535/],
] as const) {
  test(`source '${text}' is refused`, (t) => {
    const refused = refusal(() => parseSource(text))
    t.regex(refused?.message ?? '', what)
    t.true(refused?.message.startsWith(`source '${text}'`), 'names where')
    t.true(refused?.usage)
  })
}

for (const [service, shown] of [
  ['tcp://192.0.2.10:*', '*'],
  ['udp://192.0.2.10:8000-8099', '8000-8099'],
] as const) {
  test(`a backend of ${service} is refused a port of its own`, (t) => {
    for (const text of ['192.0.2.21:80', '192.0.2.21:8000', '192.0.2.21:8000-8099', '192.0.2.21:*']) {
      const refused = refusal(() => parseBackend(text, parseService(service)))
      t.true(refused?.message.startsWith(`backend '${text}'`), refused?.message)
      t.true(refused?.usage)
    }
    const refused = refusal(() => parseBackend('192.0.2.21:8000', parseService(service)))
    t.true(refused?.message.includes(`has ports ${shown}, and direct server return keeps the packet's port`))
    t.is(refused?.mend, 'leave the port out: 192.0.2.21')
  })
}
