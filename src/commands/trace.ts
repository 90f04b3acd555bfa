// SPDX-License-Identifier: Apache-2.0
import { formatMac, type Protocol } from '../core/address.ts'
import { type ConnectionState, STATE_NAMES } from '../core/connection-states.ts'
import { isTracked } from '../core/desired.ts'
import { type Endpoint, formatEndpoint, parseEndpoint } from '../core/endpoint.ts'
import type { Verdict } from '../core/prefixes.ts'
import { Refusal } from '../core/refusal.ts'
import { formatClient } from '../dataplane/clients.ts'
import { secondsOfAges } from '../dataplane/connections.ts'
import {
  budgetOf,
  type Explanation,
  explain,
  type FlowLook,
  type Lapse,
  type ServiceLook,
} from '../dataplane/explain.ts'
import { Cpu, Settings } from '../dataplane/layout.gen.ts'
import type { LiveService } from '../dataplane/reader.ts'
import type { SourceLook } from '../dataplane/source-look.ts'
import { viewOf } from '../dataplane/views.ts'
import type { Budget, DestinationLook, NoteLook, TracedPacket } from '../dataplane/way.ts'
import type { AttachedInterface } from '../shell/interfaces.ts'
import type { Session } from '../shell/session.ts'
import { type Context, type GlobalOptions, oneOf } from './context.ts'
import { renderTrace } from './trace-text.ts'

export interface TraceOptions extends GlobalOptions {
  syn?: boolean
  interface?: string
}

/** What `--json` prints. Backends are addresses; null is one that was removed, or none. */
export interface Trace {
  packet: { protocol: Protocol; source: string; destination: string; syn: boolean; interface: string }
  vip: boolean
  /** The prefix that the destination is in, where it is no VIP itself. */
  prefix: string | null
  service: { service: string; scheduler: string; tracked: boolean } | null
  /** What filters say of its source; null: none is asked. `prefix` is null where the default holds. */
  source: {
    all: { verdict: Verdict; prefix: string | null } | null
    own: { verdict: Verdict; prefix: string | null } | null
    rate: { rate: number; burst: number; allows: boolean | null } | null
    refused: string | null
  } | null
  flow: {
    buckets: readonly [number, number]
    entry: {
      bucket: number
      place: number
      state: ConnectionState
      backend: string | null
      idleSeconds: number
      /** Negative: so long ago. */
      expiresInSeconds: number
      holds: boolean
      lapse: Lapse | null
    } | null
  } | null
  /** Of a service with persistence. No seconds: there is no note. No backend: none that takes the client here. */
  persistence: { client: string; group: string | null; expiresInSeconds: number | null; backend: string | null } | null
  /** Of a service with lblc or lblcr. No backends: nothing is remembered. */
  destination: {
    address: string
    backends: (string | null)[]
    idleSeconds: number | null
    unchangedSeconds: number | null
  } | null
  schedule: { turn: number; of: number; backend: string | null } | null
  ring: {
    slot: number
    size: number
    backend: string | null
    before: { slot: number; size: number; backend: string | null; alive: boolean; cut: boolean; counts: boolean } | null
  } | null
  choice: { by: ServiceLook['choice']['by']; backend: string | null } | null
  backend: {
    address: string | null
    alive: boolean
    cut: boolean
    local: boolean
    mac: string
    interface: string | null
    vlan: number | null
  } | null
  recorded: string | null
  noted: string | null
  /** That the destination is not remembered. */
  unremembered: string | null
  verdict: Explanation['verdict']
  reason: string
  /** CPUs that are over the bound on new flows, where that makes a difference. */
  elsewhere: {
    cpus: number[]
    budget: Budget
    by: ServiceLook['choice']['by'] | null
    backend: string | null
    recorded: string | null
  }[]
}

/** Rounded to milliseconds. */
const seconds = (ages: number, settings: Settings): number => Math.round(secondsOfAges(ages, settings) * 1000) / 1000

/** How what is numbered in the maps is called. */
interface Names {
  backend: (index: number | undefined) => string | null
  interface: (slot: number) => string | null
  /** Of the service's persistence. */
  group: string | null
  settings: Settings
}

const namesOf = ({ plane, interfaces, egress }: Session, service: LiveService | undefined): Names => {
  const backends = new Map(service?.backends.map(({ index, want }) => [index, want.address]))
  return {
    backend: (index) => (index === undefined ? null : (backends.get(index) ?? null)),
    interface: (slot) => [...interfaces, ...egress].find((each) => each.slot === slot)?.name ?? null,
    group: service?.group ?? null,
    settings: Settings.read(viewOf(plane, 'settings'), 0),
  }
}

const flowOf = ({ buckets, entry, lapse }: FlowLook, names: Names): NonNullable<Trace['flow']> => {
  const state = STATE_NAMES[entry?.state ?? 0]
  if (entry === undefined || state === undefined) return { buckets, entry: null }
  return {
    buckets,
    entry: {
      bucket: entry.bucket,
      place: entry.place,
      state,
      backend: names.backend(entry.backend),
      idleSeconds: seconds(entry.idle, names.settings),
      expiresInSeconds: seconds(entry.timeout - entry.idle, names.settings),
      holds: lapse === undefined,
      lapse: lapse ?? null,
    },
  }
}

const noteOf = ({ address, prefix, agesLeft, backend }: NoteLook, names: Names): NonNullable<Trace['persistence']> => ({
  client: formatClient({ address, prefix }),
  group: names.group,
  expiresInSeconds: agesLeft === undefined ? null : seconds(agesLeft, names.settings),
  backend: names.backend(backend),
})

const destinationOf = ({ address, note }: DestinationLook, names: Names): NonNullable<Trace['destination']> => ({
  address,
  backends: (note?.backends ?? []).map(names.backend),
  idleSeconds: note === undefined ? null : seconds(note.idle, names.settings),
  unchangedSeconds: note === undefined ? null : seconds(note.unchanged, names.settings),
})

const choiceOf = (look: ServiceLook | undefined, names: Names) => ({
  by: look?.choice.by ?? null,
  backend: names.backend(look?.choice.backend),
  recorded: look?.recorded?.toLowerCase() ?? null,
})

const lookOf = (look: ServiceLook, names: Names) => ({
  flow: look.flow === undefined ? null : flowOf(look.flow, names),
  persistence: look.note === undefined ? null : noteOf(look.note, names),
  destination: look.destination === undefined ? null : destinationOf(look.destination, names),
  schedule:
    look.turn === undefined
      ? null
      : { turn: look.turn.next, of: look.turn.of, backend: names.backend(look.turn.backend) },
  ring: {
    ...look.ring,
    backend: names.backend(look.ring.backend),
    before: look.before === undefined ? null : { ...look.before, backend: names.backend(look.before.backend) },
  },
  choice: { by: look.choice.by, backend: names.backend(look.choice.backend) },
  backend:
    look.backend === undefined
      ? null
      : {
          address: names.backend(look.backend.index),
          alive: look.backend.alive,
          cut: look.backend.cut,
          local: look.backend.local,
          mac: formatMac(look.backend.mac),
          vlan: look.backend.vlan ?? null,
          interface: look.backend.local ? null : names.interface(look.backend.interfaceSlot),
        },
})

const sourceOf = ({ all, own, rate, refused }: SourceLook): Trace['source'] => {
  const list = (look: SourceLook['all']) =>
    look === undefined ? null : { verdict: look.verdict, prefix: look.prefix ?? null }
  return {
    all: list(all),
    own: list(own),
    rate: rate === undefined ? null : { ...rate, allows: rate.allows ?? null },
    refused: refused?.toLowerCase() ?? null,
  }
}

const NOTHING = {
  flow: null,
  persistence: null,
  destination: null,
  schedule: null,
  ring: null,
  choice: null,
  backend: null,
}

/** What CPUs answer that are over their bound on new flows, where it is not what the others answer. */
const elsewhereOf = (
  { plane }: Session,
  packet: TracedPacket,
  at: { now: number; interfaceSlot: number },
  names: Names,
  usual: ServiceLook | undefined,
): Trace['elsewhere'] => {
  const cpus = Array.from({ length: plane.buffer('cpus').byteLength / Cpu.size }, (_, cpu) => cpu)
  return (['flooded', 'spent'] as const).flatMap((budget) => {
    const over = cpus.filter((cpu) => budgetOf(plane, cpu, at.now) === budget)
    const { look } = explain(plane, packet, { ...at, budget })
    const same = look?.choice.backend === usual?.choice.backend && look?.recorded === usual?.recorded
    return over.length === 0 || same ? [] : [{ cpus: over, budget, ...choiceOf(look, names) }]
  })
}

/** Everything about one packet, as it is at one moment of the packet path's clock. */
const trace = (session: Session, packet: TracedPacket, by: AttachedInterface): Trace => {
  const { plane, live } = session
  for (;;) {
    const { age, jiffies } = plane.clock()
    const at = { now: Number(age), jiffies, interfaceSlot: by.slot }
    const said = explain(plane, packet, { ...at, budget: 'left' })
    const service = [...live.services.values()].find(({ record }) => record === said.service)
    const names = namesOf(session, service)
    const elsewhere = said.look === undefined ? [] : elsewhereOf(session, packet, at, names, said.look)
    if (plane.age() !== at.now) continue
    const { look } = said
    const source = formatEndpoint({ address: packet.source, port: packet.sourcePort })
    const destination = formatEndpoint({ address: packet.vip, port: packet.port })
    return {
      packet: { protocol: packet.protocol, source, destination, syn: packet.opens, interface: by.name },
      vip: said.isVip,
      prefix: said.prefix ?? null,
      service:
        service === undefined
          ? null
          : { service: service.name, scheduler: service.want.scheduler, tracked: isTracked(service.want) },
      source: said.source === undefined ? null : sourceOf(said.source),
      ...(look === undefined ? NOTHING : lookOf(look, names)),
      recorded: look?.recorded?.toLowerCase() ?? null,
      noted: look?.noted?.toLowerCase() ?? null,
      unremembered: look?.unremembered?.toLowerCase() ?? null,
      verdict: said.verdict,
      reason: said.reason.toLowerCase(),
      elsewhere,
    }
  }
}

/** @throws Refusal where xlb is not attached to it */
const interfaceOf = ({ interfaces }: Session, name: string | undefined): AttachedInterface => {
  const found = name === undefined ? interfaces[0] : interfaces.find((each) => each.name === name)
  if (found === undefined) {
    throw new Refusal(
      `xlb is not attached to ${name ?? 'any interface'}`,
      `it is attached to: ${interfaces.map((each) => each.name).join(', ')}`,
    )
  }
  return found
}

const packetOf = (protocol: Protocol, source: Endpoint, destination: Endpoint, syn: boolean): TracedPacket => ({
  protocol,
  source: source.address,
  sourcePort: source.port,
  vip: destination.address,
  port: destination.port,
  opens: syn,
})

export const runTrace = (
  { session, answer, note }: Context,
  protocolText: string,
  sourceText: string,
  destinationText: string,
  options: TraceOptions,
): void => {
  const protocol = oneOf('protocol', ['tcp', 'udp'])(protocolText)
  const source = parseEndpoint('source', sourceText)
  const destination = parseEndpoint('destination', destinationText)
  const syn = options.syn === true
  if (syn && protocol === 'udp') {
    throw new Refusal('trace: --syn with udp: UDP opens no connections', 'leave --syn out', { usage: true })
  }
  const { traced, by } = session((session) => {
    const by = interfaceOf(session, options.interface)
    return { by, traced: trace(session, packetOf(protocol, source, destination, syn), by) }
  })
  if (!by.attached) note(`warning: ${by.name} is NOT ATTACHED: ${by.fault}; no packet reaches xlb there`)
  answer(traced, renderTrace(traced))
}
