// SPDX-License-Identifier: Apache-2.0
// What of the memory belongs to the live state: found by going through the live directory target by target.
import {
  Backend,
  BackendDetail,
  RingLimit,
  Service,
  ServiceDetail,
  ServiceFlag,
} from '../../src/dataplane/layout.gen.ts'
import type { MappedName, PlaneMemory } from '../../src/dataplane/memory.ts'
import { directoryExtents, type Extent, occupants } from './directory.ts'
import { globalExtents, policyExtents } from './filter-extents.ts'

export { occupants } from './directory.ts'

/** What services own, each by itself, and the filter of all. A ring's run of lines is whole lines. */
export const ownedExtents = (memory: PlaneMemory): Extent[] => [
  ...serviceExtents(memory),
  ...globalExtents(memory).filter(({ start, end }) => end > start),
]

const serviceExtents = (memory: PlaneMemory): Extent[] =>
  occupants(memory).flatMap(({ name, record, service }) => {
    const extent = (map: MappedName, size: number, first: number, count: number): Extent => ({
      map,
      start: first * size,
      end: (first + count) * size,
      owner: `${name} ${map} at ${first}`,
    })
    const lines = (line: number, slots: number): Extent =>
      extent('rings', RingLimit.SLOTS_PER_LINE * 2, line, Math.ceil(slots / RingLimit.SLOTS_PER_LINE))
    const marked = (service.flags & ServiceFlag.SERVICE_MARKED) !== 0
    return [
      extent('services', Service.size, record, 1),
      extent('service_details', ServiceDetail.size, record, 1),
      ...policyExtents(memory, name, record, service),
      extent('backends', Backend.size, service.backendBase, service.backendCount),
      extent('backend_details', BackendDetail.size, service.backendBase, service.backendCount),
      lines(service.ringLine, service.ringSize),
      lines(service.scheduleLine, service.scheduleSize),
      ...(marked ? [lines(service.beforeLine, service.beforeSize)] : []),
    ].filter(({ start, end }) => end > start)
  })

/** All that packets and readers may look at: what services own, and the way there. */
export const reachableExtents = (memory: PlaneMemory): Extent[] => [
  ...directoryExtents(memory),
  { map: 'settings', start: 0, end: memory.buffer('settings').byteLength, owner: 'settings' },
  ...occupants(memory).map(
    ({ name, service: { id } }): Extent => ({ map: 'cursors', start: id * 8, end: (id + 1) * 8, owner: name }),
  ),
  ...ownedExtents(memory),
]

/** Two extents of one map that share an octet, or one that is not within its map. */
export const findOverlap = (memory: PlaneMemory, extents: readonly Extent[]): string | undefined => {
  const sorted = extents.toSorted((a, b) => (a.map === b.map ? a.start - b.start : a.map < b.map ? -1 : 1))
  for (const [i, extent] of sorted.entries()) {
    if (extent.end > memory.buffer(extent.map).byteLength) return `${extent.owner}: beyond the end`
    const next = sorted[i + 1]
    if (next?.map === extent.map && next.start < extent.end) return `${extent.owner} and ${next.owner} overlap`
  }
  return undefined
}
