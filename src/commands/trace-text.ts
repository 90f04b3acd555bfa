// SPDX-License-Identifier: Apache-2.0
// A trace as people read it: one subject a line, in the order in which a packet meets them.

import { duration } from './text.ts'
import type { Trace } from './trace.ts'

const LABEL_WIDTH = 12

const CHOOSERS = {
  entry: "by the flow's entry",
  note: "by the client's note",
  schedule: 'by the next turn of the scheduler',
  load: 'by what the backends have to do',
  destination: "by where the destination's flows went before",
  ring: 'by the ring',
  'ring-before': 'by the ring before its last change',
}

const LAPSES = {
  ended: 'does not hold: its connection has ended, and this packet opens a new one',
  expired: 'does not hold: it has expired',
  'backend-down': 'does not hold: its backend was removed, or has no MAC',
}

const RECORDED: Record<string, string> = {
  flow_inserted: 'in the flow table',
  flow_refused_full: 'not: both buckets are full of established flows',
  flow_refused_budget: 'not: this CPU is over its bound on new flows',
}

const NOTED: Record<string, string> = {
  client_noted: 'and its client, for the next connections',
  client_refused_full: 'and not its client: both buckets are full of assured clients',
}

const backend = (address: string | null): string => address ?? 'none'

const packetText = ({ packet }: Trace): string => {
  const kind = packet.protocol === 'udp' ? '' : packet.syn ? ', a SYN' : ', no SYN'
  return `${packet.protocol} ${packet.source} -> ${packet.destination}${kind}, in by ${packet.interface}`
}

const serviceText = ({ service }: Trace): string => {
  if (service === null) return 'none at this port'
  const way = service.tracked ? 'tracked: the flow table comes first' : 'hashed: the ring comes first'
  return `${service.service}, ${service.scheduler}, ${way}`
}

const sourceLines = ({ source }: Trace): string[] => {
  if (source === null) return []
  const { all, own, rate } = source
  const list = (name: string, look: typeof all): string[] => {
    if (look === null) return []
    const why = look.prefix === null ? 'by default: no prefix covers it' : `by ${look.prefix}`
    return [`${look.verdict === 'deny' ? 'denied' : 'allowed'} by the filter of ${name}, ${why}`]
  }
  const bound = rate === null ? '' : `${rate.rate} new connections a second, ${rate.burst} at once`
  const says = { true: 'may open one more', false: 'has opened too many', null: 'this packet counts as none' }
  return [
    ...list('all services', all),
    ...(all?.verdict === 'deny' ? [] : list('this service', own)),
    ...(rate === null || source.refused?.startsWith('drop_denied') === true
      ? []
      : [`${bound}: ${says[`${rate.allows}`]}`]),
  ]
}

const flowLines = ({ flow, service, packet }: Trace): string[] => {
  if (flow === null) {
    return service?.tracked === true
      ? ['not asked: this CPU is over its bound on new flows']
      : ['not asked: the slot of the ring is not marked']
  }
  const buckets = `buckets ${flow.buckets.join(' and ')}`
  if (flow.entry === null) return [`${buckets}: no entry of this flow`]
  const { bucket, place, state, idleSeconds, expiresInSeconds, lapse } = flow.entry
  const expiry =
    expiresInSeconds >= 0
      ? `expires in ${duration(expiresInSeconds)}`
      : `expired ${duration(-expiresInSeconds)} ago${lapse === null && packet.protocol === 'tcp' ? ', and nobody took its place' : ''}`
  return [
    `${buckets}; in ${bucket}, place ${place}: ${state}, ${flow.entry.backend ?? 'a removed backend'}`,
    `idle ${duration(idleSeconds)}, ${expiry}`,
    lapse === null ? 'holds' : LAPSES[lapse],
  ]
}

const persistenceLines = ({ persistence }: Trace): string[] => {
  if (persistence === null) return []
  const { client, group, expiresInSeconds, backend: address } = persistence
  const who = `client ${client}${group === null ? '' : `, group ${group}`}`
  if (expiresInSeconds === null) return [`${who}: not noted`]
  if (expiresInSeconds < 0) return [`${who}: noted until ${duration(-expiresInSeconds)} ago`]
  const leads = address === null ? 'a server that takes no clients here' : address
  return [`${who}: ${leads}, for ${duration(expiresInSeconds)}`]
}

const destinationLines = ({ destination }: Trace): string[] => {
  if (destination === null) return []
  const { address, backends, idleSeconds, unchangedSeconds } = destination
  if (idleSeconds === null || unchangedSeconds === null) return [`${address}: nothing is remembered`]
  const names = backends.map((each) => each ?? 'a removed backend').join(', ')
  return [
    `${address}: ${names}`,
    `last flow ${duration(idleSeconds)} ago, not changed for ${duration(unchangedSeconds)}`,
  ]
}

const ringLines = ({ ring }: Trace): string[] => {
  if (ring === null) return []
  const slot = `slot ${ring.slot} of ${ring.size}: ${backend(ring.backend)}`
  if (ring.before === null) return [`${slot}, not marked`]
  const { before } = ring
  if (before.backend === null) return [`${slot}, marked`, 'before: no backend, or one that was removed since']
  const use = !before.counts
    ? 'so long ago that it counts no more'
    : before.cut
      ? 'removed, and its flows are cut: where packets without an entry go and are dropped, if they open no connection'
      : before.alive
        ? 'where packets without an entry go, if they open no connection'
        : 'which takes no packets'
  return [`${slot}, marked`, `before: slot ${before.slot} of ${before.size}: ${before.backend}, ${use}`]
}

const backendLines = ({ backend: found, choice }: Trace): string[] => {
  if (choice === null) return []
  const how = CHOOSERS[choice.by]
  if (found === null) return [`none: no backend takes it, ${how}`]
  const address = `${found.address ?? 'a removed one'}, ${how}`
  if (found.cut) return [address, 'removed, and its flows are cut']
  if (!found.alive) return [address, 'not alive: it was removed, is in maintenance or down, or has no MAC']
  if (found.local) return [address, 'alive, this host itself']
  const segment = found.vlan === null ? '' : `, VLAN ${found.vlan}`
  return [
    address,
    `alive, MAC ${found.mac}, behind ${found.interface ?? 'an interface that is not attached'}${segment}`,
  ]
}

const recordedLines = ({ recorded, noted, unremembered }: Trace): string[] => [
  ...(recorded === null ? [] : [RECORDED[recorded] ?? recorded]),
  ...(noted === null ? [] : [NOTED[noted] ?? noted]),
  ...(unremembered === null ? [] : ['and not where the destination goes: both buckets are full of others in use']),
]

const elsewhereLines = ({ elsewhere }: Trace): string[] =>
  elsewhere.map(({ cpus, by, backend: address }) => {
    const how = by === null ? '' : `, ${CHOOSERS[by]}`
    return `CPU ${cpus.join(', ')}, over the bound on new flows: ${backend(address)}${how}`
  })

const vipText = ({ vip, prefix, packet }: Trace): string => {
  const address = packet.destination.slice(0, packet.destination.lastIndexOf(':'))
  if (prefix !== null) return `${address} is none, but in ${prefix}, the longest prefix that holds it: that decides`
  return vip ? `${address} is one` : `${address} is none`
}

/** Lines under one label, the label before the first. */
const section = (label: string, lines: readonly string[]): string[] =>
  lines.map((line, i) => `${(i === 0 ? label : '').padEnd(LABEL_WIDTH)}${line}`)

export const renderTrace = (trace: Trace): string =>
  [
    ...section('packet', [packetText(trace)]),
    ...section('VIP', [vipText(trace)]),
    ...section('service', trace.vip ? [serviceText(trace)] : []),
    ...section('source', sourceLines(trace)),
    ...section('flow table', trace.choice === null ? [] : flowLines(trace)),
    ...section('persistence', persistenceLines(trace)),
    ...section('destination', destinationLines(trace)),
    ...section('ring', ringLines(trace)),
    ...section(
      'schedule',
      trace.schedule === null
        ? []
        : [`turn ${trace.schedule.turn + 1} of ${trace.schedule.of} is next: ${backend(trace.schedule.backend)}`],
    ),
    ...section('backend', backendLines(trace)),
    ...section('recorded', recordedLines(trace)),
    ...section('verdict', [`${trace.verdict}, ${trace.reason}`]),
    ...section('but on', elsewhereLines(trace)),
  ].join('\n')
