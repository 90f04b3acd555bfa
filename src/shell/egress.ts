// SPDX-License-Identifier: Apache-2.0
// Interfaces without a program, by which backends are reached: slots of `root` that are given out when a backend needs one, and
// taken back when none does. What is in use is what a live backend leads to; whatever a killed verb leaves is free again.
import { parseMac } from '../core/address.ts'
import { egressFault } from '../core/egress.ts'
import { Refusal } from '../core/refusal.ts'
import { scanBackends } from '../dataplane/backend-records.ts'
import { InterfaceRole } from '../dataplane/layout.gen.ts'
import type { PlaneMemory } from '../dataplane/memory.ts'
import { type Interface, type Native, XdpFeature } from '../dataplane/native.ts'
import type { LiveState } from '../dataplane/reader.ts'
import {
  type AttachedInterface,
  clearInterface,
  type EgressInterface,
  egressInterfaces,
  freeSlot,
  writeInterface,
} from './interfaces.ts'
import type { Reached } from './segments.ts'

/** Slots that live backends lead to. */
export const usedSlots = (memory: PlaneMemory, live: LiveState): Set<number> => {
  const used = new Set<number>()
  scanBackends(memory, live, ({ interfaceSlot, isLink }) => {
    if (isLink) used.add(interfaceSlot)
  })
  return used
}

/** @throws Refusal where frames for this backend could not leave by that interface */
export const demandEgress = (
  native: Native,
  backend: string,
  link: Interface,
  attached: readonly AttachedInterface[],
): void => {
  const redirecting = attached.filter(
    (each) => each.attached && each.mode === 'native' && each.ifindex !== link.ifindex,
  )
  const features = native.netlink.xdpFeatures(link.ifindex)
  const does = (bit: number) => (features === undefined ? undefined : (features & bit) !== 0)
  const fault = egressFault(backend, {
    ...link,
    transmits: does(XdpFeature.TRANSMIT),
    transmitsMultiBuffer: does(XdpFeature.TRANSMIT_MULTI_BUFFER),
    native: redirecting.map(({ name }) => name),
    multiBuffer: redirecting.filter(({ multiBuffer }) => multiBuffer).map(({ name }) => name),
  })
  if (fault !== undefined) throw fault
}

export class Egress {
  readonly #native: Native
  readonly #memory: PlaneMemory
  readonly #attached: readonly AttachedInterface[]
  #egress: EgressInterface[]

  constructor(native: Native, memory: PlaneMemory, attached: readonly AttachedInterface[]) {
    this.#native = native
    this.#memory = memory
    this.#attached = attached
    this.#egress = egressInterfaces(native, memory, attached)
  }

  /** Those that are there. */
  get reached(): Reached[] {
    return this.#egress.filter(({ fault }) => fault === undefined)
  }

  /**
   * A slot for an interface that has none.
   * @throws Refusal where no frame could leave by it, and where all slots are taken
   */
  allot(backend: string, link: Interface): Reached {
    const stale = this.#attached.find(({ name, attached }) => name === link.name && !attached)
    if (stale !== undefined) {
      throw new Refusal(
        `backend ${backend}: is reached through ${link.name}, which xlb is no more attached to: ${stale.fault}`,
        `attach it again: xlb attach ${link.name}`,
      )
    }
    demandEgress(this.#native, backend, link, this.#attached)
    const slot = freeSlot([...this.#attached, ...this.#egress])
    if (slot < 0) throw new Refusal(`backend ${backend}: every slot for an interface is taken`, 'detach one first')
    this.#write(slot, link)
    const reached = { slot, ifindex: link.ifindex, name: link.name }
    this.#egress.push({ ...reached, mac: link.mac })
    return reached
  }

  #write(slot: number, { mac, ifindex, name }: Interface): void {
    const role = InterfaceRole.INTERFACE_EGRESS
    writeInterface(this.#memory, slot, { mac: parseMac(mac), ifindex, generic: 0, role, name })
  }

  /** Interfaces that were deleted and made again, or have another MAC, are what slots lead to from then on. */
  refresh(): void {
    if (this.#egress.length === 0) return
    const now = this.#native.netlink.interfaces()
    for (const each of this.#egress) {
      const link = now.find(({ name }) => name === each.name)
      if (link === undefined || link.mac === '' || (link.ifindex === each.ifindex && link.mac === each.mac)) continue
      this.#write(each.slot, link)
    }
    this.#egress = egressInterfaces(this.#native, this.#memory, this.#attached)
  }

  /** Takes back the slots that no live backend leads to. */
  giveBack(live: LiveState): void {
    if (this.#egress.length === 0) return
    const used = usedSlots(this.#memory, live)
    const unused = this.#egress.filter(({ slot }) => !used.has(slot))
    if (unused.length === 0) return
    // A packet that came before the commit may be on its way there.
    this.#memory.waitForPrograms()
    for (const { slot } of unused) clearInterface(this.#memory, slot)
    this.#egress = this.#egress.filter(({ slot }) => used.has(slot))
  }
}
