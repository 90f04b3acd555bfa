// SPDX-License-Identifier: Apache-2.0
// The one owner of an instance while a daemon runs: it makes the maps what the configuration, and whoever asked for a change since, want
// them to be, and keeps them so.
import { existsSync } from 'node:fs'
import { plural } from '../commands/text.ts'
import { type Config, readConfig } from '../config/read.ts'
import { vipOf } from '../core/address.ts'
import { type Happening, happenings } from '../core/backend-state.ts'
import { type DesiredState, type Globals, isLeaving, type Path, withPaths } from '../core/desired.ts'
import { type AddressKey, AF, addressKey } from '../core/ip.ts'
import { mergeFaults, mergeGlobals, mergeState, mergeTimeouts, runtimeChanges, withChanges } from '../core/merge.ts'
import { isUsable } from '../core/neighbour.ts'
import type { Change } from '../core/plan.ts'
import { isPrefix } from '../core/prefix.ts'
import type { AttachMode } from '../core/preflight-facts.ts'
import { Refusal } from '../core/refusal.ts'
import { explainSharedMac, sharedMacs } from '../core/shared-macs.ts'
import { namesToCompare } from '../core/state-map.ts'
import { scanBackends } from '../dataplane/backend-records.ts'
import { type Edit, Guard } from '../dataplane/guard.ts'
import type { KernelPlane } from '../dataplane/kernel.ts'
import { BackendFlag, Settings } from '../dataplane/layout.gen.ts'
import type { Native } from '../dataplane/native.ts'
import { type LiveState, readLive } from '../dataplane/reader.ts'
import { readTimeouts, writeTimeouts } from '../dataplane/timeouts.ts'
import { viewOf } from '../dataplane/views.ts'
import type { Replaced } from '../dataplane/writer.ts'
import { attach, detach } from '../shell/attach.ts'
import type { InstancePaths } from '../shell/instance.ts'
import { attachedInterfaces, egressInterfaces } from '../shell/interfaces.ts'
import { DEFAULT_NEW_FLOWS, newFlowsPerAge, newFlowsPerSecond } from '../shell/load.ts'
import { openPlaneAt, withLock } from '../shell/lock.ts'
import type { Manner } from '../shell/neighbours.ts'
import { type Changed, changeAll, notAttached, type Resolver, random64, type Session, wayTo } from '../shell/session.ts'
import { EventLog } from './event-log.ts'
import { type Changes, StateStore, type Wish } from './state-store.ts'

/** What is open of a pinned instance. */
interface Open {
  plane: KernelPlane
  live: LiveState
  guard: Guard
}

/** Why a backend cannot be reached, and since when. */
export interface Unreached {
  why: string
  sinceMs: number
}

export interface ControllerOptions {
  native: Native
  paths: InstancePaths
  /** The configuration file. */
  file: string
  environment: NodeJS.ProcessEnv
  tell: (happening: Happening) => void
  /** Hears of each configuration that is in force from now on. */
  configured?: (config: Config) => void
  nowMs?: () => number
}

/** How the last reload went. */
export interface Reloaded {
  at: number
  error?: string
  /** When one was last applied; 0: never. */
  succeededAt: number
  /** That the last one took, applied or not. */
  tookMs: number
}

const UNASKED: Path = { kind: 'unresolved', why: 'not asked yet' }

/** What follows a change is remembered after the answer to whoever asked for it. */
const REMEMBER_AFTER_MS = 20

export class Controller {
  readonly events = new EventLog()
  readonly paths: InstancePaths
  readonly file: string
  /** Of backends that cannot be reached now, by address. */
  readonly unreached = new Map<string, Unreached>()
  reloaded: Reloaded = { at: 0, succeededAt: 0, tookMs: 0 }
  readonly #native: Native
  readonly #environment: NodeJS.ProcessEnv
  readonly #tell: (happening: Happening) => void
  readonly #configured: (config: Config) => void
  readonly #nowMs: () => number
  readonly #store: StateStore
  #open: Open | undefined
  /** The configuration as it was last loaded. */
  #loaded: Wish | undefined
  #capacity: Config['capacity'] = {}
  /** Interfaces that shall be attached, and how. */
  readonly #interfaces = new Map<string, AttachMode>()
  /** Of those that are not, why. */
  readonly missing = new Map<string, string>()
  /** Services of which something may differ from what was loaded; undefined: any. */
  #touched: Set<string> | undefined
  #remembering: NodeJS.Timeout | undefined
  /** Who asks for what is being done, for events. */
  #reason = ''

  constructor(options: ControllerOptions) {
    this.#native = options.native
    this.paths = options.paths
    this.file = options.file
    this.#environment = options.environment
    this.#configured = options.configured ?? (() => {})
    this.#nowMs = options.nowMs ?? Date.now
    this.#tell = (happening) => {
      this.events.tell(happening)
      options.tell(happening)
    }
    this.#store = new StateStore(options.paths.state)
  }

  /** Whatever is done within is told of with this reason. */
  because<T>(reason: string, action: () => T): T {
    const before = this.#reason
    this.#reason = reason
    try {
      return action()
    } finally {
      this.#reason = before
    }
  }

  // ---- the way to the maps

  /** withSession (src/shell/session.ts), on what is open. @throws Refusal where no interface is attached yet */
  session<T>(action: (session: Session) => T, manner: Manner = { answerMs: 0, watched: true, followed: true }): T {
    return withLock(this.#native, this.paths, () => {
      const open = this.#opened()
      if (open === undefined) throw this.#notYet()
      const { plane } = open
      const interfaces = attachedInterfaces(this.#native, this.paths.pins, plane)
      const session: Session = {
        native: this.#native,
        paths: this.paths,
        plane,
        interfaces,
        egress: egressInterfaces(this.#native, plane, interfaces),
        live: open.live,
        manner,
        committed: (changed, replaced) => this.#committed(open, session.live, changed, replaced),
      }
      this.#tellEdits(open.guard.undoInterfaces())
      const timeouts = JSON.stringify(readTimeouts(plane))
      const result = action(session)
      open.guard.takeInterfaces()
      if (JSON.stringify(readTimeouts(plane)) !== timeouts) this.#remember()
      return result
    })
  }

  #notYet(): Refusal {
    const waiting = [...this.missing].map(([name, why]) => `${name}: ${why}`)
    if (waiting.length === 0) return notAttached(this.paths)
    return new Refusal(`xlb is not attached to any interface yet: ${waiting.join('; ')}`, 'see: xlb status')
  }

  /** Is there anything that session() could open? */
  get isAttached(): boolean {
    return existsSync(this.paths.pins)
  }

  /** What is pinned, opened; what was open of an instance that is no more is closed. */
  #opened(): Open | undefined {
    if (!existsSync(this.paths.pins)) {
      this.#close()
      return undefined
    }
    if (this.#open === undefined) {
      const plane = openPlaneAt(this.#native, this.paths.pins)
      const live = readLive(plane)
      this.#open = { plane, live, guard: new Guard(plane, live) }
    }
    return this.#open
  }

  #close(): void {
    this.#open?.plane.close()
    this.#open = undefined
  }

  #committed(open: Open, live: LiveState, { services, globals }: Changed, replaced: Replaced | undefined): void {
    open.live = live
    const names = services.map(({ name }) => name)
    // What holds for all services is marked in the records of each.
    if (replaced !== undefined) open.guard.takeRecord(live, replaced.name)
    else open.guard.take(live, globals ? undefined : names)
    // The next change need not wait for packets that came before this one.
    setImmediate(() => this.#open?.plane.waitForPrograms())
    for (const name of names) this.#touched?.add(name)
    const silentSince = (address: string) => {
      const known = this.unreached.get(address)
      return known === undefined ? undefined : new Date(known.sinceMs).toISOString()
    }
    for (const happening of happenings(services, this.#reason, silentSince)) this.#tell(happening)
    this.#noteSilent(services)
    if (globals) this.#tell({ kind: 'configuration', subject: 'all services', to: 'changed', reason: this.#reason })
    this.#remember()
  }

  /** Of backends that answered and do not any more, the reason is known here and in no map. */
  #noteSilent(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind !== 'change') continue
      const before = new Map(change.have.backends.map(({ address, path }) => [address, path.kind]))
      for (const { address, path } of change.want.backends) {
        if (path.kind !== 'unresolved' || before.get(address) !== 'link') continue
        this.unreached.set(address, { why: path.why, sinceMs: this.#nowMs() })
      }
    }
  }

  // ---- what is remembered

  #remember(): void {
    this.#remembering ??= setTimeout(() => {
      this.#remembering = undefined
      this.rememberNow()
    }, REMEMBER_AFTER_MS)
  }

  /** @returns what is remembered */
  rememberNow(): Changes | undefined {
    const changes = this.changes()
    if (changes !== undefined) this.#store.writeChanges(changes)
    return changes
  }

  /** Services that may differ from the file that was loaded just now; undefined: any. Of a restart nobody knows which. */
  #touchedBy(base: Wish | undefined, { services }: Changed): Set<string> | undefined {
    if (base === undefined || this.#loaded === undefined || this.#touched === undefined) return undefined
    const edited = runtimeChanges(base.services, this.#loaded.services).keys()
    return new Set([...this.#touched, ...edited, ...services.map(({ name }) => name)])
  }

  /** What was changed since the configuration was loaded; undefined: nothing is attached, or was loaded. */
  changes(): Changes | undefined {
    const [open, loaded] = [this.#open, this.#loaded]
    if (open === undefined || loaded === undefined) return undefined
    const { services: _, ...base } = loaded
    return {
      services: runtimeChanges(loaded.services, open.live.desired, this.#touched),
      base,
      have: { ...this.#forAll(open), interfaces: this.interfaces },
    }
  }

  #forAll({ plane, live }: Open) {
    return {
      newFlows: newFlowsPerSecond(live.globals.newFlows, Settings.read(viewOf(plane, 'settings'), 0)),
      filter: live.globals.filter,
      timeouts: readTimeouts(plane),
    }
  }

  // ---- interfaces

  /** Those that shall be attached. */
  get interfaces(): Config['interfaces'] {
    return [...this.#interfaces].map(([name, mode]) => ({ name, mode }))
  }

  /** From now on it shall be attached; whoever says so has attached it. */
  addInterface(name: string, mode: AttachMode): void {
    this.#interfaces.set(name, mode)
    this.missing.delete(name)
    this.#open?.guard.takeInterfaces()
    this.#remember()
  }

  removeInterface(name: string): void {
    this.#interfaces.delete(name)
    this.missing.delete(name)
    this.#open?.guard.takeInterfaces()
    this.#remember()
  }

  /** Attaches whatever shall be attached and is not. */
  attachMissing(): void {
    const present = new Map(
      existsSync(this.paths.pins)
        ? this.session(({ interfaces }) =>
            interfaces.map((each): [string, string | undefined] => [each.name, each.fault]),
          )
        : [],
    )
    for (const [name, mode] of this.#interfaces) {
      const isThere = present.has(name) && present.get(name) === undefined
      if (isThere) {
        if (this.missing.delete(name))
          this.#tell({ kind: 'interface', subject: name, to: 'attached', reason: 'it is there' })
        continue
      }
      const fault = present.get(name)
      const exists = this.#native.netlink.interfaces().some((each) => each.name === name)
      if (!exists) this.#isMissing(name, fault ?? `${name} does not exist`)
      else this.#attach(name, mode, fault)
    }
  }

  #isMissing(name: string, why: string): void {
    if (this.missing.get(name) === why) return
    this.missing.set(name, why)
    this.#tell({ kind: 'interface', subject: name, to: 'missing', reason: why })
  }

  #attach(name: string, mode: AttachMode, fault: string | undefined): void {
    const first = !existsSync(this.paths.pins)
    try {
      const {
        warnings,
        mode: got,
        reason,
      } = attach(this.#native, this.paths, {
        interfaceName: name,
        mode,
        capacity: first ? this.#capacity : {},
      })
      this.#open?.guard.takeInterfaces()
      this.missing.delete(name)
      for (const { what, why } of warnings) {
        this.#tell({ kind: 'interface', subject: name, to: 'warning', reason: `${what}: ${why}` })
      }
      const cause = fault === undefined ? reason : `${fault}; ${reason}`
      this.#tell({ kind: 'interface', subject: name, to: `attached (${got})`, reason: cause })
    } catch (error) {
      if (!(error instanceof Error)) throw error
      this.#isMissing(name, error.message)
    }
  }

  // ---- the configuration

  /**
   * At the start: attaches or adopts, and makes of what is there what the file says; what was changed since the file was last loaded stays.
   * @throws FaultyConfig, Refusal: nothing was changed then
   */
  start(): void {
    const config = readConfig(this.file, this.#environment)
    this.#configured(config)
    const kept = this.#kept()
    this.#capacity = config.capacity
    this.#loaded = kept.loaded
    for (const { name, mode } of kept.interfaces(config)) this.#interfaces.set(name, mode)
    const adopted = existsSync(this.paths.pins)
    this.because(adopted ? 'adopted what was pinned' : 'the daemon starts', () => {
      this.attachMissing()
      if (!existsSync(this.paths.pins)) {
        // No interface is there yet: what shall be is made when the first comes.
        this.#waiting = config
        return
      }
      this.#load(config, adopted ? undefined : kept.changes)
    })
  }

  /** Of a start without any interface what shall be loaded when one comes. */
  #waiting: Config | undefined

  /** What the state directory says; where it is broken that is told, and the file alone counts. */
  #kept() {
    let loaded: Wish | undefined
    let changes: Changes | undefined
    try {
      loaded = this.#store.readLoaded()
      changes = this.#store.readChanges()
    } catch (error) {
      const reason = `${error instanceof Error ? error.message.split('\n')[0] : error}; the configuration file alone counts`
      this.#tell({ kind: 'configuration', subject: this.paths.state, to: 'unreadable', reason })
      loaded = undefined
    }
    const interfaces = ({ interfaces: asked }: Config): Config['interfaces'] =>
      loaded === undefined || changes === undefined
        ? asked
        : mergeInterfaces(loaded.interfaces, asked, changes.have.interfaces)
    return { loaded, changes, interfaces }
  }

  /**
   * Reads the file again and applies what it says otherwise than before.
   * @throws FaultyConfig, Refusal: nothing was changed then
   */
  reload(): Changed {
    const startedMs = this.#nowMs()
    try {
      const config = readConfig(this.file, this.#environment, { aside: '; nothing was changed' })
      const changed = this.because(`reload of ${this.file}`, () => this.#apply(config))
      this.#reloadedSince(startedMs)
      this.#configured(config)
      return changed
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      this.#reloadedSince(startedMs, reason)
      this.#tell({ kind: 'configuration', subject: this.file, to: 'refused', reason })
      throw error
    }
  }

  #apply(config: Config): Changed {
    const before = new Map(this.#interfaces)
    const asked = mergeInterfaces(this.#loaded?.interfaces ?? [], config.interfaces, this.interfaces)
    this.#interfaces.clear()
    for (const { name, mode } of asked) this.#interfaces.set(name, mode)
    this.#capacity = config.capacity
    try {
      this.attachMissing()
      const changed = existsSync(this.paths.pins) ? this.#load(config, undefined) : this.#wait(config)
      for (const name of before.keys()) if (!this.#interfaces.has(name)) this.#detach(name)
      return changed
    } catch (error) {
      for (const name of this.#interfaces.keys()) if (!before.has(name)) this.#detach(name)
      this.#interfaces.clear()
      for (const [name, mode] of before) this.#interfaces.set(name, mode)
      throw error
    }
  }

  #wait(config: Config): Changed {
    this.#waiting = config
    return { services: [], globals: false }
  }

  #detach(name: string): void {
    this.missing.delete(name)
    if (!existsSync(this.paths.pins)) return
    const present = this.session(({ interfaces }) => interfaces.map((each) => each.name))
    if (!present.includes(name)) return
    try {
      if (present.length === 1) this.#close()
      detach(this.#native, this.paths, name)
      this.#open?.guard.takeInterfaces()
      this.#tell({ kind: 'interface', subject: name, to: 'detached', reason: this.#reason })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.#interfaces.set(name, 'auto')
      this.#tell({ kind: 'interface', subject: name, to: 'kept', reason: error.message })
    }
  }

  /** @param kept of a host that came up: what was changed before, which no map remembers */
  #load(config: Config, kept: Changes | undefined): Changed {
    const startedMs = this.#nowMs()
    const base = this.#loaded
    let file: DesiredState = new Map()
    let timeoutsChanged = false
    const changed = this.session((session) => {
      const { plane } = session
      const settings = Settings.read(viewOf(plane, 'settings'), 0)
      const perAge = (newFlows: number | undefined) => newFlowsPerAge(newFlows ?? DEFAULT_NEW_FLOWS, settings)
      const haveBefore = session.live.desired
      const seeded = kept === undefined ? haveBefore : withChanges(base?.services ?? new Map(), kept.services, 'have')
      file = config.desired(new Map([...seeded, ...(base?.services ?? [])]), random64)
      const baseOf =
        kept === undefined || base === undefined ? base?.services : withChanges(base.services, kept.services, 'base')
      const changed = changeAll(session, {
        services: (have, resolver) => {
          const from = kept === undefined ? have : withChanges(base?.services ?? file, kept.services, 'have')
          const merged = mergeState(baseOf, file, from)
          for (const { refusal } of mergeFaults(from, merged)) throw refusal
          return withWays(have, merged, resolver)
        },
        globals: (have) => {
          const mine: Globals = { filter: config.filter, newFlows: perAge(config.newFlows) }
          const was = base && { filter: base.filter, newFlows: perAge(base.newFlows) }
          const from = kept && { filter: kept.have.filter, newFlows: perAge(kept.have.newFlows) }
          if (was === undefined && config.newFlows === undefined) mine.newFlows = have.newFlows
          return mergeGlobals(was, mine, from ?? have)
        },
      })
      const now = kept?.have.timeouts ?? readTimeouts(plane)
      timeoutsChanged = writeTimeouts(plane, mergeTimeouts(base?.timeouts, config.timeouts, now)).length > 0
      return changed
    })
    this.#loaded = {
      interfaces: config.interfaces,
      newFlows: config.newFlows ?? DEFAULT_NEW_FLOWS,
      filter: config.filter,
      timeouts: config.timeouts,
      services: file,
    }
    this.#waiting = undefined
    this.#store.writeLoaded(this.#loaded)
    this.#touched = this.#touchedBy(base, changed)
    this.#touched = new Set(this.rememberNow()?.services.keys())
    const changes = { ...changed, globals: changed.globals || timeoutsChanged }
    this.#tell({
      kind: 'configuration',
      subject: this.file,
      to: 'loaded',
      reason: `${plural(changes.services.length, 'service')} changed`,
    })
    this.#reloadedSince(startedMs)
    return changes
  }

  #reloadedSince(startedMs: number, error?: string): void {
    const at = this.#nowMs()
    const succeededAt = error === undefined ? at : this.reloaded.succeededAt
    this.reloaded = { at, succeededAt, tookMs: at - startedMs, ...(error === undefined ? {} : { error }) }
  }

  // ---- keeping it so

  /** Looks whether all is as it shall be, and mends what is not. To be called again and again. */
  reconcile(): void {
    this.because('reconciled', () => {
      this.attachMissing()
      if (!existsSync(this.paths.pins)) return
      if (this.#waiting !== undefined) this.#load(this.#waiting, this.#kept().changes)
      else if (this.#open === undefined && this.#loaded !== undefined) this.#rebuild()
      this.undoEdits()
      this.refreshPaths('reconciled')
    })
  }

  /** The pins were taken away, and an interface is attached anew: everything is to be made again. */
  #rebuild(): void {
    const changes = this.#store.readChanges()
    this.#load(readConfig(this.file, this.#environment), changes)
  }

  /** Puts back what somebody else wrote into the maps. */
  undoEdits(): void {
    const edits = this.session(() => this.#open?.guard.undo() ?? [])
    if (edits.length === 0) return
    const open = this.#open
    if (open !== undefined) open.live = readLive(open.plane)
    this.#tellEdits(edits)
  }

  #tellEdits(edits: readonly Edit[]): void {
    for (const { subject, map, octets } of edits) {
      this.#tell({
        kind: 'maps',
        subject,
        to: 'mended',
        reason: `${octets} octets of ${map} were changed behind the daemon's back`,
      })
    }
  }

  /** Takes over what the kernel knows of backends' MACs, and looks for those that cannot be reached. */
  refreshPaths(reason: string): void {
    if (this.#open === undefined && !existsSync(this.paths.pins)) return
    this.because(reason, () => this.session((session) => this.#refresh(session), { answerMs: 0, watched: true }))
  }

  #refresh(session: Session): void {
    const unresolved = unresolvedOf(session)
    const addresses = new Set([...unresolved.values()].flat())
    changeAll(session, {
      services: (state, resolver) => {
        if (addresses.size === 0) return state
        const paths = resolver.resolve(addresses)
        this.#noteUnreached(paths, unresolved)
        return withPaths(state, unresolved.keys(), (address, before) => paths.get(address) ?? before)
      },
    })
    const left = new Set([...unresolvedOf(session).values()].flat())
    for (const address of this.unreached.keys()) if (!left.has(address)) this.unreached.delete(address)
    this.#lookForSharedMacs(session)
  }

  /** Is any of these a backend, or a VIP? */
  isConcernedBy(addresses: Iterable<string>): boolean {
    const { addresses: known } = this.#addresses()
    for (const address of addresses) if (known.has(addressKey(address))) return true
    return false
  }

  /** Of backends and VIPs; and the VIPs. Read anew after each change. */
  #addresses(): { addresses: ReadonlySet<AddressKey>; vips: ReadonlySet<string> } {
    const open = this.#open
    if (open === undefined) return { addresses: new Set(), vips: new Set() }
    if (this.#known?.live !== open.live) {
      const addresses = new Set<AddressKey>()
      scanBackends(open.plane, open.live, ({ address }) => addresses.add(address))
      const vips = new Set([...open.live.services.keys()].map(vipOf).filter((vip) => !isPrefix({ vip })))
      for (const vip of vips) addresses.add(addressKey(vip))
      this.#known = { live: open.live, addresses, vips }
    }
    return this.#known
  }

  #known: { live: LiveState; addresses: Set<AddressKey>; vips: Set<string> } | undefined

  /** MACs that are not one backend's alone, as of the last look. */
  sharedMacs: { what: string; mend: string }[] = []

  #lookForSharedMacs({ interfaces }: Session): void {
    const { addresses: known, vips } = this.#addresses()
    const segments = new Set(interfaces.map(({ ifindex }) => ifindex))
    const { netlink } = this.#native
    const neighbours = [...netlink.neighbours(AF.ipv4), ...netlink.neighbours(AF.ipv6)].filter((each) => isUsable(each))
    const backends = neighbours.filter(
      ({ address, ifindex }) => segments.has(ifindex) && !vips.has(address) && known.has(addressKey(address)),
    )
    const facts = { backends, vips, neighbours, interfaces: netlink.interfaces() }
    const found = sharedMacs(facts).map(explainSharedMac)
    const before = new Set(this.sharedMacs.map(({ what }) => what))
    for (const { what } of found) {
      if (!before.has(what)) this.#tell({ kind: 'backend', subject: 'shared MAC', to: 'warning', reason: what })
    }
    this.sharedMacs = found
  }

  #noteUnreached(paths: ReadonlyMap<string, Path>, unresolved: ReadonlyMap<string, string[]>): void {
    for (const [address, path] of paths) {
      const known = this.unreached.get(address)
      if (path.kind !== 'unresolved' || known?.why === path.why) continue
      this.unreached.set(address, { why: path.why, sinceMs: known?.sinceMs ?? this.#nowMs() })
      for (const [subject, addresses] of unresolved) {
        if (!addresses.includes(address)) continue
        this.#tell({ kind: 'backend', subject, backend: address, to: 'no-mac', reason: path.why })
      }
    }
  }

  /**
   * Does the kernel know the way to this address? It is asked to find out.
   * @throws Refusal where no packet of xlb could reach it
   */
  isReachable(address: string): boolean {
    return this.session((session) => wayTo(session, address).kind !== 'unresolved')
  }

  /** Changes nothing: whatever is in force stays so. */
  close(): void {
    clearTimeout(this.#remembering)
    if (this.#remembering !== undefined) this.rememberNow()
    this.#remembering = undefined
    this.#close()
  }
}

/** What the file says otherwise than before, applied to what shall be attached now. */
const mergeInterfaces = (
  base: Config['interfaces'],
  file: Config['interfaces'],
  have: Config['interfaces'],
): Config['interfaces'] => {
  const was = new Set(base.map(({ name }) => name))
  const is = new Map(file.map((each) => [each.name, each]))
  const kept = have.filter(({ name }) => is.has(name) || !was.has(name)).map((each) => is.get(each.name) ?? each)
  const known = new Set(kept.map(({ name }) => name))
  return [...kept, ...file.filter(({ name }) => !known.has(name) && !was.has(name))]
}

/** Backends that have no path yet get what the kernel knows; it is asked for the rest. */
const withWays = (have: DesiredState, want: DesiredState, resolver: Resolver): DesiredState => {
  if (want === have) return want
  const names = [...namesToCompare(have, want)].filter((name) => want.has(name))
  const addresses = new Set(
    names.flatMap((name) =>
      (want.get(name)?.backends ?? []).flatMap(({ address, path }) => (path.kind === 'unresolved' ? [address] : [])),
    ),
  )
  if (addresses.size === 0) return want
  const paths = resolver.resolve(addresses)
  return withPaths(want, names, (address, before) =>
    before.kind === 'unresolved' ? (paths.get(address) ?? UNASKED) : before,
  )
}

/** Services with backends that cannot be reached, and the addresses of these. */
const unresolvedOf = ({ plane, live }: Session): Map<string, string[]> => {
  const names = new Set<string>()
  const { BACKEND_LOCAL, BACKEND_CUT } = BackendFlag
  scanBackends(plane, live, ({ name, flags, isLink }) => {
    if (!isLink && (flags & (BACKEND_LOCAL | BACKEND_CUT)) === 0) names.add(name)
  })
  const found = new Map<string, string[]>()
  for (const name of names) {
    const addresses = (live.desired.get(name)?.backends ?? [])
      .filter((backend) => backend.path.kind === 'unresolved' && !isLeaving(backend))
      .map(({ address }) => address)
    if (addresses.length > 0) found.set(name, addresses)
  }
  return found
}
