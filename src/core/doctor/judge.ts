// SPDX-License-Identifier: Apache-2.0
// From facts to what is wrong, what was not examined, and what is well.
import { judgeBackends } from './backends.ts'
import type { Diagnosis, Report } from './diagnosis.ts'
import type { DoctorFacts } from './facts.ts'
import { judgeFlows } from './flows.ts'
import { judgeInterfaces } from './interfaces.ts'
import { judgeVips } from './vips.ts'

const nowhere = ({ instance }: DoctorFacts): Diagnosis => ({
  name: 'not-attached',
  severity: 'error',
  what: `xlb is not attached to any interface${instance === 'default' ? '' : ` (instance ${instance})`}`,
  why: 'no packet is balanced',
  mend: 'xlb restore --attach FILE, or xlb attach IFACE; where a daemon runs, xlb status says what it waits for',
})

/** What stands first decides: an interface without the program, before backends that nobody sends to. */
export const judge = (facts: DoctorFacts): Report => {
  if (facts.interfaces === undefined) return { findings: [nowhere(facts)], unexamined: [], fine: [] }
  const parts = [judgeInterfaces(facts), judgeVips(facts), judgeBackends(facts), judgeFlows(facts)]
  const findings = parts.flatMap((part) => part.findings)
  const of = (severity: Diagnosis['severity']) => findings.filter((finding) => finding.severity === severity)
  return {
    findings: [...of('error'), ...of('warning')],
    unexamined: [...facts.unexamined, ...parts.flatMap((part) => part.unexamined)],
    fine: parts.flatMap((part) => part.fine),
  }
}

/** Is something wrong, so that the command fails? */
export const isIll = ({ findings }: Pick<Report, 'findings'>): boolean =>
  findings.some(({ severity }) => severity === 'error')
