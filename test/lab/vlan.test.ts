// SPDX-License-Identifier: Apache-2.0
// Real TCP between VLANs: real servers in one VLAN, in another, and in none, clients in one and in none. The kernel of a test
// machine may have no VLAN devices: hosts are put into a VLAN by programs of their own, and MACs are known by permanent entries.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { compileSegment } from './variant.ts'
import { ask, attach, list, MODES, on, restore, save, tally, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

/** Puts what a host sends and gets into a VLAN. No device may carry tags beside the frames, where XDP does not see them (txvlan). */
const putInto = async (lab: Lab, host: string, vlan: number, ways: 'in' | 'out'): Promise<void> => {
  const object = compileSegment(vlan)
  if (ways === 'in') {
    await on(lab, 'switch', `ethtool -K to-${host} txvlan off >/dev/null`)
    await on(lab, host, `ip link set dev eth0 xdpdrv obj ${object} sec xdp`)
    return
  }
  await on(lab, host, 'ethtool -K eth0 txvlan off >/dev/null; tc qdisc add dev eth0 clsact')
  await on(lab, host, `tc filter add dev eth0 egress bpf direct-action obj ${object} sec tc`)
  await on(lab, 'switch', 'ethtool -K to-director txvlan off >/dev/null')
}

for (const mode of MODES) {
  labTest(
    `${mode}: real servers in VLANs and in none answer, whichever VLAN the client's frames come in`,
    async (t) => {
      const lab = await Lab.up(t, { servers: 3 })
      await Promise.all([lab.http(1, 80), lab.http(2, 80), lab.http(3, 80), attach(lab, mode)])
      await putInto(lab, 'rs1', 100, 'in')
      await putInto(lab, 'rs2', 200, 'in')
      const service = `tcp://${lab.vip}:80`
      const at = (host: string) => lab.host(host).address
      await restore(lab, [
        {
          service,
          scheduler: 'rr',
          backends: [{ address: at('rs1'), vlan: 100 }, { address: at('rs2'), vlan: 200 }, { address: at('rs3') }],
        },
      ])
      const everyone = { rs1: 4, rs2: 4, rs3: 4 }
      t.deepEqual(tally(await ask(lab, 12)), everyone)
      await putInto(lab, 'client', 100, 'out')
      t.deepEqual(tally(await ask(lab, 12)), everyone)

      const { services } = await list(lab)
      t.deepEqual(services[0]?.backends.map(({ address, vlan }) => [address, vlan]).sort(), [
        [at('rs1'), 100],
        [at('rs2'), 200],
        [at('rs3'), null],
      ])
      t.regex(await xlb(lab, ['list']), new RegExp(`${at('rs1')} .*${lab.host('rs1').mac} vlan 100`))
      const saved = await save(lab)
      await xlb(lab, ['clear'])
      await xlb(lab, ['restore', '-'], { input: saved })
      t.is(await save(lab), saved)
      t.deepEqual(tally(await ask(lab, 12)), everyone)

      // In the wrong VLAN it is not reached, and taken out of it again by a word.
      await xlb(lab, ['backend', 'rm', service, at('rs2')])
      await xlb(lab, ['backend', 'rm', service, at('rs3')])
      await xlb(lab, ['backend', 'set', service, at('rs1'), '--vlan', '101'])
      t.not((await lab.curl('--max-time', '2', `http://${lab.vip}/`)).code, 0)
      await xlb(lab, ['backend', 'set', service, at('rs1'), '--vlan', '100'])
      t.deepEqual(tally(await ask(lab, 3)), { rs1: 3 })
    },
  )
}
