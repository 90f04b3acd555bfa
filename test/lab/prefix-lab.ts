// SPDX-License-Identifier: Apache-2.0
// A lab in which the director is the next hop to a prefix, of either family, and its real servers answer for any address of it.
import { inUrl, type Lab } from './lab.ts'

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
