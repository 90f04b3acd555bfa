// SPDX-License-Identifier: Apache-2.0
// Whom to ask what: a question for each address that should have one holder, and a target for each backend.
import { formatMac, isEveryPort } from '../../core/address.ts'
import type { Service } from '../../core/desired.ts'
import { familyOf, formatIpv4, parseIpv4 } from '../../core/ip.ts'
import { isPrefix, splitPrefix } from '../../core/prefix.ts'
import { type AskedPort, type AskedVip, SOURCES_MAX, sizesToTry, type Target } from '../../core/probe/target.ts'
import type { Segment } from '../segments.ts'
import type { NeighbourQuestion } from './exchange.ts'
import type { Host } from './host.ts'
import type { KnownBackend, Look } from './look.ts'
import type { Turn } from './turn.ts'

/** Discard (RFC 863): hardly anybody listens there, and who has the VIP refuses it. */
const PROOF_PORT = 9
const OWN_PORTS_MAX = 2

export interface Planned {
  backend: KnownBackend
  /** Where its neighbour question goes; undefined: it has none. */
  question: NeighbourQuestion | undefined
  target: Omit<Target, 'index'> | undefined
  /** Why nothing is sent to it. */
  unasked: string | undefined
  mtu: { egress: number; ingress: number } | undefined
}

/** Where a frame of a segment leaves: a VLAN's by the interface beneath it, with a tag. */
const parentOf = (look: Look, segment: Segment): Segment =>
  segment.vlan === undefined
    ? segment
    : (look.segments.find(({ slot, vlan }) => slot === segment.slot && vlan === undefined) ?? segment)

/** Who has this address, asked in this segment? */
const question = (
  look: Look,
  host: Host,
  segment: Segment,
  address: string,
  isExpected: boolean,
): NeighbourQuestion => {
  const parent = parentOf(look, segment)
  return {
    address,
    heardOn: [segment.ifindex, parent.ifindex],
    ifindex: parent.ifindex,
    mac: host.link(parent.ifindex)?.mac ?? '',
    asker: host.addressOf(segment.ifindex, familyOf(address), address),
    vlan: segment.vlan,
    isExpected,
  }
}

/** Devices that have no MAC have nobody to ask. */
const canAsk = (host: Host, { ifindex }: Segment): boolean => {
  const link = host.link(ifindex)
  return link?.up === true && link.mac !== ''
}

/** For each VIP the questions in all segments. A prefix is routed, and nobody has it. */
export const vipQuestions = (look: Look, host: Host, vips: Iterable<string>): Map<string, NeighbourQuestion[]> =>
  new Map(
    [...vips].map((vip) => [
      vip,
      isPrefix({ vip })
        ? []
        : look.segments
            .filter((segment) => canAsk(host, segment))
            .map((segment) => question(look, host, segment, vip, false)),
    ]),
  )

/** The segment that a backend's path leads to: that of its VLAN, if this host has a device in it. */
const segmentOf = (look: Look, slot: number, vlan: number | undefined): Segment | undefined => {
  const behind = look.segments.filter((segment) => segment.slot === slot)
  return behind.find((segment) => segment.vlan === vlan) ?? behind.find((segment) => segment.vlan === undefined)
}

/** Of a prefix, the first address that a host could have. */
const addressIn = (vip: string): string =>
  isPrefix({ vip }) ? formatIpv4(((parseIpv4(splitPrefix(vip).address) ?? 0) + 1) >>> 0) : vip

const portsOf = (services: readonly Service[], names: ReadonlyMap<Service, string>): AskedPort[] =>
  services.flatMap((service) =>
    service.port === service.lastPort && !isEveryPort(service)
      ? [{ service: names.get(service) ?? '', protocol: service.protocol, port: service.port }]
      : [],
  )

const askedVips = (
  backend: KnownBackend,
  names: ReadonlyMap<Service, string>,
  sources: readonly string[],
): AskedVip[] => {
  const byVip = new Map<string, Service[]>()
  for (const service of backend.services) {
    const services = byVip.get(service.vip)
    if (services === undefined) byVip.set(service.vip, [service])
    else services.push(service)
  }
  return [...byVip].map(([vip, services]) => {
    const ports = portsOf(services, names)
    const proofs = ports.some(({ protocol }) => protocol === 'tcp') ? [] : [PROOF_PORT]
    return { name: vip, vip: addressIn(vip), ports, proofs, sources }
  })
}

/** This host's addresses where clients come in, for a backend that is elsewhere. */
const elsewhereOf = (
  look: Look,
  host: Host,
  segment: Segment,
  backend: string,
): { address: string; ifindex: number }[] =>
  look.interfaces.flatMap(({ attached, ifindex }) => {
    const address = attached && ifindex !== segment.ifindex ? host.addressOf(ifindex, familyOf(backend)) : undefined
    return address === undefined ? [] : [{ address, ifindex }]
  })

/** As whom a backend is asked: from its own segment, then from where clients come in. */
const sourcesOf = (look: Look, host: Host, segment: Segment, own: string, elsewhere: Map<string, number>): string[] => {
  const others = elsewhereOf(look, host, segment, own).filter(({ address }) => address !== own)
  for (const { address, ifindex } of others) elsewhere.set(address, ifindex)
  return [own, ...others.map(({ address }) => address)].slice(0, SOURCES_MAX)
}

const mtuOf = (look: Look, host: Host, ifindexes: readonly number[]): { egress: number; ingress: number } => {
  const of = (ifindex: number) => host.link(ifindex)?.mtu ?? 0
  const egress = Math.min(...ifindexes.map(of))
  const attached = look.interfaces.filter((each) => each.attached)
  return {
    egress,
    ingress: Math.max(...attached.map(({ ifindex }) => of(ifindex)), attached.length === 0 ? egress : 0),
  }
}

const targetOf = (
  { address, vlan, mac }: { address: string; vlan: number | undefined; mac: bigint },
  asked: NeighbourQuestion,
  source: string,
  vips: readonly AskedVip[],
  largest: number,
): Omit<Target, 'index'> => {
  const tcp = vips.flatMap(({ ports }) => ports.filter(({ protocol }) => protocol === 'tcp').map(({ port }) => port))
  return {
    ifindex: asked.ifindex,
    hop: { source: asked.mac, destination: formatMac(mac), ...(vlan === undefined ? {} : { vlan }) },
    backend: address,
    source,
    vips,
    sizes: sizesToTry(largest, address),
    ownPorts: [...new Set(tcp)].slice(0, OWN_PORTS_MAX),
  }
}

const planOne = (
  look: Look,
  host: Host,
  backend: KnownBackend,
  names: ReadonlyMap<Service, string>,
  elsewhere: Map<string, number>,
): Planned => {
  const { path, address } = backend
  const none = { backend, question: undefined, target: undefined, unasked: undefined, mtu: undefined }
  if (path.kind === 'local') return none
  if (path.kind === 'unresolved') {
    const near = look.segments.find(({ ifindex }) => host.isOnLink([ifindex], address))
    return near === undefined ? none : { ...none, question: question(look, host, near, address, false) }
  }
  const segment = segmentOf(look, path.interfaceSlot, path.vlan)
  if (segment === undefined || !canAsk(host, segment)) {
    return { ...none, unasked: 'the interface that leads to it is gone or down' }
  }
  const asked = question(look, host, segment, address, true)
  const own = asked.asker
  if (own === undefined) {
    return { ...none, question: asked, unasked: `this host has no address of its own on ${segment.name} to ask by` }
  }
  const mtu = mtuOf(look, host, asked.heardOn)
  const vips = askedVips(backend, names, sourcesOf(look, host, segment, own, elsewhere))
  const target = targetOf(
    { address, vlan: path.vlan, mac: path.mac },
    asked,
    own,
    vips,
    Math.min(mtu.egress, mtu.ingress),
  )
  return { ...none, question: asked, mtu, target }
}

export interface PlannedTargets {
  planned: Planned[]
  /** Interfaces of sources in clients' networks. */
  elsewhere: Map<string, number>
  /** Backends that are not asked, because there are too many. */
  leftOut: number
}

/** @param most pairs of backend and VIP that are asked */
export const planTargets = async (turn: Turn, look: Look, host: Host, most: number): Promise<PlannedTargets> => {
  const names = new Map(look.services.map(({ name, service }) => [service, name]))
  const elsewhere = new Map<string, number>()
  const planned: Planned[] = []
  let pairs = 0
  for (const backend of look.backends) {
    pairs += new Set(backend.services.map(({ vip }) => vip)).size
    if (pairs > most) break
    planned.push(planOne(look, host, backend, names, elsewhere))
    await turn.yield()
  }
  return { planned, elsewhere, leftOut: look.backends.length - planned.length }
}
