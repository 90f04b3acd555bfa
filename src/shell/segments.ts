// SPDX-License-Identifier: Apache-2.0
// Segments: the devices by which backends are reached. An interface that has a slot in `root` is one, and each VLAN device on
// it another.
import type { Interface } from '../dataplane/native.ts'

/** An interface with a slot, and whether it is there. */
export interface Reached {
  slot: number
  ifindex: number
  name: string
}

export interface Segment extends Reached {
  /** Of a VLAN device its tag. */
  vlan?: number
}

/** VLAN devices on these interfaces, but for a provider's: xlb writes no such tag. */
export const vlansOn = (reached: readonly Reached[], interfaces: readonly Interface[]): Segment[] => {
  const parents = new Map(reached.map((each) => [each.ifindex, each]))
  return interfaces.flatMap(({ kind, link, linkNetnsId, vlan, vlanOfProvider, ifindex, name }) => {
    const parent = kind === 'vlan' && linkNetnsId < 0 && !vlanOfProvider ? parents.get(link) : undefined
    return parent === undefined || vlan === 0 ? [] : [{ slot: parent.slot, ifindex, name, vlan }]
  })
}

/** Of the segments behind one slot those that a backend may be in, the likeliest first: its own VLAN. */
export const byLikelihood = (segments: readonly Segment[], slot: number, vlan: number | undefined): Segment[] => {
  const behind = segments.filter((each) => each.slot === slot)
  return [...behind.filter((each) => each.vlan === vlan), ...behind.filter((each) => each.vlan !== vlan)]
}
