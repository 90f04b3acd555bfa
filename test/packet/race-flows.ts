// SPDX-License-Identifier: Apache-2.0
// Flows for race.ts of which none shares a backend with another, of both families; and if wanted such whose entries have the same
// check bits.
import { swap16, swap32 } from '../../src/core/address.ts'
import { hashMix } from '../../src/core/hash.ts'
import { type Family, familyOf, formatAddress6, formatIpv4 } from '../../src/core/ip.ts'
import { FlowKey, PrefixFlow } from '../../src/dataplane/layout.gen.ts'
import { kitOf } from './families.ts'
import { clearTable } from './flowtable.ts'
import { TCP } from './frames.ts'
import type { Balancer } from './plane.ts'
import { makeRandom, type Random } from './random.ts'

export const FLOW_SEED = 0x0123456789abcdefn
const CHECK_BITS = 0xfffffn
const SHARED_CHECK = 0xabcden

export interface RaceFlow {
  source: string
  sourcePort: number
  check: bigint
  /** Of its slot, and the one before. */
  backends: [number, number]
}

type Candidate = Pick<RaceFlow, 'source' | 'sourcePort' | 'check'>

const inverse = (odd: bigint): bigint => {
  let found = odd
  for (let i = 0; i < 6; i++) found = BigInt.asUintN(64, found * (2n - odd * found))
  return found
}
const MULTIPLIER = inverse(0xffffffff9e3779b1n)

/** The word of which hashMix makes `hash`. */
const unmix = (hash: bigint, seed: bigint): bigint => {
  const mixed = BigInt.asUintN(64, hash * MULTIPLIER)
  return BigInt.asUintN(64, (mixed ^ (mixed >> 32n)) * inverse(seed) - seed)
}

const word64 = (random: Random): bigint => (BigInt(random.word()) << 32n) | BigInt(random.word())

const alikeHash = (random: Random): bigint => (word64(random) & ~CHECK_BITS) | SHARED_CHECK

/** A flow of IPv4 is a word: source and port in 48 bits, its service's id above. */
function* ofIpv4(random: Random, id: bigint, seed: bigint, alike: boolean): Generator<Candidate> {
  for (;;) {
    // Run backwards, a hash leads to a service's id by chance.
    const key = alike ? unmix(alikeHash(random), seed) : (word64(random) & 0xffffffffffffn) | (id << 48n)
    if (key >> 48n !== id) continue
    const source = formatIpv4(swap32(Number(key & 0xffffffffn)))
    const sourcePort = swap16(Number((key >> 32n) & 0xffffn))
    yield { source, sourcePort, check: hashMix(key, seed) & CHECK_BITS }
  }
}

/** Alike, they also have one port, so that their sources alone tell them apart: flow_locate6 of bpf/flow.h. */
function* ofIpv6(random: Random, id: bigint, seed: bigint, alike: boolean): Generator<Candidate> {
  for (;;) {
    const sourcePort = alike ? 40000 : random.below(65536)
    const low = word64(random)
    const key =
      (BigInt(swap16(sourcePort)) << BigInt(FlowKey.FLOW_PORT_SHIFT)) | (id << BigInt(FlowKey.FLOW_SERVICE_SHIFT))
    const sum = alike ? unmix(alikeHash(random), seed) : word64(random)
    const high = BigInt.asUintN(64, sum - key - hashMix(low, seed))
    if (Number(high & 0xffn) === PrefixFlow.PREFIX_FLOW) continue
    yield { source: formatAddress6({ high, low }), sourcePort, check: hashMix(sum, seed) & CHECK_BITS }
  }
}

const CANDIDATES: Readonly<Record<Family, typeof ofIpv4>> = { ipv4: ofIpv4, ipv6: ofIpv6 }

/** Where a flow may go: to the backend of its slot, or to the one before. The program itself says so, while it is alone. */
const backendsOf = (balancer: Balancer, tuple: { source: string; sourcePort: number }): [number, number] => {
  const ask = (flags: number): number => {
    clearTable(balancer)
    new Uint8Array(balancer.plane.buffer('clients')).fill(0)
    return balancer.to(kitOf(tuple.source).tcpFrame({ ...tuple, flags })) ?? 0
  }
  return [ask(TCP.SYN), ask(TCP.ACK)]
}

/** Flows of which none shares a backend with another, before or after the ring's change. @param service its name, at port 80 */
export const chooseFlows = (balancer: Balancer, service: string, count: number, alike: boolean): RaceFlow[] => {
  const { vip, service: record } = { vip: balancer.live(service).want.vip, service: balancer.live(service).service }
  const seed = FLOW_SEED + (BigInt(swap16(80)) << 1n)
  const flows: RaceFlow[] = []
  const taken = new Set<number>()
  for (const candidate of CANDIDATES[familyOf(vip)](makeRandom(0x5eed), BigInt(record.id), seed, alike)) {
    const backends = backendsOf(balancer, candidate)
    if (backends.some((backend) => taken.has(backend))) continue
    if (!alike && flows.some((flow) => flow.check === candidate.check)) continue
    for (const backend of backends) taken.add(backend)
    flows.push({ ...candidate, backends })
    if (flows.length === count) return flows
  }
  return flows
}
