// SPDX-License-Identifier: Apache-2.0
// The one owner of an instance while a daemon runs: it makes the maps what the configuration, and whoever asked for a change since, want
// them to be, and keeps them so.
import { existsSync, readFileSync, statSync } from 'node:fs'
import type { Config } from '../config/reading.ts'
import { type Happening, happenings, type Knowledge } from '../core/backend-state.ts'
import { Refusal } from '../core/refusal.ts'
import { type Edit, Guard } from '../dataplane/guard.ts'
import type { KernelPlane } from '../dataplane/kernel.ts'
import { Settings } from '../dataplane/layout.gen.ts'
import type { Native } from '../dataplane/native.ts'
import { type LiveState, readLive } from '../dataplane/reader.ts'
import { readTimeouts } from '../dataplane/timeouts.ts'
import { viewOf } from '../dataplane/views.ts'
import type { Replaced } from '../dataplane/writer.ts'
import type { InstancePaths } from '../shell/instance.ts'
import { attachedInterfaces, egressInterfaces } from '../shell/interfaces.ts'
import { newFlowsPerSecond } from '../shell/load.ts'
import { openPlaneAt, withLock } from '../shell/lock.ts'
import type { Manner } from '../shell/neighbours.ts'
import { type Changed, notAttached, type Session, wayTo } from '../shell/session.ts'
import { BackendWays } from './backend-ways.ts'
import { EventLog } from './event-log.ts'
import { KeptInterfaces } from './kept-interfaces.ts'
import { KeptStandings } from './kept-standings.ts'
import { Loading } from './loading.ts'
import { mended } from './reloading.ts'
import { Remembered, type RememberedPorts } from './remembered.ts'
import { type Changes, StateStore } from './state-store.ts'

/** What is open of a pinned instance. */
interface Open {
  /** Of the folder of its pins. */
  inode: number
  /** KernelPlane.identity */
  maps: string
  plane: KernelPlane
  live: LiveState
  guard: Guard
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
  /** Performs what time asks for, and is told where that fails. */
  quietly?: (what: string, action: () => void) => void
  nowMs?: () => number
}

/** Changes whenever the host comes up. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id'

/** Of looks: a part of all that many services have is compared at each, so that none takes long. */
const UNDO_PARTS = 3
const REFRESH_EVERY = 5

export class Controller {
  readonly events = new EventLog()
  readonly paths: InstancePaths
  readonly file: string
  readonly ways: BackendWays
  readonly interfaces: KeptInterfaces
  readonly standings: KeptStandings
  readonly loading: Loading
  readonly #native: Native
  readonly #tell: (happening: Happening) => void
  readonly #nowMs: () => number
  readonly #remembered: Remembered
  #open: Open | undefined
  /** Who asks for what is being done, for events. */
  #reason = ''

  constructor(options: ControllerOptions) {
    this.#native = options.native
    this.paths = options.paths
    this.file = options.file
    this.#nowMs = options.nowMs ?? Date.now
    this.#tell = (happening) => {
      this.events.tell(happening)
      options.tell(happening)
    }
    this.#remembered = new Remembered({
      store: new StateStore(options.paths.state),
      folder: options.paths.state,
      have: () => this.#have(),
      tell: this.#tell,
    })
    this.standings = new KeptStandings({
      nowMs: this.#nowMs,
      folder: options.paths.state,
      tell: this.#tell,
      session: (action) => this.session(action),
      isAttached: () => this.isAttached,
      because: (reason, action) => this.because(reason, action),
      quietly: options.quietly ?? ((_what, action) => action()),
    })
    this.ways = new BackendWays(this.#tell, this.#nowMs)
    this.interfaces = new KeptInterfaces({
      native: this.#native,
      paths: this.paths,
      nowMs: this.#nowMs,
      tell: this.#tell,
      attached: () => this.session(({ interfaces }) => interfaces),
      written: () => {
        this.#open?.guard.takeUncommitted()
        this.#remembered.soon()
      },
      ended: () => this.#close(),
    })
    this.loading = new Loading({
      file: options.file,
      environment: options.environment,
      pins: this.paths.pins,
      maps: () => this.#opened()?.maps,
      session: (action) => this.session(action),
      interfaces: this.interfaces,
      remembered: this.#remembered,
      standings: this.standings,
      because: (reason, action) => this.because(reason, action),
      tell: this.#tell,
      configured: options.configured ?? (() => {}),
      nowMs: this.#nowMs,
    })
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
        overlay: (have, want) => this.standings.standings.overlay(have, want),
        committed: (changed, replaced) => this.#committed(open, session.live, changed, replaced),
      }
      this.#tellEdits(open.guard.undoUncommitted())
      const timeouts = JSON.stringify(readTimeouts(plane))
      const result = action(session)
      open.guard.takeUncommitted()
      if (JSON.stringify(readTimeouts(plane)) !== timeouts) this.#remembered.soon()
      return result
    })
  }

  #notYet(): Refusal {
    const waiting = [...this.interfaces.missing].map(([name, { why }]) => `${name}: ${why}`)
    if (waiting.length === 0) return notAttached(this.paths)
    return new Refusal(`xlb is not attached to any interface yet: ${waiting.join('; ')}`, 'see: xlb status')
  }

  /** Is there anything that session() could open? */
  get isAttached(): boolean {
    return existsSync(this.paths.pins)
  }

  /** What is pinned, opened; what was open of an instance that is no more is closed. */
  #opened(): Open | undefined {
    const inode = statSync(this.paths.pins, { throwIfNoEntry: false })?.ino
    // Other pins of that name are another instance, which whoever took the first away has made.
    if (this.#open !== undefined && this.#open.inode !== inode) this.#close()
    if (inode === undefined) return undefined
    if (this.#open === undefined) {
      const plane = openPlaneAt(this.#native, this.paths.pins)
      const live = readLive(plane)
      const maps = plane.identity(readFileSync(BOOT_ID, 'utf8').trim())
      this.#open = { inode, maps, plane, live, guard: new Guard(plane, live) }
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
    this.#remembered.touch(names)
    this.standings.standings.committed(services)
    for (const happening of happenings(services, this.#reason, this.#knowledge)) this.#tell(happening)
    this.ways.noteSilent(services)
    if (globals) this.#tell({ kind: 'configuration', subject: 'all services', to: 'changed', reason: this.#reason })
    this.#remembered.soon()
  }

  readonly #knowledge: Knowledge = {
    silentSince: (address) => this.ways.silentSince(address),
    found: (service, address) => this.standings.standings.decisive(service, address),
  }

  /** What was changed since the configuration was loaded; undefined: nothing is attached, or was loaded. */
  changes(): Changes | undefined {
    return this.#remembered.changes()
  }

  #have(): ReturnType<RememberedPorts['have']> {
    const open = this.#open
    if (open === undefined || open.maps !== this.#remembered.maps) return undefined
    return { desired: open.live.desired, rest: { ...this.#forAll(open), interfaces: this.interfaces.wanted } }
  }

  #forAll({ plane, live }: Open) {
    return {
      newFlows: newFlowsPerSecond(live.globals.newFlows, Settings.read(viewOf(plane, 'settings'), 0)),
      filter: live.globals.filter,
      timeouts: readTimeouts(plane),
    }
  }

  // ---- keeping it so

  /** Looks whether all is as it shall be, and mends what is not. To be called again and again. */
  reconcile(): void {
    this.because('reconciled', () => {
      this.interfaces.attachMissing()
      if (!existsSync(this.paths.pins)) return
      this.loading.attend()
      this.undoEdits()
      this.standings.follow()
      this.#looks++
      // What the kernel tells of is followed at once: this is for what it did not tell, and for whoever is silent.
      const isDue = this.#looks % REFRESH_EVERY === 0 || this.ways.unreached.size > 0 || this.loading.takeLoaded()
      if (isDue) this.refreshPaths('reconciled')
    })
  }

  #looks = 0

  /** Puts back what somebody else wrote into a part of the maps; so many calls look at all of them. */
  undoEdits(): void {
    const edits = this.session(() => this.#open?.guard.undoPart(this.#looks % UNDO_PARTS, UNDO_PARTS) ?? [])
    if (edits.length === 0) return
    const open = this.#open
    if (open !== undefined) open.live = readLive(open.plane)
    this.#tellEdits(edits)
  }

  #tellEdits(edits: readonly Edit[]): void {
    for (const edit of edits) this.#tell(mended(edit))
  }

  /** Takes over what the kernel knows of backends' MACs, and looks for those that cannot be reached. */
  refreshPaths(reason: string): void {
    if (!this.isAttached) return
    this.because(reason, () => this.session((session) => this.ways.refresh(session), { answerMs: 0, watched: true }))
  }

  /** Is any of these a backend, or a VIP? */
  isConcernedBy(addresses: Iterable<string>): boolean {
    const open = this.#open
    return open !== undefined && this.ways.isConcernedBy(open.plane, open.live, addresses)
  }

  /** Is it a backend that packets are sent to? */
  hasWay(service: string, address: string): boolean {
    const backends = this.#open?.live.desired.get(service)?.backends
    return backends?.some((each) => each.address === address && each.path.kind !== 'unresolved') === true
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
    this.standings.close()
    this.#remembered.close()
    this.#close()
  }
}
