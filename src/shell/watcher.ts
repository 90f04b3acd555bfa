// SPDX-License-Identifier: Apache-2.0
// The kernel's own words about neighbours, links and routes, made into what a controller acts on: what has changed, each thing
// once, at most every PAUSE_MS, and the first time at once. A MAC that changes has to reach the maps within 100 ms.
import { isKept, isUsable } from '../core/neighbour.ts'
import type { Interface, Neighbour, NetlinkEvent, NetlinkMonitor } from '../dataplane/native.ts'

/** Between two calls of the same watcher: whatever comes in between waits for the second. */
export const PAUSE_MS = 20

export interface ChangedNeighbour {
  ifindex: number
  address: string
}

export interface ChangedLink {
  ifindex: number
  name: string
  /** It is not there any more, under this number. */
  deleted: boolean
}

/** What a controller does about it: each reads from the kernel what it needs, which may be newer than the change. */
export interface WatchHandlers {
  /** Where another MAC leads to the address, none any more, or who keeps the entry resolved is another. */
  onNeighbours: (changed: ChangedNeighbour[]) => void
  onLinks: (changed: ChangedLink[]) => void
  /** Routes or own addresses: another interface or gateway may lead to a backend. */
  onRoutes: () => void
  /** Changes were lost: everything is to be read again. Nothing else is told at that time. */
  onOverrun: () => void
}

export interface WatchPorts {
  monitor: (listener: (events: NetlinkEvent[]) => void) => NetlinkMonitor
  /** Milliseconds of a clock that only goes forward. */
  now: () => number
  /** Calls back after so many milliseconds; after 0 still in this turn of the loop. @returns what prevents it */
  after: (milliseconds: number, call: () => void) => () => void
}

/** Node's own clock and loop. */
export const nodePorts = (monitor: WatchPorts['monitor']): WatchPorts => ({
  monitor,
  now: () => performance.now(),
  after: (milliseconds, call) => {
    if (milliseconds <= 0) {
      const immediate = setImmediate(call)
      return () => clearImmediate(immediate)
    }
    const timer = setTimeout(call, milliseconds)
    return () => clearTimeout(timer)
  },
})

const keyOf = ({ ifindex, address }: ChangedNeighbour): string => `${ifindex} ${address}`

/**
 * What of an entry matters here. A kept one goes from REACHABLE over STALE, DELAY and PROBE back to REACHABLE every half
 * minute, and nothing has changed.
 */
const meaningOf = (deleted: boolean, neighbour: Neighbour): string =>
  deleted ? '' : `${isUsable(neighbour) ? neighbour.mac : 'none'} ${isKept(neighbour)}`

export class Watcher {
  readonly #ports: WatchPorts
  readonly #handlers: WatchHandlers
  readonly #monitor: NetlinkMonitor
  /** As the last event told it; of what no event has told, nothing. */
  readonly #neighbours = new Map<string, string>()
  readonly #links = new Map<number, string>()
  #changedNeighbours = new Map<string, ChangedNeighbour>()
  #changedLinks = new Map<string, ChangedLink>()
  #routes = false
  #overrun = false
  #lastCall = Number.NEGATIVE_INFINITY
  #cancel: (() => void) | undefined
  #closed = false

  constructor(ports: WatchPorts, handlers: WatchHandlers) {
    this.#ports = ports
    this.#handlers = handlers
    this.#monitor = ports.monitor((events) => this.#take(events))
  }

  /** No handler is called after it. Idempotent. */
  close(): void {
    this.#closed = true
    this.#cancel?.()
    this.#cancel = undefined
    this.#monitor.close()
  }

  #take(events: readonly NetlinkEvent[]): void {
    if (this.#closed) return
    for (const event of events) this.#note(event)
    const nothing =
      !this.#overrun && !this.#routes && this.#changedNeighbours.size === 0 && this.#changedLinks.size === 0
    if (nothing || this.#cancel !== undefined) return
    this.#cancel = this.#ports.after(this.#lastCall + PAUSE_MS - this.#ports.now(), () => this.#tell())
  }

  #note(event: NetlinkEvent): void {
    switch (event.kind) {
      case 'neighbour':
        this.#noteNeighbour(event.deleted, event.neighbour)
        break
      case 'link':
        this.#noteLink(event.deleted, event.link)
        break
      case 'address':
      case 'route':
        this.#routes = true
        break
      case 'overrun':
        this.#overrun = true
        this.#neighbours.clear()
        this.#links.clear()
        break
      default:
        event satisfies never
    }
  }

  /**
   * Compared with the event before, not with what was last told: whoever reads in between may have seen a state that the
   * next event takes back.
   */
  #noteNeighbour(deleted: boolean, neighbour: Neighbour): void {
    const { ifindex, address } = neighbour
    const key = keyOf(neighbour)
    const meaning = meaningOf(deleted, neighbour)
    if (this.#neighbours.get(key) === meaning) return
    if (deleted) this.#neighbours.delete(key)
    else this.#neighbours.set(key, meaning)
    this.#changedNeighbours.set(key, { ifindex, address })
  }

  #noteLink(deleted: boolean, link: Interface): void {
    const { ifindex, name } = link
    const meaning = JSON.stringify(link)
    if (!deleted && this.#links.get(ifindex) === meaning) return
    if (deleted) this.#links.delete(ifindex)
    else this.#links.set(ifindex, meaning)
    this.#changedLinks.set(`${ifindex} ${name}`, { ifindex, name, deleted })
    // The kernel does not tell of the IPv4 routes that go along with a link.
    this.#routes = true
  }

  #tell(): void {
    this.#cancel = undefined
    this.#lastCall = this.#ports.now()
    const neighbours = [...this.#changedNeighbours.values()]
    const links = [...this.#changedLinks.values()]
    const { routes, overrun } = { routes: this.#routes, overrun: this.#overrun }
    this.#changedNeighbours = new Map()
    this.#changedLinks = new Map()
    this.#routes = false
    this.#overrun = false
    if (overrun) {
      this.#handlers.onOverrun()
      return
    }
    if (links.length > 0) this.#handlers.onLinks(links)
    if (routes && !this.#closed) this.#handlers.onRoutes()
    if (neighbours.length > 0 && !this.#closed) this.#handlers.onNeighbours(neighbours)
  }
}
