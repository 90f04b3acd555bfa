// SPDX-License-Identifier: Apache-2.0
// lc with real connections, and the timer that keeps its counts right while no process of xlb runs.
import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { eachLiveFlow, WORD } from '../../src/dataplane/flow-tables.ts'
import type { KernelPlane } from '../../src/dataplane/kernel.ts'
import { readConnections } from '../../src/dataplane/least.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { hasRoot, inUrl, Lab, ofFamily } from './lab.ts'
import { withPlane } from './program.ts'
import { attach, backends, FAMILIES, list, on, restore, save, until, xlb } from './xlb.ts'

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

/** How many unexpired entries a service has, and how many connections its one backend counts. */
interface Held {
  entries: number
  counted: number
}

const heldBy = (plane: KernelPlane, name: string): Held => {
  const found = readLive(plane).services.get(name)
  const [backend] = found?.backends ?? []
  if (found === undefined || backend === undefined) throw new Error(`${name} has no backend`)
  // Before the entries are: a sweep in between would make it look too small.
  const { active, inactive } = readConnections(plane, backend.counter)
  let entries = 0
  eachLiveFlow(plane, plane.age(), (words, flow) => {
    if ((words[flow + WORD.portAndId] ?? 0) >>> 16 === found.service.id) entries++
  })
  return { entries, counted: active + inactive }
}

labTest('a live count falls within a second of the end of its entries, in every flow table', async (t) => {
  const lab = await Lab.up(t, { servers: 1, family: 'IPv6' })
  await Promise.all([lab.lines(1, PORT), attach(lab)])
  await xlb(lab, ['timeouts', '--closing', '2s', '--closed', '2s'])
  const targets = await Promise.all(
    FAMILIES.flatMap((family) => {
      const prefix = family === 'IPv4' ? '198.18.7.0/24' : '2001:db8:7::/64'
      const routed = async () => {
        const director = ofFamily(lab.host('director').address, family)
        await on(lab, 'client', `ip route add ${prefix} via ${director}`)
        await on(lab, 'rs1', `ip route add local ${prefix} dev lo`)
        return { name: `tcp://${inUrl(prefix)}:${PORT}`, address: prefix.replace(/0?\/.*/, '9'), family }
      }
      const address = ofFamily(lab.vip, family)
      return [Promise.resolve({ name: `tcp://${inUrl(address)}:${PORT}`, address, family }), routed()]
    }),
  )
  for (const { name, family } of targets) {
    await xlb(lab, ['service', 'add', name, '--scheduler', 'lc'])
    await xlb(lab, ['backend', 'set', name, ofFamily(lab.host('rs1').address, family)])
  }
  const clients = await Promise.all(targets.map(({ address }) => lab.holdLines(PORT, 3, 0, address)))
  await Promise.all(clients.map((client) => client.stop()))

  /** When its entries surely had ended, and when its count surely was still there. */
  const times = targets.map(() => ({ ended: Number.POSITIVE_INFINITY, counted: 0, most: { entries: 0, counted: 0 } }))
  const look = (plane: KernelPlane): boolean => {
    const last = targets.map(({ name }, i) => {
      const time = times[i]
      const before = performance.now()
      const held = heldBy(plane, name)
      if (time === undefined) return held
      if (held.entries > 0) time.most = held
      else time.ended = Math.min(time.ended, performance.now())
      if (held.counted > 0) time.counted = before
      return held
    })
    return last.every(({ entries, counted }) => entries === 0 && counted === 0)
  }
  const end = performance.now() + 10_000
  while (!withPlane(lab, look) && performance.now() < end) await sleep(20)
  for (const [i, { ended, counted, most }] of times.entries()) {
    const name = targets[i]?.name
    t.deepEqual(most, { entries: 3, counted: 3 }, `${name}: until its entries end, they are counted`)
    t.true(counted - ended < 1000, `${name}: counted ${Math.round(counted - ended)} ms after the end`)
    t.log(`${name}: counted until ${Math.round(counted - ended)} ms after the end`)
  }
})
