// SPDX-License-Identifier: Apache-2.0
// save, restore and clear: what was there comes back as it was.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, list, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const folder = (t: ExecutionContext): string => {
  const path = mkdtempSync(join(tmpdir(), 'xlb-state-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Services of every kind: schedulers, hashes, given and drawn seeds, ring sizes, weights, drained backends, none at all. */
const addAll = async (lab: Lab): Promise<void> => {
  const [rs1 = '', rs2 = '', rs3 = ''] = backends(lab, 1, 1, 1).map(({ address }) => address)
  const tcp = `tcp://${lab.vipInUrl}:80`
  await restore(lab, [
    { service: `tcp://${lab.vipInUrl}:81`, backends: [{ address: rs3 }, { address: rs1 }, { address: rs2 }] },
    {
      service: `udp://${lab.vipInUrl}:53`,
      scheduler: 'sh',
      'ring-size': 4093,
      seed: '0x2a',
      backends: [
        { address: rs2, weight: 0 },
        { address: rs1, weight: 65535 },
      ],
    },
    { service: 'tcp://10.89.0.109:443', scheduler: 'mh', hash: 'source', backends: [{ address: rs3, weight: 7 }] },
    { service: 'tcp://10.89.0.108:25', backends: [] },
    { service: 'udp://10.89.0.107:514', backends: [] },
  ])
  await xlb(lab, ['service', 'add', tcp, '--scheduler', 'rr', '--name', 'web-1'])
  for (const address of [rs3, rs1, rs2]) await xlb(lab, ['backend', 'set', tcp, address])
  await xlb(lab, ['backend', 'drain', tcp, rs1])
}

/** Runs a verb. @returns how many services it changed */
const changed = async (lab: Lab, ...argv: string[]): Promise<number> =>
  (JSON.parse(await xlb(lab, [...argv, '--json'])) as { changed: unknown[] }).changed.length

labTest('save, clear, restore, save: the second file is the first', async (t) => {
  const lab = await Lab.up(t)
  const file = join(folder(t), 'xlb.yaml')
  await attach(lab)
  await addAll(lab)
  await xlb(lab, ['save', '--output', file])
  const first = readFileSync(file, 'utf8')
  t.regex(first, /name: web-1/)
  t.is(statSync(file).mode & 0o777, 0o600, 'seeds are secret')
  t.is(await save(lab), first)
  t.is(await changed(lab, 'clear'), 6)
  t.deepEqual((await list(lab)).services, [])
  t.is(await changed(lab, 'restore', file), 6)
  t.is(await save(lab), first)
  t.is(await changed(lab, 'restore', file), 0)
  t.deepEqual(readdirSync(join(file, '..')), ['xlb.yaml'], 'nothing else is left beside the file')
})

labTest('save keeps the order of services, whatever else comes and goes', async (t) => {
  const lab = await Lab.up(t)
  await attach(lab)
  await addAll(lab)
  const before = await save(lab)
  for (const other of ['tcp://10.89.0.101:1', 'udp://10.89.0.102:2']) {
    await xlb(lab, ['service', 'add', other])
    await xlb(lab, ['service', 'rm', other])
    t.is(await save(lab), before)
  }
})

labTest('what save --json writes, restore reads too', async (t) => {
  const lab = await Lab.up(t)
  await attach(lab)
  await addAll(lab)
  const before = await save(lab)
  const json = await xlb(lab, ['save', '--json'])
  t.notThrows(() => JSON.parse(json))
  await xlb(lab, ['clear'])
  await xlb(lab, ['restore', '-'], { input: json })
  t.is(await save(lab), before)
})

labTest('restore puts the file in the place of what is there, at once', async (t) => {
  const lab = await Lab.up(t)
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  const [rs1, rs2] = backends(lab, 1, 1)
  const service = `tcp://${lab.vipInUrl}:80`
  await restore(lab, [
    { service, backends: rs1 ? [rs1] : [] },
    { service: 'tcp://10.89.0.105:1', backends: [] },
  ])
  t.deepEqual(await ask(lab, 2), ['rs1', 'rs1'])
  await restore(lab, [
    { service, backends: rs2 ? [rs2] : [] },
    { service: 'tcp://10.89.0.106:1', backends: [] },
  ])
  t.deepEqual(await ask(lab, 2), ['rs2', 'rs2'])
  t.deepEqual(
    (await list(lab)).services.map((each) => each.service),
    ['tcp://10.89.0.100:80', 'tcp://10.89.0.106:1'],
  )
})

labTest('restore --attach on a host with nothing attached makes it what was saved', async (t) => {
  const lab = await Lab.up(t, { servers: 3 })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), lab.http(3, 80)])
  await xlb(lab, ['attach', 'eth0', '--mode', 'generic', '--flows', '65536', '--services', '50', '--backends', '600'])
  await addAll(lab)
  const before = await save(lab)
  await xlb(lab, ['detach', '--all'])
  const without = await lab.xlb(['restore', '-'], { input: before })
  t.is(without.code, 1)
  t.regex(without.stderr, /xlb is not attached to any interface/)
  await xlb(lab, ['restore', '-', '--attach'], { input: before })
  t.is(await save(lab), before, 'capacities and modes included')
  t.deepEqual([...new Set(await ask(lab, 6))].sort(), ['rs2', 'rs3'], 'rs1 is drained')
  await xlb(lab, ['restore', '-', '--attach'], { input: before })
  t.is(await save(lab), before)
})
