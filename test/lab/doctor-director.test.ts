// SPDX-License-Identifier: Apache-2.0
// What can be wrong with a director: each fault is made, and found by its name.
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { loadNative } from '../../src/dataplane/native.ts'
import { doctor, isWell, namesOf, soundLab, suffers } from './doctor.ts'
import { hasRoot, Lab } from './lab.ts'
import { compileSegment } from './variant.ts'
import { ask, attach, list, on, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))
const SERVICE = 'tcp://10.89.0.100:80'

labTest('an interface without the program, and with another, is found by its name', async (t) => {
  const none = await Lab.up(t, { servers: 0 })
  t.deepEqual(namesOf(await doctor(none)), ['error not-attached'])

  const lab = await soundLab(t, { servers: 1 })
  const folder = `/sys/fs/bpf/xlb/${lab.prefix}/links`
  await suffers(t, lab, {
    what: 'the link was detached, and another program took its place',
    host: 'director',
    make: `bpftool link detach pinned ${folder}/$(ls ${folder}); ip link set dev eth0 xdpdrv obj ${PASS} sec xdp`,
    mend: 'ip link set dev eth0 xdpdrv off',
    found: ['error not-attached', 'error other-program'],
    says: /^xlb is not attached to eth0 any more: its XDP link was detached$/,
  })
  await xlb(lab, ['attach', 'eth0', '--mode', 'native'])
  await isWell(t, lab)

  const native = loadNative()
  const stranger = native.openObject(PASS)
  stranger.load()
  const link = native.openLink(`${folder}/${readdirSync(folder)[0]}`)
  for (const [mode, again] of [
    ['auto', 'native'],
    ['generic', 'generic'],
  ] as const) {
    link.update(stranger.program('xlb_pass'))
    const { findings } = await doctor(lab)
    t.is(findings[0]?.name, 'foreign-program')
    const why =
      /eth0: NOT ATTACHED: another program \(xlb_pass, id \d+\) was put into its XDP link; .* Mend: xlb attach eth0/
    t.regex(await xlb(lab, ['list']), why)
    t.regex(await xlb(lab, ['status']), /eth0 is not attached: another program/)
    await xlb(lab, ['attach', 'eth0', '--mode', mode])
    t.like((await list(lab)).interfaces[0], { attached: true, mode: again })
  }
  link.close()
  stranger.close()
  t.is((await ask(lab, 1)).length, 1)
})

labTest('what loses frames at the interface is found by its name', async (t) => {
  const lab = await soundLab(t, { servers: 2 })
  await suffers(t, lab, {
    what: 'the veth peer has no XDP program',
    host: 'switch',
    make: 'ip link set dev to-director xdpdrv off',
    mend: `ip link set dev to-director xdpdrv obj ${PASS} sec xdp`,
    found: ['error veth-peer'],
    says: /^to-director, the peer of the veth eth0, has no native XDP program$/,
  })
  await xlb(lab, ['backend', 'set', SERVICE, '10.89.0.22', '--vlan', '5'])
  const tagged = await doctor(lab)
  t.deepEqual(namesOf(tagged), ['error vlan-offload', 'error backend-silent'])
  t.regex(tagged.findings[0]?.what ?? '', /^eth0 takes VLAN tags off in hardware .* backends of VLAN 5$/)
  await on(lab, 'director', 'ethtool -K eth0 rxvlan off')
  t.deepEqual(namesOf(await doctor(lab)), ['error backend-silent'])
  // In that VLAN it is asked as packets go there: with its tag.
  await on(lab, 'switch', 'ethtool -K to-rs2 txvlan off')
  await on(lab, 'rs2', `ip link set dev eth0 xdpdrv obj ${compileSegment(5)} sec xdp`)
  await isWell(t, lab)
  await xlb(lab, ['backend', 'rm', SERVICE, '10.89.0.22'])
  await isWell(t, lab)

  await xlb(lab, ['backend', 'set', SERVICE, lab.host('director').address])
  await on(lab, 'director', 'ip link add name eth1 type veth peer name eth2')
  await suffers(t, lab, {
    what: 'a director that serves itself filters by the reverse path',
    host: 'director',
    make: 'ip link set dev eth1 up; ip link set dev eth2 up; ip route replace default dev eth1; sysctl -qw net.ipv4.conf.eth0.rp_filter=1',
    mend: 'ip route replace default dev eth0; sysctl -qw net.ipv4.conf.eth0.rp_filter=0',
    found: ['error rp-filter'],
    says: /^rp_filter is strict at eth0, and the default route leads by eth1$/,
  })
  await isWell(t, lab)
})

labTest('two directors that send packets to each other are found by their name', async (t) => {
  const lab = await soundLab(t, { servers: 0, directors: 2 })
  const director = 'director2'
  await attach(lab, 'native', { director })
  await restore(lab, [{ service: SERVICE, backends: [{ address: lab.host('director').address }] }], { director })
  await restore(lab, [{ service: SERVICE, backends: [{ address: lab.host(director).address }] }])
  // What comes from the other director is for the other director, as far as this one knows.
  lab.spawn(director, ['sh', '-c', `while :; do curl -s --max-time 0.2 http://${lab.vip}/; done`])
  const { findings } = await doctor(lab)
  const loop = findings.find(({ name }) => name === 'loop')
  t.regex(
    loop?.what ?? '',
    /^\d+ packets were dropped meanwhile because the backend chosen for them is who has sent them here/,
  )
  t.true(findings.some(({ name, what }) => name === 'vip-missing' && what.includes(lab.host(director).address)))
})
