// SPDX-License-Identifier: Apache-2.0
// Where packets for a backend go, as the kernel knows it: routes, and neighbours that it keeps resolved for us
// (NTF_EXT_MANAGED). xlb sends neither ARP nor neighbour solicitations of its own.
import { parseMac } from '../core/address.ts'
import type { Path } from '../core/desired.ts'
import { type AddressKey, AF, addressKey, familyOf, formatAddressKey } from '../core/ip.ts'
import { hasFailed, isFixed, isKept, isUsable } from '../core/neighbour.ts'
import { Refusal } from '../core/refusal.ts'
import { type BackendScan, scanBackends } from '../dataplane/backend-records.ts'
import { AdminState, BackendFlag } from '../dataplane/layout.gen.ts'
import type { PlaneMemory } from '../dataplane/memory.ts'
import type { Interface, Native, Neighbour } from '../dataplane/native.ts'
import type { LiveState } from '../dataplane/reader.ts'
import { byLikelihood, type Reached, type Segment, vlansOn } from './segments.ts'

/** The kernel asks three times, a second apart (mcast_solicit, retrans_time_ms), before it gives up. */
const ANSWER_MS = 3_500
const POLL_MS = 10

const key = (ifindex: number, address: string): string => `${ifindex} ${address}`

const usable = (neighbour: Neighbour | undefined): neighbour is Neighbour =>
  neighbour !== undefined && isUsable(neighbour)

const sleep = (milliseconds: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** Of an address: its MAC in two halves (`low` is -1: not known), and whether the kernel keeps it resolved. */
interface Known {
  low: number
  high: number
  kept: boolean
  /** It has stopped answering, and somebody watches whether it begins again. */
  failed: boolean
}

const noAnswer = (address: string, { name }: Pick<Segment, 'name'>): string =>
  `${address} does not answer ${familyOf(address) === 'ipv4' ? 'ARP' : 'neighbour discovery'} on ${name}`

const linkPath = ({ mac }: Neighbour, { slot, vlan }: Segment): Path => ({
  kind: 'link',
  mac: parseMac(mac),
  interfaceSlot: slot,
  ...(vlan === undefined ? {} : { vlan }),
})

/** Gives a backend's interface a slot where it has none. @throws Refusal where it cannot have one */
export type Allot = (backend: string, link: Interface) => Reached

/** Of enum admin_state, those of removed backends. */
const LEAVING: ReadonlySet<number> = new Set([AdminState.ADMIN_LEAVING, AdminState.ADMIN_CUT])

/** How whoever asks goes about it. */
export interface Manner {
  /** How long `resolve` waits for answers; absent: as long as the kernel asks. */
  answerMs?: number
  /**
   * Somebody looks again and again: a backend that has stopped answering is out until it answers, and one that cannot be reached is
   * unresolved, and no refusal. Absent: what is out would stay out until the next verb.
   */
  watched?: boolean
  /** Somebody is told of each change, and takes it over: a change of something else need not look for those of all backends. */
  followed?: boolean
}

/** The kernel's neighbours of one moment. */
export class Neighbours {
  readonly #native: Native
  readonly #manner: Manner
  readonly #segments: Segment[]
  #byKey = new Map<string, Neighbour>()

  /** `reached`: the interfaces that have slots, as far as they are there. */
  constructor(native: Native, reached: readonly Reached[], manner: Manner = {}) {
    this.#native = native
    this.#manner = manner
    const plain = reached.map(({ slot, ifindex, name }): Segment => ({ slot, ifindex, name }))
    this.#segments = [...plain, ...vlansOn(plain, native.netlink.interfaces())]
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
    const isLink = before.kind === 'link'
    const segments = isLink ? byLikelihood(this.#segments, before.interfaceSlot, before.vlan) : this.#segments
    for (const segment of segments) {
      const neighbour = this.#byKey.get(key(segment.ifindex, address))
      if (
        isLink &&
        this.#hasFailed(neighbour) &&
        segment.vlan === before.vlan &&
        segment.slot === before.interfaceSlot
      ) {
        return { kind: 'unresolved', why: noAnswer(address, segment) }
      }
      if (!usable(neighbour)) continue
      // In another segment the same address may be another host's: unless that is where xlb has looked for it.
      if (isLink && segment.vlan !== before.vlan && !isKept(neighbour)) continue
      return linkPath(neighbour, segment)
    }
    return before
  }

  /**
   * Resolves addresses, all at once: has the kernel ask for those that it does not know, and waits for the answers.
   * @returns a path for each; one that did not answer is `unresolved`
   * @throws Refusal for an address that no packet of xlb could reach: no route, a gateway in between, an interface that
   * frames cannot leave by
   */
  resolve(addresses: Iterable<string>, allot: Allot): Map<string, Path> {
    const paths = new Map<string, Path>()
    const asked = new Map<string, Segment>()
    for (const address of addresses) {
      const found = this.#wayTo(address, allot)
      if ('kind' in found) {
        paths.set(address, found)
        continue
      }
      asked.set(address, found)
      this.#manage(found.ifindex, address)
    }
    this.#awaitAnswers(asked, paths)
    return paths
  }

  /** The segment of an address; or all that can be said of the path to it. */
  #wayTo(address: string, allot: Allot): Segment | Path {
    try {
      const found = this.#segmentOf(address, allot)
      return found === 'local' ? { kind: 'local' } : found
    } catch (error) {
      if (this.#manner.watched !== true || !(error instanceof Refusal)) throw error
      return { kind: 'unresolved', why: error.message.replace(/^backend /, '') }
    }
  }

  #hasFailed(neighbour: Neighbour | undefined): boolean {
    return this.#manner.watched === true && neighbour !== undefined && hasFailed(neighbour)
  }

  #manage(ifindex: number, address: string): void {
    const known = this.#byKey.get(key(ifindex, address))
    // A permanent entry is an administrator's: it needs no upkeep.
    if (known !== undefined && (known.managed || isFixed(known))) return
    this.#native.netlink.manageNeighbour(ifindex, address)
  }

  /**
   * Services of which the kernel knows a backend's MAC otherwise than the maps do; and those that have leaving backends, seen on the
   * same walk. On the way it has the kernel keep those resolved that it has let go: an interface that goes down, or goes, takes
   * its neighbours along.
   */
  outdated(memory: PlaneMemory, live: LiveState): { outdated: Set<string>; leaving: Set<string> } {
    if (this.#manner.followed === true) return { outdated: new Set(), leaving: new Set() }
    const tables = this.#addressTables()
    const tagged = new Set(this.#segments.flatMap(({ slot, vlan }) => (vlan === undefined ? [] : [`${slot} ${vlan}`])))
    const outdated = new Set<string>()
    const leaving = new Set<string>()
    scanBackends(memory, live, (backend) => {
      if (LEAVING.has(backend.admin)) leaving.add(backend.name)
      if ((backend.flags & BackendFlag.BACKEND_LOCAL) !== 0) return
      for (const [segment, table] of tables) {
        if (backend.isLink && segment.slot !== backend.interfaceSlot) continue
        const known = table.get(backend.address)
        // A tag that was asked for may be that of no device here: then the interface itself knows the backend.
        const own = backend.vlan !== 0 && tagged.has(`${segment.slot} ${backend.vlan}`) ? backend.vlan : undefined
        if (backend.isLink && segment.vlan !== own && known?.kept !== true) continue
        if (known === undefined || !known.kept) this.#manageAgain(segment, backend.address)
        if (backend.isLink && known?.failed === true) outdated.add(backend.name)
        if (known === undefined || known.low < 0) continue
        if (!backend.isLink || known.low !== backend.macLow || known.high !== backend.macHigh)
          outdated.add(backend.name)
      }
    })
    return { outdated, leaving }
  }

  readonly #asked = new Set<string>()

  #manageAgain({ ifindex }: Segment, address: AddressKey): void {
    const asked = key(ifindex, formatAddressKey(address))
    if (this.#asked.has(asked)) return
    this.#asked.add(asked)
    this.#manage(ifindex, formatAddressKey(address))
  }

  /** What the kernel knows of each address in each segment. */
  #addressTables(): [Segment, Map<AddressKey, Known>][] {
    const tables = new Map(
      this.#segments.map((segment) => [segment.ifindex, { segment, table: new Map<AddressKey, Known>() }]),
    )
    for (const neighbour of this.#byKey.values()) {
      const found = tables.get(neighbour.ifindex)
      if (found === undefined) continue
      const kept = isKept(neighbour)
      const mac = usable(neighbour) ? parseMac(neighbour.mac) : undefined
      found.table.set(addressKey(neighbour.address), {
        low: mac === undefined ? -1 : Number(mac & 0xffffffffn),
        high: mac === undefined ? -1 : Number(mac >> 32n),
        kept,
        failed: this.#hasFailed(neighbour),
      })
    }
    return [...tables.values()].map(({ segment, table }) => [segment, table])
  }

  #awaitAnswers(asked: Map<string, Segment>, paths: Map<string, Path>): void {
    const end = Date.now() + (this.#manner.answerMs ?? ANSWER_MS)
    for (;;) {
      for (const [address, segment] of asked) {
        const neighbour = this.#byKey.get(key(segment.ifindex, address))
        if (!usable(neighbour)) continue
        paths.set(address, linkPath(neighbour, segment))
        asked.delete(address)
      }
      if (asked.size === 0) return
      if (Date.now() >= end) break
      sleep(POLL_MS)
      this.#read()
    }
    for (const [address, segment] of asked) {
      paths.set(address, { kind: 'unresolved', why: noAnswer(address, segment) })
    }
  }

  #segmentOf(address: string, allot: Allot): Segment | 'local' {
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
    return this.#segments.find(({ ifindex }) => ifindex === route.ifindex) ?? this.#allot(address, route.ifindex, allot)
  }

  /** A segment that is not known yet: of an interface that leads to backends from now on, or of a VLAN on one. */
  #allot(address: string, ifindex: number, allot: Allot): Segment {
    const link = this.#interface(address, ifindex)
    const parent = link.kind === 'vlan' ? this.#parentOf(address, link) : link
    const reached = this.#segments.find((each) => each.ifindex === parent.ifindex) ?? allot(address, parent)
    const plain = { slot: reached.slot, ifindex: reached.ifindex, name: reached.name }
    this.#segments.push(plain, ...vlansOn([plain], this.#native.netlink.interfaces()))
    return link === parent ? plain : { ...plain, ifindex: link.ifindex, name: link.name, vlan: link.vlan }
  }

  #interface(address: string, ifindex: number): Interface {
    const link = this.#native.netlink.interfaceByIndex(ifindex, -1)
    if (link !== undefined) return link
    throw new Refusal(`backend ${address}: is reached through interface ${ifindex}, which is gone`, 'see: ip route')
  }

  /** @throws Refusal where the frame would need another tag than one of 802.1Q, or the parent is elsewhere */
  #parentOf(address: string, vlan: Interface): Interface {
    const where = `backend ${address}: is reached through the VLAN device ${vlan.name}`
    const parent = vlan.linkNetnsId < 0 ? this.#interface(address, vlan.link) : undefined
    if (parent === undefined) {
      throw new Refusal(`${where}, whose parent is in another network namespace`, 'run xlb in the namespace of both')
    }
    if (vlan.vlanOfProvider || parent.kind === 'vlan') {
      throw new Refusal(
        `${where}, a VLAN ${vlan.vlanOfProvider ? "of the provider's kind, 802.1ad" : `within ${parent.name}`}: xlb writes one tag of 802.1Q`,
        'where clients’ frames come with the outer tag, have the route lead out of the interface itself, and name the inner: --vlan ID',
      )
    }
    return parent
  }

  /** Backends of which the kernel now has another MAC than the maps do: what the next changing verb will mend. */
  changedSince(memory: PlaneMemory, live: LiveState): string[] {
    const changed = new Set<string>()
    for (const { name, index } of onceEach(memory, live)) {
      const want = live.services.get(name)?.backends.find((backend) => backend.index === index)?.want
      if (want === undefined) continue
      const { address, path } = want
      const now = this.refreshed(address, path)
      if (now.kind === 'link' && (path.kind !== 'link' || now.mac !== path.mac)) changed.add(address)
    }
    return [...changed]
  }

  /** Lets go of neighbours that no backend needs any more, if they were managed. */
  release(addresses: Iterable<string>): void {
    for (const address of addresses) {
      for (const { ifindex } of this.#segments) {
        if (this.#byKey.get(key(ifindex, address))?.managed === true) {
          this.#native.netlink.deleteNeighbour(ifindex, address)
        }
      }
    }
  }
}

/** One backend of each address and way to it: thousands of services may name the same ones. */
const onceEach = (memory: PlaneMemory, live: LiveState): { name: string; index: number }[] => {
  const found: { name: string; index: number }[] = []
  const seen = new Map<AddressKey, BackendScan[]>()
  scanBackends(memory, live, (scan) => {
    const ways = seen.get(scan.address)
    if (ways?.some((way) => sameWay(way, scan)) === true) return
    if (ways === undefined) seen.set(scan.address, [{ ...scan }])
    else ways.push({ ...scan })
    found.push({ name: scan.name, index: scan.index })
  })
  return found
}

const sameWay = (a: BackendScan, b: BackendScan): boolean =>
  a.macLow === b.macLow &&
  a.macHigh === b.macHigh &&
  a.flags === b.flags &&
  a.interfaceSlot === b.interfaceSlot &&
  a.vlan === b.vlan
