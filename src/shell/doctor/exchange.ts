// SPDX-License-Identifier: Apache-2.0
// Asks the segments: sends probes through a packet socket, again where they are not answered, and listens for about a second.

import { probeFilter } from '../../core/probe/filter.ts'
import { framesOf, type Heard, readHeard } from '../../core/probe/heard.ts'
import { whoHas } from '../../core/probe/packets.ts'
import type { Listener } from '../../core/probe/target.ts'
import type { Native, RawSocket } from '../../dataplane/native.ts'
import type { Turn } from './turn.ts'

/**
 * When questions are asked: answers take microseconds where they come, but a frame may be lost. First who has addresses, so that it is
 * known whose answers are not a backend's; then backends.
 */
const ROUNDS_MS = [0, 50, 100, 300, 600]
const NEIGHBOUR_ROUNDS: readonly number[] = [0, 3, 4]
const END_MS = 1000
/** Nobody who should be silent has answered by then. */
const LEAST_MS = 400
const POLL_MS = 10
/** Frames that are taken before others have a turn, and how often in a row. */
const FRAMES_AT_ONCE = 512
const READS_AT_ONCE = 8

/** Who has an address in one segment? */
export interface NeighbourQuestion {
  address: string
  /** Interfaces that its answers come by: the one that is asked, and a VLAN device on it. */
  heardOn: readonly number[]
  ifindex: number
  mac: string
  asker: string | undefined
  vlan: number | undefined
  /** Its absence is worth waiting for: it should be answered. */
  isExpected: boolean
}

export interface Exchanged {
  /** By question, the MACs that have answered. */
  neighbours: ReadonlyMap<NeighbourQuestion, ReadonlySet<string>>
  /** Of listeners, why nothing could be sent. */
  failed: ReadonlyMap<Listener, string>
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

class Exchange {
  readonly neighbours = new Map<NeighbourQuestion, Set<string>>()
  readonly failed = new Map<Listener, string>()
  readonly #socket: RawSocket
  readonly #listeners: readonly Listener[]
  readonly #strangers: Set<string>
  readonly #asked = new Map<string, NeighbourQuestion[]>()
  readonly #turn: Turn

  constructor(
    turn: Turn,
    socket: RawSocket,
    listeners: readonly Listener[],
    questions: readonly NeighbourQuestion[],
    strangers: Set<string>,
  ) {
    this.#turn = turn
    this.#socket = socket
    this.#listeners = listeners
    this.#strangers = strangers
    for (const question of questions) {
      this.neighbours.set(question, new Set())
      this.#asked.set(question.address, [...(this.#asked.get(question.address) ?? []), question])
    }
  }

  /** Time counts while it listens: to ask many takes long, and others may have had a long turn. */
  async run(): Promise<void> {
    let listenedMs = 0
    for (let round = 0; listenedMs < END_MS; ) {
      if (listenedMs >= (ROUNDS_MS[round] ?? Number.POSITIVE_INFINITY)) {
        // What nobody should answer is asked so often.
        if (round < 4 || !this.#isSettled) await this.#ask(round)
        round++
      }
      const start = Date.now()
      await this.#turn.rest(POLL_MS)
      await this.#listen()
      listenedMs += Math.min(Math.max(1, Date.now() - start), 2 * POLL_MS)
      if (listenedMs >= LEAST_MS && this.#isSettled) break
    }
  }

  get #isSettled(): boolean {
    for (const [question, macs] of this.neighbours) if (question.isExpected && macs.size === 0) return false
    return this.#listeners.every((listener) => listener.isSettled || this.failed.has(listener))
  }

  async #ask(round: number): Promise<void> {
    for (const [{ ifindex, mac, asker, address, vlan }, macs] of NEIGHBOUR_ROUNDS.includes(round)
      ? this.neighbours
      : []) {
      if (macs.size > 0) continue
      await this.#turn.yield()
      try {
        this.#socket.send(ifindex, whoHas(mac, asker, address, vlan))
      } catch {
        // An interface that is down asks nobody; that it is down is told elsewhere.
      }
    }
    for (const listener of round === 0 ? [] : this.#listeners) {
      for (const frame of listener.questions(round - 1)) {
        this.#send(listener, frame)
        await this.#turn.yield()
      }
      // A queue of answers that is never emptied overflows.
      await this.#listen()
    }
  }

  #send(listener: Listener, frame: Uint8Array): void {
    try {
      this.#socket.send(listener.target.ifindex, frame)
    } catch (error) {
      if (!this.failed.has(listener)) this.failed.set(listener, reasonOf(error))
    }
  }

  /** Takes what has come. Whoever sends more than that, without end, is no backend. */
  async #listen(): Promise<void> {
    for (let reads = 0; reads < READS_AT_ONCE; reads++) {
      let count = 0
      for (const { ifindex, frame } of framesOf(this.#socket.read(0, FRAMES_AT_ONCE))) {
        count++
        const heard = readHeard(frame)
        if (heard !== undefined) this.#hear(heard, ifindex)
      }
      await this.#turn.yield()
      if (count < FRAMES_AT_ONCE) return
    }
  }

  #hear(heard: Heard, ifindex: number): void {
    if (heard.kind === 'neighbour') {
      for (const question of this.#asked.get(heard.address) ?? []) {
        if (!question.heardOn.includes(ifindex)) continue
        this.neighbours.get(question)?.add(heard.mac)
        if (!question.isExpected) this.#strangers.add(heard.mac)
      }
      return
    }
    for (const listener of this.#listeners) {
      const answer = listener.hear(heard)
      if (answer !== undefined) this.#send(listener, answer)
    }
  }
}

/**
 * Returns after about a second at most.
 * @param strangers gets the MACs of who answers for an address that nobody else should have
 */
export const exchange = async (
  turn: Turn,
  native: Native,
  listeners: readonly Listener[],
  questions: readonly NeighbourQuestion[],
  strangers: Set<string>,
): Promise<Exchanged> => {
  const socket = native.openRawSocket(probeFilter())
  try {
    const run = new Exchange(turn, socket, listeners, questions, strangers)
    await run.run()
    return run
  } finally {
    socket.close()
  }
}
