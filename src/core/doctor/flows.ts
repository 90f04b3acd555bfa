// SPDX-License-Identifier: Apache-2.0
// What the traffic itself says: connections that do not come to be, packets that nobody can take, packets that come back.
import { type Diagnosis, emptyPart, listed, type Part } from './diagnosis.ts'
import type { BackendFacts, ChecksumFacts, DoctorFacts, FlowFacts } from './facts.ts'

/** So few that are stuck may be a client that has gone. */
const FEW = 3

export const judgeFlows = (facts: DoctorFacts): Part => {
  const part = emptyPart()
  judgeStuck(part, facts)
  judgeChecksums(part, facts)
  if (facts.dropsToSender > 0) part.findings.push(comesBack(facts.dropsToSender))
  return part
}

const judgeStuck = (part: Part, { flows, settled, backends, untracked, lookSeconds }: DoctorFacts): void => {
  const byAddress = new Map(backends.map((backend) => [backend.address, backend]))
  for (const flow of flows) {
    const severity = severityOf(flow)
    if (severity !== undefined) part.findings.push(stuck(flow, severity, byAddress.get(flow.backend), lookSeconds))
  }
  const stuckAny = flows.some((flow) => severityOf(flow) !== undefined)
  if (settled !== undefined && !stuckAny) {
    const past = settled === 0 ? 'none is past its handshake' : `${settled} are past their handshake`
    part.fine.push(`connections: ${past}, none waits for it in vain`)
  }
  if (untracked.length > 0) {
    part.unexamined.push({
      what: `connections of ${listed(untracked)} that wait for their handshake`,
      why: 'hashed services keep no flows',
    })
  }
}

/** A flood leaves such entries too: of a backend that others reach, they weigh by their share. */
const severityOf = ({ stuck: count, settled }: FlowFacts): Diagnosis['severity'] | undefined => {
  if (count === 0) return undefined
  if (settled === 0) return count < FEW ? 'warning' : 'error'
  return count > settled && count >= FEW ? 'warning' : undefined
}

const stuck = (
  { service, backend, stuck: count, settled, example }: FlowFacts,
  severity: Diagnosis['severity'],
  facts: BackendFacts | undefined,
  seconds: number,
): Diagnosis => {
  const answers = facts?.answers.some(({ answered }) => answered) === true
  const others = settled === 0 ? 'and none has come about' : `beside ${settled} that have come about`
  return {
    name: 'syn-recv',
    severity,
    what: `${count} connections of ${service} to ${backend} stay half-open (SYN_RECV) for ${seconds} s and more, ${others}${example === undefined ? '' : `: of ${example}, for one`}`,
    why: answers
      ? 'it answers this director, so its answers to clients are lost on the way back, or clients are no real ones (a SYN flood)'
      : 'it does not answer this director either, as this report tells too',
    mend: answers
      ? 'there: tcpdump -ni any host VIP. If SYN-ACKs leave, look at the way back: its route to clients (ip route get CLIENT), and routers that drop packets whose source is the VIP (rp_filter, anti-spoofing). If none leave: rp_filter there, or partial checksums (nstat -az TcpInCsumErrors)'
      : `mend that first; until then: xlb backend drain ${service} ${backend}`,
  }
}

const judgeChecksums = (part: Part, { checksums, interfaces }: DoctorFacts): void => {
  if (checksums === undefined) return
  if ('unexamined' in checksums) {
    part.unexamined.push({ what: 'partial checksums of clients on this machine', why: checksums.unexamined })
  } else if (checksums.partial > 0) {
    part.findings.push(partialChecksums(checksums, interfaces?.map(({ name }) => name) ?? []))
  } else if (checksums.packets === 0) {
    part.unexamined.push({
      what: 'partial checksums of clients on this machine',
      why: 'no packet for a service came meanwhile',
    })
  } else {
    part.fine.push(`checksums: ${checksums.packets} packets came, none with a partial one`)
  }
}

const partialChecksums = ({ packets, partial, sources }: ChecksumFacts, names: readonly string[]): Diagnosis => ({
  name: 'partial-checksum',
  severity: 'error',
  what: `${partial} of ${packets} packets came with a partial checksum, from ${listed(sources.map(({ address, mac }) => `${address} (${mac})`))}`,
  why: 'they are made on this machine, and left for hardware to finish; native XDP sends them on as they are, and real servers drop them (TcpInCsumErrors)',
  mend: `on each of those clients: ethtool -K IFACE tx off; or xlb detach ${names[0]} and xlb attach ${names[0]} --mode generic`,
})

const comesBack = (drops: number): Diagnosis => ({
  name: 'loop',
  severity: 'error',
  what: `${drops} packets were dropped meanwhile because the backend chosen for them is who has sent them here (drop_to_sender)`,
  why: 'another director names this one as a backend, and is a backend here, so that neither serves the flow; or a real server without the VIP routes packets back',
  mend: 'on both directors, name both as backends, or neither; on the real server, put the VIP on lo',
})
