// SPDX-License-Identifier: Apache-2.0
// What `xlb bench` measures of the packet path, beside the floors in the same run.
import { AF } from '../core/ip.ts'
import type { Persistence } from '../core/persistence.ts'
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
const EIGHT_MILLION = tcp('8 M flows', TCP_ACK, 2 ** 23)
const ERRORS: Traffic = { ...ONE, name: '1 flow, ICMP errors', errors: true }
const ERRORS_SOME: Traffic = { ...SOME, name: '64 K flows, ICMP errors', errors: true }
const TAGGED: Traffic = { ...ONE, name: '1 flow, two VLAN tags', tagged: true }
const NEW = tcp('new flows', TCP_SYN, 'new')
const OVER_100 = tcp('64 K flows, 100 services', TCP_ACK, 2 ** 16, 100)
const NEW_OVER_4000 = tcp('new flows to 4000 addresses', TCP_SYN, 'new', 4000)
const OVER_4000 = tcp('64 K flows, 4000 services', TCP_ACK, 2 ** 16, 4000)

const overIpv6 = (traffic: Traffic): Traffic => ({ ...traffic, family: 'ipv6' })

/** SYNs of the flows that the measured packets continue. */
const opening = (traffic: Traffic): NonNullable<Case['warm']> =>
  traffic.flows === 'new' ? [] : [{ traffic: { ...traffic, errors: false, flags: TCP_SYN }, packets: traffic.flows }]

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

/** @param prefix bits of a client's address by which clients are told from each other */
const persistingBy = (prefix: number): Persistence => ({
  seconds: 300,
  prefix,
  prefix6: 64,
  drain: 'keep',
  group: undefined,
})

export interface PacketPathOptions extends MeasureOptions {
  /** Frames of the veth measurement are left out. */
  withoutVeth?: boolean
  /** Rows to be left in, by what their names hold; the floors are in any case. */
  match?: RegExp
  /** The program of another build, of the same contract: each row is measured with it too, in the same run. */
  beside?: string
}

/** A row of the report, for one column: what is loaded, and what is sent. */
interface Row {
  program: string
  traffic: Traffic
  plane: Omit<PlaneOptions, 'programFile'>
  /** The flows that the packets continue are opened first. */
  opened?: boolean
  /** Absent: XDP_TX. */
  verdict?: number
  /** A round's, where as many as else would take a minute. */
  packets?: number
}

/** Every one of 1,000 backends is looked at for each new flow: some microseconds. */
const FEW_PACKETS = 2 ** 16
/** Of 8 M flows, half of them; all are cold. */
const MANY_PACKETS = 2 ** 22

const withPackets = (packets: number, rows: readonly Row[]): Row[] => rows.map((each) => ({ ...each, packets }))

const row = (program: string, plane: Partial<PlaneOptions>, traffics: readonly Traffic[], verdict?: number): Row[] =>
  traffics.map((traffic) => ({
    program,
    traffic,
    plane: { scheduler: 'mh', services: 1, backends: 4, ...(isIpv6(traffic) ? { family: 'ipv6' } : {}), ...plane },
    ...(verdict === undefined ? {} : { verdict }),
  }))

/** As row, of a tracked service whose flows are known. */
const tracked = (program: string, plane: Partial<PlaneOptions>, traffics: readonly Traffic[]): Row[] =>
  row(program, { scheduler: 'rr', ...plane }, traffics).map((each) => ({ ...each, opened: true }))

const redirected = (each: Row): Row => ({ ...each, verdict: XDP_REDIRECT })

const isIpv6 = ({ family }: Traffic): boolean => family === 'ipv6'

const ALL = [ONE, SOME, MANY, NEW]
const withPorts = (ports: NonNullable<PlaneOptions['ports']>, title: string): Row[] => [
  ...row(`hashed (mh), ${title}`, { ports }, [ONE]),
  ...tracked(`tracked (rr), ${title}`, { ports }, [ONE]),
]

const denying = (fallback: Verdict): Row[] =>
  row(
    `${fallback === 'deny' ? 'denied' : 'allowed'} source, 100,000 prefixes`,
    { filter: manyPrefixes(fallback) },
    [ONE, SOME],
    fallback === 'deny' ? XDP_DROP : undefined,
  )

/** In the order of the report. */
const rows = (): Row[] => [
  ...row('hashed (mh)', {}, ALL),
  ...tracked('tracked (rr)', {}, ALL),
  ...row('tracked (rr), SYN flood beyond the bound', { scheduler: 'rr', newFlows: 1000 }, [NEW]),
  ...row('hashed (mh)', { services: 100 }, [OVER_100]),
  ...row('hashed (mh), one of 100 services', { services: 100 }, [ONE]),
  ...row('hashed (mh)', { services: 4000 }, [OVER_4000]),
  ...row('hashed (mh), one of 4000 services', { services: 4000 }, [ONE]),
  ...withPorts('every', 'every port'),
  ...withPorts('ranges', 'one of 64 ranges'),
  ...row('IPv6, hashed (mh)', {}, ALL.map(overIpv6)),
  ...tracked('IPv6, tracked (rr)', {}, ALL.map(overIpv6)),
  // 16,777,216 entries, half of which are taken.
  ...withPackets(MANY_PACKETS, [
    ...tracked('tracked (rr), table of 16 M entries', { flows: 2 ** 24 }, [EIGHT_MILLION]),
    ...tracked('IPv6, tracked (rr), table of 16 M entries', { flows: 2 ** 24 }, [overIpv6(EIGHT_MILLION)]),
  ]),
  ...(['rr', 'wrr'] as const).flatMap((scheduler) =>
    [10, 1000].flatMap((backends) => row(`${scheduler}, ${backends} backends`, { scheduler, backends }, [NEW])),
  ),
  ...(['lc', 'wlc', 'sed', 'nq'] as const).flatMap((scheduler) => [
    ...row(`${scheduler}, 10 backends`, { scheduler, backends: 10 }, [NEW]),
    ...withPackets(FEW_PACKETS, row(`${scheduler}, 1000 backends`, { scheduler, backends: 1000 }, [NEW])),
  ]),
  ...(['mh', 'sh'] as const).flatMap((scheduler) =>
    [10, 1000].flatMap((backends) => row(`${scheduler}, ${backends} backends`, { scheduler, backends }, [NEW])),
  ),
  ...[10, 1000].flatMap((backends) =>
    row(`of a prefix (dh), ${backends} backends`, { scheduler: 'dh', backends, prefix: BENCH_PREFIX }, [
      NEW_OVER_4000,
      ONE,
    ]),
  ),
  ...(['lblc', 'lblcr'] as const).flatMap((scheduler) => [
    ...row(`of a prefix (${scheduler}), 10 backends`, { scheduler, backends: 10, prefix: BENCH_PREFIX }, [
      NEW_OVER_4000,
    ]),
    ...withPackets(
      FEW_PACKETS,
      row(`of a prefix (${scheduler}), 1000 backends`, { scheduler, backends: 1000, prefix: BENCH_PREFIX }, [
        NEW_OVER_4000,
      ]),
    ),
  ]),
  // Each client has a note of its own; or each of 256 networks has one, which their new flows find.
  ...tracked('persistent (rr)', { persistence: persistingBy(32), clients: 2 ** 18 }, [ONE, SOME]),
  ...row('persistent (rr)', { scheduler: 'rr', persistence: persistingBy(16) }, [NEW]),
  ...row('hashed (mh), an ICMP error', {}, [ERRORS, ERRORS_SOME]),
  ...tracked('tracked (rr), an ICMP error', {}, [ERRORS, ERRORS_SOME]),
  // Rewritten, and neither pushed nor popped: a test run does not put back where a frame begins.
  ...row('hashed (mh), to another VLAN', { vlan: 200 }, [TAGGED]),
  ...tracked('tracked (rr), to another VLAN', { vlan: 200 }, [TAGGED]),
  ...row('hashed (mh), to another interface', { elsewhere: true }, [ONE], XDP_REDIRECT),
  ...tracked('tracked (rr), to another interface', { elsewhere: true }, [ONE]).map(redirected),
  ...denying('deny'),
  ...denying('allow'),
  ...row('not for a VIP', { services: 4000, firstService: ELSEWHERE }, [ONE, MANY], XDP_PASS),
  ...row('IPv6, not for a VIP', { services: 4000, firstService: ELSEWHERE }, [overIpv6(ONE)], XDP_PASS),
  ...row('not for a VIP, beside a prefix', { scheduler: 'dh', prefix: '172.16.0.0/12' }, [ONE], XDP_PASS),
]

/** What two rows of hashed services may share: nothing is written but counters. */
const shareable = ({ plane, opened }: Row): boolean => opened !== true && plane.scheduler !== 'rr'

/** ns a packet of both paths and of the floors. */
export const measurePacketPath = async (native: Native, options: PacketPathOptions): Promise<Result[]> => {
  const { match, beside } = options
  const planes = new Map<string, BenchPlane>()
  let made = 0
  const planeOf = (wanted: Row, programFile: string | undefined): BenchPlane => {
    // Each with tables of its own: the flows of one row must not be in the way of another's.
    const key = shareable(wanted) ? JSON.stringify([wanted.plane, programFile]) : String(made++)
    const plane = planes.get(key) ?? makePlane(native, { ...wanted.plane, ...(programFile && { programFile }) })
    planes.set(key, plane)
    return plane
  }
  const caseOf = (wanted: Row, programFile: string | undefined): Case => ({
    program: programFile === undefined ? wanted.program : `${wanted.program} [beside]`,
    traffic: wanted.traffic,
    run: planeOf(wanted, programFile).program,
    ...(wanted.opened === true ? { warm: opening(wanted.traffic) } : {}),
    ...(wanted.verdict === undefined ? {} : { verdict: wanted.verdict }),
    ...(wanted.packets === undefined ? {} : { packets: wanted.packets }),
  })
  const floors = loadFloors(native, ALL)
  try {
    const chosen = rows().filter(({ program }) => match === undefined || match.test(program))
    const cases = chosen.flatMap((each) => [
      caseOf(each, undefined),
      ...(beside === undefined ? [] : [caseOf(each, beside)]),
    ])
    return await measure(native, [...floors.cases, ...cases], options)
  } finally {
    floors.close()
    for (const plane of planes.values()) plane.close()
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
