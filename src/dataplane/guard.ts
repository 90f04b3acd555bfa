// SPDX-License-Identifier: Apache-2.0
// A copy of whatever a commit made live and nothing but the next commit may change. Whoever edits a map behind the owner's back is found by
// it, and undone word by word: flows, ids and counters stay, which a service that is built anew would lose.
import { filterExtents } from './filters.ts'
import { mendEgress } from './guard-egress.ts'
import { Directory, Interface, InterfaceLimit, Root, ServiceFlag, Settings, Target } from './layout.gen.ts'
import { bucketsOf, bucketsPerDirectory, liveVips } from './live-directory.ts'
import { type Extent, type KernelMapName, MAPPED, type MappedName, type PlaneMemory } from './memory.ts'
import { isPersistent, persistSlotCount } from './persistence.ts'
import type { LiveService, LiveState } from './reader.ts'
import { linesFor, viewOf } from './views.ts'

/** What is not one service's: the way to all of them, the interfaces, and the timeouts. No service has such a name. */
const DIRECTORY = 'the directory'
const INTERFACES = 'interfaces'
const SETTINGS = 'settings'
/** What verbs write beside what they commit. */
const UNCOMMITTED: readonly string[] = [INTERFACES, SETTINGS]

interface Copy {
  map: MappedName
  /** In octets. */
  start: number
  octets: Buffer
}

/** Where a map was edited. */
export interface Edit {
  /** The service that it belongs to, or which part of what is common to all. */
  subject: string
  map: MappedName | KernelMapName
  /** Octets that were other than they should be, of this extent of the map. */
  octets: number
}

/** What packets, and readers, go by of one service. */
const serviceExtents = (memory: PlaneMemory, { record, service, policy, filter, ...rest }: LiveService): Extent[] => {
  const { backendBase: first, backendCount: count } = service
  const lines = (line: number, slots: number): Extent => ({ map: 'rings', first: line, count: linesFor(slots) })
  const persistent = { service, policy, ...rest }
  return [
    { map: 'services', first: record, count: 1 },
    { map: 'service_policies', first: record, count: 1 },
    { map: 'service_details', first: record, count: 1 },
    { map: 'backend_runs', first: service.id, count: 1 },
    { map: 'backends', first, count },
    { map: 'backend_details', first, count },
    { map: 'connection_limits', first, count },
    lines(service.ringLine, service.ringSize),
    lines(service.scheduleLine, service.scheduleSize),
    ...((service.flags & ServiceFlag.SERVICE_MARKED) === 0 ? [] : [lines(service.beforeLine, service.beforeSize)]),
    ...(isPersistent({ service }) ? [lines(policy.persistLine, persistSlotCount(persistent))] : []),
    ...filterExtents(memory, filter),
  ]
}

/** Octets of an extent. */
const rangeOf = ({ map, first, count }: Extent): { map: MappedName; start: number; length: number } => ({
  map,
  start: first * MAPPED[map],
  length: count * MAPPED[map],
})

/** Both directories' halves of its tables: the retired one is what the next commit builds in, and nobody goes by it. */
const directoryRanges = (memory: PlaneMemory, live: LiveState): ReturnType<typeof rangeOf>[] => {
  const view = viewOf(memory, 'root')
  const { live: which, base, buckets } = liveVips(memory, view.getBigUint64(Root.offset.live, true))
  const at = Root.offset.directory + which * Directory.size
  const { serviceBase, serviceShift } = Directory.read(view, at)
  const half = bucketsPerDirectory(memory)
  const ofHalf = (map: MappedName): Extent => {
    const count = memory.size(map) / MAPPED[map] / 2
    return { map, first: which * count, count }
  }
  return [
    ...[
      { map: 'vip_buckets' as const, first: base, count: Math.min(buckets, half) },
      { map: 'service_buckets' as const, first: serviceBase, count: bucketsOf(serviceShift) },
      ofHalf('vip6_buckets'),
      ofHalf('range_targets'),
      ...filterExtents(memory, live.filter),
    ].map(rangeOf),
    { map: 'root', start: at, length: Directory.size },
    // Last: what it leads to is whole by then.
    { map: 'root', start: Root.offset.live, length: 8 },
  ]
}

const INTERFACE_RANGE = {
  map: 'root',
  start: Root.offset.interface,
  length: InterfaceLimit.INTERFACES_MAX * Interface.size,
} as const

/** Packets read it, and write none of it. */
const SETTINGS_RANGE = { map: 'settings', start: 0, length: Settings.size } as const

const octetsOf = (memory: PlaneMemory, map: MappedName, start: number, length: number): Buffer =>
  Buffer.from(memory.buffer(map), start, length)

const copyOf = (memory: PlaneMemory, { map, start, length }: ReturnType<typeof rangeOf>): Copy => ({
  map,
  start,
  octets: Buffer.from(memory.buffer(map).slice(start, start + length)),
})

export class Guard {
  readonly #memory: PlaneMemory
  /** By service. */
  readonly #copies = new Map<string, Copy[]>()

  constructor(memory: PlaneMemory, live: LiveState) {
    this.#memory = memory
    this.takeUncommitted()
    this.take(live)
  }

  /**
   * Takes what is live now for what shall be.
   *
   * @param names of the services that changed; left out: all
   */
  take(live: LiveState, names: Iterable<string> = live.services.keys()): void {
    for (const name of names) {
      const service = live.services.get(name)
      if (service === undefined) this.#copies.delete(name)
      else {
        const ranges = serviceExtents(this.#memory, service).map(rangeOf)
        this.#copies.set(
          name,
          ranges.filter(({ length }) => length > 0).map((range) => copyOf(this.#memory, range)),
        )
      }
    }
    // Behind all services in the order of the map: it is undone last.
    this.#copies.delete(DIRECTORY)
    this.#copies.set(
      DIRECTORY,
      directoryRanges(this.#memory, live).map((range) => copyOf(this.#memory, range)),
    )
  }

  /** As take, after a commit that gave one service another record and changed nothing else. */
  takeRecord(live: LiveState, name: string): void {
    const service = live.services.get(name)
    if (service === undefined) throw new Error(`${name} is not in the maps`)
    const ranges = serviceExtents(this.#memory, service).map(rangeOf)
    const directory = this.#copies.get(DIRECTORY) ?? []
    this.#copies.delete(DIRECTORY)
    this.#copies.set(
      name,
      ranges.filter(({ length }) => length > 0).map((range) => copyOf(this.#memory, range)),
    )
    this.#copies.set(DIRECTORY, directory)
    const { table, at } = service.target
    const copy = directory.find(({ map, start, octets }) => map === table && at >= start && at < start + octets.length)
    copy?.octets.set(octetsOf(this.#memory, table, at, Target.size), at - copy.start)
  }

  /** Takes interfaces and settings as they are: verbs write them beside what they commit. */
  takeUncommitted(): void {
    this.#copies.set(INTERFACES, [copyOf(this.#memory, INTERFACE_RANGE)])
    this.#copies.set(SETTINGS, [copyOf(this.#memory, SETTINGS_RANGE)])
  }

  /** To be done before anybody writes these, as takeUncommitted is after. @returns what was put back */
  undoUncommitted(): Edit[] {
    return this.undo(UNCOMMITTED)
  }

  /** Names to give to `undo`, in an order that leads no packet to what is not whole. */
  get owners(): readonly string[] {
    return [...this.#copies.keys()]
  }

  /** As undo, of one of `parts` parts of the services, and of what is common to all. */
  undoPart(part: number, parts: number): Edit[] {
    const common = [DIRECTORY, ...UNCOMMITTED]
    const edits = this.undo(this.owners.filter((owner, i) => i % parts === part || common.includes(owner)))
    // By the records of interfaces, which are whole by now.
    const octets = mendEgress(this.#memory)
    return octets === 0 ? edits : [...edits, { subject: INTERFACES, map: 'egress', octets }]
  }

  /** Compares what these owners have, and puts back what is other than it should be. @returns what was put back */
  undo(owners: Iterable<string> = this.owners): Edit[] {
    const edits: Edit[] = []
    for (const owner of owners) {
      for (const { map, start, octets } of this.#copies.get(owner) ?? []) {
        const now = octetsOf(this.#memory, map, start, octets.length)
        if (now.equals(octets)) continue
        edits.push({
          subject: owner,
          map,
          octets: putBack(this.#memory.buffer(map), start, octets),
        })
      }
    }
    return edits
  }
}

/** Each word that differs by one store: a packet sees the old one or the new. Every table's elements are of whole words. */
const putBack = (buffer: ArrayBuffer, start: number, wanted: Buffer): number => {
  let count = 0
  if (start % 8 === 0 && wanted.length % 8 === 0) {
    const words = new BigUint64Array(buffer, start, wanted.length / 8)
    for (let i = 0; i < words.length; i++) {
      const word = wanted.readBigUInt64LE(8 * i)
      if (words[i] === word) continue
      Atomics.store(words, i, word)
      count += 8
    }
    return count
  }
  const octets = new Uint8Array(buffer, start, wanted.length)
  for (let i = 0; i < octets.length; i++) {
    if (octets[i] === wanted[i]) continue
    octets[i] = wanted[i] ?? 0
    count++
  }
  return count
}
