// SPDX-License-Identifier: Apache-2.0
// What can be wrong with real servers: each fault is made, found by its name, and gone when it is mended.
import test from 'ava'
import { doctor, isWell, namesOf, obey, soundLab, suffers } from './doctor.ts'
import { hasRoot } from './lab.ts'
import { backends, on, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const VIP = '10.89.0.100'
const RS1 = '10.89.0.21'

labTest(
  'a sound lab is well; a real server without the VIP is found, and well again by the commands that are named',
  async (t) => {
    const lab = await soundLab(t)
    const { fine } = await isWell(t, lab)
    t.true(fine.includes(`${RS1}: answers for ${VIP}, at port 80; packets of 1500 octets arrive`), fine.join('\n'))
    t.true(fine.includes(`${VIP}: this host has it, on eth0; nobody else answers ARP for it on eth0`), fine.join('\n'))

    // As it comes from its maker: neither silent nor with the VIP.
    await on(lab, 'rs1', 'sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0')
    const missing = await suffers(t, lab, {
      what: 'the VIP is missing',
      host: 'rs1',
      make: `ip address del ${VIP}/32 dev lo`,
      mend: 'true',
      found: ['error vip-missing'],
      says: /^backend 10\.89\.0\.21 is up, and does not answer what is for 10\.89\.0\.100$/,
    })
    t.is(missing.findings[0]?.commands?.host, RS1)
    await obey(lab, 'rs1', missing.findings[0]?.commands?.lines ?? [])
    await isWell(t, lab)

    const talking = await suffers(t, lab, {
      what: 'a real server answers ARP',
      host: 'rs1',
      make: 'sysctl -qw net.ipv4.conf.all.arp_ignore=0',
      mend: 'true',
      found: ['error arp-answered'],
      says: /^the real server 10\.89\.0\.21 answers ARP for 10\.89\.0\.100$/,
    })
    await obey(lab, 'rs1', talking.findings[0]?.commands?.lines ?? [])

    const setup = JSON.parse(await xlb(lab, ['doctor', '--setup', '--json'])) as {
      servers: { host: string; lines: string[] }[]
    }
    t.deepEqual(
      setup.servers.map(({ host }) => host),
      backends(lab, 1, 1, 1).map(({ address }) => address),
    )
    await on(lab, 'rs2', `ip address del ${VIP}/32 dev lo; sysctl -qw net.ipv4.conf.all.arp_ignore=0`)
    await obey(lab, 'rs2', setup.servers[1]?.lines ?? [])
    await isWell(t, lab)

    const text = await lab.xlb(['doctor'])
    t.is(text.code, 0)
    t.regex(text.stdout, /^nothing is wrong in what was examined\n/)
  },
)

labTest('real servers of a prefix, and of every port of a VIP, are asked by other means', async (t) => {
  const lab = await soundLab(t, { servers: 2 })
  await xlb(lab, ['service', 'add', '--scheduler', 'sh', 'tcp://10.88.0.0/24:80'])
  await xlb(lab, ['backend', 'set', 'tcp://10.88.0.0/24:80', RS1])
  await xlb(lab, ['service', 'add', `udp://${VIP}:*`])
  await xlb(lab, ['backend', 'set', `udp://${VIP}:*`, '10.89.0.22'])
  // An echo is not all that can be answered.
  await on(lab, 'rs2', 'sysctl -qw net.ipv4.icmp_echo_ignore_all=1')
  const report = await doctor(lab)
  t.deepEqual(namesOf(report), ['error vip-missing'], JSON.stringify(report, null, 1))
  t.regex(
    report.findings[0]?.what ?? '',
    /^backend 10\.89\.0\.21 is up, and does not answer what is for 10\.88\.0\.0\/24$/,
  )
  t.true(
    report.unexamined.some(({ what, why }) => what === 'the path MTU to 10.89.0.22' && why === 'it answers no ping'),
  )
  await obey(lab, 'rs1', report.findings[0]?.commands?.lines ?? [])
  await isWell(t, lab)
})
