// SPDX-License-Identifier: Apache-2.0
// The program's hash and ring are those of src/core: directors that share a VIP choose alike.
import test from 'ava'
import { type Family, formatAddress6, formatIpv4 } from '../../src/core/ip.ts'
import { FAMILIES } from './families.ts'
import { TCP } from './frames.ts'
import { type BackendSpec, Balancer, breathe } from './plane.ts'
import { makeRandom, type Random } from './random.ts'
import { lookUp, ringOf } from './ring.ts'

test.beforeEach(breathe)

const shared = new Balancer({ capacity: { backends: 8192 } })
test.after.always(() => shared.close())

for (const { family, HOST, tcpFrame, udpFrame } of FAMILIES) {
  /** Of all its bits. */
  const anyAddress: Record<Family, (random: Random) => string> = {
    ipv4: (random) => formatIpv4(random.word()),
    ipv6: (random) => {
      const word = () => (BigInt(random.word()) << 32n) | BigInt(random.word())
      return formatAddress6({ high: word(), low: word() })
    },
  }

  const TUPLES = 2000
  const WEIGHTED: Record<number, BackendSpec> = Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [i + 1, { weight: (i * 7) % 11 }]),
  )

  for (const scheduler of ['mh', 'sh'] as const) {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (const [name, options] of [
        ['a seed with bits in both halves', { seed: 0xfedcba9876543210n }],
        ['the seed 0', { seed: 0n }],
        ['the greatest seed', { seed: 2n ** 64n - 1n }],
        ['a small ring', { seed: 99n, ringSize: 31 }],
        ['a large ring', { seed: 99n, ringSize: 262139 }],
        [
          'the other hash input',
          { seed: 99n, hash: scheduler === 'mh' ? ('source' as const) : ('source-port' as const) },
        ],
      ] as const) {
        test.serial(
          `${family}: ${scheduler} over ${protocol}, with ${name}: the program chooses as src/core does`,
          (t) => {
            const balancer = shared.reset()
            const service = `${protocol}://${HOST}:80`
            balancer.add(service, { scheduler, ...options }, WEIGHTED)
            const wanted = balancer.state.get(service)
            if (wanted === undefined) throw new Error('unreachable')
            const ring = ringOf(wanted)
            const random = makeRandom(0xc0ffee)
            let wrong = 0
            for (let i = 0; i < TUPLES; i++) {
              const tuple = { source: anyAddress[family](random), sourcePort: random.below(65536) }
              const flags = random.below(2) === 0 ? TCP.SYN : TCP.ACK
              const frame = protocol === 'tcp' ? tcpFrame({ ...tuple, flags }) : udpFrame({ ...tuple, port: 80 })
              if (balancer.to(frame) !== lookUp(ring, tuple)) wrong++
            }
            t.is(wrong, 0)
          },
        )
      }
    }
  }
}
