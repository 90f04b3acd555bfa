// SPDX-License-Identifier: Apache-2.0
// The flow table of bpf/xlb.h as a list of plain entries: written and read through DataView, one place after another.
import fc from 'fast-check'
import { Flow, FlowState } from '../../src/dataplane/layout.gen.ts'
import type { PlaneMemory } from '../../src/dataplane/memory.ts'

export interface Entry {
  source: number
  sourcePort: number
  service: number
  port: number
  backend: number
  state: number
  age: number
  check: number
}

/** Source address and ports as struct flow holds them: in network order, loaded as a little-endian number. */
const packedKey = ({ source, sourcePort, service }: Entry): bigint =>
  BigInt(source) | (BigInt(sourcePort) << 32n) | (BigInt(service) << 48n)

const packedValue = ({ port, backend, state, age, check }: Entry): bigint =>
  BigInt(port) |
  (BigInt(backend) << 16n) |
  (BigInt(state) << 28n) |
  (BigInt(age & 0xfff) << 32n) |
  (BigInt(check) << 44n)

/** Entry i stands at place i; undefined leaves a place free. */
export const fill = (memory: PlaneMemory, entries: readonly (Entry | undefined)[]): void => {
  const flows = new DataView(memory.buffer('flows'))
  entries.forEach((entry, i) => {
    Flow.write(flows, i * Flow.size, { key: entry ? packedKey(entry) : 0n, value: entry ? packedValue(entry) : 0n })
  })
}

/** The places of which the value differs from what `entries` were written with, and those of which it is free. */
export const compare = (memory: PlaneMemory, entries: readonly (Entry | undefined)[]) => {
  const flows = new DataView(memory.buffer('flows'))
  const changed = new Set<number>()
  const freed = new Set<number>()
  entries.forEach((entry, i) => {
    const { value } = Flow.read(flows, i * Flow.size)
    if (value !== (entry ? packedValue(entry) : 0n)) changed.add(i)
    if (entry !== undefined && value === 0n) freed.add(i)
  })
  return { changed, freed }
}

export const isUsed = ({ state }: Entry): boolean => state > FlowState.FLOW_CLAIMED

/** Unexpired, by the settings' timeouts: an age has twelve bits. */
export const isLive = (entry: Entry, now: number, timeout: readonly number[]): boolean =>
  isUsed(entry) && (((now - entry.age) % 4096) + 4096) % 4096 <= (timeout[entry.state] ?? 0)

/** Entries of few services and backends around an age, claimed and free places among them. */
export const entry = (services: readonly number[], age: number): fc.Arbitrary<Entry> =>
  fc.record({
    source: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    sourcePort: fc.integer({ min: 0, max: 65535 }),
    service: fc.constantFrom(...services),
    port: fc.integer({ min: 0, max: 65535 }),
    backend: fc.oneof(fc.integer({ min: 0, max: 7 }), fc.constant(0xffe)),
    state: fc.constantFrom(...Object.values(FlowState).filter((state) => state !== FlowState.FLOW_FREE)),
    age: fc.integer({ min: Math.max(0, age - 200), max: age }),
    check: fc.integer({ min: 0, max: 2 ** 20 - 1 }),
  })

export const table = (size: number, services: readonly number[], age: number): fc.Arbitrary<(Entry | undefined)[]> =>
  fc.array(fc.option(entry(services, age), { nil: undefined, freq: 5 }), { minLength: size, maxLength: size })
