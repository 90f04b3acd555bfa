// SPDX-License-Identifier: Apache-2.0
// Beside a daemon whoever may use its socket needs no root: to find what is wrong, and to see what a file would change.
import test from 'ava'
import type { Report } from '../../src/core/doctor/diagnosis.ts'
import { answerOf, configFile, configure, listed, problems, startDaemon, until } from './daemon.ts'
import { namesOf } from './doctor.ts'
import { hasRoot, Lab } from './lab.ts'
import type { Result } from './process.ts'
import { on, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

/** xlb by a user of this number and group, and of no other, without any capability. */
const as = (lab: Lab, id: number, args: readonly string[], input = ''): Promise<Result> => {
  const dropped = ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups', '--bounding-set=-all']
  return lab.run('director', [...dropped, ...lab.xlbArgv(args)], { input })
}

/** Of Debian's nobody and nogroup. */
const NOBODY = 65_534

labTest('a member of the socket’s group has faults found, and files compared, by the daemon', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  const service = `tcp://${lab.vip}:80`
  const [rs1, rs2] = [lab.host('rs1').address, lab.host('rs2').address]
  const config = {
    interfaces: ['eth0'],
    limits: { flows: 65_536 },
    services: [{ service, scheduler: 'rr', backends: [{ address: rs1 }, { address: rs2 }] }],
  }
  const file = configFile(t)
  configure(file, { ...config, api: { group: 'nogroup' } })
  const daemon = await startDaemon(lab, file)
  await Promise.all([lab.http(1, 80), lab.http(2, 80)])
  await until('both answer', 5000, async () => (await problems(lab)).length === 0)
  const doctor = (...args: string[]) => as(lab, NOBODY, ['doctor', ...args])

  const well = await doctor()
  t.is(well.code, 0, well.stderr)
  t.regex(well.stdout, /^nothing is wrong in what was examined\n/)
  t.is(await xlb(lab, ['doctor', '--here']), well.stdout, 'as the command itself examines')
  const shut = await as(lab, 65_533, ['doctor'])
  t.is(shut.code, 1)
  t.regex(shut.stderr, /^xlb: you may not ask the daemon.*\n {5}run it with sudo, or join .* usermod -aG nogroup /)

  await on(lab, 'rs1', `ip address del ${lab.vip}/32 dev lo`)
  const [first, second, slowest] = await Promise.all([doctor('--json'), doctor('--json'), slowestAnswer(lab, 1500)])
  for (const { code, stdout, stderr } of [first, second]) {
    t.is(code, 1, stderr)
    t.deepEqual(namesOf(JSON.parse(stdout) as Report), ['error vip-missing'])
  }
  t.true(slowest < 700, `the daemon has not answered for ${slowest} ms`)
  t.is((await doctor('--setup', '--listen', '5s')).code, 2)

  await answerOf(lab, 'backend/drain', { service, address: rs2 })
  await answerOf(lab, 'backend/report', { service, address: rs1, check: 'down' })
  const other = JSON.stringify({
    ...config,
    services: [{ ...config.services[0], backends: [{ address: rs1, weight: 7 }] }],
  })
  const { stdout: text, stderr } = await as(lab, NOBODY, ['diff', '-c', '-'], other)
  t.is(text, `~ service ${service}\n    - backend ${rs2}\n    ~ backend ${rs1}: weight: 1 -> 7\n`, stderr)
  const { result } = await answerOf(lab, 'diff', { file: '-', values: [{ file: '-', value: JSON.parse(other) }] })
  await daemon.stop('SIGKILL')
  t.is(await xlb(lab, ['diff', '-c', '-'], { input: other }), text, 'as without a daemon')
  t.deepEqual(JSON.parse(await xlb(lab, ['diff', '-c', '-', '--json'], { input: other })), result)
  // Standard input was read for the daemon that is no more.
  await xlb(lab, ['filter', 'load', '-'], { input: 'deny 198.51.100.0/24\n' })
  t.regex(await xlb(lab, ['filter', 'list']), /deny 198\.51\.100\.0\/24/)
})

/** Milliseconds that the daemon took at most to answer something else, within so long. */
const slowestAnswer = async (lab: Lab, withinMs: number): Promise<number> => {
  const end = performance.now() + withinMs
  let slowest = 0
  while (performance.now() < end) {
    const begun = performance.now()
    await listed(lab)
    slowest = Math.max(slowest, performance.now() - begun)
  }
  return Math.round(slowest)
}
