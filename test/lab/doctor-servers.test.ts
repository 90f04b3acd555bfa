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
    t.regex(text.stdout, /^nothing is wrong\n/)
  },
)

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
  t.deepEqual(namesOf(unknown), ['warning mac-unknown'])
  t.regex(unknown.findings[0]?.what ?? '', /^the MAC of backend 10\.89\.0\.77 is not known/)
  await xlb(lab, ['backend', 'rm', service, '10.89.0.77'])

  await xlb(lab, ['service', 'add', `tcp://${VIP}:81`])
  await xlb(lab, ['backend', 'set', `tcp://${VIP}:81`, RS1])
  const closed = await doctor(lab)
  t.deepEqual(namesOf(closed), ['error not-listening'])
  t.regex(closed.findings[0]?.what ?? '', /^nothing listens on tcp port 81 of 10\.89\.0\.100 at backend 10\.89\.0\.21$/)
  await isWell(t, lab, service)
  const none = await lab.xlb(['doctor', `tcp://${VIP}:82`])
  t.is(none.code, 1)
  t.regex(none.stderr, /service tcp:\/\/10\.89\.0\.100:82 does not exist/)
})
