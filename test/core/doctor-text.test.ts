// SPDX-License-Identifier: Apache-2.0
// The doctor's report as people read it.
import test from 'ava'
import { reportText, setupText } from '../../src/commands/doctor-text.ts'
import type { Diagnosis } from '../../src/core/doctor/diagnosis.ts'

const missing = (address: string): Diagnosis => ({
  name: 'vip-missing',
  severity: 'error',
  what: `${address} has not the VIP`,
  why: 'it drops packets',
  mend: 'there:',
  commands: { host: address, lines: ['ip address replace 10.89.0.100/32 dev lo'] },
})
const jit: Diagnosis = { name: 'jit', severity: 'warning', what: 'the compiler is off', why: 'slow', mend: 'sysctl' }

test('what is wrong stands first, then what was not examined, then what is well', (t) => {
  const report = {
    findings: [missing('rs1'), jit],
    unexamined: [{ what: 'MTU', why: 'no ping' }],
    fine: ['eth0: well'],
  }
  t.is(
    reportText(report),
    `1 error and 1 warning

ERROR vip-missing: rs1 has not the VIP
  why:  it drops packets
  mend: there:
        # on rs1
        ip address replace 10.89.0.100/32 dev lo

WARNING jit: the compiler is off
  why:  slow
  mend: sysctl

not examined:
  MTU: no ping

well:
  eth0: well`,
  )
})

test('where nothing is wrong, that is said', (t) => {
  t.is(reportText({ findings: [], unexamined: [], fine: [] }), 'nothing is wrong')
  const unexamined = [{ what: '25 backends', why: 'too many' }]
  t.regex(reportText({ findings: [], unexamined, fine: [] }), /^nothing is wrong in what was examined\n\nnot examined:/)
})

test('of many findings of a kind the first are told in full', (t) => {
  const findings = ['rs1', 'rs2', 'rs3', 'rs4', 'rs5'].map(missing)
  const lines = reportText({ findings: [...findings, jit], unexamined: [], fine: [] }).split('\n')
  t.is(lines[0], '5 errors and 1 warning')
  t.is(lines.filter((line) => line.startsWith('  mend:')).length, 4)
  const more = lines.indexOf('ERROR vip-missing: 2 more like these')
  t.deepEqual(lines.slice(more + 1, more + 3), ['  rs4 has not the VIP', '  rs5 has not the VIP'])
})

test('each real server has its commands', (t) => {
  t.is(setupText([]), 'there are no real servers to set up')
  const servers = ['rs1', 'rs2'].map((host) => ({ host, lines: ['one', 'two'] }))
  t.is(setupText(servers), '# on rs1\none\ntwo\n\n# on rs2\none\ntwo')
})
