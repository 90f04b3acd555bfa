// SPDX-License-Identifier: Apache-2.0
// What `xlb bench` measures of the packet path, beside the floors in the same run.
import { AF } from '../core/ip.ts'
import { type Filter, PrefixCollector, type Verdict } from '../core/prefixes.ts'
import type { Native } from '../dataplane/native.ts'
import { BENCH_PREFIX, TCP_ACK, TCP_SYN, type Traffic } from './frames.ts'
import { type Case, loadFloors, type MeasureOptions, measure, type Result } from './harness.ts'
import { type BenchPlane, makePlane, type PlaneOptions } from './plane.ts'
import { measureVeth, type VethResult } from './veth.ts'

const tcp = (name: string, flags: number, flows: Traffic['flows'], services = 1): Traffic => ({
  name,
  protocol: 'tcp',
  flags,
  flows,
  services,
})

const ONE = tcp('1 flow', TCP_ACK, 1)
const SOME = tcp('64 K flows', TCP_ACK, 2 ** 16)
const MANY = tcp('1 M flows', TCP_ACK, 2 ** 20)
const TAGGED: Traffic = { ...ONE, name: '1 flow, two VLAN tags', tagged: true }
const NEW = tcp('new flows', TCP_SYN, 'new')
const OVER_100 = tcp('64 K flows, 100 services', TCP_ACK, 2 ** 16, 100)
const NEW_OVER_4000 = tcp('new flows to 4000 addresses', TCP_SYN, 'new', 4000)
const OVER_4000 = tcp('64 K flows, 4000 services', TCP_ACK, 2 ** 16, 4000)

const overIpv6 = (traffic: Traffic): Traffic => ({ ...traffic, family: 'ipv6' })

/** SYNs of the flows that the measured packets continue. */
const opening = (traffic: Traffic): NonNullable<Case['warm']> =>
  traffic.flows === 'new' ? [] : [{ traffic: { ...traffic, flags: TCP_SYN }, packets: traffic.flows }]

const XDP_DROP = 1
const XDP_PASS = 2
const XDP_REDIRECT = 4
/** A service that no bench frame is for. */
const ELSEWHERE = 60_000

/** Single addresses, every 40,000th of IPv4: what is asked for falls between them. */
const manyPrefixes = (fallback: Verdict): Filter => {
  const collector = new PrefixCollector()
  for (let i = 0; i < 100_000; i++) {
    collector.add(
      { family: AF.ipv4, words: [40_000 * i + 7, 0, 0, 0], bits: 32 },
      fallback === 'deny' ? 'allow' : 'deny',
    )
  }
  return { fallback, prefixes: collector.list() }
}

export interface PacketPathOptions extends MeasureOptions {
  /** Frames of the veth measurement are left out. */
  withoutVeth?: boolean
}

/** ns a packet of both paths and of the floors. */
export const measurePacketPath = async (native: Native, options: PacketPathOptions): Promise<Result[]> => {
  const planes: BenchPlane[] = []
  const make = (wanted: Omit<PlaneOptions, 'backends'> & Partial<PlaneOptions>): BenchPlane => {
    const plane = makePlane(native, { backends: 4, ...wanted })
    planes.push(plane)
    return plane
  }
  const floors = loadFloors(native, [ONE, SOME, MANY, NEW])
  try {
    const cases: Case[] = [...floors.cases]
    const hashed = make({ scheduler: 'mh', services: 1 })
    for (const traffic of [ONE, SOME, MANY, NEW]) cases.push({ program: 'hashed (mh)', traffic, run: hashed.program })
    // Each with a table of its own: the flows of one case must not be in the way of another's.
    for (const traffic of [ONE, SOME, MANY, NEW]) {
      const tracked = make({ scheduler: 'rr', services: 1 })
      cases.push({ program: 'tracked (rr)', traffic, run: tracked.program, warm: opening(traffic) })
    }
    const bounded = make({ scheduler: 'rr', services: 1, newFlows: 1000 })
    cases.push({ program: 'tracked (rr), SYN flood beyond the bound', traffic: NEW, run: bounded.program })
    for (const [traffic, services] of [
      [OVER_100, 100],
      [OVER_4000, 4000],
    ] as const) {
      const spread = make({ scheduler: 'mh', services })
      cases.push({ program: 'hashed (mh)', traffic, run: spread.program })
      cases.push({ program: `hashed (mh), one of ${services} services`, traffic: ONE, run: spread.program })
    }
    for (const ports of ['every', 'ranges'] as const) {
      const title = ports === 'every' ? 'every port' : 'one of 64 ranges'
      const many = make({ scheduler: 'mh', services: 1, ports })
      cases.push({ program: `hashed (mh), ${title}`, traffic: ONE, run: many.program })
      const tracked = make({ scheduler: 'rr', services: 1, ports })
      cases.push({ program: `tracked (rr), ${title}`, traffic: ONE, run: tracked.program, warm: opening(ONE) })
    }
    const hashed6 = make({ scheduler: 'mh', services: 1, family: 'ipv6' })
    for (const traffic of [ONE, SOME, MANY, NEW].map(overIpv6)) {
      cases.push({ program: 'IPv6, hashed (mh)', traffic, run: hashed6.program })
      const tracked = make({ scheduler: 'rr', services: 1, family: 'ipv6' })
      cases.push({ program: 'IPv6, tracked (rr)', traffic, run: tracked.program, warm: opening(traffic) })
    }
    // Rewritten, and neither pushed nor popped: a test run does not put back where a frame begins.
    const tagged = make({ scheduler: 'mh', services: 1, vlan: 200 })
    cases.push({ program: 'hashed (mh), to another VLAN', traffic: TAGGED, run: tagged.program })
    const taggedRr = make({ scheduler: 'rr', services: 1, vlan: 200 })
    cases.push({
      program: 'tracked (rr), to another VLAN',
      traffic: TAGGED,
      run: taggedRr.program,
      warm: opening(TAGGED),
    })
    const redirected = make({ scheduler: 'mh', services: 1, elsewhere: true })
    cases.push({
      program: 'hashed (mh), to another interface',
      traffic: ONE,
      run: redirected.program,
      verdict: XDP_REDIRECT,
    })
    for (const backends of [10, 1000]) {
      const ofPrefix = make({ scheduler: 'dh', services: 1, backends, prefix: BENCH_PREFIX })
      for (const traffic of [NEW_OVER_4000, ONE]) {
        cases.push({ program: `of a prefix (dh), ${backends} backends`, traffic, run: ofPrefix.program })
      }
    }
    for (const fallback of ['deny', 'allow'] as const) {
      const filtered = make({ scheduler: 'mh', services: 1, filter: manyPrefixes(fallback) })
      const says = fallback === 'deny' ? 'denied' : 'allowed'
      const verdict = fallback === 'deny' ? { verdict: XDP_DROP } : {}
      for (const traffic of [ONE, SOME]) {
        cases.push({ program: `${says} source, 100,000 prefixes`, traffic, run: filtered.program, ...verdict })
      }
    }
    const elsewhere = make({ scheduler: 'mh', services: 4000, firstService: ELSEWHERE })
    for (const traffic of [ONE, MANY]) {
      cases.push({ program: 'not for a VIP', traffic, run: elsewhere.program, verdict: XDP_PASS })
    }
    const elsewhere6 = make({ scheduler: 'mh', services: 4000, firstService: ELSEWHERE, family: 'ipv6' })
    cases.push({ program: 'IPv6, not for a VIP', traffic: overIpv6(ONE), run: elsewhere6.program, verdict: XDP_PASS })
    const beside = make({ scheduler: 'dh', services: 1, prefix: '172.16.0.0/12' })
    cases.push({ program: 'not for a VIP, beside a prefix', traffic: ONE, run: beside.program, verdict: XDP_PASS })
    return await measure(native, cases, options)
  } finally {
    floors.close()
    for (const plane of planes) plane.close()
  }
}

/** Mpps over a veth pair, beside a program that rewrites the MACs and does nothing else. */
export const measureLiveFrames = async (native: Native, signal?: AbortSignal): Promise<VethResult[]> => {
  const hashed = makePlane(native, { scheduler: 'mh', services: 1, backends: 4 })
  const tracked = makePlane(native, { scheduler: 'rr', services: 1, backends: 4 })
  try {
    return await measureVeth(
      native,
      [
        { program: 'hashed (mh)', run: hashed.program },
        { program: 'tracked (rr)', run: tracked.program },
      ],
      { traffic: SOME, ...(signal === undefined ? {} : { signal }) },
    )
  } finally {
    hashed.close()
    tracked.close()
  }
}
