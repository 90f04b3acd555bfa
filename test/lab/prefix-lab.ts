// SPDX-License-Identifier: Apache-2.0
// A lab in which the director is the next hop to a prefix, of either family, and its real servers answer for any address of it.
import type { ExecutionContext } from 'ava'
import { type Family, inUrl, Lab } from './lab.ts'
import { attach, backends, list, type Mode, xlb } from './xlb.ts'

const run = async (lab: Lab, host: string, command: string): Promise<void> => {
  const { code, stderr } = await lab.run(host, command.split(' '))
  if (code !== 0) throw new Error(`${host}: ${command}: exit ${code}: ${stderr}`)
}

/** Every packet for the prefix goes to the director, and a server takes each of its addresses for its own. */
export const routePrefix = async (lab: Lab, prefix: string, servers: number): Promise<void> => {
  await run(lab, 'client', `ip route add ${prefix} via ${lab.host('director').address}`)
  for (let server = 1; server <= servers; server++) {
    await run(lab, `rs${server}`, `ip route add local ${prefix} dev lo`)
    await lab.http(server, 80)
  }
}

/** Who answers at each of these addresses, `count` times in a row. */
export const answers = async (lab: Lab, hosts: readonly string[], count = 1): Promise<string[][]> => {
  const urls = hosts.flatMap((host) => Array.from({ length: count }, () => `http://${inUrl(host)}/`))
  const { code, stdout, stderr } = await lab.curl('--max-time', '20', '-H', 'Connection: close', ...urls)
  if (code !== 0) throw new Error(`curl: exit ${code}: ${stderr}; had ${stdout}`)
  const lines = stdout.trim().split('\n')
  return hosts.map((_, i) => lines.slice(i * count, (i + 1) * count))
}

/** A lab with a service of the prefix that goes by destinations, and what it answers; whatever the family. */
export const hashesDestinations = async (
  t: ExecutionContext,
  { family, mode }: { family: Family; mode: Mode },
  prefix: string,
  hosts: readonly string[],
) => {
  const lab = await Lab.up(t, { servers: 2, family })
  const service = `tcp://${inUrl(prefix)}:80`
  await routePrefix(lab, prefix, 2)
  await attach(lab, mode)
  await xlb(lab, ['service', 'add', service, '--scheduler', 'dh', '--seed', '7'])
  for (const { address } of backends(lab, 1, 1)) await xlb(lab, ['backend', 'set', service, address])
  const first = await answers(lab, hosts, 3)
  for (const [i, each] of first.entries()) t.is(new Set(each).size, 1, `${hosts[i]}: ${each.join()}`)
  t.deepEqual([...new Set(first.flat())].sort(), ['rs1', 'rs2'])
  t.deepEqual(await answers(lab, hosts, 3), first)
  const host = inUrl(hosts[3] ?? '')
  const { stdout } = await lab.curl('-D', '-', `http://${host}/`)
  t.true(stdout.includes(`x-local: ${host}:80`), stdout)
  const { services } = await list(lab)
  t.is(services[0]?.service, service)
  const flows = services[0]?.backends.reduce((sum, { counts }) => sum + counts.flows, 0)
  t.is(flows, hosts.length * 3 * 2 + 1)
  await xlb(lab, ['backend', 'drain', service, lab.host('rs1').address])
  t.deepEqual(new Set((await answers(lab, hosts)).flat()), new Set(['rs2']))
  await xlb(lab, ['backend', 'set', service, lab.host('rs1').address])
  t.deepEqual(await answers(lab, hosts, 3), first, 'and back again')
}
