// SPDX-License-Identifier: Apache-2.0
// Backends whose MACs are in doubt, and ports where nobody listens: each fault is made, and found by its name.
import test from 'ava'
import { doctor, isWell, namesOf, soundLab } from './doctor.ts'
import { hasRoot } from './lab.ts'
import { on, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const VIP = '10.89.0.100'
const RS1 = '10.89.0.21'

labTest('MACs that are shared and unknown, and a port where nobody listens, are found by their names', async (t) => {
  const lab = await soundLab(t)
  const service = `tcp://${VIP}:80`
  await on(lab, 'rs2', 'ip address add 10.89.0.32/32 dev eth0')
  await xlb(lab, ['backend', 'set', service, '10.89.0.32'])
  const shared = await doctor(lab)
  t.deepEqual(namesOf(shared), ['error mac-shared'])
  t.regex(
    shared.findings[0]?.what ?? '',
    /^backends 10\.89\.0\.22, 10\.89\.0\.32 have the same MAC 02:00:0a:59:00:16 on eth0/,
  )
  await xlb(lab, ['backend', 'rm', service, '10.89.0.32'])

  await xlb(lab, ['backend', 'set', service, '10.89.0.77', '--force'])
  const unknown = await doctor(lab)
  t.deepEqual(namesOf(unknown), ['error mac-unknown'])
  t.regex(unknown.findings[0]?.what ?? '', /^the MAC of backend 10\.89\.0\.77 is not known/)
  await xlb(lab, ['backend', 'rm', service, '10.89.0.77'])

  await xlb(lab, ['service', 'add', `tcp://${VIP}:81`])
  await xlb(lab, ['backend', 'set', `tcp://${VIP}:81`, RS1])
  const closed = await doctor(lab)
  t.deepEqual(namesOf(closed), ['error not-listening'])
  t.regex(closed.findings[0]?.what ?? '', /^nothing listens on tcp port 81 of 10\.89\.0\.100 at backend 10\.89\.0\.21$/)
  await isWell(t, lab, service)
  await xlb(lab, ['service', 'rm', `tcp://${VIP}:81`])

  // A server of UDP that says nothing to an empty datagram is none that is missing.
  await xlb(lab, ['service', 'add', `udp://${VIP}:53`])
  await xlb(lab, ['backend', 'set', `udp://${VIP}:53`, RS1])
  t.regex((await doctor(lab)).findings[0]?.what ?? '', /^nothing listens on udp port 53 of 10\.89\.0\.100 at/)
  await lab.udp(1, 53)
  await isWell(t, lab)

  const none = await lab.xlb(['doctor', `tcp://${VIP}:82`])
  t.is(none.code, 1)
  t.regex(none.stderr, /service tcp:\/\/10\.89\.0\.100:82 does not exist/)
})
