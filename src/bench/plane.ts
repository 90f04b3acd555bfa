// SPDX-License-Identifier: Apache-2.0
// The program under test with maps of its own: pinned nowhere, attached to nothing, so that a bench beside a working
// director disturbs neither its maps nor its packets.
import { backendPort, formatService, type Ports, parseMac } from '../core/address.ts'
import type { Backend, DesiredState, Scheduler, Service } from '../core/desired.ts'
import { defaultHash } from '../core/desired.ts'
import { type Family, formatIpv4 } from '../core/ip.ts'
import { type Persistence, persisting } from '../core/persistence.ts'
import { plan } from '../core/plan.ts'
import { type Filter, prefixCount } from '../core/prefixes.ts'
import { KernelPlane, ownSource } from '../dataplane/kernel.ts'
import type { Settings } from '../dataplane/layout.gen.ts'
import type { Capacity } from '../dataplane/memory.ts'
import type { BpfProgram, Native } from '../dataplane/native.ts'
import { readLive } from '../dataplane/reader.ts'
import { applyChanges } from '../dataplane/writer.ts'
import { writeInterface } from '../shell/interfaces.ts'
import {
  DEFAULT_CAPACITY,
  formatPlane,
  loadProgram,
  loadSweep,
  type MapSource,
  makeMaps,
  makeSettings,
  NEW_FLOWS_MAX,
  newFlowsPerAge,
} from '../shell/load.ts'
import { random64 } from '../shell/session.ts'
import { DEFAULT_MACS, SERVICE_PORT, vip6OfService, vipOfService } from './frames.ts'

export interface PlaneOptions {
  scheduler: Scheduler
  services: number
  backends: number
  /** Number of the first service (frames.ts); absent: 0. */
  firstService?: number
  /** New tracked flows a second; absent: without bound. */
  newFlows?: number
  /** Entries of the table in which the flows stand; absent: 2,097,152. */
  flows?: number
  clients?: number
  persistence?: Persistence
  /** What has the port that packets are for: a service of it alone (as if absent), one of 64 ranges, or one of every port. */
  ports?: 'one' | 'ranges' | 'every'
  /** Of the VIPs and the backends; absent: IPv4. */
  family?: Family
  /** Backends are behind another interface. */
  elsewhere?: boolean
  /** Backends are in this VLAN. */
  vlan?: number
  /** One service, of this prefix; frames.ts has the one that all frames are for. */
  prefix?: string
  /** Of all services. */
  filter?: Filter
  /** The packet path's object file; absent: this build's. */
  programFile?: string
}

export interface BenchPlane {
  program: BpfProgram
  plane: KernelPlane
  /** Sweeps both flow tables once, as the timer does it slice by slice. @returns milliseconds */
  sweep: () => number
  close: () => void
}

const RANGES = 64

/** The ports of each VIP's services. */
const portsOf = (ports: PlaneOptions['ports']): Ports[] => {
  if (ports === 'every') return [{ port: 0, lastPort: 65535 }]
  if (ports !== 'ranges') return [{ port: SERVICE_PORT, lastPort: SERVICE_PORT }]
  // Of two ports each; the one in the middle has SERVICE_PORT.
  return Array.from({ length: RANGES }, (_, i) => {
    const port = SERVICE_PORT + 2 * (i - RANGES / 2)
    return { port, lastPort: port + 1 }
  })
}

const servicesOf = (options: PlaneOptions): DesiredState => {
  const first = options.firstService ?? 0
  const isIpv6 = options.family === 'ipv6'
  const vips = Array.from({ length: options.services }, (_, i) =>
    isIpv6 ? vip6OfService(first + i) : formatIpv4(vipOfService(first + i)),
  )
  const services = (options.prefix === undefined ? vips : [options.prefix]).flatMap((vip) =>
    portsOf(options.ports).map((ports): Service => serviceOf(vip, ports, options)),
  )
  return new Map(services.map((service) => [formatService(service), service]))
}

const serviceOf = (vip: string, ports: Ports, options: PlaneOptions): Service => ({
  protocol: 'tcp',
  vip,
  ...ports,
  scheduler: options.scheduler,
  forward: 'dsr',
  hash: defaultHash(options.scheduler),
  ringSize: 0,
  seed: random64(),
  ops: false,
  ...persisting(options.persistence),
  backends: Array.from(
    { length: options.backends },
    (_, i): Backend => ({
      address: options.family === 'ipv6' ? `2001:2:0:ff::${(i + 1).toString(16)}` : formatIpv4(0x0a_ff_00_01 + i),
      port: backendPort(ports),
      weight: 1,
      admin: 'up',
      path: {
        kind: 'link',
        mac: parseMac(DEFAULT_MACS.backend),
        interfaceSlot: options.elsewhere === true ? 1 : 0,
        ...(options.vlan === undefined ? {} : { vlan: options.vlan }),
      },
    }),
  ),
})

const sweepOnce = (native: Native, maps: MapSource, settings: Settings): number => {
  const object = loadSweep(native, maps, settings)
  const program = object.program('xlb_sweep')
  try {
    const start = performance.now()
    program.run({ context: new Uint8Array(8) })
    return performance.now() - start
  } finally {
    program.close()
    object.close()
  }
}

/** Of a table that no frame's flow stands in. */
const FEW_FLOWS = 2 ** 10

/** A plane with these services, ready to be run. */
export const makePlane = (native: Native, options: PlaneOptions): BenchPlane => {
  const flows = options.flows ?? 2 ** 21
  // Flows of a prefix of IPv4 stand there too.
  const inFlows6 = options.family === 'ipv6' || options.prefix !== undefined
  const capacity: Capacity = {
    services: options.services * portsOf(options.ports).length + 16,
    backends: options.services * portsOf(options.ports).length * options.backends + 64,
    flows: inFlows6 ? FEW_FLOWS : flows,
    prefixes: options.filter === undefined ? 16 : prefixCount(options.filter.prefixes),
    flows6: inFlows6 ? flows : FEW_FLOWS,
    clients: options.clients ?? DEFAULT_CAPACITY.clients,
    destinations: DEFAULT_CAPACITY.destinations,
  }
  const settings = makeSettings(native, capacity)
  const maps = makeMaps(native, capacity)
  const object = loadProgram(
    native,
    maps,
    0,
    settings,
    options.programFile === undefined ? {} : { programFile: options.programFile },
  )
  formatPlane(maps, settings, newFlowsPerAge(options.newFlows ?? NEW_FLOWS_MAX, settings))
  const plane = new KernelPlane(native, ownSource(maps, object))
  writeInterface(plane, 0, { mac: parseMac(DEFAULT_MACS.director), ifindex: 1, generic: 0, name: 'bench' })
  // A redirect of a test run leads nowhere, but has to have a device: the loopback.
  writeInterface(plane, 1, { mac: parseMac(DEFAULT_MACS.director), ifindex: 1, generic: 0, name: 'other' })
  const live = readLive(plane)
  applyChanges(plane, live, plan(live.desired, servicesOf(options)), {
    nowMs: Date.now(),
    random: random64,
    ...(options.filter === undefined ? {} : { globals: { ...live.globals, filter: options.filter } }),
  })
  const program = object.program('xlb')
  return {
    program,
    plane,
    sweep: () => sweepOnce(native, maps, settings),
    close: () => {
      program.close()
      object.close()
      plane.close()
      for (const map of maps.values()) map.close()
    },
  }
}
