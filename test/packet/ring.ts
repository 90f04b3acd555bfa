// SPDX-License-Identifier: Apache-2.0
// Where the ring sends a tuple, computed from what was configured alone: src/core's hash and ring, not the maps.
import { swap16 } from '../../src/core/address.ts'
import { effectiveWeight, type HashInput, type Service } from '../../src/core/desired.ts'
import { expandSeed, hashMix, hashSlot } from '../../src/core/hash.ts'
import { addressOctets, type Family, familyOf } from '../../src/core/ip.ts'
import { defaultRingSize, maglevRing } from '../../src/core/maglev.ts'
import { RingSlot } from '../../src/dataplane/layout.gen.ts'
import { KITS } from './families.ts'
import type { Balancer } from './plane.ts'

export interface Tuple {
  source?: string
  sourcePort?: number
  destination?: string
}

/** A ring by itself: what each slot's backend is called, and which hash finds the slot. */
export interface Ring {
  family: Family
  slots: readonly (number | undefined)[]
  seed: bigint
  hash: HashInput
}

const NONE = RingSlot.SLOT_NONE

/** Backend numbers as plane.ts gives them: 198.51.100.7 is 7, and so is 2001:db8:be::7. */
export const numberOf = (address: string): number => {
  const octets = Buffer.from(addressOctets(address))
  return familyOf(address) === 'ipv4' ? octets.readUInt32BE(0) - 0xc6336400 : octets.readUInt16BE(14)
}

/** Both halves of an IPv6 address and a number below 2^64 more in one word (bpf/hash.h, hash_address6). */
const mixed6 = (address: string, more: bigint, seed: bigint): bigint => {
  const octets = Buffer.from(addressOctets(address))
  return hashMix(hashMix(octets.readBigUInt64LE(8), seed) + octets.readBigUInt64LE(0) + more, seed)
}

/** bpf/hash.h, hash_source6. */
const hashOf6 = (address: string, more: bigint, seed: bigint): bigint => {
  const octets = Buffer.from(addressOctets(address))
  const product = (octets.readBigUInt64LE(8) + seed) * ((octets.readBigUInt64LE(0) + seed) | 1n)
  const word = BigInt.asUintN(64, product + more * seed)
  return BigInt.asUintN(64, (word ^ (word >> 32n)) * 0xffffffff9e3779b1n)
}

/** By which a backend has its places in a ring, on every director. */
const identityOf = (address: string, port: number): bigint =>
  familyOf(address) === 'ipv4'
    ? BigInt(Buffer.from(addressOctets(address)).readUInt32BE(0)) * 65536n + BigInt(port)
    : mixed6(address, BigInt(port), 0x9e3779b97f4a7c15n)

export const ringOf = (service: Service): Ring => {
  const { backends } = service
  const size = service.ringSize === 0 ? defaultRingSize(Math.max(1, backends.length)) : service.ringSize
  const taken = maglevRing(
    backends.map((backend) => ({
      identity: identityOf(backend.address, backend.port),
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
  return {
    family: familyOf(service.vip),
    slots,
    seed: expandSeed(service.seed),
    hash: service.hash,
  }
}

/** bpf/ring.h, packet_hash: address, and port if wanted, in network order as a little-endian machine loads them. */
export const slotOf = (ring: Ring, tuple: Tuple): number => {
  const { CLIENT, VIP } = KITS[ring.family]
  const hashed = ring.hash === 'destination' ? (tuple.destination ?? VIP) : (tuple.source ?? CLIENT)
  const port = ring.hash === 'source-port' ? BigInt(swap16(tuple.sourcePort ?? 40000)) << 32n : 0n
  const hash =
    ring.family === 'ipv4'
      ? hashMix(BigInt(Buffer.from(addressOctets(hashed)).readUInt32LE(0)) | port, ring.seed)
      : hashOf6(hashed, port, ring.seed)
  return hashSlot(hash, ring.slots.length)
}

export const lookUp = (ring: Ring, tuple: Tuple): number | undefined => ring.slots[slotOf(ring, tuple)]

/** Of the service as it is configured now. */
export const ringBackend = (balancer: Balancer, service: string, tuple: Tuple): number | undefined => {
  const found = balancer.state.get(service)
  if (found === undefined) throw new Error(`${service} does not exist`)
  return lookUp(ringOf(found), tuple)
}
