// SPDX-License-Identifier: Apache-2.0
// What of the memory belongs to filters that packets are led to.
import {
  Directory,
  FilterBound,
  FilterPrefix,
  Filter as FilterRecord,
  Root,
  type Service,
  ServiceFlag,
  ServicePolicy,
} from '../../src/dataplane/layout.gen.ts'
import { liveVips } from '../../src/dataplane/live-directory.ts'
import type { MappedName, PlaneMemory } from '../../src/dataplane/memory.ts'
import type { Extent } from './directory.ts'

const extent = (owner: string, map: MappedName, size: number, first: number, count: number): Extent => ({
  map,
  start: first * size,
  end: (first + count) * size,
  owner: `${owner} ${map} at ${first}`,
})

/** One filter's, by its record. */
const extentsOf = (memory: PlaneMemory, record: number, owner: string): Extent[] => {
  if (record === 0) return []
  const filter = FilterRecord.read(new DataView(memory.buffer('filters')), record * FilterRecord.size)
  return [
    extent(owner, 'filters', FilterRecord.size, record, 1),
    extent(owner, 'filter_prefixes', FilterPrefix.size, filter.prefixes, filter.prefixCount),
    extent(owner, 'filter_bounds', FilterBound.size, filter.first4, Math.ceil(filter.count4 / 4)),
    extent(owner, 'filter_bounds', FilterBound.size, filter.first6, filter.count6),
  ]
}

/** A service's policy, and its filter. */
export const policyExtents = (memory: PlaneMemory, name: string, record: number, { flags }: Service): Extent[] => {
  const policy = ServicePolicy.read(new DataView(memory.buffer('service_policies')), record * ServicePolicy.size)
  return [
    extent(name, 'service_policies', ServicePolicy.size, record, 1),
    ...((flags & ServiceFlag.SERVICE_POLICY) === 0 ? [] : extentsOf(memory, policy.filter, name)),
  ]
}

/** The filter of all services. */
export const globalExtents = (memory: PlaneMemory): Extent[] => {
  const root = new DataView(memory.buffer('root'))
  const { live } = liveVips(memory, root.getBigUint64(Root.offset.live, true))
  const { filter } = Directory.read(root, Root.offset.directory + live * Directory.size)
  return extentsOf(memory, filter, 'all services')
}
