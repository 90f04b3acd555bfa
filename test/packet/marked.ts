// SPDX-License-Identifier: Apache-2.0
// What the tests of changing rings share, for each family: two services of four backends, and the flows of 120 clients.
import type { ExecutionContext } from 'ava'
import type { Scheduler } from '../../src/core/desired.ts'
import type { Kit } from './families.ts'
import { TCP } from './frames.ts'
import { Balancer, type BalancerOptions } from './plane.ts'
import { lookUp, type Ring, ringOf } from './ring.ts'

export const FLOWS = Array.from({ length: 120 }, (_, i) => 1000 + i)

const shared = new Balancer()

export const closeShared = (): void => shared.close()

export const marked = ({ HOST, source, tcpFrame, udpFrame }: Kit) => {
  const TCP_SERVICE = `tcp://${HOST}:80`
  const UDP_SERVICE = `udp://${HOST}:80`
  /** Which client it is: `sh` goes by addresses, so that each flow has its own. */
  const client = (flow: number) => ({ sourcePort: flow, source: source(flow) })
  return {
    TCP_SERVICE,
    UDP_SERVICE,
    client,
    /** Both services with four backends; a balancer of the test's own where it wants other settings than the shared one has. */
    open: (t: ExecutionContext, scheduler: Scheduler, options: BalancerOptions = {}): Balancer => {
      const own = Object.keys(options).length > 0
      const balancer = own ? new Balancer(options) : shared.reset()
      if (own) t.teardown(() => balancer.close())
      for (const name of [TCP_SERVICE, UDP_SERVICE]) balancer.add(name, { scheduler, seed: 0x1234n }, 4)
      return balancer
    },
    syn: (flow: number): Buffer => tcpFrame(client(flow)),
    ack: (flow: number): Buffer => tcpFrame({ ...client(flow), flags: TCP.ACK }),
    udp: (flow: number): Buffer => udpFrame({ ...client(flow), port: 80 }),
    /** The flows whose backend differs between two rings. */
    movedBetween: (before: Ring, after: Ring): number[] =>
      FLOWS.filter((flow) => lookUp(before, client(flow)) !== lookUp(after, client(flow))),
  }
}

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
