// SPDX-License-Identifier: Apache-2.0
// What the tests of changing rings share: two services of four backends, and the flows of 120 clients.
import type { ExecutionContext } from 'ava'
import type { Scheduler } from '../../src/core/desired.ts'
import { TCP, tcpFrame, udpFrame, VIP } from './frames.ts'
import { Balancer, type BalancerOptions } from './plane.ts'
import { lookUp, type Ring, ringOf } from './ring.ts'

export const TCP_SERVICE = `tcp://${VIP}:80`
export const UDP_SERVICE = `udp://${VIP}:80`
export const FLOWS = Array.from({ length: 120 }, (_, i) => 1000 + i)

const shared = new Balancer()

export const closeShared = (): void => shared.close()

/** Both services with four backends; a balancer of the test's own where it wants other settings than the shared one has. */
export const open = (t: ExecutionContext, scheduler: Scheduler, options: BalancerOptions = {}): Balancer => {
  const own = Object.keys(options).length > 0
  const balancer = own ? new Balancer(options) : shared.reset()
  if (own) t.teardown(() => balancer.close())
  for (const name of [TCP_SERVICE, UDP_SERVICE]) balancer.add(name, { scheduler, seed: 0x1234n }, 4)
  return balancer
}

/** Which client it is: `sh` goes by addresses, so that each flow has its own. */
export const client = (flow: number) => ({ sourcePort: flow, source: `203.0.${flow >> 8}.${flow & 255}` })
export const syn = (flow: number): Buffer => tcpFrame(client(flow))
export const ack = (flow: number): Buffer => tcpFrame({ ...client(flow), flags: TCP.ACK })
export const udp = (flow: number): Buffer => udpFrame({ ...client(flow), port: 80 })

export const ringNow = (balancer: Balancer, service: string): Ring => {
  const found = balancer.state.get(service)
  if (found === undefined) throw new Error(`${service} does not exist`)
  return ringOf(found)
}

export const goTo = (
  balancer: Balancer,
  flows: readonly number[],
  frame: (flow: number) => Buffer,
): (number | undefined)[] => flows.map((flow) => balancer.to(frame(flow)))

/** The flows whose backend differs between two rings. */
export const movedBetween = (before: Ring, after: Ring): number[] =>
  FLOWS.filter((flow) => lookUp(before, client(flow)) !== lookUp(after, client(flow)))
