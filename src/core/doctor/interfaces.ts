// SPDX-License-Identifier: Apache-2.0
// This host: its machine and the interfaces that xlb is attached to, by what attach itself looks at.
import { preflight } from '../preflight.ts'
import type { Finding, FindingName } from '../preflight-facts.ts'
import { type Diagnosis, emptyPart, listed, type Part } from './diagnosis.ts'
import type { DoctorFacts, InterfaceFacts } from './facts.ts'

/** What attach may live with, because generic mode does without; where the program runs, packets are lost by it. */
const LOSES_PACKETS: ReadonlySet<FindingName> = new Set(['down', 'veth-peer', 'vlan-offload'])

const STRICT = 1

export const judgeInterfaces = (facts: DoctorFacts): Part => {
  const part = emptyPart()
  for (const each of facts.interfaces ?? []) judgeInterface(part, facts, each)
  for (const { name, fault } of facts.egress) {
    if (fault === undefined) continue
    part.findings.push({
      name: 'egress-gone',
      severity: 'error',
      what: `${name}, which leads to backends, is gone: ${fault}`,
      why: 'what is for those backends is dropped (drop_no_egress)',
      mend: 'when it is back: xlb save | xlb restore -',
    })
  }
  return part
}

const judgeInterface = (part: Part, facts: DoctorFacts, each: InterfaceFacts): void => {
  const before = part.findings.length
  if (each.foreignProgram !== undefined) part.findings.push(foreignProgram(each, each.foreignProgram))
  else if (each.fault !== undefined) part.findings.push(notAttached(each, each.fault))
  for (const finding of preflight(each.mode, withTags(each))) {
    if (isUnseenPeer(finding, each)) part.unexamined.push({ what: finding.what, why: finding.why })
    else if (!part.findings.some(({ name, what }) => name === finding.name && what === finding.what)) {
      part.findings.push(
        finding.severity === 'warning' && LOSES_PACKETS.has(finding.name) ? { ...finding, severity: 'error' } : finding,
      )
    }
  }
  const strict = rpFilter(facts, each)
  if (strict !== undefined) part.findings.push(strict)
  if (!part.findings.slice(before).some(({ severity }) => severity === 'error')) {
    part.fine.push(`${each.name}: xlb is attached, ${each.mode} mode`)
  }
}

/** Backends' tags are as good a reason to leave tags in frames as VLAN devices are. */
const withTags = ({ machine, tags }: InterfaceFacts): InterfaceFacts['machine'] => ({
  ...machine,
  vlanDevices: [...machine.vlanDevices, ...tags.map((tag) => `backends of VLAN ${tag}`)],
})

const isUnseenPeer = ({ name }: Finding, { machine }: InterfaceFacts): boolean =>
  name === 'veth-peer' && machine.peer?.state === 'unseen'

const notAttached = ({ name }: InterfaceFacts, fault: string): Diagnosis => ({
  name: 'not-attached',
  severity: 'error',
  what: `xlb is not attached to ${name} any more: ${fault}`,
  why: 'packets that come in there are not balanced',
  mend: `xlb attach ${name}: the services are still there. Then xlb save | xlb restore -, so that the kernel keeps backends' MACs again`,
})

const foreignProgram = ({ name }: InterfaceFacts, program: string): Diagnosis => ({
  name: 'foreign-program',
  severity: 'error',
  what: `${name} has another program in xlb's place: ${program || 'without a name'}`,
  why: 'somebody has replaced it by a link update, and packets that come in there are not balanced',
  mend: `xlb attach ${name}, which puts this build’s program there again; a daemon does so by itself`,
})

/** RFC 3704 section 2.2: a packet whose answer would leave by another interface is dropped. */
const rpFilter = (
  { backends, defaultRoutes }: DoctorFacts,
  { name, rpFilter: value }: InterfaceFacts,
): Diagnosis | undefined => {
  if (value !== STRICT || defaultRoutes.length === 0 || defaultRoutes.includes(name)) return undefined
  const isBackend = backends.some(({ path, active }) => path.kind === 'local' && active.length > 0)
  return {
    name: 'rp-filter',
    severity: isBackend ? 'error' : 'warning',
    what: `rp_filter is strict at ${name}, and the default route leads by ${listed(defaultRoutes)}`,
    why: isBackend
      ? 'this host is a backend itself, and drops packets of clients that it would answer by another interface'
      : 'what xlb forwards is not asked; but pings of the VIP, and what has no service, are dropped by this host',
    mend: `sysctl -w net.ipv4.conf.${name.replaceAll('.', '/')}.rp_filter=2, and the same in /etc/sysctl.d`,
  }
}
