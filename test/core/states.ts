// SPDX-License-Identifier: Apache-2.0
// Random desired states, of few names and addresses, so that they meet.
import fc from 'fast-check'
import { backendPort, formatService, parseService, type ServiceAddress } from '../../src/core/address.ts'
import {
  type Backend,
  type DesiredState,
  FORWARDS,
  HASH_INPUTS,
  type Path,
  SCHEDULERS,
  type Service,
} from '../../src/core/desired.ts'
import { filter, sourceRate } from './filters.ts'

/** Single ports, ranges around, beside and between them of which some overlap, and every port. */
const PORTS = ['53', '80', '443', '50-60', '81-442', '60-100', '400-65535', '*'] as const

const addressesOf = (vips: readonly string[]): ServiceAddress[] =>
  vips.flatMap((vip) =>
    (['tcp', 'udp'] as const).flatMap((protocol) =>
      PORTS.map((ports) => parseService(`${protocol}://${vip}:${ports}`)),
    ),
  )

/** Services of prefixes, one within the other. In the directory the second has the number of a VIP: 198.51.100.2. */
const OF_PREFIXES = addressesOf(['198.51.100.0/28', '198.51.100.0/30'])

/** Services that a state may have: of each of three VIPs more than a bucket of the directory holds; and of two prefixes. */
export const ADDRESSES: readonly ServiceAddress[] = [
  ...addressesOf(['198.51.100.1', '198.51.100.2']),
  ...OF_PREFIXES,
  ...addressesOf(['198.51.100.3']),
]

/** Whether such a service may be, written down once more: what depends on the destination is for prefixes alone. */
export const isLawful = ({
  vip,
  scheduler,
  hash,
  ops,
}: Pick<Service, 'vip' | 'scheduler' | 'hash' | 'ops'>): boolean => {
  const byDestination = ['dh', 'lblc', 'lblcr'].includes(scheduler)
  if (byDestination !== (hash === 'destination')) return false
  // Those that go by load go by recorded flows, and with ops there are none.
  if (ops && ['lc', 'wlc', 'sed', 'nq', 'lblc', 'lblcr'].includes(scheduler)) return false
  return !byDestination || vip.includes('/')
}

/** Whether two services are ranges of one VIP and protocol with a port in common, written down once more. */
export const rangesOverlap = (a: ServiceAddress, b: ServiceAddress): boolean =>
  [a, b].every(({ port, lastPort }) => port > 0 && port < lastPort) &&
  a.vip === b.vip &&
  a.protocol === b.protocol &&
  a.port <= b.lastPort &&
  b.port <= a.lastPort

/** As every object is that xlb makes: what is compared strictly differs by its prototype too. */
const PLAIN = { noNullPrototype: true }

export const path: fc.Arbitrary<Path> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record(
      {
        kind: fc.constant('link' as const),
        mac: fc.bigInt({ min: 1n, max: 2n ** 48n - 1n }),
        interfaceSlot: fc.integer({ min: 0, max: 63 }),
      },
      PLAIN,
    ),
  },
  { weight: 1, arbitrary: fc.constant<Path>({ kind: 'local' }) },
  { weight: 1, arbitrary: fc.constant<Path>({ kind: 'unresolved', why: 'it does not answer' }) },
)

export const weight = fc.oneof(
  { weight: 1, arbitrary: fc.constant(0) },
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 5 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 65535 }) },
)

export const backendAddress = (host: number): string => `192.0.2.${host}`

const backendsOf = (service: ServiceAddress): fc.Arbitrary<Backend[]> =>
  fc.uniqueArray(
    fc.record<Backend>(
      {
        address: fc.integer({ min: 1, max: 8 }).map(backendAddress),
        port: fc.constant(backendPort(service)),
        weight,
        admin: fc.constantFrom('up' as const, 'up' as const, 'drain' as const, 'maint' as const),
        path,
      },
      PLAIN,
    ),
    { selector: ({ address }) => address, maxLength: 6 },
  )

/** Small primes make rings of a few slots; 0 is the default, 1,021 for up to 10 backends. All have room for 8. */
export const ringSize = fc.constantFrom(0, 11, 13, 31, 61, 127)

/** Few seeds, so that a change often keeps it. */
export const seed = fc.constantFrom(0n, 1n, 0x0123456789abcdefn, 2n ** 64n - 1n)

export const serviceAt = (address: ServiceAddress): fc.Arbitrary<Service> => anyServiceAt(address).filter(isLawful)

const plainServiceAt = (address: ServiceAddress): fc.Arbitrary<Service> =>
  fc.record<Service>(
    {
      protocol: fc.constant(address.protocol),
      vip: fc.constant(address.vip),
      port: fc.constant(address.port),
      lastPort: fc.constant(address.lastPort),
      scheduler: fc.constantFrom(...SCHEDULERS),
      forward: fc.constantFrom(...FORWARDS),
      hash: fc.constantFrom(...HASH_INPUTS),
      ringSize,
      seed,
      ops: address.protocol === 'udp' ? fc.boolean() : fc.constant(false),
      backends: backendsOf(address),
    },
    PLAIN,
  )

const anyServiceAt = (address: ServiceAddress): fc.Arbitrary<Service> =>
  fc.tuple(plainServiceAt(address), fc.option(filter), fc.option(sourceRate)).map(([service, list, rate]) => ({
    ...service,
    ...(list === null ? {} : { filter: list }),
    ...(rate === null ? {} : { sourceRate: rate }),
  }))

export const desiredState: fc.Arbitrary<DesiredState> = fc
  .subarray([...ADDRESSES], { maxLength: 9 })
  .map((addresses) => addresses.filter((each, i) => !addresses.slice(0, i).some((other) => rangesOverlap(each, other))))
  .chain((addresses) => fc.tuple(...addresses.map(serviceAt)))
  .map((services) => new Map(services.map((service) => [formatService(service), service])))
