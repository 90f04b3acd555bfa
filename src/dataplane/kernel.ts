// SPDX-License-Identifier: Apache-2.0
// The data plane in the kernel: maps as memory.
import { Refusal } from '../core/refusal.ts'
import { MIGRATE, versionFault } from './contract.ts'
import { Clock, Root } from './layout.gen.ts'
import { type KernelMap, type KernelMapName, MAPPED, type MappedName, type PlaneMemory } from './memory.ts'
import type { BpfMap, BpfObject, BpfProgram, Native } from './native.ts'

/** Where a plane's maps and its clock program come from: pins in bpffs, or an object that this process loaded. */
export interface PlaneSource {
  map: (name: string) => BpfMap
  clock: () => BpfProgram
}

/** What is pinned. */
export const pinSource = (native: Native, pins: { map: (name: string) => string; clock: string }): PlaneSource => ({
  map: (name) => native.openMap(pins.map(name)),
  clock: () => native.openProgram(pins.clock),
})

/** Maps and program of this process, pinned nowhere: for tests and benches. */
export const ownSource = (maps: ReadonlyMap<string, BpfMap>, object: BpfObject): PlaneSource => ({
  map: (name) => {
    const map = maps.get(name)
    if (map === undefined) throw new Error(`no map ${name}`)
    return map
  },
  clock: () => object.program('xlb_clock'),
})

/** What is a multiple of this is the start of a page, on every architecture of Linux. */
const PAGE_MAX = 65536
/** Whoever asks for more parts of a map than one changed service has will ask for many: then the whole is mapped. */
const PARTS_MAX = 8

/** PlaneMemory over BPF maps. Each map is opened when it is first asked for. */
export class KernelPlane implements PlaneMemory {
  readonly #native: Native
  readonly #source: PlaneSource
  readonly #maps = new Map<string, BpfMap>()
  readonly #buffers = new Map<MappedName, ArrayBuffer>()
  readonly #parts = new Map<MappedName, number>()
  /** Whoever had the maps before may have retired something just now. */
  #hasRetired = true

  /** @throws Refusal where the pins are of another contract than this xlb's. */
  constructor(native: Native, source: PlaneSource) {
    this.#native = native
    this.#source = source
    const fault = versionFault(new DataView(this.buffer('root')).getUint32(Root.offset.contract, true))
    if (fault !== undefined) throw new Refusal(fault, MIGRATE)
  }

  /** Of these maps and no others since the host came up, nor, with `bootId` of /proc/sys/kernel/random, before. */
  identity(bootId: string): string {
    return `${bootId} ${this.map('root').info.id}`
  }

  map(name: string): BpfMap {
    const known = this.#maps.get(name)
    if (known !== undefined) return known
    const map = this.#source.map(name)
    this.#maps.set(name, map)
    return map
  }

  buffer(name: MappedName): ArrayBuffer {
    const known = this.#buffers.get(name)
    if (known !== undefined) return known
    const map = this.map(name)
    if (map.info.valueSize % MAPPED[name] !== 0) {
      throw new Refusal(
        `table ${name}: has ${map.info.valueSize} octets, no whole elements of ${MAPPED[name]}`,
        MIGRATE,
      )
    }
    const buffer = map.mmap()
    this.#buffers.set(name, buffer)
    return buffer
  }

  size(name: MappedName): number {
    const { valueSize, maxEntries } = this.map(name).info
    return valueSize * maxEntries
  }

  part(name: MappedName, offset: number, length: number): Uint8Array {
    const parts = this.#parts.get(name) ?? 0
    // The kernel enters every page of a mapping at once: the rings of 4,000 services take 9 ms to map and to unmap.
    if (this.#buffers.has(name) || parts === PARTS_MAX) return new Uint8Array(this.buffer(name), offset, length)
    this.#parts.set(name, parts + 1)
    const within = offset % PAGE_MAX
    return new Uint8Array(this.map(name).mmapPart(offset - within, within + length), within, length)
  }

  kernelMap(name: KernelMapName): KernelMap {
    return this.map(name)
  }

  /** Some 10 ms, unless nothing was retired since the last time. */
  waitForPrograms(): void {
    if (!this.#hasRetired) return
    this.#native.system.waitForPrograms()
    this.#hasRetired = false
  }

  retired(): void {
    this.#hasRetired = true
  }

  age(): number {
    return Number(this.clock().age)
  }

  /** The packet path's clock, in units of age and in jiffies. */
  clock(): Clock {
    const clock = this.#source.clock()
    try {
      const { context } = clock.run({ context: new Uint8Array(Clock.size) })
      return Clock.read(new DataView(context.buffer, context.byteOffset), 0)
    } finally {
      clock.close()
    }
  }

  close(): void {
    for (const map of this.#maps.values()) {
      map.unmap()
      map.close()
    }
    this.#maps.clear()
    this.#buffers.clear()
    this.#parts.clear()
  }
}
