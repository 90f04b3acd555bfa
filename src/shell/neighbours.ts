// SPDX-License-Identifier: Apache-2.0
// Where packets for a backend go, as the kernel knows it: routes, and neighbours that it keeps resolved for us
// (NTF_EXT_MANAGED). xlb sends neither ARP nor neighbour solicitations of its own.
import { parseMac } from '../core/address.ts'
import type { DesiredState, Path } from '../core/desired.ts'
import { type AddressKey, AF, addressKey, familyOf, formatAddressKey } from '../core/ip.ts'
import { Refusal } from '../core/refusal.ts'
import { AdminState, BackendFlag } from '../dataplane/layout.gen.ts'
import type { PlaneMemory } from '../dataplane/memory.ts'
import type { Native, Neighbour } from '../dataplane/native.ts'
import { type LiveState, scanBackends } from '../dataplane/reader.ts'
import type { AttachedInterface } from './interfaces.ts'

const NUD = { REACHABLE: 2, STALE: 4, DELAY: 8, PROBE: 16, FAILED: 32, NOARP: 64, PERMANENT: 128 }
const USABLE = NUD.REACHABLE | NUD.STALE | NUD.DELAY | NUD.PROBE | NUD.NOARP | NUD.PERMANENT
/** The kernel asks three times, a second apart (mcast_solicit, retrans_time_ms), before it gives up. */
const ANSWER_MS = 3_500
const POLL_MS = 10

const key = (ifindex: number, address: string): string => `${ifindex} ${address}`

const usable = (neighbour: Neighbour | undefined): neighbour is Neighbour =>
  neighbour !== undefined && neighbour.mac !== '' && (neighbour.state & USABLE) !== 0

const sleep = (milliseconds: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** Of an address: its MAC in two halves (`low` is -1: not known), and whether the kernel keeps it resolved. */
interface Known {
  low: number
  high: number
  kept: boolean
}

/** The kernel's neighbours of one moment. */
export class Neighbours {
  readonly #native: Native
  readonly #attached: readonly AttachedInterface[]
  #byKey = new Map<string, Neighbour>()

  constructor(native: Native, attached: readonly AttachedInterface[]) {
    this.#native = native
    this.#attached = attached
    this.#read()
  }

  #read(): void {
    const { netlink } = this.#native
    const all = [...netlink.neighbours(AF.ipv4), ...netlink.neighbours(AF.ipv6)]
    this.#byKey = new Map(all.map((each) => [key(each.ifindex, each.address), each]))
  }

  /** The path as it is now, without asking anybody: what the kernel does not know stays as it was. */
  refreshed(address: string, before: Path): Path {
    if (before.kind === 'local') return before
    for (const { ifindex, slot } of this.#attached) {
      if (before.kind === 'link' && before.interfaceSlot !== slot) continue
      const neighbour = this.#byKey.get(key(ifindex, address))
      if (usable(neighbour)) return { kind: 'link', mac: parseMac(neighbour.mac), interfaceSlot: slot }
    }
    return before
  }

  /**
   * Resolves addresses, all at once: has the kernel ask for those that it does not know, and waits for the answers.
   * @returns a path for each; one that did not answer is `unresolved`
   * @throws Refusal for an address that no packet of xlb could reach: no route, a gateway in between, an interface that
   * xlb is not attached to
   */
  resolve(addresses: Iterable<string>): Map<string, Path> {
    const paths = new Map<string, Path>()
    const asked = new Map<string, AttachedInterface>()
    for (const address of addresses) {
      const found = this.#interfaceOf(address)
      if (found === 'local') {
        paths.set(address, { kind: 'local' })
        continue
      }
      asked.set(address, found)
      this.#manage(found.ifindex, address)
    }
    this.#awaitAnswers(asked, paths)
    return paths
  }

  #manage(ifindex: number, address: string): void {
    const known = this.#byKey.get(key(ifindex, address))
    // A permanent entry is an administrator's: it needs no upkeep.
    if (known?.managed === true || ((known?.state ?? 0) & (NUD.PERMANENT | NUD.NOARP)) !== 0) return
    this.#native.netlink.manageNeighbour(ifindex, address)
  }

  /**
   * Services of which the kernel knows a backend's MAC otherwise than the maps do; and those that have leaving backends, seen on the
   * same walk. On the way it has the kernel keep those resolved that it has let go: an interface that goes down, or goes, takes
   * its neighbours along.
   */
  outdated(memory: PlaneMemory, live: LiveState): { outdated: Set<string>; leaving: Set<string> } {
    const bySlot = this.#addressTables()
    const outdated = new Set<string>()
    const leaving = new Set<string>()
    scanBackends(memory, live, (backend) => {
      if (backend.admin >= AdminState.ADMIN_LEAVING) leaving.add(backend.name)
      if ((backend.flags & BackendFlag.BACKEND_LOCAL) !== 0) return
      const alive = (backend.flags & BackendFlag.BACKEND_ALIVE) !== 0
      for (const [slot, table] of bySlot) {
        if (alive && slot !== backend.interfaceSlot) continue
        const known = table.get(backend.address)
        if (known === undefined || !known.kept) this.#manageAgain(slot, backend.address)
        if (known === undefined || known.low < 0) continue
        if (!alive || known.low !== backend.macLow || known.high !== backend.macHigh) outdated.add(backend.name)
      }
    })
    return { outdated, leaving }
  }

  readonly #asked = new Set<string>()

  #manageAgain(slot: number, address: AddressKey): void {
    const found = this.#attached.find((each) => each.slot === slot)
    const text = formatAddressKey(address)
    if (found === undefined || this.#asked.has(`${slot} ${text}`)) return
    this.#asked.add(`${slot} ${text}`)
    this.#manage(found.ifindex, text)
  }

  /** By slot: what the kernel knows of each address. */
  #addressTables(): Map<number, Map<AddressKey, Known>> {
    const tables = new Map(
      this.#attached
        .filter(({ attached }) => attached)
        .map(({ slot, ifindex }) => [ifindex, { slot, table: new Map<AddressKey, Known>() }]),
    )
    for (const neighbour of this.#byKey.values()) {
      const found = tables.get(neighbour.ifindex)
      if (found === undefined) continue
      const kept = neighbour.managed || (neighbour.state & (NUD.PERMANENT | NUD.NOARP)) !== 0
      const mac = usable(neighbour) ? parseMac(neighbour.mac) : undefined
      found.table.set(addressKey(neighbour.address), {
        low: mac === undefined ? -1 : Number(mac & 0xffffffffn),
        high: mac === undefined ? -1 : Number(mac >> 32n),
        kept,
      })
    }
    return new Map([...tables.values()].map(({ slot, table }) => [slot, table]))
  }

  #awaitAnswers(asked: Map<string, AttachedInterface>, paths: Map<string, Path>): void {
    const end = Date.now() + ANSWER_MS
    for (;;) {
      for (const [address, { ifindex, slot }] of asked) {
        const neighbour = this.#byKey.get(key(ifindex, address))
        if (!usable(neighbour)) continue
        paths.set(address, { kind: 'link', mac: parseMac(neighbour.mac), interfaceSlot: slot })
        asked.delete(address)
      }
      if (asked.size === 0) return
      if (Date.now() > end) break
      sleep(POLL_MS)
      this.#read()
    }
    for (const [address, { name }] of asked) {
      paths.set(address, {
        kind: 'unresolved',
        why: `${address} does not answer ${familyOf(address) === 'ipv4' ? 'ARP' : 'neighbour discovery'} on ${name}`,
      })
    }
  }

  #interfaceOf(address: string): AttachedInterface | 'local' {
    let route: ReturnType<Native['netlink']['route']>
    try {
      route = this.#native.netlink.route(address)
    } catch (error) {
      throw new Refusal(
        `backend ${address}: this host has no route to it (${error instanceof Error ? error.message : error})`,
        'give the attached interface an address in the backend’s network',
      )
    }
    if (route.type === 'local') return 'local'
    if (route.type !== 'unicast') {
      throw new Refusal(`backend ${address}: the route to it is of type ${route.type}`, `see: ip route get ${address}`)
    }
    if (route.gateway !== '') {
      throw new Refusal(
        `backend ${address}: is behind the gateway ${route.gateway}, and direct server return reaches only the same segment`,
        'put director and real server into one layer-2 network',
      )
    }
    const found = this.#attached.find(({ ifindex, attached }) => attached && ifindex === route.ifindex)
    if (found === undefined) {
      const name = this.#native.netlink.interfaceByIndex(route.ifindex, -1)?.name ?? `interface ${route.ifindex}`
      throw new Refusal(
        `backend ${address}: is reached through ${name}, which xlb is not attached to`,
        `attach it too: xlb attach ${name}`,
      )
    }
    return found
  }

  /** Backends of which the kernel now has another MAC than the maps do: what the next changing verb will mend. */
  changedSince(state: DesiredState): string[] {
    const changed = new Set<string>()
    for (const service of state.values()) {
      for (const { address, path } of service.backends) {
        const now = this.refreshed(address, path)
        if (now.kind === 'link' && (path.kind !== 'link' || now.mac !== path.mac)) changed.add(address)
      }
    }
    return [...changed]
  }

  /** Lets go of neighbours that no backend needs any more, if they were managed. */
  release(addresses: Iterable<string>): void {
    for (const address of addresses) {
      for (const { ifindex } of this.#attached) {
        if (this.#byKey.get(key(ifindex, address))?.managed === true) {
          this.#native.netlink.deleteNeighbour(ifindex, address)
        }
      }
    }
  }
}
