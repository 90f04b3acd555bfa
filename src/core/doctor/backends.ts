// SPDX-License-Identifier: Apache-2.0
// Backends: their MACs, whether they take what is for the VIPs, and answer it.
import { familyOf } from '../ip.ts'
import { explainSharedMac, sharedMacs } from '../shared-macs.ts'
import { type Diagnosis, emptyPart, listed, type Part } from './diagnosis.ts'
import type { AnswerFacts, BackendFacts, DoctorFacts } from './facts.ts'
import { judgeMtu } from './mtu.ts'
import { setupLines } from './setup.ts'

/** So many backends are well, and each has a line of its own. */
const LINES_MAX = 20

const ARP = { ipv4: 'ARP', ipv6: 'neighbour solicitations' } as const

export const judgeBackends = (facts: DoctorFacts): Part => {
  const part = emptyPart()
  part.findings.push(...doubtfulMacs(facts))
  const fine: string[] = []
  for (const backend of facts.backends) {
    const own = emptyPart()
    judgeBackend(own, backend)
    // What is to get no new flows may be broken: that is why.
    const findings = backend.active.length > 0 ? own.findings : own.findings.map(asWarning)
    part.findings.push(...findings)
    part.unexamined.push(...own.unexamined)
    if (findings.length === 0 && backend.unasked === undefined) fine.push(fineLine(backend))
  }
  part.fine.push(
    ...(fine.length > LINES_MAX ? [`${fine.length} backends take and answer what is for their VIPs`] : fine),
  )
  return part
}

const asWarning = (diagnosis: Diagnosis): Diagnosis => ({
  ...diagnosis,
  severity: 'warning',
  what: `${diagnosis.what} (it is to get no new flows)`,
})

const fineLine = ({ address, path, answers, mtu }: BackendFacts): string => {
  if (path.kind === 'local') return `${address}: is this host itself, and has ${listed(path.held)}`
  const ports = answers.flatMap((each) => each.ports.filter(({ state }) => state === 'open').map(({ port }) => port))
  const open = ports.length === 0 ? '' : `, at port ${listed([...new Set(ports)].map(String))}`
  const whole = mtu === undefined ? '' : `; packets of ${mtu.passed} octets arrive`
  return `${address}: answers for ${listed(answers.map(({ vip }) => vip))}${open}${whole}`
}

const isOfOneService = (backends: readonly BackendFacts[], addresses: readonly string[]): boolean => {
  const services = backends.filter(({ address }) => addresses.includes(address)).flatMap(({ active }) => active)
  return new Set(services).size < services.length
}

/** One machine may serve two services under two addresses. Backends of one service behind one MAC are one machine, or a router. */
function* doubtfulMacs({ backends, own }: DoctorFacts): Generator<Diagnosis> {
  const links = backends.flatMap(({ address, path }) =>
    path.kind === 'link' ? [{ address, mac: path.mac, ifindex: path.ifindex }] : [],
  )
  for (const shared of sharedMacs({ backends: links, vips: new Set(), neighbours: [], interfaces: own })) {
    if (shared.kind === 'backends' && !isOfOneService(backends, shared.addresses)) continue
    yield {
      name: shared.kind === 'own' ? 'mac-own' : 'mac-shared',
      severity: 'error',
      ...explainSharedMac(shared),
      why:
        shared.kind === 'own'
          ? 'what is sent there comes back here, or nowhere'
          : 'packets for either are the same frames: one machine gets the shares of all, or a router gets them and knows no VIP',
    }
  }
}

const judgeBackend = (part: Part, backend: BackendFacts): void => {
  const { address, path, answering, unasked } = backend
  if (path.kind === 'local') {
    if (path.missing.length > 0) part.findings.push(missingHere(path.missing))
    return
  }
  if (path.kind === 'unresolved') {
    part.findings.push(unknownMac(backend, path.why))
    return
  }
  if (answering.length > 1) part.findings.push(doubled(address, answering, path.interface))
  else if (answering.length === 1 && answering[0] !== path.mac) {
    part.findings.push(staleMac(backend, path.mac, answering[0] ?? ''))
  }
  if (unasked !== undefined) {
    part.unexamined.push({ what: `whether ${address} takes what is for its VIPs`, why: unasked })
    return
  }
  judgeAnswers(part, backend)
  judgeMtu(part, backend)
}

const judgeAnswers = (part: Part, backend: BackendFacts): void => {
  const { answers, reachable } = backend
  const returned = answers.filter((each) => each.returned && !each.answered).map(({ vip }) => vip)
  if (returned.length > 0) part.findings.push(loop(backend, returned))
  const missing = answers.filter((each) => !each.answered && !each.returned).map(({ vip }) => vip)
  const isAlive = reachable || returned.length > 0 || answers.some(({ answered }) => answered)
  if (missing.length > 0) part.findings.push(isAlive ? missingThere(backend, missing) : silent(backend))
  for (const each of answers) {
    if (!each.answered) continue
    part.findings.push(...notListening(backend, each), ...oneWay(backend, each))
  }
}

const restart = (services: readonly string[], address: string): string =>
  `xlb backend set ${services[0] ?? 'SERVICE'} ${address}`

const unknownMac = ({ address, answering, active, inactive }: BackendFacts, why: string): Diagnosis => ({
  name: 'mac-unknown',
  severity: 'error',
  what: `the MAC of backend ${address} is not known: ${why}`,
  why: 'without it no packet can be sent there, and it gets none',
  mend:
    answering.length > 0
      ? `it answers now, from ${listed(answering)}: ${restart([...active, ...inactive], address)} takes that over`
      : `see that it is up and in the segment of this host (ip neighbour show ${address}); then ${restart([...active, ...inactive], address)}`,
})

const doubled = (address: string, macs: readonly string[], name: string): Diagnosis => ({
  name: 'address-doubled',
  severity: 'error',
  what: `${macs.length} MACs answer for backend ${address} on ${name}: ${listed(macs)}`,
  why: 'the packets go to the one or to the other, as their answers come, and only one of them may be the real server',
  mend: `take ${address} off the host that should not have it; one host with two interfaces in a segment: net.ipv4.conf.all.arp_ignore=1 there`,
})

const staleMac = ({ address, active, inactive }: BackendFacts, mac: string, now: string): Diagnosis => ({
  name: 'mac-stale',
  severity: 'error',
  what: `packets for backend ${address} go to the MAC ${mac}, and it answers from ${now}`,
  why: 'nobody takes what is sent to its old MAC',
  mend: restart([...active, ...inactive], address),
})

const silent = ({ address, answering, path, active }: BackendFacts): Diagnosis => ({
  name: 'backend-silent',
  severity: 'error',
  what:
    answering.length === 0
      ? `backend ${address} answers nothing: neither ${ARP[familyOf(address)]}, nor at its own address, nor at a VIP`
      : `backend ${address} answers ${ARP[familyOf(address)]}, but nothing at its own address and at its VIPs`,
  why: `it is down, cut off${path.kind === 'link' && path.vlan !== undefined ? `, not in VLAN ${path.vlan}, whose tag its frames have` : ''}, or a firewall there drops all that comes from this host`,
  mend: `see that it is up and in this segment. Until then: xlb backend drain ${active[0] ?? 'SERVICE'} ${address}`,
})

const missingThere = ({ address }: BackendFacts, vips: readonly string[]): Diagnosis => ({
  name: 'vip-missing',
  severity: 'error',
  what: `backend ${address} is up, and does not answer what is for ${listed(vips)}`,
  why: 'a real server that has not the VIP drops its packets without a word; so do a firewall there, and a director that names this one as its backend',
  mend: `there, see ip address show dev lo, and put it there:`,
  commands: { host: address, lines: setupLines(vips) },
})

const missingHere = (vips: readonly string[]): Diagnosis => ({
  name: 'vip-missing',
  severity: 'error',
  what: `this host is a backend itself, and has not ${listed(vips)}`,
  why: 'packets of flows that it is to serve are passed to its stack, which does not take them',
  mend: vips.map((vip) => `ip address add ${vip}/${familyOf(vip) === 'ipv4' ? 32 : 128} dev lo`).join('; '),
})

const loop = ({ address }: BackendFacts, vips: readonly string[]): Diagnosis => ({
  name: 'loop',
  severity: 'error',
  what: `backend ${address} sends what is for ${listed(vips)} back to this director`,
  why: 'it has not the VIP, and routes (ip_forward): packets go to and fro until they have no hops left, or are dropped (drop_to_sender)',
  mend: 'there, put the VIP on lo; and a real server that is no router needs no net.ipv4.ip_forward=1 (net.ipv6.conf.all.forwarding=1)',
  commands: { host: address, lines: setupLines(vips) },
})

/** What is wrong with ports of a VIP in the same way is told once: a server that is down has all of them closed. */
function* notListening({ address, active }: BackendFacts, { vip, ports }: AnswerFacts): Generator<Diagnosis> {
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const state of ['closed', 'silent'] as const) {
      // A server of UDP answers what it likes to.
      if (state === 'silent' && protocol === 'udp') continue
      const those = ports.filter((port) => port.protocol === protocol && port.state === state)
      const [first] = those
      if (first === undefined) continue
      const numbers = `${protocol} ${those.length === 1 ? 'port' : 'ports'} ${listed(those.map(({ port }) => `${port}`))}`
      const services = listed(those.map(({ service }) => service))
      const isClosed = state === 'closed'
      yield {
        name: 'not-listening',
        severity: those.some(({ service }) => active.includes(service)) ? 'error' : 'warning',
        what: isClosed
          ? `nothing listens on ${numbers} of ${vip} at backend ${address}`
          : `backend ${address} has ${vip}, but is silent at ${numbers}`,
        why: isClosed
          ? `clients of ${services} that are sent there are refused`
          : `clients of ${services} that are sent there get no answer: a firewall there, or a server that accepts no more`,
        mend: `there: ss -ln${protocol === 'tcp' ? 't' : 'u'} 'sport = :${first.port}'; it has to listen on ${vip} or on all addresses. Until then: xlb backend drain ${first.service} ${address}`,
      }
    }
  }
}

/** It answers this host's address in its own segment, and not the one in a network of clients. */
function* oneWay({ address }: BackendFacts, { vip, elsewhere }: AnswerFacts): Generator<Diagnosis> {
  for (const { address: from, interface: name, answered } of elsewhere) {
    if (answered) continue
    yield {
      name: 'rp-filter',
      severity: 'error',
      what: `backend ${address} answers for ${vip} in its own segment, but not to ${from}, this host's address on ${name}, where clients come in`,
      why: 'its answers to clients of that network would leave by another interface, and rp_filter drops the questions; or it has no way back to them',
      mend: `there, see ip route get ${from}; and where the way back is another interface:`,
      commands: {
        host: address,
        lines: ['sysctl -w net.ipv4.conf.all.rp_filter=2', `ip route get ${from} from ${vip}`],
      },
    }
  }
}
