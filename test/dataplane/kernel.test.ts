// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { KernelPlane, type PlaneSource } from '../../src/dataplane/kernel.ts'
import { Contract, Root } from '../../src/dataplane/layout.gen.ts'
import { elementsFor, MAPPED, type MappedName, makeMemory } from '../../src/dataplane/memory.ts'
import type { BpfMap } from '../../src/dataplane/native.ts'
import { loadNative } from '../../src/dataplane/native.ts'

const CAPACITY = { services: 64, backends: 1024, flows: 1024, flows6: 1024 }
const BPF_MAP_TYPE_ARRAY = 2
const BPF_F_MMAPABLE = 1024

const native = loadNative()
const elements = elementsFor(CAPACITY, native.system.possibleCpus())

/** Fresh maps as attach makes them, each opened as a new handle, and a plane over them. */
const makePlane = () => {
  const make = (name: MappedName): BpfMap =>
    native.createMap(name.slice(0, 15), BPF_MAP_TYPE_ARRAY, 4, elements[name] * MAPPED[name], 1, BPF_F_MMAPABLE)
  const root = make('root')
  new DataView(root.mmap()).setUint32(Root.offset.contract, Contract.CONTRACT_VERSION, true)
  const source: PlaneSource = {
    map: (name) => (name === 'root' ? root : make(name as MappedName)),
    clock: () => {
      throw new Error('not asked')
    },
  }
  return new KernelPlane(native, source)
}

test.serial('a map tells its size without being mapped, and it is that of its memory', (t) => {
  const plane = makePlane()
  const names = Object.keys(MAPPED) as MappedName[]
  const before = native.openHandles().mappings
  const sizes = names.map((name) => plane.size(name))
  t.is(native.openHandles().mappings, before)
  t.deepEqual(
    sizes,
    names.map((name) => plane.buffer(name).byteLength),
  )
  const memory = makeMemory(CAPACITY)
  for (const name of names) t.is(memory.size(name), memory.buffer(name).byteLength, name)
  plane.close()
})

test.serial('few parts of a map do not map the whole; many do, and all are the same memory', (t) => {
  const plane = makePlane()
  const start = native.openHandles().mappedBytes
  const offsets = Array.from({ length: 20 }, (_, i) => 8192 * i + 64)
  const parts = offsets.map((offset, i) => {
    const part = plane.part('rings', offset, 8192)
    part[5] = i + 1
    const mapped = native.openHandles().mappedBytes - start
    t.is(mapped >= plane.size('rings'), i >= 8, `${i}`)
    return part
  })
  const whole = new Uint8Array(plane.buffer('rings'))
  t.deepEqual(
    offsets.map((offset) => whole[offset + 5]),
    parts.map((part) => part[5]),
  )
  plane.close()
  t.deepEqual(
    parts.map(({ length }) => length),
    parts.map(() => 0),
  )
})
