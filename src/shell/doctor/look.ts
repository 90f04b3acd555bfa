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
import { ownProgram } from '../own-programs.ts'
import { hasCode } from '../programs.ts'
import { type Segment, vlansOn } from '../segments.ts'
import { reachedBy, type Session } from '../session.ts'
import type { Turn } from './turn.ts'

/** Which instance is looked at, and by which way: a command's process opens what is pinned, a daemon has it open. */
export interface Instance {
  native: Native
  paths: InstancePaths
  /** While nobody else changes the instance. */
  session: <T>(action: (session: Session) => T) => T
}

/** So many half-open connections are looked at: a flood leaves millions, which say the same. */
const HALF_OPEN_MAX = 20_000

/** For so long the instance's lock is held at a time where more is read than a look. */
const SESSION_MS = 50

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
  /** A program's name is null where this process may not ask for it. */
  interfaces: (AttachedInterface & { programId: number; programName: string | null | undefined })[]
  egress: EgressInterface[]
  /** Devices by which backends are reached, VLANs among them. */
  segments: Segment[]
  services: { name: string; service: Service }[]
  backends: KnownBackend[]
  dropsToSender: number
}

/** A connection that waits for its handshake: `SOURCE VIRTUAL DESTINATION`, each with its port. */
export type HalfOpen = ReadonlySet<string>

/** Null without CAP_SYS_ADMIN, by which programs are opened by their ids, where its pin does not tell either. */
const programNameOf = (
  native: Native,
  { pins }: InstancePaths,
  ifindex: number,
  id: number,
): string | null | undefined => {
  try {
    return native.programInfo(id)?.name
  } catch (error) {
    if (hasCode(error, 'EPERM')) return ownProgram(native, pins, ifindex)?.name ?? null
    throw error
  }
}

const programsOf = (
  native: Native,
  paths: InstancePaths,
  interfaces: readonly AttachedInterface[],
): Look['interfaces'] =>
  interfaces.map((each) => {
    const link = native.openLink(linkPin(paths.pins, each.ifindex))
    try {
      const { programId } = link.info
      return { ...each, programId, programName: programNameOf(native, paths, each.ifindex, programId) }
    } finally {
      link.close()
    }
  })

const backendsOf = async (turn: Turn, services: Look['services']): Promise<KnownBackend[]> => {
  const found = new Map<string, KnownBackend>()
  for (const { name, service } of services) {
    await turn.yield()
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

/** What is read under the lock. */
type Seen = Omit<Look, 'backends'>

const seenOf = (session: Session, only: ServiceAddress | undefined): Seen => {
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
    dropsToSender: Number(readReasons(plane)[Reason.DROP_TO_SENDER] ?? 0n),
  }
}

const halfOpenIn = ({ plane, live }: Session): Connections =>
  new Connections(plane, live.services.values(), { state: 'half-open' })

const wordsOf = async (turn: Turn, connections: Connections): Promise<HalfOpen> => {
  const found = new Set<string>()
  for (const each of connections) {
    if (found.size >= HALF_OPEN_MAX) break
    found.add(`${each.source} ${each.virtual} ${each.destination}`)
    await turn.yield()
  }
  return found
}

/** @throws Refusal as a session does, and for a service that does not exist; undefined: xlb is attached nowhere */
export const firstLook = async (
  turn: Turn,
  { paths, session: withSession }: Instance,
  only: ServiceAddress | undefined,
): Promise<{ look: Look; halfOpen: HalfOpen } | undefined> => {
  if (!existsSync(paths.pins)) return undefined
  const { seen, connections } = withSession((session) => ({
    seen: seenOf(session, only),
    connections: halfOpenIn(session),
  }))
  const look = { ...seen, backends: await backendsOf(turn, seen.services) }
  return { look, halfOpen: await wordsOf(turn, connections) }
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

/** Of connections that were half-open at the first look and are still, by whose they are, those with the most first. */
const stuckIn = async (turn: Turn, native: Native, look: Look, before: HalfOpen, now: HalfOpen): Promise<Group[]> => {
  const ownAddresses = new Set(native.netlink.addresses().map(({ address }) => address))
  const groups = new Map<string, Group | undefined>()
  for (const each of now) {
    await turn.yield()
    const [example = '', virtual = '', destination = ''] = each.split(' ')
    if (!before.has(each) || isProbe(example, ownAddresses)) continue
    const key = `${virtual} ${destination}`
    if (!groups.has(key)) groups.set(key, groupOf(look.services, virtual, destination, example))
    const group = groups.get(key)
    if (group !== undefined) group.stuck++
  }
  const found = [...groups.values()].filter((group) => group !== undefined)
  return found.sort((a, b) => b.stuck - a.stuck).slice(0, STUCK_BACKENDS_MAX)
}

/** Reads the table for each group, and lets others have the instance in between. */
const withSettled = async (
  turn: Turn,
  { session: withSession }: Instance,
  groups: readonly Group[],
): Promise<SecondLook['stuck']> => {
  const told: SecondLook['stuck'] = []
  while (told.length < groups.length) {
    withSession((session) => {
      const end = performance.now() + SESSION_MS
      for (const group of groups.slice(told.length)) {
        told.push({ ...group, settled: settledOf(session, group.service, group.backend) })
        if (performance.now() > end) break
      }
    })
    await turn.yield()
  }
  return told
}

/** @param before what was half-open at the first look */
export const secondLook = async (
  turn: Turn,
  instance: Instance,
  look: Look,
  before: HalfOpen,
): Promise<SecondLook | undefined> => {
  const { native, paths, session: withSession } = instance
  if (!existsSync(paths.pins)) return undefined
  const { connections, ...seen } = withSession((session) => ({
    dropsToSender: Number(readReasons(session.plane)[Reason.DROP_TO_SENDER] ?? 0n),
    settled: byFlows(look).tracked.length === 0 ? 0 : establishedOf(session, look),
    connections: before.size === 0 ? undefined : halfOpenIn(session),
  }))
  const now = connections === undefined ? new Set<string>() : await wordsOf(turn, connections)
  const stuck = await stuckIn(turn, native, look, before, now)
  return { ...seen, stuck: await withSettled(turn, instance, stuck) }
}

/** Real servers by address, each with the VIPs that it has to have. @throws Refusal as a session does */
export const serversToSetUp = async (
  turn: Turn,
  { session: withSession }: Instance,
  only: ServiceAddress | undefined,
): Promise<{ address: string; vips: string[] }[]> => {
  const { services: seen } = withSession((session) => seenOf(session, only))
  const vips = new Map<string, Set<string>>()
  for (const { address, path, services } of await backendsOf(turn, seen)) {
    if (path.kind === 'local') continue
    const own = vips.get(address) ?? new Set()
    for (const { vip } of services) own.add(vip)
    vips.set(address, own)
  }
  return [...vips].map(([address, own]) => ({ address, vips: [...own] }))
}

/** Services of TCP that keep flows, and those that keep none. */
export const byFlows = ({ services }: Look): { tracked: string[]; untracked: string[] } => {
  const tcp = services.filter(({ service }) => service.protocol === 'tcp')
  return {
    tracked: tcp.filter(({ service }) => isTracked(service)).map(({ name }) => name),
    untracked: tcp.filter(({ service }) => !isTracked(service)).map(({ name }) => name),
  }
}
