// SPDX-License-Identifier: Apache-2.0
// Several instances side by side, and how long what a verb did lives.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, type Listing, list, restore, save, tally, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const CLI = fileURLToPath(new URL('../../dist/xlb.cjs', import.meta.url))
const VIPS = ['10.89.0.100', '10.89.0.101'] as const

labTest(
  'two directors of one host, each an instance, balance a VIP each and know nothing of one another',
  async (t) => {
    const lab = await Lab.up(t, { servers: 2, directors: 2, vips: VIPS })
    const second = { director: 'director2' }
    await lab.run('director', ['ip', 'address', 'del', `${VIPS[1]}/32`, 'dev', 'eth0'])
    await lab.run('director2', ['ip', 'address', 'add', `${VIPS[1]}/32`, 'dev', 'eth0'])
    await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab), attach(lab, 'generic', second)])
    const [rs1, rs2] = backends(lab, 1, 1)
    await restore(lab, [{ service: `tcp://${VIPS[0]}:80`, backends: rs1 ? [rs1] : [] }])
    await restore(lab, [{ service: `tcp://${VIPS[1]}:80`, backends: rs2 ? [rs2] : [] }], second)
    const at = async (vip: string) => (await lab.curl(`http://${vip}/`)).stdout
    t.is(await at(VIPS[0]), 'rs1\n')
    t.is(await at(VIPS[1]), 'rs2\n')
    const before = await save(lab)
    await xlb(lab, ['clear'], second)
    t.is(await save(lab), before)
    t.is(await at(VIPS[0]), 'rs1\n')
    t.deepEqual((await list(lab, second)).services, [])
    await xlb(lab, ['detach', '--all'], second)
    t.is(await save(lab), before)
    t.is(await at(VIPS[0]), 'rs1\n')
  },
)

labTest('XLB_INSTANCE names the instance where --instance does not, and --instance goes before it', async (t) => {
  const lab = await Lab.up(t, { servers: 0 })
  await attach(lab)
  const run = (args: string[], instance: string) =>
    lab.run('director', [process.execPath, CLI, ...args], { env: { XLB_INSTANCE: instance } })
  const named = await run(['list', '--json'], lab.prefix)
  t.is((JSON.parse(named.stdout) as Listing).instance, lab.prefix)
  const elsewhere = await run(['list'], `${lab.prefix}-none`)
  t.is(elsewhere.code, 1)
  t.true(elsewhere.stderr.includes(`instance ${lab.prefix}-none`), elsewhere.stderr)
  t.true(elsewhere.stderr.includes(lab.prefix), 'it names the instances that are attached')
  for (const args of [
    ['--instance', lab.prefix, 'list', '--json'],
    ['list', '--json', '--instance', lab.prefix],
  ]) {
    const given = await run(args, `${lab.prefix}-none`)
    t.is((JSON.parse(given.stdout) as Listing).instance, lab.prefix)
  }
})

labTest('what a verb did outlives the command: no process of xlb is left, and packets are balanced', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  const service = `tcp://${lab.vip}:80`
  await xlb(lab, ['service', 'add', service, '--scheduler', 'rr'])
  await xlb(lab, ['backend', 'set', service, lab.host('rs1').address])
  await xlb(lab, ['backend', 'set', service, lab.host('rs2').address, '--weight', '3'])
  const { stdout } = await lab.run('switch', ['ip', 'netns', 'pids', `${lab.prefix}-director`])
  t.is(stdout, '')
  t.deepEqual(tally(await ask(lab, 10)), { rs1: 5, rs2: 5 })
  const rows = (await list(lab)).services[0]?.backends
  t.deepEqual(
    rows?.map(({ address, weight, counts }) => [address, weight, counts.flows]),
    [
      [lab.host('rs1').address, 1, 5],
      [lab.host('rs2').address, 3, 5],
    ],
  )
})

labTest('an interface that one instance is attached to is refused to another, and goes on', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await Promise.all([lab.http(1, 80), attach(lab)])
  await restore(lab, [{ service: `tcp://${lab.vip}:80`, backends: backends(lab, 1) }])
  const before = await save(lab)
  const other = `${lab.prefix}-other`
  const refused = await lab.run('director', [process.execPath, CLI, '--instance', other, 'attach', 'eth0'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /eth0 has another XDP program already/)
  const nothing = await lab.run('director', [process.execPath, CLI, '--instance', other, 'list'])
  t.regex(nothing.stderr, /is not attached to any interface/)
  t.is(await save(lab), before)
  t.deepEqual(await ask(lab, 2), ['rs1', 'rs1'])
})
