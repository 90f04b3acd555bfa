// SPDX-License-Identifier: Apache-2.0
// The bound on new flows, with real connections: a verb sets it while they come.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, FAMILIES, list, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const CONNECTIONS = 50

for (const family of FAMILIES) {
  labTest(`${family}: limits --new-flows binds at once, and again not; what it refuses goes by the ring`, async (t) => {
    const lab = await Lab.up(t, { servers: 2, family })
    await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
    const service = `tcp://${lab.vipInUrl}:80`
    await restore(lab, [{ service, scheduler: 'rr', backends: backends(lab, 1, 1) }])
    /** How many of so many connections have an entry, and how many the bound has kept from one. */
    const connect = async () => {
      const before = (await list(lab)).reasons
      t.is((await ask(lab, CONNECTIONS)).length, CONNECTIONS, 'each is answered')
      const { reasons } = await list(lab)
      const moved = (reason: string): number => (reasons[reason] ?? 0) - (before[reason] ?? 0)
      return { recorded: moved('flow_inserted'), refused: moved('flow_refused_budget') > 0 }
    }
    t.deepEqual(await connect(), { recorded: CONNECTIONS, refused: false })
    await xlb(lab, ['limits', '--new-flows', '1'])
    const { recorded, refused } = await connect()
    t.true(refused)
    t.true(recorded < CONNECTIONS / 2, `${recorded} were recorded`)
    await xlb(lab, ['limits', '--new-flows', '250000'])
    t.deepEqual(await connect(), { recorded: CONNECTIONS, refused: false })
  })
}
