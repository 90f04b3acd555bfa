// SPDX-License-Identifier: Apache-2.0
// What the tests of persistence have in common: a service, and clients of it.
import type { ExecutionContext } from 'ava'
import type { ServiceOptions } from '../../src/core/verbs.ts'
import { TCP, tcpFrame, VIP } from './frames.ts'
import { Balancer, type BalancerOptions } from './plane.ts'

export const WEB = `tcp://${VIP}:80`
export const TLS = `tcp://${VIP}:443`
export const DNS = `udp://${VIP}:53`
export const ALICE = '203.0.113.5'
export const BOB = '203.0.113.6'
export const CAROL = '198.18.0.9'

/** A balancer with one persistent service. */
export const open = (
  t: ExecutionContext,
  options: ServiceOptions = {},
  { service = WEB, backends = 4, ...balancerOptions }: BalancerOptions & { service?: string; backends?: number } = {},
): Balancer => {
  const balancer = new Balancer(balancerOptions)
  t.teardown(() => balancer.close())
  balancer.add(service, { scheduler: 'rr', persist: 300, ...options }, backends)
  return balancer
}

let port = 1024

/** A port that no packet had. */
export const nextPort = (): number => port++

export const syn = (source: string, fields: { port?: number; vip?: string } = {}) =>
  tcpFrame({ source, sourcePort: nextPort(), flags: TCP.SYN, ...fields })
export const ack = (source: string, sourcePort: number) => tcpFrame({ source, sourcePort, flags: TCP.ACK })

/** As if the clock had gone on by one: the clock is frozen. */
export const makeFlowsIdle = (balancer: Balancer): void => {
  const words = new BigUint64Array(balancer.plane.buffer('flows'))
  for (let at = 1; at < words.length; at += 2) {
    const value = words[at] ?? 0n
    if (value !== 0n) words[at] = (value & ~(0xfffn << 32n)) | (((((value >> 32n) & 0xfffn) - 1n) & 0xfffn) << 32n)
  }
}
