// SPDX-License-Identifier: Apache-2.0
// Single ports, ranges and every port of few VIPs: each of 65,536 ports is looked up as a packet does it, and naively.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import { formatService, parseService, type ServiceAddress } from '../../src/core/address.ts'
import type { DesiredState } from '../../src/core/desired.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { addService } from '../../src/core/verbs.ts'
import { RunLimit } from '../../src/dataplane/layout.gen.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { occupants, reachService } from './directory.ts'
import { apply, makePlane, type Plane, runs, turn } from './plane.ts'
import { naivelyFound } from './ports.ts'

test.afterEach.always(turn)

const ROOM = { services: 512, backends: 64, flows: 64, flows6: 64 }
const VIPS = ['198.51.100.1', '198.51.100.2']

const add = (state: DesiredState, service: ServiceAddress): DesiredState => addService(state, service, {}, 1n)

/** Every service that is not refused, in this order. */
const addAll = (plane: Plane, services: readonly ServiceAddress[]): void =>
  apply(plane, () =>
    services.reduce<DesiredState>((state, service) => {
      try {
        return add(state, service)
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        return state
      }
    }, new Map()),
  )

const service = fc
  .record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    vip: fc.constantFrom(...VIPS),
    // Narrow ones often, so that there is room for many.
    first: fc.integer({ min: 1, max: 65534 }),
    more: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0) },
      { weight: 20, arbitrary: fc.integer({ min: 1, max: 300 }) },
      { weight: 1, arbitrary: fc.integer({ min: 1, max: 20000 }) },
    ),
    every: fc.nat(60).map((n) => n === 0),
  })
  .map(({ first, more, every, ...rest }): ServiceAddress => {
    if (every) return { ...rest, port: 0, lastPort: 65535 }
    return { ...rest, port: first, lastPort: Math.min(65535, first + more) }
  })

/** As many ranges as bare chance seldom makes, with single ports within them and beside, and every port. */
const MANY: readonly ServiceAddress[] = VIPS.flatMap((vip) =>
  (['tcp', 'udp'] as const).flatMap((protocol) => [
    { protocol, vip, port: 0, lastPort: 65535 },
    ...Array.from({ length: 16 }, (_, i) => ({
      protocol,
      vip,
      port: 4000 * i + 1,
      lastPort: 4000 * i + 1 + 240 * i + 1,
    })),
    ...Array.from({ length: 8 }, (_, i) => ({ protocol, vip, port: 4100 * i + 1, lastPort: 4100 * i + 1 })),
  ]),
)

/** Which service each port finds, by its name. */
const found = (plane: Plane, protocol: 'tcp' | 'udp', vip: string): (string | undefined)[] => {
  const names = new Map(occupants(plane.memory).map(({ name, record }) => [record, name]))
  return Array.from({ length: 65536 }, (_, port) =>
    names.get(reachService(plane.memory, { protocol, vip, port })?.record ?? -1),
  )
}

/** The same, port by port from what is configured: every port, then ranges over it, then single ports over them. */
const painted = (plane: Plane, protocol: 'tcp' | 'udp', vip: string): (string | undefined)[] => {
  const ports = new Array<string | undefined>(65536).fill(undefined)
  const own = [...readLive(plane.memory).desired.keys()]
    .map(parseService)
    .filter((each) => each.protocol === protocol && each.vip === vip)
  for (const kind of [
    ({ port }: ServiceAddress) => port === 0,
    ({ port, lastPort }: ServiceAddress) => port > 0 && port < lastPort,
    ({ port, lastPort }: ServiceAddress) => port === lastPort,
  ]) {
    for (const each of own.filter(kind)) ports.fill(formatService(each), each.port, each.lastPort + 1)
  }
  return ports
}

test.serial('every port finds its own service, else that of its range, else that of every port', (t) => {
  let ranges = 0
  fc.assert(
    fc.property(fc.array(service, { minLength: 20, maxLength: 160, size: 'max' }), (services) => {
      const plane = makePlane(ROOM)
      addAll(plane, services)
      ranges += [...readLive(plane.memory).services.keys()].filter((name) => name.includes('-')).length
      assert.deepEqual(found(plane, 'tcp', VIPS[0] ?? ''), painted(plane, 'tcp', VIPS[0] ?? ''))
      const names = [...readLive(plane.memory).services.keys()]
      for (const { protocol, vip, port, lastPort } of services) {
        for (const each of [port - 1, port, lastPort, lastPort + 1]) {
          const to = { protocol, vip, port: each & 0xffff }
          const reached = reachService(plane.memory, to)?.record
          const name = occupants(plane.memory).find(({ record }) => record === reached)?.name
          assert.equal(name, naivelyFound(names, to))
        }
      }
    }),
    { ...runs(7), examples: [[[]], [[...MANY]]] },
  )
  t.true(ranges > 40, `${ranges} ranges`)
})

for (const count of [1, 2, 3, 63, 64, 65, 255, 256]) {
  test.serial(`a VIP may have ${count} ranges, of two ports each with a gap before it`, (t) => {
    const plane = makePlane(ROOM)
    const [vip = ''] = VIPS
    const ranges = Array.from({ length: count }, (_, i): ServiceAddress => {
      const port = 3 * i + 2
      return { protocol: 'udp', vip, port, lastPort: port + 1 }
    })
    addAll(plane, ranges.toReversed())
    t.is(readLive(plane.memory).services.size, count)
    t.deepEqual(found(plane, 'udp', vip), painted(plane, 'udp', vip))
  })
}

test.serial('one range more than a run has room for is refused, with the reason', (t) => {
  const [vip = ''] = VIPS
  const range = (i: number): ServiceAddress => ({ protocol: 'tcp', vip, port: 2 * i + 1, lastPort: 2 * i + 2 })
  const full = Array.from({ length: RunLimit.RANGES_PER_RUN_MAX }, (_, i) => range(i)).reduce(add, new Map())
  const refused = t.throws(() => add(full, range(1000)), { instanceOf: Refusal })
  t.regex(refused.message, /257 ranges exceed 256/)
  t.is(add(full, { ...range(1000), protocol: 'udp' }).size, 257)
})
