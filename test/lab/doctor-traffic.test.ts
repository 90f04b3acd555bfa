// SPDX-License-Identifier: Apache-2.0
// What the traffic itself says is wrong: connections that do not come to be, and why.
import test from 'ava'
import { doctor, namesOf, soundLab } from './doctor.ts'
import { hasRoot, type Lab } from './lab.ts'
import { list, on, until } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const VIP = '10.89.0.100'

/** Clients that ask for a page again and again, whether or not they get it. */
const askOn = (lab: Lab) =>
  lab.spawn('client', ['sh', '-c', `while :; do curl -s --max-time 6 http://${VIP}/ >/dev/null & sleep 0.3; done`])

/** More than one doctor's few. */
const haveWaiting = async (lab: Lab): Promise<boolean> =>
  Number(await on(lab, 'client', 'ss -tnH state syn-sent | wc -l')) > 3

labTest('connections that are stuck, and partial checksums, are found by their names', async (t) => {
  const lab = await soundLab(t, { servers: 1 })
  await on(lab, 'client', 'ethtool -K eth0 tx on')
  const clients = askOn(lab)
  await until('some connections wait', () => haveWaiting(lab))
  const report = await doctor(lab)
  await clients.stop()
  t.deepEqual(namesOf(report), ['error syn-recv', 'error partial-checksum'], JSON.stringify(report, null, 1))
  t.regex(
    report.findings[1]?.what ?? '',
    /packets came with a partial checksum, from 10\.89\.0\.10 \(02:00:0a:59:00:0a\)$/,
  )
  t.deepEqual((await list(lab)).interfaces, [{ name: 'eth0', mode: 'native', attached: true, fault: null }])
  await on(lab, 'client', 'ethtool -K eth0 tx off')
  const served = askOn(lab)
  const { fine } = await doctor(lab, '--listen', '1s')
  await served.stop()
  t.true(
    fine.some((line) => /^checksums: \d+ packets came, none with a partial one$/.test(line)),
    fine.join('\n'),
  )
})

labTest('connections whose answers do not come back are found by their name', async (t) => {
  const lab = await soundLab(t, { servers: 1 }, 'generic')
  await on(lab, 'rs1', 'ip route add blackhole 10.89.0.10')
  const clients = askOn(lab)
  await until('some connections wait', () => haveWaiting(lab))
  const report = await doctor(lab)
  await clients.stop()
  t.deepEqual(namesOf(report), ['error syn-recv'], JSON.stringify(report, null, 1))
  t.regex(
    report.findings[0]?.what ?? '',
    /^\d+ connections of tcp:\S+ to 10\.89\.0\.21 stay half-open \(SYN_RECV\) for \d s and more, and none/,
  )
  t.regex(report.findings[0]?.why ?? '', /answers this director/)
})
