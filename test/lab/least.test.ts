// SPDX-License-Identifier: Apache-2.0
// lc with real connections, and the timer that keeps its counts right while no process of xlb runs.
import { execFileSync } from 'node:child_process'
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { attach, backends, list, restore, save, until, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const PORT = 7

const restoreKeepingTimeouts = async (lab: Lab, service: string, address: string): Promise<void> => {
  await xlb(lab, ['service', 'add', service, '--scheduler', 'rr'])
  await xlb(lab, ['backend', 'set', service, address])
}

interface Shown {
  id: number
  name?: string
  map_ids?: number[]
}

const bpftool = <T>(...args: string[]): T =>
  JSON.parse(execFileSync('bpftool', ['-j', ...args], { encoding: 'utf8' })) as T

/** Programs that hold a map. The timer's is one of them as long as it runs. */
const holdersOf = (map: number): string[] =>
  bpftool<Shown[]>('prog', 'show')
    .filter(({ map_ids }) => map_ids?.includes(map) === true)
    .map(({ name }) => name ?? '')

labTest('lc: while one backend has long connections, new ones go to the other', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  const service = `tcp://${lab.vip}:${PORT}`
  await Promise.all([lab.lines(1, PORT), lab.lines(2, PORT)])
  await attach(lab)
  await restore(lab, [{ service, scheduler: 'lc', backends: backends(lab, 1, 0) }])
  const long = await lab.holdLines(PORT, 5, 0)
  await xlb(lab, ['backend', 'set', service, lab.host('rs2').address, '--weight', '1'])
  const more = await lab.holdLines(PORT, 5, 0)
  const counts = (await list(lab)).services[0]?.backends.map(({ active, inactive }) => [active, inactive])
  t.deepEqual(counts, [
    [5, 0],
    [5, 0],
  ])
  // All are even now: they take turns.
  const last = await lab.holdLines(PORT, 4, 0)
  const after = (await list(lab)).services[0]?.backends.map(({ active }) => active)
  t.deepEqual(after, [7, 7])
  for (const client of [long, more, last]) await client.stop()
})

labTest(
  'the timer that frees expired flows is there from attach to detach, and another one after upgrade',
  async (t) => {
    const lab = await Lab.up(t, { servers: 1 })
    await attach(lab)
    const pin = `/sys/fs/bpf/xlb/${lab.instance()}/maps/sweep`
    const { id } = bpftool<Shown>('map', 'show', 'pinned', pin)
    t.deepEqual(holdersOf(id), ['xlb_sweep_start'])
    await xlb(lab, ['upgrade'])
    await until('one timer is left', () => Promise.resolve(holdersOf(id).length === 1))
    await xlb(lab, ['detach', '--all'])
    await until('no timer is left', () => Promise.resolve(holdersOf(id).length === 0))
    t.pass()
  },
)

/** The Unix time in milliseconds at which a backend has nothing more to do. */
const endOf = async (lab: Lab, address: string): Promise<number> => {
  await until('its last connection has expired', async () => {
    const row = (await list(lab)).services[0]?.backends.find((backend) => backend.address === address)
    return row?.state === 'up'
  })
  return Date.now()
}

labTest(
  'a full backend is taken again within a second of the end of its connections, while nothing of xlb runs',
  async (t) => {
    const lab = await Lab.up(t, { servers: 1 })
    const service = `tcp://${lab.vip}:${PORT}`
    const { address } = lab.host('rs1')
    await lab.lines(1, PORT)
    await attach(lab)
    await xlb(lab, ['timeouts', '--closing', '3s', '--closed', '3s'])
    await restoreKeepingTimeouts(lab, service, address)
    await xlb(lab, ['backend', 'set', service, address, '--max-conns', '3:1'])
    const client = await lab.holdLines(PORT, 3, 0)
    const row = (await list(lab)).services[0]?.backends[0]
    t.deepEqual([row?.state, row?.active], ['full', 3])
    t.not((await lab.curl('--max-time', '1', `telnet://${lab.vip}:${PORT}`)).code, 0, 'a fourth is not let in')
    t.true(((await list(lab)).reasons.drop_backends_full ?? 0) > 0)
    await client.stop()
    const closed = Date.now()
    const ended = await endOf(lab, address)
    // 3 s are at most 3 units of age, which the last packet may have begun; then one of the sweep, and the list itself takes its time.
    t.true(ended - closed < 3072 + 1024 + 1000 + 1500, `${ended - closed} ms`)
    const saved = await save(lab)
    await xlb(lab, ['clear'])
    await xlb(lab, ['timeouts', '--closing', '2m', '--closed', '10s'])
    await xlb(lab, ['restore', '-'], { input: saved })
    t.is(await save(lab), saved, 'limit and timeouts are saved and restored')
    const again = await lab.holdLines(PORT, 3, 0)
    t.is((await list(lab)).services[0]?.backends[0]?.active, 3)
    await again.stop()
  },
)
