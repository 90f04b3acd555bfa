// SPDX-License-Identifier: Apache-2.0
// A running capture: each attached interface has the capturing program in its own one's place, by link update, so that no packet
// meets none. It looks only while its lease lasts, which is renewed here; at the end each interface has its own program again.
import { existsSync } from 'node:fs'
import type { Captured } from '../core/captured.ts'
import { Refusal } from '../core/refusal.ts'
import {
  CaptureNames,
  type CaptureRecord,
  type CaptureWanted,
  capturedOf,
  filterBytes,
  recordsOf,
} from '../dataplane/capture.ts'
import { CaptureCounts, Clock, Settings } from '../dataplane/layout.gen.ts'
import type { BpfMap, BpfObject, BpfProgram, BpfRing, Native } from '../dataplane/native.ts'
import { readLive } from '../dataplane/reader.ts'
import { viewOf } from '../dataplane/views.ts'
import { clockPin, type InstancePaths, linkPin } from './instance.ts'
import type { AttachedInterface } from './interfaces.ts'
import { beginCapture, endCapture, isCapturing, takeCaptureLock } from './left-capture.ts'
import { CAPTURE_FILE, loadProgram } from './load.ts'
import { openPlaneAt, withFreeLock, withLock } from './lock.ts'
import { Handles, openAttached, sameProgram } from './programs.ts'
import type { Session } from './session.ts'

/** For how long packets are looked at after the lease was last renewed. */
const LEASE_SECONDS = 3
/** Names that are older are read anew with the next packet. */
const NAMES_MS = 1000
/** For so long packets wait for names that another verb's lock keeps from being read; then they are told without. */
const NAMES_WAIT_MS = 2000
/** What has no name although names were just read was removed meanwhile: to ask again is of little use. */
const UNKNOWN_NAMES_MS = 100
/** Octets taken from the ring at a time. */
const BATCH_BYTES = 1 << 20

export interface InterfaceSums {
  name: string
  slot: number
  /** Packets that came in, wanted or not. */
  packets: bigint
  /** Wanted, but there was no room for them. */
  lost: bigint
}

const wallOffset = (): bigint => {
  // Date.now() has milliseconds: its step is waited for, and told by the other clock.
  const first = Date.now()
  let now = first
  while (now === first) now = Date.now()
  return BigInt(now) * 1_000_000n - process.hrtime.bigint()
}

const load = (
  { native, plane }: Session,
  { slot, multiBuffer }: AttachedInterface,
  wanted: CaptureWanted,
  ringBytes: number,
  first: BpfObject | undefined,
): BpfObject => {
  const settings = Settings.read(viewOf(plane, 'settings'), 0)
  return loadProgram(native, { get: (name) => plane.map(name) }, slot, settings, {
    programFile: CAPTURE_FILE,
    multiBuffer,
    prepare: (object) => {
      object.setConstant('filter', filterBytes(wanted))
      if (first === undefined) object.setMaxEntries('capture_ring', ringBytes)
      else
        for (const name of ['capture_ring', 'capture_lease', 'capture_counts']) object.reuseMap(name, first.map(name))
    },
  })
}

/** @throws Refusal where the interface has another build's program: what is captured would not be what it does */
const demandOwnBuild = (session: Session, each: AttachedInterface, old: BpfProgram): void => {
  const { native, plane } = session
  const settings = Settings.read(viewOf(plane, 'settings'), 0)
  const object = loadProgram(native, { get: (name) => plane.map(name) }, each.slot, settings, each)
  try {
    const own = object.program('xlb')
    const same = sameProgram(old, own)
    own.close()
    if (same) return
  } finally {
    object.close()
  }
  throw new Refusal(
    `${each.name} has the program of another build of xlb, whose packets this one cannot show`,
    "xlb upgrade, which gives it this build's; then capture again",
  )
}

export class Capture {
  readonly interfaces: readonly AttachedInterface[]
  /** Nanoseconds to add to CLOCK_MONOTONIC for Unix time, as it was at the start. */
  readonly offsetNs = wallOffset()
  readonly #native: Native
  readonly #paths: InstancePaths
  readonly #handles = new Handles()
  readonly #ring: BpfRing
  readonly #lease: BpfMap
  readonly #counts: BpfMap
  readonly #clock: BpfProgram
  readonly #jiffiesPerSecond: number
  readonly #lock: number
  /** Ids of services that packets came to. */
  readonly #seen = new Set<number>()
  #names: CaptureNames
  #namesReadMs = 0
  /** Packets that wait for names, and since when. */
  #waiting: CaptureRecord[] = []
  #waitingSinceMs = 0
  #ended = false

  /**
   * Begins; under the session's lock.
   * @throws Refusal where a capture runs already, where an interface has another build's program, and without the privileges
   */
  constructor(
    session: Session,
    interfaces: readonly AttachedInterface[],
    options: { wanted: CaptureWanted; ringBytes: number },
  ) {
    const { native, paths, plane } = session
    this.#native = native
    this.#paths = paths
    this.interfaces = interfaces
    this.#lock = takeCaptureLock(native, paths)
    if (this.#lock < 0) {
      throw new Refusal(
        `another capture of instance ${paths.name} runs`,
        'end that one first: an interface has one program at a time',
      )
    }
    try {
      const staged = this.#stage(session, options)
      const first = staged[0]?.object
      if (first === undefined) throw new Error('unreachable: a capture has an interface')
      this.#ring = this.#handles.keep(native.openRing(this.#handles.keep(first.map('capture_ring'))))
      this.#lease = this.#handles.keep(first.map('capture_lease'))
      this.#counts = this.#handles.keep(first.map('capture_counts'))
      this.#clock = this.#handles.keep(native.openProgram(clockPin(paths.pins)))
      this.#jiffiesPerSecond = Settings.read(viewOf(plane, 'settings'), 0).jiffiesPerSecond
      this.#names = this.#namesOf(session.live)
      this.#renewLease()
      for (const { ifindex, old, fresh } of staged) beginCapture(native, paths.pins, ifindex, old, fresh)
    } catch (error) {
      this.#putBack()
      throw error
    }
  }

  #stage(session: Session, options: { wanted: CaptureWanted; ringBytes: number }) {
    const { native, paths } = session
    let first: BpfObject | undefined
    return this.interfaces.map((each) => {
      const link = this.#handles.keep(native.openLink(linkPin(paths.pins, each.ifindex)))
      const old = this.#handles.keep(openAttached(native, link.info.programId, 'xlb capture'))
      demandOwnBuild(session, each, old)
      const object = this.#handles.keep(load(session, each, options.wanted, options.ringBytes, first))
      first ??= object
      return { ifindex: each.ifindex, old, object, fresh: this.#handles.keep(object.program('xlb_capture')) }
    })
  }

  #namesOf(live: Session['live']): CaptureNames {
    const interfaces = new Map(this.interfaces.map(({ slot, name }) => [slot, name]))
    return new CaptureNames(interfaces, live.services.values(), this.#seen)
  }

  #renewLease(): void {
    const { context } = this.#clock.run({ context: new Uint8Array(Clock.size) })
    const { jiffies } = Clock.read(new DataView(context.buffer, context.byteOffset), 0)
    const until = new BigUint64Array(this.#lease.mmap())
    Atomics.store(until, 0, jiffies + BigInt(LEASE_SECONDS * this.#jiffiesPerSecond))
  }

  /** To be called each second. @returns interfaces that have another program by now: of them nothing more will come */
  renew(): AttachedInterface[] {
    this.#renewLease()
    return this.interfaces.filter(({ ifindex }) => !isCapturing(this.#native, this.#paths.pins, ifindex))
  }

  /** Reads names anew. @returns false where another verb has the lock: the names stay as they are */
  #refreshNames(): boolean {
    const { pins } = this.#paths
    const names = withFreeLock(this.#native, this.#paths, () => {
      if (!existsSync(pins)) return this.#names
      const plane = openPlaneAt(this.#native, pins)
      try {
        return this.#namesOf(readLive(plane))
      } finally {
        plane.close()
      }
    })
    if (names === undefined) return false
    this.#names = names
    this.#namesReadMs = Date.now()
    return true
  }

  /** Are names needed that were not read, or not lately? */
  #needsNames(records: readonly CaptureRecord[]): boolean {
    const known = this.#seen.size
    for (const { event } of records) this.#seen.add(event.service)
    const age = Date.now() - this.#namesReadMs
    if (this.#seen.size > known || age > NAMES_MS) return true
    return age > UNKNOWN_NAMES_MS && records.some(({ event }) => !this.#names.knows(event))
  }

  /** The next packets, oldest first; none: there are none yet. Frames are good until the next call. */
  read(): Captured[] {
    const fresh = this.#waiting.length === 0
    const records = fresh ? [...recordsOf(this.#ring.read(BATCH_BYTES))] : this.#waiting
    if (records.length === 0) return []
    if (fresh) this.#waitingSinceMs = Date.now()
    this.#waiting = []
    if ((!fresh || this.#needsNames(records)) && !this.#refreshNames()) {
      if (Date.now() - this.#waitingSinceMs < NAMES_WAIT_MS) {
        this.#waiting = records
        return []
      }
    }
    return records.map((record) => capturedOf(record, this.#names, this.offsetNs))
  }

  /** By interface, since the start. */
  sums(): InterfaceSums[] {
    const key = new Uint8Array(4)
    return this.interfaces.map(({ name, slot }) => {
      new DataView(key.buffer).setUint32(0, slot, true)
      const values = this.#counts.lookup(key) ?? Buffer.alloc(0)
      const view = new DataView(values.buffer, values.byteOffset, values.length)
      const sum = { name, slot, packets: 0n, lost: 0n }
      for (let at = 0; at < values.length; at += CaptureCounts.size) {
        const { packets, lost } = CaptureCounts.read(view, at)
        sum.packets += packets
        sum.lost += lost
      }
      return sum
    })
  }

  /** Gives every interface its own program back. read() and sums() still tell of what was captured before. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    withLock(this.#native, this.#paths, () => endCapture(this.#native, this.#paths.pins))
  }

  close(): void {
    this.end()
    this.#handles.close()
    this.#native.system.unlock(this.#lock)
  }

  /** What end() and close() do, where the instance's lock is held already. */
  #putBack(): void {
    this.#ended = true
    endCapture(this.#native, this.#paths.pins)
    this.close()
  }
}
