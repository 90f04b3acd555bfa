// SPDX-License-Identifier: Apache-2.0
// A session over a data plane in this process's memory, as an exporter of metrics sees one.

import { formatService, parseMac } from '../../src/core/address.ts'
import { type Backend, defaultHash, type Scheduler, type Service } from '../../src/core/desired.ts'
import { BackendCounters, Cpu } from '../../src/dataplane/layout.gen.ts'
import type { Native } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import type { Session } from '../../src/shell/session.ts'
import { apply, makePlane, type Plane, ROOMY } from '../dataplane/plane.ts'

export const backend = (last: number, more: Partial<Backend> = {}): Backend => ({
  address: `198.51.100.${last}`,
  port: 80,
  weight: 1,
  admin: 'up',
  path: { kind: 'link', mac: parseMac(`02:be:00:00:00:${last.toString(16).padStart(2, '0')}`), interfaceSlot: 0 },
  ...more,
})

export const service = (last: number, scheduler: Scheduler, backends: readonly Backend[], label?: string): Service => ({
  protocol: 'tcp',
  vip: `192.0.2.${last}`,
  port: 80,
  lastPort: 80,
  scheduler,
  forward: 'dsr',
  hash: defaultHash(scheduler),
  ringSize: 0,
  seed: 1n,
  ops: false,
  ...(label === undefined ? {} : { label }),
  backends,
})

export interface FakeSession {
  plane: Plane
  session: () => Session
  /** Makes these the services. */
  set: (...services: Service[]) => void
  /** Adds to a backend's counters: packets, octets, flows. */
  count: (service: string, address: string, packets: number, bytes?: number, flows?: number) => void
  /** Adds to a reason. */
  reason: (reason: number, packets: number) => void
}

export const fakeSession = (native: Partial<Native> = {}, capacity = ROOMY): FakeSession => {
  const plane = makePlane(capacity)
  const { memory } = plane
  const add = (map: 'counters' | 'cpus', octet: number, count: number) => {
    const words = new BigUint64Array(memory.buffer(map))
    words[octet / 8] = (words[octet / 8] ?? 0n) + BigInt(count)
  }
  return {
    plane,
    session: () => ({
      native: native as Native,
      paths: { name: 'test', pins: '', building: '', leaving: '', lock: '', socket: '', state: '' },
      plane: memory as Session['plane'],
      interfaces: [
        { slot: 0, name: 'eth0', ifindex: 2, mac: '', mode: 'native', multiBuffer: false, attached: true },
        { slot: 1, name: 'eth1', ifindex: 3, mac: '', mode: 'generic', multiBuffer: false, attached: false, fault: '' },
      ],
      egress: [{ slot: 2, name: 'eth2', ifindex: 4, mac: '' }],
      live: readLive(memory),
    }),
    set: (...services) => apply(plane, new Map(services.map((each) => [formatService(each), each]))),
    count: (name, address, packets, bytes = 0, flows = 0) => {
      const found = readLive(memory).services.get(name)
      const counter = found?.backends.find(({ want }) => want.address === address)?.counter ?? 0
      const { offset, size } = BackendCounters
      add('counters', counter * size + offset.packets, packets)
      add('counters', counter * size + offset.bytes, bytes)
      add('counters', counter * size + offset.flows, flows)
    },
    reason: (reason, packets) => add('cpus', Cpu.offset.reasons + 8 * reason, packets),
  }
}
