// SPDX-License-Identifier: Apache-2.0
// Where the ring sends a tuple, computed from what was configured alone: src/core's hash and ring, not the maps.
import { swap16, swap32 } from '../../src/core/address.ts'
import { effectiveWeight, type HashInput, type Service } from '../../src/core/desired.ts'
import { expandSeed, hashMix, hashSlot } from '../../src/core/hash.ts'
import { parseIpv4 } from '../../src/core/ip.ts'
import { defaultRingSize, maglevRing } from '../../src/core/maglev.ts'
import { RingSlot } from '../../src/dataplane/layout.gen.ts'
import { CLIENT, VIP } from './frames.ts'
import type { Balancer } from './plane.ts'

export interface Tuple {
  source?: string
  sourcePort?: number
  destination?: string
}

/** A ring by itself: what each slot's backend is called, and which hash finds the slot. */
export interface Ring {
  slots: readonly (number | undefined)[]
  seed: bigint
  hash: HashInput
}

const NONE = RingSlot.SLOT_NONE

/** Backend numbers as plane.ts gives them: 198.51.100.7 is 7. */
export const numberOf = (address: string): number => ((parseIpv4(address) ?? 0) - 0xc6336400) >>> 0

export const ringOf = (service: Service): Ring => {
  const { backends } = service
  const size = service.ringSize === 0 ? defaultRingSize(Math.max(1, backends.length)) : service.ringSize
  const taken = maglevRing(
    backends.map((backend) => ({
      identity: BigInt(parseIpv4(backend.address) ?? 0) * 65536n + BigInt(backend.port),
      weight: effectiveWeight(service, backend),
    })),
    size,
    service.seed,
    NONE,
  )
  const slots = Array.from(taken, (position) => {
    const backend = backends[position]
    return backend === undefined ? undefined : numberOf(backend.address)
  })
  return { slots, seed: expandSeed(service.seed), hash: service.hash }
}

/** bpf/schedule.h: address, and port if wanted, in network order as a little-endian machine loads them. */
export const slotOf = (ring: Ring, tuple: Tuple): number => {
  const hashed = ring.hash === 'destination' ? (tuple.destination ?? VIP) : (tuple.source ?? CLIENT)
  const address = BigInt(swap32(parseIpv4(hashed) ?? 0))
  const port = ring.hash === 'source-port' ? BigInt(swap16(tuple.sourcePort ?? 40000)) << 32n : 0n
  return hashSlot(hashMix(address | port, ring.seed), ring.slots.length)
}

export const lookUp = (ring: Ring, tuple: Tuple): number | undefined => ring.slots[slotOf(ring, tuple)]

/** Of the service as it is configured now. */
export const ringBackend = (balancer: Balancer, service: string, tuple: Tuple): number | undefined => {
  const found = balancer.state.get(service)
  if (found === undefined) throw new Error(`${service} does not exist`)
  return lookUp(ringOf(found), tuple)
}
