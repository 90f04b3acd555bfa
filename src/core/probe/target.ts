// SPDX-License-Identifier: Apache-2.0
// What is asked of one backend, and what its answers say: frames for a VIP to the backend's own MAC, as the packet path sends them.
import type { Protocol } from '../address.ts'
import type { Heard } from './heard.ts'
import {
  echoRequest,
  type Hop,
  ipBytes,
  type PortedRoute,
  PROBE_PORTS,
  PROTOCOL,
  TCP,
  tcpReset,
  tcpSyn,
  udpDatagram,
} from './packets.ts'

export interface AskedPort {
  service: string
  protocol: Protocol
  /** The service's, or one of them. */
  port: number
}

export interface AskedVip {
  /** As the services have it. */
  name: string
  /** The same, or one address of a prefix. */
  vip: string
  ports: readonly AskedPort[]
  /** Ports of TCP that show by any answer, a refusal too, that the VIP is there. */
  proofs: readonly number[]
  /** As whom it is asked: this host's address in the backend's segment, then those in clients' networks. */
  sources: readonly string[]
}

/** One address of a backend, and all that it is asked. */
export interface Target {
  /** Tells its answers from others': 0 and up. */
  index: number
  ifindex: number
  hop: Hop
  backend: string
  /** This host's address in the backend's segment. */
  source: string
  vips: readonly AskedVip[]
  /** Of IP packets, largest first; the last is one that goes everywhere. */
  sizes: readonly number[]
  /** Ports of TCP to ask at its own address, where it may answer no echo. */
  ownPorts: readonly number[]
}

/** How many can be asked at a time. */
export const TARGETS_AT_ONCE = 512
/** Echoes of sizes have their index as sequence; those of VIPs and sources stand behind. */
const FIRST_VIP_SEQUENCE = 256
export const SOURCES_MAX = 16

const PROTOCOLS: ReadonlyMap<number, Protocol> = new Map([
  [PROTOCOL.tcp, 'tcp'],
  [PROTOCOL.udp, 'udp'],
])

const portOf = (target: Target): number => PROBE_PORTS.first + target.index

export interface VipAnswers {
  answered: boolean
  returned: boolean
  /** By index of `ports`. */
  open: Set<number>
  closed: Set<number>
  /** By index of `sources`. */
  heardAt: Set<number>
  mss: number | undefined
}

export interface Answers {
  reachable: boolean
  /** The largest size that was answered; 0: none. */
  passed: number
  /** As target.vips. */
  vips: readonly VipAnswers[]
}

/** What came of asking a target, as it comes in. */
export class Listener {
  readonly target: Target
  readonly answers: Answers & { vips: VipAnswers[] }
  /** MACs that answers do not come from: other backends', and of who else has a VIP. */
  readonly #strangers: (mac: string) => boolean

  constructor(target: Target, strangers: (mac: string) => boolean) {
    this.target = target
    this.#strangers = strangers
    this.answers = {
      reachable: false,
      passed: 0,
      vips: target.vips.map(() => ({
        answered: false,
        returned: false,
        open: new Set(),
        closed: new Set(),
        heardAt: new Set(),
        mss: undefined,
      })),
    }
  }

  /** Is anything open that a sound backend answers? */
  get isSettled(): boolean {
    const { target, answers } = this
    if (!answers.reachable || answers.passed < (target.sizes[0] ?? 0)) return false
    return answers.vips.every((vip, i) => {
      const asked = target.vips[i]
      if (asked === undefined || !vip.answered || vip.heardAt.size < asked.sources.length) return false
      return asked.ports.every(({ protocol }, port) => protocol === 'udp' || vip.open.has(port) || vip.closed.has(port))
    })
  }

  /**
   * Frames that ask for what is still open. Ports come in the second round, and not where a backend sends on what it is asked: that
   * would be balanced here. Sizes between come in the third, when the largest was lost.
   * @param round how often it was asked before
   */
  *questions(round: number): Generator<Uint8Array> {
    const { target, answers } = this
    const { hop, source, backend } = target
    const own = { source, destination: backend }
    const isOfRound = (sequence: number) => round > 1 || sequence === 0 || sequence === target.sizes.length - 1
    for (const [sequence, size] of target.sizes.entries()) {
      if (size > answers.passed && isOfRound(sequence))
        yield echoRequest(hop, own, { id: portOf(target), sequence, size })
    }
    if (!answers.reachable && round > 0) {
      for (const port of target.ownPorts) yield tcpSyn(hop, this.#route(source, backend, port), this.#sequence)
    }
    for (const [i, asked] of target.vips.entries()) {
      yield* this.#echoesAt(asked, i)
      if (round > 0 && answers.vips[i]?.returned === false) yield* this.#portsAt(asked, i, round)
    }
  }

  *#echoesAt({ vip, sources }: AskedVip, i: number): Generator<Uint8Array> {
    for (const [j, source] of sources.entries()) {
      if (this.answers.vips[i]?.heardAt.has(j)) continue
      const sequence = FIRST_VIP_SEQUENCE + i * SOURCES_MAX + j
      yield echoRequest(this.target.hop, { source, destination: vip }, { id: portOf(this.target), sequence })
    }
  }

  *#portsAt({ vip, ports, proofs, sources }: AskedVip, i: number, round: number): Generator<Uint8Array> {
    const { target } = this
    const known = this.answers.vips[i]
    if (known === undefined) return
    const syn = (source: string, port: number) => tcpSyn(target.hop, this.#route(source, vip, port), this.#sequence)
    if (!known.answered) for (const port of proofs) yield syn(target.source, port)
    const first = ports.find(({ protocol }) => protocol === 'tcp')
    for (const [j, source] of sources.entries()) {
      if (j > 0 && first !== undefined && !known.heardAt.has(j)) yield syn(source, first.port)
    }
    for (const [j, { protocol, port }] of ports.entries()) {
      if (known.open.has(j) || known.closed.has(j)) continue
      if (protocol === 'tcp') yield syn(target.source, port)
      // A server of UDP may be silent, and one datagram is nuisance enough.
      else if (round === 1) yield udpDatagram(target.hop, this.#route(target.source, vip, port))
    }
  }

  /** Any number does: what answers it is told by its port. */
  get #sequence(): number {
    return 0x786c6200 + this.target.index
  }

  #route(source: string, destination: string, destinationPort: number): PortedRoute {
    return { source, destination, sourcePort: portOf(this.target), destinationPort }
  }

  /** Takes what came in. @returns a frame that ends what the answer has opened */
  hear(heard: Heard): Uint8Array | undefined {
    switch (heard.kind) {
      case 'neighbour':
        return undefined
      case 'echo':
        this.#hearEcho(heard)
        return undefined
      case 'udp':
        if (heard.destinationPort === portOf(this.target)) this.#hearPort(heard, 'udp', heard.sourcePort, true)
        return undefined
      case 'unreachable':
        this.#hearError(heard)
        return undefined
      case 'tcp':
        return heard.destinationPort === portOf(this.target) ? this.#hearTcp(heard) : undefined
    }
  }

  /** Answers at a VIP, of which this is one. */
  #vipAnswering(source: string, destination: string, mac: string): { answers: VipAnswers; index: number } | undefined {
    const { target } = this
    if (mac !== target.hop.destination && this.#strangers(mac)) return undefined
    const index = target.vips.findIndex(({ vip, sources }) => vip === source && sources.includes(destination))
    const answers = this.answers.vips[index]
    if (answers === undefined) return undefined
    answers.answered ||= destination === target.source
    answers.heardAt.add(target.vips[index]?.sources.indexOf(destination) ?? 0)
    return { answers, index }
  }

  #hearEcho({ isReply, id, sequence, mac, source, destination }: Heard & { kind: 'echo' }): void {
    const { target, answers } = this
    if (id !== portOf(target)) return
    if (!isReply) {
      const place = Math.floor((sequence - FIRST_VIP_SEQUENCE) / SOURCES_MAX)
      const returned = answers.vips[place]
      // Its own question: whoever sends it on has taken it for somebody else's.
      if (returned !== undefined && target.vips[place]?.vip === destination) returned.returned = true
      return
    }
    if (source === target.backend && sequence < target.sizes.length) {
      answers.reachable = true
      answers.passed = Math.max(answers.passed, target.sizes[sequence] ?? 0)
      return
    }
    this.#vipAnswering(source, destination, mac)
  }

  #hearPort(heard: Heard & PortedRoute, protocol: Protocol, port: number, isOpen: boolean): VipAnswers | undefined {
    const found = this.#vipAnswering(heard.source, heard.destination, 'mac' in heard ? heard.mac : '')
    const place = this.target.vips[found?.index ?? -1]?.ports.findIndex(
      (asked) => asked.protocol === protocol && asked.port === port,
    )
    if (found === undefined || place === undefined || place < 0) return undefined
    if (isOpen) found.answers.open.add(place)
    else found.answers.closed.add(place)
    return found.answers
  }

  #hearTcp(heard: Heard & { kind: 'tcp' }): Uint8Array | undefined {
    const { target, answers } = this
    const isOpen = (heard.flags & TCP.syn) !== 0
    if (heard.source === target.backend) answers.reachable = true
    const vip = this.#hearPort(heard, 'tcp', heard.sourcePort, isOpen)
    if (vip !== undefined) vip.mss ??= heard.mss
    if (!isOpen) return undefined
    const route = this.#route(heard.destination, heard.source, heard.sourcePort)
    return tcpReset(target.hop, route, heard.acknowledged)
  }

  /** A port that is closed, or that a firewall rejects. */
  #hearError({ says, isPort, about, mac }: Heard & { kind: 'unreachable' }): void {
    const protocol = PROTOCOLS.get(about.protocol)
    if (!isPort || about.sourcePort !== portOf(this.target) || protocol === undefined) return
    if (says !== about.destination) return
    const route = { source: says, destination: about.source, sourcePort: about.destinationPort }
    this.#hearPort(
      { kind: 'udp', mac, ...route, destinationPort: about.sourcePort },
      protocol,
      about.destinationPort,
      false,
    )
  }
}

/** Sizes of packets to try, largest first: what is left of the largest by headers of tags and tunnels, and what goes everywhere. */
export const sizesToTry = (largest: number, family: string): number[] => {
  const headers = [0, 4, 8, 20, 24, 28, 36, 40, 44, 50, 54, 58, 60, 70, 80, 100, 120]
  const usual = [8000, 4000, 1500, 1492, 1460, 1450, 1400, 1350, 1300, 1280]
  const sizes = [...headers.map((header) => largest - header), ...usual].filter((size) => size <= largest)
  const least = ipBytes(family) + 8
  return [...new Set([...sizes.filter((size) => size > least), least])].sort((a, b) => b - a)
}
