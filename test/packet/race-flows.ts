// SPDX-License-Identifier: Apache-2.0
// Flows for race.ts of which none shares a backend with another, of both families and of an IPv6 prefix; and if wanted such whose
// entries have the same check bits.
import { swap16, swap32 } from '../../src/core/address.ts'
import { hashAddress6, hashMix } from '../../src/core/hash.ts'
import { address6, type Family, formatAddress6, formatIpv4 } from '../../src/core/ip.ts'
import { FlowKey, PrefixFlow } from '../../src/dataplane/layout.gen.ts'
import type { Capacity } from '../../src/dataplane/memory.ts'
import { KITS, kitOf } from './families.ts'
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
  /** Its destination. */
  vip: string
  check: bigint
  /** Of its slot, and the one before. */
  backends: [number, number]
}

type Candidate = Omit<RaceFlow, 'backends'>

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
    yield { source, sourcePort, vip: KITS.ipv4.VIP, check: hashMix(key, seed) & CHECK_BITS }
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
    const source = formatAddress6({ high, low })
    yield { source, sourcePort, vip: KITS.ipv6.VIP, check: hashMix(sum, seed) & CHECK_BITS }
  }
}

/** All of one source and port, so that their destinations alone tell them apart: flow_locate_prefix6 of bpf/flow.h. */
function* ofPrefix6(random: Random, id: bigint, seed: bigint, alike: boolean): Generator<Candidate> {
  const { high } = address6(PREFIX6)
  const source = KITS.ipv6.CLIENT
  const sourcePort = 40000
  const key =
    (BigInt(swap16(sourcePort)) << BigInt(FlowKey.FLOW_PORT_SHIFT)) | (id << BigInt(FlowKey.FLOW_SERVICE_SHIFT))
  const first = hashMix(BigInt.asUintN(64, hashAddress6(address6(source), seed) + key), seed)
  for (;;) {
    const sum = alike ? unmix(alikeHash(random), seed) : word64(random)
    const low = unmix(BigInt.asUintN(64, sum - first - high), seed)
    yield { source, sourcePort, vip: formatAddress6({ high, low }), check: hashMix(sum, seed) & CHECK_BITS }
  }
}

const PREFIX6 = '2001:db8:5::'

/** Whose flows race, and in which table. */
export type RaceKind = Family | 'prefix6'

export interface Racing {
  family: Family
  /** At port 80. */
  service: string
  /** It goes by what the flows differ in. */
  scheduler: 'mh' | 'dh'
  /** A flow table of two buckets. */
  capacity: Partial<Capacity>
  candidates: typeof ofIpv4
}

export const RACING: Readonly<Record<RaceKind, Racing>> = {
  ipv4: {
    family: 'ipv4',
    service: `tcp://${KITS.ipv4.HOST}:80`,
    scheduler: 'mh',
    capacity: { flows: 8 },
    candidates: ofIpv4,
  },
  ipv6: {
    family: 'ipv6',
    service: `tcp://${KITS.ipv6.HOST}:80`,
    scheduler: 'mh',
    capacity: { flows6: 4 },
    candidates: ofIpv6,
  },
  prefix6: {
    family: 'ipv6',
    service: `tcp://[${PREFIX6}/64]:80`,
    scheduler: 'dh',
    capacity: { prefixFlows6: 8 },
    candidates: ofPrefix6,
  },
}

/** Where a flow may go: to the backend of its slot, or to the one before. The program itself says so, while it is alone. */
const backendsOf = (balancer: Balancer, tuple: Omit<Candidate, 'check'>): [number, number] => {
  const ask = (flags: number): number => {
    clearTable(balancer)
    new Uint8Array(balancer.plane.buffer('clients')).fill(0)
    return balancer.to(kitOf(tuple.source).tcpFrame({ ...tuple, flags })) ?? 0
  }
  return [ask(TCP.SYN), ask(TCP.ACK)]
}

/** Flows of which none shares a backend with another, before or after the ring's change. */
export const chooseFlows = (
  balancer: Balancer,
  { service, candidates }: Racing,
  count: number,
  alike: boolean,
): RaceFlow[] => {
  const record = balancer.live(service).service
  const seed = FLOW_SEED + (BigInt(swap16(80)) << 1n)
  const flows: RaceFlow[] = []
  const taken = new Set<number>()
  for (const candidate of candidates(makeRandom(0x5eed), BigInt(record.id), seed, alike)) {
    const backends = backendsOf(balancer, candidate)
    if (backends.some((backend) => taken.has(backend))) continue
    if (!alike && flows.some((flow) => flow.check === candidate.check)) continue
    for (const backend of backends) taken.add(backend)
    flows.push({ ...candidate, backends })
    if (flows.length === count) return flows
  }
  return flows
}
