// SPDX-License-Identifier: Apache-2.0
// Real TCP and UDP to services of several ports, through the director.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, list, MODES, restore, save, tally, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const PORTS = [80, 8080, 50000]

for (const mode of MODES) {
  labTest(`${mode}: connections to three ports of a service of every port go to its backends in turn`, async (t) => {
    const lab = await Lab.up(t)
    await Promise.all([1, 2, 3].flatMap((server) => PORTS.map((port) => lab.http(server, port))))
    await attach(lab, mode)
    const name = `tcp://${lab.vip}:*`
    await xlb(lab, ['service', 'add', name, '--scheduler', 'rr'])
    for (const { address } of backends(lab, 1, 1, 1)) await xlb(lab, ['backend', 'set', name, address])
    for (const port of PORTS) t.deepEqual(await ask(lab, 6, port), ['rs1', 'rs2', 'rs3', 'rs1', 'rs2', 'rs3'])
    t.is((await lab.curl(`http://${lab.vip}:9/`)).code, 7, 'a real server has nothing at port 9, and refuses')
    const { services, reasons } = await list(lab)
    t.deepEqual(
      services.map(({ service }) => service),
      [name],
    )
    t.deepEqual(
      services[0]?.backends.map(({ counts }) => counts.flows),
      [7, 6, 6],
    )
    t.is(reasons.pass_no_service, 0, 'no port reaches the stack')
  })
}

labTest(
  'a port goes before its range, the range before every port, and save and restore keep them apart',
  async (t) => {
    const lab = await Lab.up(t)
    const all = [80, 8000, 8050, 8099]
    await Promise.all([1, 2, 3].flatMap((server) => all.map((port) => lab.http(server, port))))
    await attach(lab)
    const [rs1 = { address: '' }, rs2 = { address: '' }, rs3 = { address: '' }] = backends(lab, 1, 1, 1)
    await restore(lab, [
      { service: `tcp://${lab.vip}:*`, backends: [rs1] },
      { service: `tcp://${lab.vip}:8000-8099`, scheduler: 'mh', backends: [rs2] },
      { service: `tcp://${lab.vip}:8050`, backends: [rs3] },
    ])
    const answers = async () => {
      const found: string[] = []
      for (const port of all) found.push(...(await ask(lab, 1, port)))
      return found
    }
    t.deepEqual(await answers(), ['rs1', 'rs2', 'rs3', 'rs2'])
    const saved = await save(lab)
    t.regex(saved, /service: tcp:\/\/[0-9.]+:\*$/m)
    t.regex(saved, /service: tcp:\/\/[0-9.]+:8000-8099$/m)
    await xlb(lab, ['clear'])
    await xlb(lab, ['restore', '-'], { input: saved })
    t.is(await save(lab), saved)
    t.deepEqual(await answers(), ['rs1', 'rs2', 'rs3', 'rs2'])
    await xlb(lab, ['service', 'rm', `tcp://${lab.vip}:8050`])
    t.deepEqual(await answers(), ['rs1', 'rs2', 'rs2', 'rs2'])
    await xlb(lab, ['service', 'rm', `tcp://${lab.vip}:8000-8099`])
    t.deepEqual(await answers(), ['rs1', 'rs1', 'rs1', 'rs1'])
    const text = await xlb(lab, ['list', `tcp://${lab.vip}:*`])
    t.true(text.includes(`tcp://${lab.vip}:* wrr dsr`), text)
  },
)

labTest('with --ops each datagram of one client port has its turn, and no flow is recorded', async (t) => {
  const lab = await Lab.up(t)
  await Promise.all([1, 2, 3].map((server) => lab.udp(server, 53)))
  await attach(lab)
  const name = `udp://${lab.vip}:50-59`
  await xlb(lab, ['service', 'add', name, '--scheduler', 'rr', '--ops'])
  for (const { address } of backends(lab, 1, 1, 1)) await xlb(lab, ['backend', 'set', name, address])
  const spread = await lab.askUdp(lab.vip, 53, 'a', 6, 'same')
  t.deepEqual(tally(spread), { 'rs1 a': 2, 'rs2 a': 2, 'rs3 a': 2 })
  const { flows, services } = await list(lab)
  t.is(flows.used, 0)
  t.is(services[0]?.backends[0]?.active, null)
  t.true((await xlb(lab, ['list'])).includes(`${name} rr dsr ops`))
  t.regex(await save(lab), /ops: true/)
  await xlb(lab, ['service', 'set', name, '--no-ops'])
  t.is(Object.keys(tally(await lab.askUdp(lab.vip, 53, 'b', 6, 'same'))).length, 1)
  t.notRegex(await save(lab), /ops/)
})
