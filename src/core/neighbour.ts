// SPDX-License-Identifier: Apache-2.0
// What the state of a neighbour entry means to xlb.

/** Of an entry of the kernel's neighbour table. */
export interface NeighbourState {
  /** '' while unresolved. */
  mac: string
  /** NUD_* bits of linux/neighbour.h. */
  state: number
  /** NTF_EXT_MANAGED: the kernel keeps it resolved. */
  managed: boolean
}

const NUD = { REACHABLE: 2, STALE: 4, DELAY: 8, PROBE: 16, FAILED: 32, NOARP: 64, PERMANENT: 128 }
const USABLE = NUD.REACHABLE | NUD.STALE | NUD.DELAY | NUD.PROBE | NUD.NOARP | NUD.PERMANENT

/** Does it say where packets go? */
export const isUsable = ({ mac, state }: NeighbourState): boolean => mac !== '' && (state & USABLE) !== 0

/** Has the kernel asked in vain? Of a managed entry it goes on asking, at intervals. */
export const hasFailed = ({ state }: Pick<NeighbourState, 'state'>): boolean => (state & NUD.FAILED) !== 0

/** An administrator's, or of a device that resolves nothing: it needs no upkeep. */
export const isFixed = ({ state }: Pick<NeighbourState, 'state'>): boolean =>
  (state & (NUD.PERMANENT | NUD.NOARP)) !== 0

/** Is it an entry that the kernel, or an administrator, keeps? */
export const isKept = (neighbour: NeighbourState): boolean => neighbour.managed || isFixed(neighbour)
