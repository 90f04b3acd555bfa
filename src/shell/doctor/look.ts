// SPDX-License-Identifier: Apache-2.0
// What the instance itself knows, read under its lock and kept: the doctor asks the network without it.
import { existsSync } from 'node:fs'
import { formatMac, formatService, type ServiceAddress } from '../../core/address.ts'
import { isLeaving, isTracked, type Path, type Service } from '../../core/desired.ts'
import { PROBE_PORTS } from '../../core/probe/packets.ts'
import { existing } from '../../core/verbs.ts'
import { Connections } from '../../dataplane/connections.ts'
import { readReasons } from '../../dataplane/counters.ts'
import { Reason } from '../../dataplane/layout.gen.ts'
import type { Native } from '../../dataplane/native.ts'
import { type InstancePaths, linkPin } from '../instance.ts'
import type { AttachedInterface, EgressInterface } from '../interfaces.ts'
import { type Segment, vlansOn } from '../segments.ts'
import { reachedBy, type Session, withSession } from '../session.ts'

/** So many half-open connections are looked at: a flood leaves millions, which say the same. */
const HALF_OPEN_MAX = 20_000

/** One backend of the services that are looked at. */
export interface KnownBackend {
  address: string
  path: Path
  /** Those that are to send it flows, by what people say, and those that are not. */
  active: string[]
  inactive: string[]
  services: Service[]
}

export interface Look {
  interfaces: (AttachedInterface & { programId: number; programName: string | undefined })[]
  egress: EgressInterface[]
  /** Devices by which backends are reached, VLANs among them. */
  segments: Segment[]
  services: { name: string; service: Service }[]
  backends: KnownBackend[]
  dropsToSender: number
}

/** A connection that waits for its handshake: `SOURCE VIRTUAL DESTINATION`, each with its port. */
export type HalfOpen = ReadonlySet<string>

const programsOf = (
  native: Native,
  paths: InstancePaths,
  interfaces: readonly AttachedInterface[],
): Look['interfaces'] =>
  interfaces.map((each) => {
    const link = native.openLink(linkPin(paths.pins, each.ifindex))
    try {
      const { programId } = link.info
      return { ...each, programId, programName: native.programInfo(programId)?.name }
    } finally {
      link.close()
    }
  })

const backendsOf = (services: Look['services']): KnownBackend[] => {
  const found = new Map<string, KnownBackend>()
  for (const { name, service } of services) {
    for (const backend of service.backends) {
      if (isLeaving(backend)) continue
      const { address, path } = backend
      // The same address may be in several VLANs, and so be several hosts.
      const where = path.kind === 'link' ? `${path.interfaceSlot} ${path.vlan} ${formatMac(path.mac)}` : path.kind
      const key = `${address} ${where}`
      const known = found.get(key) ?? { address, path, active: [], inactive: [], services: [] }
      known.services.push(service)
      if (backend.admin === 'up' && backend.weight > 0) known.active.push(name)
      else known.inactive.push(name)
      found.set(key, known)
    }
  }
  return [...found.values()]
}

const lookAt = (session: Session, only: ServiceAddress | undefined): Look => {
  const { native, paths, plane, live } = session
  if (only !== undefined) existing(live.desired, only)
  const name = only === undefined ? undefined : formatService(only)
  const services = [...live.services.values()]
    .filter((each) => name === undefined || each.name === name)
    .map((each) => ({ name: each.name, service: each.want }))
  const reached = reachedBy(session)
  return {
    interfaces: programsOf(native, paths, session.interfaces),
    egress: session.egress,
    segments: [...reached, ...vlansOn(reached, native.netlink.interfaces())],
    services,
    backends: backendsOf(services),
    dropsToSender: Number(readReasons(plane)[Reason.DROP_TO_SENDER] ?? 0n),
  }
}

const halfOpenOf = ({ plane, live }: Session): HalfOpen => {
  const found = new Set<string>()
  for (const each of new Connections(plane, live.services.values(), { state: 'half-open' })) {
    if (found.size >= HALF_OPEN_MAX) break
    found.add(`${each.source} ${each.virtual} ${each.destination}`)
  }
  return found
}

/** @throws Refusal as withSession does, and for a service that does not exist; undefined: xlb is attached nowhere */
export const firstLook = (
  native: Native,
  paths: InstancePaths,
  only: ServiceAddress | undefined,
): { look: Look; halfOpen: HalfOpen } | undefined => {
  if (!existsSync(paths.pins)) return undefined
  return withSession(native, paths, (session) => ({ look: lookAt(session, only), halfOpen: halfOpenOf(session) }))
}

/** Connections of a service to a backend that are past their handshake. */
const settledOf = ({ plane, live }: Session, service: string, backend: string): number =>
  (['established', 'closing'] as const).reduce(
    (sum, state) => sum + new Connections(plane, live.services.values(), { service, backend, state }).count,
    0,
  )

/** Of all services that are looked at: one, or all there are. */
const establishedOf = ({ plane, live }: Session, { services }: Look): number => {
  const [one, other] = services
  const wanted = one !== undefined && other === undefined ? { service: one.name } : {}
  return new Connections(plane, live.services.values(), { ...wanted, state: 'established' }).count
}

export interface SecondLook {
  dropsToSender: number
  /** By service and backend, those that were half-open before too. */
  stuck: { service: string; backend: string; stuck: number; settled: number; example: string }[]
  settled: number
}

/** So many backends with stuck connections are told: of each the whole table is read. */
const STUCK_BACKENDS_MAX = 50

const portOf = (text: string): { address: string; port: number } => {
  const colon = text.lastIndexOf(':')
  return { address: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) }
}

/** A port by itself goes before a range, and a range before all ports. */
const serviceOf = (services: Look['services'], virtual: string, backend: string): string | undefined => {
  const { address, port } = portOf(virtual)
  const fitting = services.filter(
    ({ service }) =>
      service.protocol === 'tcp' &&
      service.port <= port &&
      port <= service.lastPort &&
      (service.vip === address || service.vip.includes('/')) &&
      service.backends.some((each) => each.address === backend),
  )
  fitting.sort((a, b) => a.service.lastPort - a.service.port - (b.service.lastPort - b.service.port))
  return fitting[0]?.name
}

/** Connections of one port of a VIP to one backend. */
interface Group {
  service: string
  backend: string
  stuck: number
  example: string
}

/** Undefined: they are of no service that is looked at. */
const groupOf = (
  services: Look['services'],
  virtual: string,
  destination: string,
  example: string,
): Group | undefined => {
  const backend = portOf(destination).address
  const service = serviceOf(services, virtual, backend)
  return service === undefined ? undefined : { service, backend, stuck: 0, example }
}

/** A probe of a doctor: one that a real server has sent back here. */
const isProbe = (source: string, ownAddresses: ReadonlySet<string>): boolean => {
  const { address, port } = portOf(source)
  return port >= PROBE_PORTS.first && ownAddresses.has(address)
}

/** @param before what was half-open at the first look */
export const secondLook = (
  native: Native,
  paths: InstancePaths,
  look: Look,
  before: HalfOpen,
): SecondLook | undefined => {
  if (!existsSync(paths.pins)) return undefined
  return withSession(native, paths, (session) => {
    const ownAddresses = new Set(native.netlink.addresses().map(({ address }) => address))
    const groups = new Map<string, Group | undefined>()
    for (const each of before.size === 0 ? [] : halfOpenOf(session)) {
      const [example = '', virtual = '', destination = ''] = each.split(' ')
      if (!before.has(each) || isProbe(example, ownAddresses)) continue
      const key = `${virtual} ${destination}`
      if (!groups.has(key)) groups.set(key, groupOf(look.services, virtual, destination, example))
      const group = groups.get(key)
      if (group !== undefined) group.stuck++
    }
    const told = [...groups.values()]
      .filter((group) => group !== undefined)
      .sort((a, b) => b.stuck - a.stuck)
      .slice(0, STUCK_BACKENDS_MAX)
    return {
      dropsToSender: Number(readReasons(session.plane)[Reason.DROP_TO_SENDER] ?? 0n),
      stuck: told.map((group) => ({ ...group, settled: settledOf(session, group.service, group.backend) })),
      settled: establishedOf(session, look),
    }
  })
}

/** Real servers by address, each with the VIPs that it has to have. @throws Refusal as withSession does */
export const serversToSetUp = (
  native: Native,
  paths: InstancePaths,
  only: ServiceAddress | undefined,
): { address: string; vips: string[] }[] =>
  withSession(native, paths, (session) => {
    const vips = new Map<string, Set<string>>()
    for (const { address, path, services } of lookAt(session, only).backends) {
      if (path.kind === 'local') continue
      const own = vips.get(address) ?? new Set()
      for (const { vip } of services) own.add(vip)
      vips.set(address, own)
    }
    return [...vips].map(([address, own]) => ({ address, vips: [...own] }))
  })

/** Services of TCP that keep flows, and those that keep none. */
export const byFlows = ({ services }: Look): { tracked: string[]; untracked: string[] } => {
  const tcp = services.filter(({ service }) => service.protocol === 'tcp')
  return {
    tracked: tcp.filter(({ service }) => isTracked(service)).map(({ name }) => name),
    untracked: tcp.filter(({ service }) => !isTracked(service)).map(({ name }) => name),
  }
}
