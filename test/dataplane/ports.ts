// SPDX-License-Identifier: Apache-2.0
// Which service an address and a port is of, naively: every service is asked.
import { parseService } from '../../src/core/address.ts'
import type { To } from './directory.ts'

/** The first `bits` bits of an address, as a text. */
const firstBits = (address: string, bits: number): string =>
  address
    .split('.')
    .map((octet) => Number(octet).toString(2).padStart(8, '0'))
    .join('')
    .slice(0, bits)

/** The VIP of these services that an address belongs to: itself, or else the longest prefix that holds it. */
export const naiveVip = (names: Iterable<string>, address: string): string | undefined => {
  const vips = [...names].map((name) => parseService(name).vip)
  if (vips.includes(address)) return address
  const prefixes = vips.flatMap((vip) => {
    const [first = '', bits] = vip.split('/')
    return bits === undefined ? [] : [{ vip, bits: Number(bits), start: firstBits(first, Number(bits)) }]
  })
  return prefixes.filter(({ start, bits }) => firstBits(address, bits) === start).toSorted((a, b) => b.bits - a.bits)[0]
    ?.vip
}

/** The name of the service that a packet finds: of its port alone, else of a range, else of every port. */
export const naivelyFound = (names: Iterable<string>, to: To): string | undefined => {
  const services = [...names].map((name) => ({ name, ...parseService(name) }))
  const holding = services
    .filter(
      ({ vip, protocol, port, lastPort }) =>
        vip === to.vip && protocol === to.protocol && port <= to.port && to.port <= lastPort,
    )
    .toSorted((a, b) => a.lastPort - a.port - (b.lastPort - b.port))
  return (holding.find(({ port, lastPort }) => port === lastPort) ?? holding.find(({ port }) => port > 0) ?? holding[0])
    ?.name
}
