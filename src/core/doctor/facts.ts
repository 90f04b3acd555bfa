// SPDX-License-Identifier: Apache-2.0
// What the doctor looks at: facts about one director, its interfaces, VIPs and backends, as src/shell/doctor/ gathers them.
import type { Protocol } from '../address.ts'
import type { Facts } from '../preflight-facts.ts'
import type { OwnInterface } from '../shared-macs.ts'

/** An interface that xlb is attached to, or was. */
export interface InterfaceFacts {
  name: string
  mode: 'native' | 'generic'
  /** Why xlb is not attached to it any more. */
  fault: string | undefined
  /** The name of the program in its XDP link, where that is none of xlb's. */
  foreignProgram: string | undefined
  /** VLANs of backends behind it, whose frames come untagged where hardware takes tags off. */
  tags: readonly number[]
  machine: Facts
  /** net.ipv4.conf: the larger of `all` and its own, which is what counts. Undefined: cannot be read. */
  rpFilter: number | undefined
}

/** How a VIP, or a prefix, stands on this host and on its segments. */
export interface VipFacts {
  vip: string
  /** This host's interfaces that have it. */
  heldOn: readonly string[]
  /** Where all were asked who has it. */
  asked: readonly string[]
  /** Who else has answered. */
  answers: readonly { interface: string; mac: string }[]
  isPrefix: boolean
  /** A network that xlb is attached to has it: clients or their router look for it by ARP. Else it is routed here. */
  onLink: boolean
}

export type PortState = 'open' | 'closed' | 'silent'

/** What a backend answers to at one of its VIPs. */
export interface AnswerFacts {
  vip: string
  /** Frames for the VIP, to the backend's MAC, were answered. */
  answered: boolean
  /** A frame came back as it had been sent: the backend has routed it on. */
  returned: boolean
  ports: readonly { service: string; protocol: Protocol; port: number; state: PortState }[]
  /** Addresses of this host in networks that clients come from, and whether answers came there. */
  elsewhere: readonly { address: string; interface: string; answered: boolean }[]
  /** Of the first segment of its answer. */
  mss: number | undefined
}

export interface BackendFacts {
  address: string
  /** Services of which it is to take flows, by what people say; the others of which it is a backend. */
  active: readonly string[]
  inactive: readonly string[]
  path:
    | { kind: 'link'; mac: string; interface: string; ifindex: number; vlan: number | undefined }
    | { kind: 'local'; held: readonly string[]; missing: readonly string[] }
    | { kind: 'unresolved'; why: string }
  /** MACs that answer for its address now. */
  answering: readonly string[]
  /** Its own address answers an echo, or a segment. */
  reachable: boolean
  answers: readonly AnswerFacts[]
  /** IP packets that were answered whole; undefined: it answers no echo. */
  mtu: MtuFacts | undefined
  /** Why nothing was sent to it. */
  unasked: string | undefined
}

export interface MtuFacts {
  /** Of the interface that leads to it. */
  egress: number
  /** The largest that clients' packets can have: of the interfaces that xlb is attached to. */
  ingress: number
  /** The largest that was sent, and the largest that was answered. */
  sent: number
  passed: number
}

/** Connections of one backend that wait for their handshake in vain. */
export interface FlowFacts {
  service: string
  backend: string
  /** Half-open in both looks. */
  stuck: number
  /** Past the handshake. */
  settled: number
  /** Of those that are stuck, one. */
  example: string | undefined
}

/** Packets as they came in, whose checksums were summed up. */
export interface ChecksumFacts {
  packets: number
  /** Of these, such as have the sum of addresses and length alone; of whom they are. */
  partial: number
  sources: readonly { address: string; mac: string }[]
}

export interface DoctorFacts {
  instance: string
  /** Undefined: xlb is attached nowhere. */
  interfaces: readonly InterfaceFacts[] | undefined
  egress: readonly { name: string; fault: string | undefined }[]
  /** All of this host. */
  own: readonly OwnInterface[]
  vips: readonly VipFacts[]
  backends: readonly BackendFacts[]
  flows: readonly FlowFacts[]
  /** All connections that are past their handshake; undefined: no service here keeps flows of TCP. */
  settled: number | undefined
  /** Services of TCP that keep no flows. */
  untracked: readonly string[]
  /** Seconds between the two looks at connections. */
  lookSeconds: number
  /** Undefined: packets were not looked at, and why. */
  checksums: ChecksumFacts | { unexamined: string } | undefined
  /** How much drop_to_sender has grown meanwhile. */
  dropsToSender: number
  /** Interfaces with a default route of IPv4. */
  defaultRoutes: readonly string[]
  /** What was left out, and why. */
  unexamined: readonly { what: string; why: string }[]
}
