// SPDX-License-Identifier: Apache-2.0
// The one road by which a verb changes the data plane: lock, read what is live, change the desired state, refresh what the
// kernel knows, plan, apply.
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { parseMac } from '../core/address.ts'
import type { DesiredState, Globals, Path } from '../core/desired.ts'
import { addressKey } from '../core/ip.ts'
import { withoutEnded } from '../core/leaving.ts'
import { withPaths } from '../core/paths.ts'
import { type Change, plan, sameGlobals } from '../core/plan.ts'
import { Refusal } from '../core/refusal.ts'
import { namesToCompare } from '../core/state-map.ts'
import { scanBackends } from '../dataplane/backend-records.ts'
import { countFlows } from '../dataplane/flows.ts'
import { liveAfter } from '../dataplane/follow.ts'
import type { KernelPlane } from '../dataplane/kernel.ts'
import { Root } from '../dataplane/layout.gen.ts'
import type { Native } from '../dataplane/native.ts'
import { type LiveState, readLive } from '../dataplane/reader.ts'
import { isNeeded } from '../dataplane/remaining.ts'
import { viewOf } from '../dataplane/views.ts'
import { applyChanges, type Replaced } from '../dataplane/writer.ts'
import { Egress } from './egress.ts'
import { attachedInstances, demandPrivilege, type InstancePaths } from './instance.ts'
import {
  type AttachedInterface,
  attachedInterfaces,
  type EgressInterface,
  egressInterfaces,
  refreshInterfaceMacs,
} from './interfaces.ts'
import { openPlaneAt, withLock } from './lock.ts'
import { type Manner, Neighbours } from './neighbours.ts'
import type { Reached } from './segments.ts'

export const random64 = (): bigint => randomBytes(8).readBigUInt64LE()

/** What a verb sees of an attached instance, under its lock. */
export interface Session {
  native: Native
  paths: InstancePaths
  plane: KernelPlane
  interfaces: AttachedInterface[]
  /** Without a program, but leading to backends. */
  egress: EgressInterface[]
  /** As of now: changeAll makes it what it has made of the maps. */
  live: LiveState
  /** How backends are looked for; absent: as a verb does that nobody watches after. */
  manner?: Manner
  /** What is wanted, with what a daemon knows of those services that may change; absent: nobody knows more than the maps. */
  overlay?: (have: DesiredState, want: DesiredState) => DesiredState
  /** Told of each commit, before anybody else may make the next. */
  committed?: (changed: Changed, replaced: Replaced | undefined) => void
}

/** The interfaces by which backends can be reached now. */
export const reachedBy = ({ interfaces, egress }: Pick<Session, 'interfaces' | 'egress'>): Reached[] => [
  ...interfaces.filter(({ attached }) => attached),
  ...egress.filter(({ fault }) => fault === undefined),
]

export const notAttached = (paths: InstancePaths): Refusal => {
  const others = attachedInstances()
  const instance = paths.name === 'default' ? '' : ` (instance ${paths.name})`
  return new Refusal(
    `xlb is not attached to any interface${instance}`,
    others.length > 0
      ? `xlb attach IFACE, or name an instance that is: --instance ${others.join(' | ')}`
      : 'attach it first: xlb attach IFACE',
  )
}

/**
 * Runs `action` on what is pinned, while nobody else changes it.
 * @throws Refusal where the instance is not attached, or its pins are of another version
 */
export const withSession = <T>(native: Native, paths: InstancePaths, action: (session: Session) => T): T => {
  demandPrivilege()
  if (!existsSync(paths.pins) && !existsSync(paths.leaving) && !existsSync(paths.building)) throw notAttached(paths)
  return withLock(native, paths, () => {
    if (!existsSync(paths.pins)) throw notAttached(paths)
    const plane = openPlaneAt(native, paths.pins)
    try {
      const interfaces = attachedInterfaces(native, paths.pins, plane)
      const egress = egressInterfaces(native, plane, interfaces)
      return action({ native, paths, plane, interfaces, egress, live: readLive(plane) })
    } finally {
      plane.close()
    }
  })
}

/** What a change may use to find backends. */
export interface Resolver {
  /** @throws Refusal as Neighbours.resolve does */
  resolve: (addresses: Iterable<string>) => Map<string, Path>
  /** Lets go of addresses that were asked for in vain, where no backend uses them. */
  release: (addresses: Iterable<string>) => void
}

/** What a verb makes of the state; what is left out stays. */
export interface Wanted {
  services?: (state: DesiredState, resolver: Resolver) => DesiredState
  /** Of what holds for all services. */
  globals?: (have: Globals) => Globals
  beforeCommit?: (() => void) | undefined
}

export interface Changed {
  services: Change[]
  /** Has something changed that holds for all services? */
  globals: boolean
}

/** changeAll, for verbs of services. @returns which were changed */
export const changeState = (
  session: Session,
  change: (state: DesiredState, resolver: Resolver) => DesiredState,
  beforeCommit?: () => void,
): Change[] => changeAll(session, { services: change, beforeCommit }).services

/**
 * Changes the desired state and makes the maps follow, in one commit. On the way it takes over what the kernel has learnt since
 * the last verb: other MACs of backends and of the attached interfaces.
 * @returns what was changed
 */
export const changeAll = (session: Session, { services, globals, beforeCommit }: Wanted): Changed => {
  const { native, plane, live, interfaces } = session
  const { egress, neighbours, resolver } = findersOf(session)
  const asked = services?.(live.desired, resolver) ?? live.desired
  const wantedForAll = globals?.(live.globals) ?? live.globals
  const forAll = !sameGlobals(live.globals, wantedForAll)
  const { outdated, leaving } = neighbours.outdated(plane, live)
  const wanted = leaving.size === 0 ? asked : withoutEnded(asked, leaving, needed(plane, live))
  const names = new Set([...outdated, ...namesToCompare(live.desired, wanted)])
  const led = withPaths(wanted, names, refreshedOnce(neighbours))
  const want = session.overlay?.(live.desired, led) ?? led
  const changes = plan(live.desired, want)
  const replaced = applyChanges(plane, live, changes, {
    nowMs: Date.now(),
    random: random64,
    ...(forAll ? { globals: wantedForAll } : {}),
    ...(beforeCommit === undefined ? {} : { beforeCommit }),
  })
  refreshInterfaceMacs(plane, interfaces, native.netlink.interfaces(), parseMac)
  viewOf(plane, 'root').setBigUint64(Root.offset.neighboursMs, BigInt(Date.now()), true)
  const changed = { services: changes, globals: forAll }
  if (changes.length > 0 || forAll) {
    session.live = replaced === undefined ? readLive(plane) : liveAfter(plane, live, replaced)
    session.committed?.(changed, replaced)
  }
  egress.giveBack(session.live)
  const gone = goneAddresses(changes)
  if (gone.size > 0) neighbours.release(unusedOf(plane, session.live, gone))
  return changed
}

/** What finds the ways to backends now. */
const findersOf = ({ native, plane, live, interfaces, manner }: Session) => {
  const egress = new Egress(native, plane, interfaces)
  egress.refresh()
  const working = interfaces.filter(({ attached }) => attached)
  const neighbours = new Neighbours(native, [...working, ...egress.reached], manner)
  const resolver: Resolver = {
    resolve: (addresses) => neighbours.resolve(addresses, (backend, link) => egress.allot(backend, link)),
    release: (addresses) => neighbours.release(unusedOf(plane, live, addresses)),
  }
  return { egress, neighbours, resolver }
}

/**
 * The way to one address, as far as the kernel knows it now; it is asked for what it does not know.
 * @throws Refusal as Neighbours.resolve does
 */
export const wayTo = (session: Session, address: string): Path => {
  const path = findersOf({ ...session, manner: { answerMs: 0 } })
    .resolver.resolve([address])
    .get(address)
  if (path === undefined) throw new Error(`unreachable: ${address} was asked for`)
  return path
}

/** Tells of each leaving backend whether it is still there for anybody. */
const needed = (plane: KernelPlane, live: LiveState): ((name: string, address: string) => boolean) => {
  const flows = countFlows(plane, plane.age())
  return (name, address) => {
    const service = live.services.get(name)
    const index = service?.backends.find(({ want }) => want.address === address)?.index
    return service !== undefined && index !== undefined && isNeeded(plane, flows, service, index)
  }
}

/** Neighbours.refreshed, asked once for each address and path: a restored file names the same backends in many services. */
const refreshedOnce = (neighbours: Neighbours): ((address: string, before: Path) => Path) => {
  const known = new Map<string, { before: Path; after: Path }>()
  return (address, before) => {
    const last = known.get(address)
    if (last?.before === before) return last.after
    const after = neighbours.refreshed(address, before)
    known.set(address, { before, after })
    return after
  }
}

/** Addresses that some service had and has no more. */
const goneAddresses = (changes: readonly Change[]): Set<string> => {
  const gone = new Set<string>()
  for (const change of changes) {
    if (change.kind === 'add') continue
    const kept = new Set(change.kind === 'change' ? change.want.backends.map(({ address }) => address) : [])
    for (const { address } of change.have.backends) if (!kept.has(address)) gone.add(address)
  }
  return gone
}

/** Of these addresses those that are no live service's backend. */
const unusedOf = (plane: KernelPlane, live: LiveState, addresses: Iterable<string>): Set<string> => {
  const unused = new Map([...addresses].map((address) => [addressKey(address), address]))
  scanBackends(plane, live, ({ address }) => {
    unused.delete(address)
  })
  return new Set(unused.values())
}
