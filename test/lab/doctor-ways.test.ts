// SPDX-License-Identifier: Apache-2.0
// What can be wrong with the way out to a real server behind another interface, and with its way back to clients.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { isWell, obey, soundLab, suffers } from './doctor.ts'
import { hasRoot } from './lab.ts'
import { on, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))
const SERVICE = 'tcp://10.89.0.100:80'

labTest('rp_filter at a real server with two interfaces is found by its name', async (t) => {
  const lab = await soundLab(t, { servers: 2 })
  await on(lab, 'director', `ip link add name eth1 type veth peer name eth1 netns ${lab.prefix}-rs2`)
  await on(lab, 'rs2', 'ip address add 10.90.0.22/24 dev eth1; ip link set dev eth1 up')
  await on(lab, 'rs2', `ip link set dev eth1 xdpdrv obj ${PASS} sec xdp`)
  await on(lab, 'director', 'ip address add 10.90.0.2/24 dev eth1; ip link set dev eth1 up')
  await xlb(lab, ['backend', 'rm', SERVICE, '10.89.0.22'])
  await xlb(lab, ['backend', 'set', SERVICE, '10.90.0.22'])
  await isWell(t, lab)
  const report = await suffers(t, lab, {
    what: 'a real server filters by the reverse path',
    host: 'rs2',
    make: 'sysctl -qw net.ipv4.conf.eth1.rp_filter=1',
    mend: 'true',
    found: ['error rp-filter'],
    says: /^backend 10\.90\.0\.22 answers for 10\.89\.0\.100 in its own segment, but not to 10\.89\.0\.2, /,
  })
  await obey(lab, 'rs2', report.findings[0]?.commands?.lines.slice(0, 1) ?? [])
  await isWell(t, lab)
  await suffers(t, lab, {
    what: 'the way out is narrower than the way in',
    host: 'director',
    make: 'ip link set dev eth1 mtu 1400',
    mend: 'ip link set dev eth1 mtu 1500',
    found: ['error path-mtu'],
    says: /^the MTU of eth1, which leads to 10\.90\.0\.22, is 1400, and clients' packets may have 1500 octets$/,
  })
})
