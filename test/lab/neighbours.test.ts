// SPDX-License-Identifier: Apache-2.0
// Where packets for a backend go: what the kernel's neighbour table knows, and what becomes of a backend that it does not.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, list, restore, save, until, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const NEW_MAC = '02:00:00:00:00:77'
const SILENT = '10.89.0.77'

const neighbour = async (lab: Lab, address: string): Promise<string> =>
  (await lab.run('director', ['ip', 'neighbour', 'show', address, 'dev', 'eth0'])).stdout

const rowOf = async (lab: Lab, address: string) =>
  (await list(lab)).services[0]?.backends.find((row) => row.address === address)

labTest("a backend's new MAC is told by list, and taken over by the next verb that changes something", async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  const service = `tcp://${lab.vipInUrl}:80`
  const [rs1 = { address: '' }, rs2 = { address: '' }] = backends(lab, 1, 1)
  await restore(lab, [{ service, scheduler: 'rr', backends: backends(lab, 1, 1) }])
  t.is((await rowOf(lab, rs1.address))?.mac, lab.host('rs1').mac)

  await lab.run('rs1', ['ip', 'link', 'set', 'dev', 'eth0', 'address', NEW_MAC])
  await until("the director's kernel has learnt the new MAC", async () => {
    // Whatever rs1 sends to the director it first asks for by ARP, and so tells its own MAC.
    const say = 'ip neighbour flush dev eth0; echo x >/dev/udp/10.89.0.2/9'
    await lab.run('rs1', ['bash', '-c', say])
    return (await neighbour(lab, rs1.address)).includes(NEW_MAC)
  })
  t.deepEqual((await list(lab)).staleMacs, [rs1.address])
  t.regex(
    await xlb(lab, ['list']),
    /^MACs CHANGED since: 10\.89\.0\.21; packets still go to the old ones\. Mend: xlb /m,
  )
  t.is((await rowOf(lab, rs1.address))?.mac, lab.host('rs1').mac)

  await xlb(lab, ['backend', 'set', service, rs2.address, '--weight', '2'])
  t.deepEqual((await list(lab)).staleMacs, [])
  t.is((await rowOf(lab, rs1.address))?.mac, NEW_MAC)
  t.deepEqual([...new Set(await ask(lab, 4))].sort(), ['rs1', 'rs2'])
})

labTest('a backend that does not answer ARP is refused, and nothing of the attempt is left', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await attach(lab)
  const service = `tcp://${lab.vipInUrl}:80`
  await restore(lab, [{ service, backends: backends(lab, 1) }])
  const before = await save(lab)
  const { code, stdout, stderr } = await lab.xlb(['backend', 'set', service, SILENT])
  t.is(code, 1)
  t.is(stdout, '')
  t.regex(stderr, /backend 10\.89\.0\.77 does not answer ARP on eth0/)
  t.regex(stderr, /--force/)
  t.is(await save(lab), before)
  t.notRegex(await neighbour(lab, SILENT), /managed/)

  const file = JSON.stringify({ services: [{ service, backends: [{ address: SILENT }, ...backends(lab, 1)] }] })
  const restored = await lab.xlb(['restore', '-'], { input: file })
  t.is(restored.code, 1)
  t.regex(restored.stderr, /1 backends do not answer ARP: 10\.89\.0\.77/)
  t.is(await save(lab), before)
})

labTest('with --force a silent backend is taken at weight 0, until a verb finds that it answers', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  const service = `tcp://${lab.vipInUrl}:80`
  const [rs1 = { address: '', weight: 1 }] = backends(lab, 1)
  await restore(lab, [{ service, scheduler: 'rr', backends: [rs1] }])
  const forced = await lab.xlb(['backend', 'set', service, SILENT, '--weight', '5', '--force'])
  t.is(forced.code, 0)
  t.regex(forced.stderr, /warning: 10\.89\.0\.77 does not answer ARP on eth0: it has weight 0/)
  const before = await rowOf(lab, SILENT)
  t.deepEqual([before?.state, before?.weight, before?.effectiveWeight, before?.mac], ['no-mac', 5, 0, null])
  t.deepEqual(await ask(lab, 4), ['rs1', 'rs1', 'rs1', 'rs1'])

  await lab.run('rs2', ['ip', 'address', 'add', `${SILENT}/32`, 'dev', 'eth0'])
  await until("the director's kernel has found it", async () => (await list(lab)).staleMacs.includes(SILENT))
  await xlb(lab, ['backend', 'set', service, rs1.address, '--weight', '2'])
  const after = await rowOf(lab, SILENT)
  t.deepEqual([after?.state, after?.weight, after?.effectiveWeight], ['up', 5, 1])
  t.is(after?.mac, lab.host('rs2').mac)
  t.deepEqual([...new Set(await ask(lab, 4))].sort(), ['rs1', 'rs2'])
})

labTest('a backend that nobody uses any more is no longer kept resolved', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await attach(lab)
  const both = [80, 81].map((port) => ({ service: `tcp://${lab.vipInUrl}:${port}`, backends: backends(lab, 1, 1) }))
  await restore(lab, both)
  const [rs1 = { address: '' }] = backends(lab, 1)
  await xlb(lab, ['backend', 'rm', `tcp://${lab.vipInUrl}:80`, rs1.address])
  t.regex(await neighbour(lab, rs1.address), /managed/, 'the other service still has it')
  await xlb(lab, ['backend', 'rm', `tcp://${lab.vipInUrl}:81`, rs1.address])
  t.notRegex(await neighbour(lab, rs1.address), /managed/)
})

labTest('backends without a way to them are refused, each with the reason', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await attach(lab)
  const service = `tcp://${lab.vipInUrl}:80`
  await restore(lab, [{ service, backends: backends(lab, 1) }])
  await lab.run('director', ['ip', 'route', 'add', '10.91.0.0/24', 'via', '10.89.0.10'])
  await lab.run('director', ['ip', 'route', 'add', 'unreachable', '10.92.0.0/24'])
  await lab.run('director', ['ip', 'route', 'add', 'blackhole', '10.93.0.0/24'])
  const before = await save(lab)
  const refusals = [
    ['10.91.0.1', /10\.91\.0\.1: is behind the gateway 10\.89\.0\.10/],
    ['10.92.0.1', /backend 10\.92\.0\.1: /],
    ['10.93.0.1', /backend 10\.93\.0\.1: /],
  ] as const
  for (const [address, words] of refusals) {
    const { code, stderr } = await lab.xlb(['backend', 'set', service, address])
    t.is(code, 1, address)
    t.regex(stderr, words)
  }
  t.is(await save(lab), before)
})
