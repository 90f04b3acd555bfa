// SPDX-License-Identifier: Apache-2.0
// lblc and lblcr with real connections: a destination stays with its server until that is overloaded.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { answers, routePrefix } from './prefix-lab.ts'
import { attach, backends, list, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const PORT = 7
const WEIGHT = 4

const NETWORKS = [
  { family: 'IPv4', prefix: '198.18.7.0/24', host: (i: number) => `198.18.7.${i}`, inService: '198.18.7.0/24' },
  {
    family: 'IPv6',
    prefix: '2001:db8:7::/64',
    host: (i: number) => `2001:db8:7::${i}`,
    inService: '[2001:db8:7::/64]',
  },
] as const

for (const { family, prefix, host, inService } of NETWORKS) {
  for (const scheduler of ['lblc', 'lblcr'] as const) {
    labTest(`${family}: ${scheduler}: a destination stays with its server until that is overloaded`, async (t) => {
      const lab = await Lab.up(t, { servers: 3, family })
      await routePrefix(lab, prefix, 3)
      await Promise.all([1, 2, 3].map((server) => lab.lines(server, PORT)))
      await attach(lab)
      const servers = backends(lab, WEIGHT, WEIGHT, WEIGHT)
      const service = `tcp://${inService}:*`
      await restore(lab, [{ service, scheduler, backends: servers }])
      const active = async (): Promise<number[]> =>
        ((await list(lab)).services[0]?.backends ?? []).map((row) => row.active ?? -1)
      const remembered = async (i: number): Promise<string> => {
        const traced = await xlb(lab, ['trace', 'tcp', `${inHost(lab)}:40000`, `${inHost(lab, host(i))}:${PORT}`])
        return traced
      }

      // Short connections, one after the other: whatever they leave behind, a destination's all go to one server.
      const hosts = [1, 2, 3, 4, 5, 6].map(host)
      const first = await answers(lab, hosts, 4)
      for (const each of first) t.is(new Set(each).size, 1, each.join())
      t.is(new Set(first.flat()).size, 3, 'all servers have some')
      t.deepEqual(await answers(lab, hosts, 4), first)

      // Long ones to one address: as many as its weight and one more are its server's, and the next goes to another.
      const long = host(9)
      const clients = [await lab.holdLines(PORT, WEIGHT + 1, 0, long)]
      t.deepEqual((await active()).sort(), [0, 0, WEIGHT + 1])
      clients.push(await lab.holdLines(PORT, 1, 0, long))
      const after = await active()
      t.deepEqual(after.toSorted(), [0, 1, WEIGHT + 1])
      t.true((await remembered(9)).includes(scheduler))

      // From now on the other one has it, of lblcr's set too: it has least to do of the two.
      clients.push(await lab.holdLines(PORT, 2, 0, long))
      t.deepEqual(
        await active(),
        after.map((count) => (count === 1 ? 3 : count)),
      )
      for (const client of clients) await client.stop()
    })
  }
}

const inHost = (lab: Lab, address = lab.host('client').address): string =>
  address.includes(':') ? `[${address}]` : address
