// SPDX-License-Identifier: Apache-2.0
// The VLAN of a backend: frames for it leave with that tag, or untagged.
import { Refusal } from './refusal.ts'

/** As configured. Undefined where a backend has one: that of the interface which the route to it leads out of. */
export type Vlan = 'none' | number

/** IEEE 802.1Q: 0 is a priority without a VLAN, 4095 is reserved. */
export const VLAN_MIN = 1
export const VLAN_MAX = 4094

/**
 * `--vlan`: an id, `none` (untagged), or `auto` (by the route).
 * @throws Refusal
 */
export const parseVlan = (text: string): Vlan | 'auto' => {
  if (text === 'auto' || text === 'none') return text
  const id = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN
  if (id >= VLAN_MIN && id <= VLAN_MAX) return id
  throw new Refusal(
    id === 0 ? '--vlan 0: is a priority tag, and no VLAN' : `--vlan ${text}: is not a VLAN`,
    id === 0
      ? 'none for untagged frames, or the VLAN’s number, 1 to 4094'
      : 'choose 1 to 4094, none for untagged frames, or auto for the VLAN of the interface that the route leads out of',
    { usage: true },
  )
}
