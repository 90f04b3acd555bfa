// SPDX-License-Identifier: Apache-2.0
// What tests of lblc and lblcr share: a service of a prefix, and flows to addresses of it.
import type { ExecutionContext } from 'ava'
import type { ServiceOptions } from '../../src/core/verbs.ts'
import { type FrameFields, TCP, tcpFrame } from './frames.ts'
import { type BackendSpec, Balancer, type BalancerOptions } from './plane.ts'

export const PREFIX = '192.0.2.0/24'
export const SERVICE = `tcp://${PREFIX}:80`
export const BOTH = ['lblc', 'lblcr'] as const
export type Scheduler = (typeof BOTH)[number]
export const DAY = 86_400

export const host = (number: number): string => `192.0.2.${number}`

export const open = (
  t: ExecutionContext,
  scheduler: Scheduler,
  backends: number | Record<number, BackendSpec>,
  options: BalancerOptions = {},
  service: ServiceOptions = {},
): Balancer => {
  const balancer = new Balancer({
    ...options,
    capacity: { flows6: 4096, destinations: 512, ...options.capacity },
    settings: { destinationTimeout: DAY, ...options.settings },
  })
  t.teardown(() => balancer.close())
  balancer.add(SERVICE, { scheduler, ...service }, backends)
  return balancer
}

/** Ports that no flow of a test has had before. */
let last = 1023
export const newPort = (): number => ++last

export const send = (balancer: Balancer, fields: FrameFields): number | undefined =>
  balancer.to(tcpFrame({ vip: host(1), ...fields }))

/** A flow that ends at once, and counts for a time: an inactive connection. */
export const inactive = (balancer: Balancer, to = 1): number | undefined => {
  const fields = { vip: host(to), sourcePort: newPort() }
  const backend = send(balancer, { ...fields, flags: TCP.SYN })
  send(balancer, { ...fields, flags: TCP.FIN | TCP.ACK })
  return backend
}

export interface Flow {
  backend: number | undefined
  end: () => void
}

/** An established flow: an active connection until it ends. */
export const flow = (balancer: Balancer, to = 1): Flow => {
  const fields = { vip: host(to), sourcePort: newPort() }
  const backend = send(balancer, { ...fields, flags: TCP.SYN })
  send(balancer, { ...fields, flags: TCP.ACK })
  return { backend, end: () => void send(balancer, { ...fields, flags: TCP.RST }) }
}
export const establish = (balancer: Balancer, to = 1): number | undefined => flow(balancer, to).backend
export const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i))

/** So that a test says what it does by weights alone. */
export const weights = (...list: number[]): Record<number, BackendSpec> =>
  Object.fromEntries(list.map((weight, i) => [i + 1, { weight }]))
