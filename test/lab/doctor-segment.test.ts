// SPDX-License-Identifier: Apache-2.0
// What can be wrong with a segment, and with what real servers say in it: each fault is made, and found by its name.
import test from 'ava'
import { doctor, isWell, soundLab, suffers } from './doctor.ts'
import { hasRoot } from './lab.ts'
import { until } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const VIP = '10.89.0.100'

labTest('faults of a segment and of real servers are found by their names', async (t) => {
  const lab = await soundLab(t)
  const noVip = `ip address del ${VIP}/32 dev lo`
  const vip = `ip address add ${VIP}/32 dev lo`
  await suffers(t, lab, {
    what: 'a real server routes packets back',
    host: 'rs1',
    make: `${noVip}; sysctl -qw net.ipv4.ip_forward=1`,
    mend: `${vip}; sysctl -qw net.ipv4.ip_forward=0`,
    found: ['error loop'],
    says: /^backend 10\.89\.0\.21 sends what is for 10\.89\.0\.100 back to this director$/,
  })
  await suffers(t, lab, {
    what: 'another host has the VIP',
    host: 'client',
    make: `ip address add ${VIP}/32 dev eth0`,
    mend: `ip address del ${VIP}/32 dev eth0`,
    found: ['error second-holder'],
    says: new RegExp(`^this host has the VIP ${VIP}, and so has ${lab.host('client').mac} on eth0$`),
  })
  await suffers(t, lab, {
    what: 'nobody has the VIP',
    host: 'director',
    make: `ip address del ${VIP}/32 dev eth0`,
    mend: `ip address add ${VIP}/32 dev eth0`,
    found: ['error vip-unheld'],
  })
  await suffers(t, lab, {
    what: 'something on the way takes no whole frames',
    host: 'switch',
    make: 'ip link set dev to-rs1 mtu 1450',
    mend: 'ip link set dev to-rs1 mtu 1500',
    found: ['error path-mtu'],
    says: /^of packets to 10\.89\.0\.21 those of 1450 octets arrive, and those of 1500 do not: as VXLAN/,
  })
  await suffers(t, lab, {
    what: 'a real server has a smaller MTU, and says so to TCP',
    host: 'rs1',
    make: 'ip link set dev eth0 mtu 1400',
    mend: 'ip link set dev eth0 mtu 1500',
    found: ['warning path-mtu'],
  })
  await suffers(t, lab, {
    what: 'a real server has another MAC',
    host: 'rs3',
    make: 'ip link set dev eth0 address 02:00:00:00:00:77',
    mend: `ip link set dev eth0 address ${lab.host('rs3').mac}`,
    found: ['error mac-stale', 'error backend-silent'],
  })
  await until('the director finds rs3 again', async () => (await doctor(lab)).findings.length === 0)
})

labTest('IPv6: a VIP that is missing, and one on the wrong interface, are found by their names', async (t) => {
  const lab = await soundLab(t, { servers: 2, family: 'IPv6' })
  const { fine } = await isWell(t, lab)
  t.true(fine.some((line) => /^fd00:89::21: answers for fd00:89::100, at port 80; packets of 1500 octets/.test(line)))
  await suffers(t, lab, {
    what: 'the VIP is missing',
    host: 'rs1',
    make: `ip address del ${lab.vip}/128 dev lo`,
    mend: `ip address add ${lab.vip}/128 dev lo nodad`,
    found: ['error vip-missing'],
  })
  await suffers(t, lab, {
    what: 'the VIP is on an interface of the segment',
    host: 'rs2',
    make: `ip address del ${lab.vip}/128 dev lo; ip address add ${lab.vip}/128 dev eth0 nodad`,
    mend: `ip address del ${lab.vip}/128 dev eth0; ip address add ${lab.vip}/128 dev lo nodad`,
    found: ['error arp-answered'],
    says: /^the real server fd00:89::22 answers neighbour solicitations for fd00:89::100$/,
  })
  await suffers(t, lab, {
    what: 'something on the way takes no whole frames',
    host: 'switch',
    make: 'ip link set dev to-rs1 mtu 1480',
    mend: 'ip link set dev to-rs1 mtu 1500',
    found: ['error path-mtu'],
  })
  await isWell(t, lab)
})
