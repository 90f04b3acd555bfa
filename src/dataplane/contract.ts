// SPDX-License-Identifier: Apache-2.0
// Does what is pinned speak this xlb's contract (bpf/xlb.h)? Programs and tables of different contracts are never mixed.
import { Contract } from './layout.gen.ts'
import {
  KERNEL_MAP_NAMES,
  KERNEL_MAPS,
  type KernelMapName,
  MAPPED,
  MAPPED_NAMES,
  type MappedName,
  TYPED_MAP_NAMES,
} from './memory.ts'
import type { MapInfo } from './native.ts'

/** How to come from another contract to this one. There is no way in place: the tables mean something else. */
export const MIGRATE =
  'with the xlb that attached it: xlb save -o FILE, then xlb detach --all; with this one: xlb restore --attach FILE'

/** @returns what is wrong with a pinned contract version; undefined: nothing */
export const versionFault = (pinned: number): string | undefined =>
  pinned === Contract.CONTRACT_VERSION
    ? undefined
    : `what is pinned speaks version ${pinned} of the map layouts, this xlb version ${Contract.CONTRACT_VERSION}`

/** What of a pinned map tells whether it is a table of this contract. */
export type PinnedTable = Pick<MapInfo, 'type' | 'keySize' | 'valueSize' | 'maxEntries' | 'flags'>

export const BPF_MAP_TYPE_ARRAY = 2
export const BPF_F_MMAPABLE = 1024

/** Tables of one element. */
const SINGLE: readonly MappedName[] = ['root', 'settings']
/** Tables that are read by one index: they have equally many elements. */
const TWINS: readonly (readonly [MappedName, MappedName])[] = [
  ['vip_buckets', 'service_buckets'],
  ['vip_buckets', 'vip6_buckets'],
  ['services', 'service_policies'],
  ['services', 'service_details'],
  ['backends', 'backend_details'],
  ['backends', 'connection_limits'],
  ['backend_runs', 'cursors'],
]

const isPowerOfTwo = (count: number): boolean => Number.isInteger(Math.log2(count))

const tableFault = (name: MappedName, table: PinnedTable): string | undefined => {
  const size = MAPPED[name]
  const elements = table.valueSize / size
  const says = (what: string) => `table ${name}: ${what}`
  if (table.type !== BPF_MAP_TYPE_ARRAY) return says(`is of map type ${table.type}, not ${BPF_MAP_TYPE_ARRAY} (ARRAY)`)
  if (table.keySize !== 4 || table.maxEntries !== 1) {
    return says(`has ${table.maxEntries} values with keys of ${table.keySize} octets, not one with a key of 4`)
  }
  if ((table.flags & BPF_F_MMAPABLE) === 0) return says('cannot be mapped into memory')
  if (SINGLE.includes(name)) return elements === 1 ? undefined : says(`has ${table.valueSize} octets, not ${size}`)
  if (!isPowerOfTwo(elements)) {
    return says(`has ${table.valueSize} octets, which is no power of two of elements of ${size}`)
  }
  return undefined
}

const kernelMapFault = (name: KernelMapName, map: PinnedTable): string | undefined => {
  const { implied, entries: _, ...wanted } = KERNEL_MAPS[name]
  const has: Omit<PinnedTable, 'maxEntries'> = { ...map, flags: map.flags & ~implied }
  const differing = (Object.keys(wanted) as (keyof typeof wanted)[]).filter((field) => has[field] !== wanted[field])
  if (differing.length === 0) return undefined
  return `map ${name}: ${differing.map((field) => `its ${field} is ${has[field]}, not ${wanted[field]}`).join(', ')}`
}

/**
 * Everything in which pinned tables and other maps differ from what this xlb expects, as lines; empty: they fit. `pinned`
 * is by their names.
 */
export const tableFaults = (pinned: ReadonlyMap<string, PinnedTable>): string[] => {
  const faults: string[] = []
  for (const name of MAPPED_NAMES) {
    const table = pinned.get(name)
    const fault = table === undefined ? `table ${name}: is not there` : tableFault(name, table)
    if (fault !== undefined) faults.push(fault)
  }
  for (const name of KERNEL_MAP_NAMES) {
    const map = pinned.get(name)
    const fault = map === undefined ? `map ${name}: is not there` : kernelMapFault(name, map)
    if (fault !== undefined) faults.push(fault)
  }
  for (const name of TYPED_MAP_NAMES) if (!pinned.has(name)) faults.push(`map ${name}: is not there`)
  const known = new Set<string>([...MAPPED_NAMES, ...KERNEL_MAP_NAMES, ...TYPED_MAP_NAMES])
  for (const name of pinned.keys()) {
    if (!known.has(name)) faults.push(`table ${name}: is not known to this xlb`)
  }
  if (faults.length > 0) return faults
  const elements = (name: MappedName): number => (pinned.get(name)?.valueSize ?? 0) / MAPPED[name]
  for (const [name, twin] of TWINS) {
    if (elements(name) !== elements(twin)) {
      faults.push(`tables ${name} and ${twin}: have ${elements(name)} and ${elements(twin)} elements, not equally many`)
    }
  }
  return faults
}
