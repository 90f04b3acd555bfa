// SPDX-License-Identifier: Apache-2.0
// Connections that come and go, as steps for a director.
import { formatIpv4, parseIpv4 } from '../../src/core/ip.ts'
import { type FrameFields, TCP, tcpFrame, udpFrame } from '../packet/frames.ts'
import type { Random } from '../packet/random.ts'

export type Step =
  | { kind: 'frame'; frame: Buffer; flow: Flow }
  | { kind: 'weight'; server: number; weight: number }
  | { kind: 'remove'; server: number }
  | { kind: 'wait'; seconds: number }
  | { kind: 'pause'; milliseconds: number }

export interface Flow {
  client: string
  port: number
  destination: string
  /** By number of opening: a port that is used again is another one. */
  opened: number
}

export interface Traffic {
  /** The first of the destinations. */
  vip: string
  /** That many addresses. */
  destinations: number
  opened: number
  /** How many connections there are at a time, about. */
  living: number
  clients: number
  /** Of all clients together: after so many connections ports are used again. Never if absent. */
  ports?: number
  /** Whether connections that are not established may be reset. */
  resetsHalfOpen?: boolean
  /** Steps in between, each after that many opened connections. */
  between: Record<number, Step>
}

interface Open {
  fields: FrameFields
  flow: Flow
  established: boolean
}

const plus = (address: string, number: number): string => formatIpv4(((parseIpv4(address) ?? 0) + number) >>> 0)

const opening = (random: Random, { vip, destinations, clients, ports }: Traffic, opened: number): Open => {
  const tuple = ports === undefined ? opened : opened % ports
  const client = plus('198.18.0.1', tuple % clients)
  const destination = plus(vip, destinations === 1 ? 0 : random.below(destinations))
  const port = 1024 + tuple
  const fields = { source: client, sourcePort: port, vip: destination }
  return { fields, flow: { client, port, destination, opened }, established: false }
}

/** TCP connections that open, are established, send, and end by FIN or by RST. */
export const connections = (random: Random, traffic: Traffic): Step[] => {
  const { opened, living, between, ports = Number.POSITIVE_INFINITY, resetsHalfOpen = false } = traffic
  const steps: Step[] = []
  const open: Open[] = []
  const send = ({ fields, flow }: Open, flags: number): void => {
    steps.push({ kind: 'frame', frame: tcpFrame({ ...fields, port: 80, flags }), flow })
  }
  for (let i = 0; i < opened; ) {
    const oldest = open[0]
    const isTaken = oldest !== undefined && i - oldest.flow.opened >= ports
    if (!isTaken && (open.length < living || random.once(3))) {
      const step = between[i]
      if (step !== undefined) steps.push(step)
      const next = opening(random, traffic, i++)
      send(next, TCP.SYN)
      // IPVS has a timer free what it replaces.
      if (i > ports) steps.push({ kind: 'pause', milliseconds: 20 })
      open.push(next)
      continue
    }
    const at = isTaken ? 0 : random.below(open.length)
    const connection = open[at]
    if (connection === undefined) continue
    if (!connection.established && !random.once(6)) {
      send(connection, TCP.ACK)
      connection.established = true
    } else if (connection.established && random.once(4)) {
      send(connection, TCP.ACK | TCP.PSH)
    } else {
      const resets = random.once(4) && (connection.established || resetsHalfOpen)
      send(connection, resets ? TCP.RST : TCP.FIN | TCP.ACK)
      open.splice(at, 1)
    }
  }
  return steps
}

/** UDP: each flow sends a few datagrams, and is silent from then on. */
export const datagrams = (random: Random, traffic: Traffic): Step[] => {
  const steps: Step[] = []
  const open: Open[] = []
  for (let i = 0; i < traffic.opened; ) {
    const isNew = open.length < traffic.living || random.once(3)
    const sends = isNew ? opening(random, traffic, i++) : random.pick(open)
    if (isNew) open.push(sends)
    if (open.length > 2 * traffic.living) open.shift()
    steps.push({ kind: 'frame', frame: udpFrame({ ...sends.fields, port: 80 }), flow: sends.flow })
  }
  return steps
}
