// SPDX-License-Identifier: Apache-2.0
// What can be wrong with the ways that packets take: back to clients, and out of them. Each fault is made, and found by its name.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { doctor, isWell, namesOf, obey, soundLab, suffers } from './doctor.ts'
import { hasRoot, type Lab } from './lab.ts'
import { list, on, until, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))
const VIP = '10.89.0.100'
const SERVICE = `tcp://${VIP}:80`

/** Clients that ask for a page again and again, and get none. */
const askInVain = (lab: Lab) =>
  lab.spawn('client', ['sh', '-c', `while :; do curl -s --max-time 6 http://${VIP}/ >/dev/null & sleep 0.3; done`])

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

labTest('connections that are stuck, and partial checksums, are found by their names', async (t) => {
  const lab = await soundLab(t, { servers: 1 })
  await on(lab, 'client', 'ethtool -K eth0 tx on')
  const clients = askInVain(lab)
  await until(
    'some connections wait',
    async () => (await on(lab, 'client', 'ss -tnH state syn-sent | wc -l')).trim() > '3',
  )
  const report = await doctor(lab)
  await clients.stop()
  t.deepEqual(namesOf(report), ['error syn-recv', 'error partial-checksum'], JSON.stringify(report, null, 1))
  t.regex(
    report.findings[1]?.what ?? '',
    /packets came with a partial checksum, from 10\.89\.0\.10 \(02:00:0a:59:00:0a\)$/,
  )
  t.deepEqual((await list(lab)).interfaces, [{ name: 'eth0', mode: 'native', attached: true, fault: null }])
  await on(lab, 'client', 'ethtool -K eth0 tx off')
})

labTest('connections whose answers do not come back are found by their name', async (t) => {
  const lab = await soundLab(t, { servers: 1 }, 'generic')
  await on(lab, 'rs1', 'ip route add blackhole 10.89.0.10')
  const clients = askInVain(lab)
  await until(
    'some connections wait',
    async () => (await on(lab, 'client', 'ss -tnH state syn-sent | wc -l')).trim() > '3',
  )
  const report = await doctor(lab)
  await clients.stop()
  t.deepEqual(namesOf(report), ['error syn-recv'], JSON.stringify(report, null, 1))
  t.regex(
    report.findings[0]?.what ?? '',
    /^\d+ connections of tcp:\S+ to 10\.89\.0\.21 stay half-open \(SYN_RECV\) for \d s and more, and none/,
  )
  t.regex(report.findings[0]?.why ?? '', /answers this director/)
})
