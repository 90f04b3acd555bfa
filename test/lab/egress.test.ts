// SPDX-License-Identifier: Apache-2.0
// The client on one interface, real servers behind others: with a program there, and without.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type Family, hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, list, MODES, type Mode, on, restore, tally, until, WAYS, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))

const FAR = '10.90.0.22'
const FAR6 = 'fd00:90::22'

/** A link of the director's own to rs2: eth1 on both sides, at FAR and FAR6. Its far end takes redirected frames by its program. */
const addLink = async (lab: Lab, takes = true): Promise<void> => {
  await on(lab, 'director', `ip link add name eth1 type veth peer name eth1 netns ${lab.prefix}-rs2`)
  const both = (ipv4: string, ipv6: string) =>
    `ip address add ${ipv4}/24 dev eth1${lab.family === 'IPv6' ? `; ip address add ${ipv6}/64 dev eth1 nodad` : ''}`
  await on(lab, 'rs2', `${both(FAR, FAR6)}; ip link set dev eth1 up`)
  if (takes) await on(lab, 'rs2', `ip link set dev eth1 xdpdrv obj ${PASS} sec xdp`)
  await on(lab, 'director', `${both('10.90.0.2', 'fd00:90::2')}; ip link set dev eth1 up`)
}

const begin = async (t: Parameters<typeof Lab.up>[0], mode: Mode, family: Family = 'IPv4'): Promise<Lab> => {
  const lab = await Lab.up(t, { servers: 2, family })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab, mode)])
  await restore(lab, [{ service: `tcp://${lab.vipInUrl}:80`, scheduler: 'rr', backends: backends(lab, 1) }])
  return lab
}

for (const { mode, family, name } of WAYS) {
  labTest(`${name}: an interface without a program leads to backends for as long as there are any`, async (t) => {
    const lab = await begin(t, mode, family)
    const service = `tcp://${lab.vipInUrl}:80`
    const far = family === 'IPv4' ? FAR : FAR6
    await addLink(lab)
    await xlb(lab, ['backend', 'set', service, far])
    t.deepEqual(tally(await ask(lab, 8)), { rs1: 4, rs2: 4 })
    const listing = await list(lab)
    t.deepEqual(listing.egress, [{ name: 'eth1', fault: null }])
    t.deepEqual(
      listing.interfaces.map(({ name }) => name),
      ['eth0'],
    )
    t.is(listing.services[0]?.backends.find(({ address }) => address === far)?.interface, 'eth1')
    t.true((listing.reasons.tx_redirected ?? 0) > 0)
    t.regex(await xlb(lab, ['list']), /^eth1: not attached, leads to backends$/m)
    t.regex(await xlb(lab, ['upgrade', '--check']), /^eth0: /)
    const saved = await xlb(lab, ['save'])
    t.false(saved.includes('eth1'))

    await xlb(lab, ['backend', 'rm', service, far])
    t.deepEqual((await list(lab)).egress, [])
    t.deepEqual(tally(await ask(lab, 4)), { rs1: 4 })
    await xlb(lab, ['backend', 'set', service, far])
    t.deepEqual(tally(await ask(lab, 8)), { rs1: 4, rs2: 4 })
    await xlb(lab, ['detach', 'eth0'])
    t.false((await on(lab, 'director', 'ip neighbour show')).includes('managed'))
  })
}

for (const mode of MODES) {
  labTest(`${mode}: attached while it leads to backends, it goes on doing so`, async (t) => {
    const lab = await begin(t, mode)
    const service = `tcp://${lab.vip}:80`
    await addLink(lab)
    await xlb(lab, ['backend', 'set', service, FAR])
    await xlb(lab, ['attach', 'eth1', '--mode', mode])
    const listing = await list(lab)
    t.deepEqual(listing.egress, [])
    t.deepEqual(
      listing.interfaces.map(({ name, attached }) => [name, attached]),
      [
        ['eth0', true],
        ['eth1', true],
      ],
    )
    t.deepEqual(tally(await ask(lab, 8)), { rs1: 4, rs2: 4 })
    const refused = await lab.xlb(['detach', 'eth1'])
    t.is(refused.code, 1)
    t.deepEqual(tally(await ask(lab, 8)), { rs1: 4, rs2: 4 })
  })

  labTest(
    `${mode}: an interface that was deleted is told, its packets are dropped by name, and made again it leads on`,
    async (t) => {
      const lab = await begin(t, mode)
      const service = `tcp://${lab.vip}:80`
      await addLink(lab)
      await xlb(lab, ['backend', 'set', service, FAR])
      await on(lab, 'director', 'ip link del dev eth1')
      t.deepEqual((await list(lab)).egress, [{ name: 'eth1', fault: 'eth1 was deleted' }])
      t.regex(await xlb(lab, ['list']), /^eth1: GONE: eth1 was deleted;/m)
      await Promise.all(Array.from({ length: 4 }, () => lab.curl('--max-time', '1', `http://${lab.vip}/`)))
      t.true(((await list(lab)).reasons.drop_no_egress ?? 0) > 0)

      await addLink(lab)
      t.deepEqual((await list(lab)).egress, [{ name: 'eth1', fault: 'eth1 was deleted and made again' }])
      await until('the new link is found', async () => {
        await xlb(lab, ['backend', 'set', service, FAR])
        return (await list(lab)).egress.every(({ fault }) => fault === null)
      })
      t.deepEqual(tally(await ask(lab, 8)), { rs1: 4, rs2: 4 })
    },
  )
}

labTest('native: an interface whose driver would lose every frame is refused, with what to do', async (t) => {
  const lab = await begin(t, 'native')
  await addLink(lab, false)
  const { code, stderr } = await lab.xlb(['backend', 'set', `tcp://${lab.vip}:80`, FAR])
  t.is(code, 1)
  t.regex(stderr, /is reached through eth1, whose driver takes no frames from native XDP.*eth0 would redirect/)
  t.regex(stderr, /ethtool -K PEER gro on/)
  t.deepEqual((await list(lab)).egress, [])
  await on(lab, 'rs2', 'ethtool -K eth1 gro on')
  await xlb(lab, ['backend', 'set', `tcp://${lab.vip}:80`, FAR])
  t.deepEqual(tally(await ask(lab, 8)), { rs1: 4, rs2: 4 })
})
