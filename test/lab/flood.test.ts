// SPDX-License-Identifier: Apache-2.0
// A switch that floods, and directors in promiscuous mode: frames that are for another host are not forwarded again.
import test from 'ava'
import { hasRoot, Lab, type Registrar } from './lab.ts'
import { snmp } from './snmp.ts'
import { ask, attach, backends, list, MODES, type Mode, restore } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const DIRECTORS = ['director', 'director2'] as const
const PORT = 53

/** Every port of the bridge gets every frame from now on, as in a switch whose table overflows. */
const flood = async (lab: Lab): Promise<void> => {
  const hosts = ['client', 'rs1', 'rs2', 'rs3', ...DIRECTORS]
  const ports = hosts.map((host) => `bridge link set dev to-${host} learning off flood on`).join(' && ')
  const flush = 'ip link set dev br0 type bridge ageing_time 0 && bridge fdb flush dev br0'
  const { code, stderr } = await lab.run('switch', ['sh', '-ec', `${ports} && ${flush}`])
  if (code !== 0) throw new Error(`the bridge does not flood: ${stderr}`)
  for (const director of DIRECTORS) await lab.run(director, ['ip', 'link', 'set', 'dev', 'eth0', 'promisc', 'on'])
}

const twoDirectors = async (t: Registrar, mode: Mode, scheduler: string): Promise<Lab> => {
  const lab = await Lab.up(t, { directors: 2 })
  await Promise.all([1, 2, 3].flatMap((n) => [lab.udp(n, PORT), lab.http(n, 80)]))
  for (const director of DIRECTORS) {
    await attach(lab, mode, { director })
    const both = [`udp://${lab.vip}:${PORT}`, `tcp://${lab.vip}:80`]
    await restore(
      lab,
      both.map((service) => ({ service, scheduler, backends: backends(lab, 1, 1, 1) })),
      { director },
    )
  }
  await flood(lab)
  return lab
}

for (const mode of MODES) {
  for (const scheduler of ['rr', 'mh'] as const) {
    labTest(`${mode}, ${scheduler}: of flooded frames each packet reaches one server once`, async (t) => {
      const lab = await twoDirectors(t, mode, scheduler)
      const sent = 30
      const answers = await lab.askUdp(lab.vip, PORT, 'x', sent)
      t.is(answers.length, sent)
      for (const host of ['rs1', 'rs2', 'rs3']) {
        const answered = answers.filter((answer) => answer === `${host} x`).length
        t.is((await snmp(lab, host, 'Udp')).InDatagrams, answered, `${host} got each of its datagrams once`)
      }
      t.is((await ask(lab, 12)).length, 12, 'TCP through the flood')

      const [first, second] = await Promise.all(DIRECTORS.map((director) => list(lab, { director })))
      t.is(second?.reasons.tx_forwarded, 0, 'the director that nobody addressed forwards nothing')
      t.true((second?.reasons.pass_other_mac ?? 0) >= sent, 'though it saw every packet')
      t.true((first?.reasons.pass_other_mac ?? 0) >= sent, 'the addressed one saw the answers')
      const forwarded = first?.services.find(({ service }) => service.startsWith('udp'))?.backends ?? []
      t.is(
        forwarded.reduce((sum, { counts }) => sum + counts.packets, 0),
        sent,
      )
    })
  }
}
