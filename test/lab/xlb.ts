// SPDX-License-Identifier: Apache-2.0
// xlb in a lab, as tests speak to it: verbs that must succeed, and what `xlb list --json` says.
import type { Family, Lab } from './lab.ts'

export type Mode = 'native' | 'generic'
export const MODES: readonly Mode[] = ['native', 'generic']
export const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']

export interface Way {
  mode: Mode
  family: Family
  /** As titles name it: `native` of IPv4, `native, IPv6`. */
  name: string
}
/** Each mode of attachment with each family. */
export const WAYS: readonly Way[] = FAMILIES.flatMap((family) =>
  MODES.map((mode) => ({ mode, family, name: family === 'IPv4' ? mode : `${mode}, ${family}` })),
)

export interface BackendRow {
  address: string
  weight: number
  effectiveWeight: number
  state: string
  mac: string | null
  interface: string | null
  vlan: number | null
  active: number | null
  inactive: number | null
  counts: { packets: number; bytes: number; flows: number }
}

export interface Listing {
  instance: string
  interfaces: { name: string; mode: string; attached: boolean; fault: string | null }[]
  egress: { name: string; fault: string | null }[]
  staleMacs: string[]
  flows: { used: number; capacity: number }
  flows6: { used: number; capacity: number }
  services: { service: string; scheduler: string; ringSize: number; backends: BackendRow[] }[]
  reasons: Record<string, number>
}

/** An entry of `services` in the file that `xlb restore` reads. */
export interface ServiceEntry {
  service: string
  scheduler?: string
  hash?: string
  'ring-size'?: number
  seed?: string
  backends: { address: string; weight?: number; vlan?: 'none' | number; admin?: 'up' | 'drain' }[]
}

interface Where {
  director?: string
  input?: string
}

/** Runs a verb that must succeed. @returns its stdout @throws with its stderr where it does not */
export const xlb = async (lab: Lab, args: readonly string[], where: Where = {}): Promise<string> => {
  const { code, stdout, stderr } = await lab.xlb(args, where)
  if (code !== 0) throw new Error(`xlb ${args.join(' ')}: exit ${code}: ${stderr}`)
  return stdout
}

export const list = async (lab: Lab, where: Where = {}): Promise<Listing> =>
  JSON.parse(await xlb(lab, ['list', '--json'], where)) as Listing

export const save = (lab: Lab, where: Where = {}): Promise<string> => xlb(lab, ['save'], where)

/** A command on a host, in the shell's words, that must succeed. @returns its stdout @throws with its stderr */
export const on = async (lab: Lab, host: string, command: string): Promise<string> => {
  const { code, stdout, stderr } = await lab.run(host, ['sh', '-ec', command])
  if (code !== 0) throw new Error(`${host}: ${command}: exit ${code}: ${stderr}`)
  return stdout
}

/** Makes these the services, whatever there was. */
export const restore = async (lab: Lab, services: readonly ServiceEntry[], where: Where = {}): Promise<void> => {
  await xlb(lab, ['restore', '-'], { ...where, input: JSON.stringify({ services }) })
}

/** Attaches eth0 with a small flow table, which is made quicker than the default one. */
export const attach = (lab: Lab, mode: Mode = 'native', where: Where = {}): Promise<string> =>
  xlb(lab, ['attach', 'eth0', '--mode', mode, '--flows', '65536'], where)

/** Backends rs1, rs2...: one for each weight. */
export const backends = (lab: Lab, ...weights: number[]): { address: string; weight: number }[] =>
  weights.map((weight, i) => ({ address: lab.host(`rs${i + 1}`).address, weight }))

/** The bodies of `count` answers at the VIP, each over a connection of its own, one after the other. */
export const ask = async (lab: Lab, count: number, port = 80): Promise<string[]> => {
  const url = `http://${lab.vipInUrl}:${port}/?[1-${count}]`
  const { code, stdout, stderr } = await lab.curl('--max-time', '20', '-H', 'Connection: close', url)
  if (code !== 0) throw new Error(`curl ${url}: exit ${code}: ${stderr}; had ${stdout}`)
  return stdout.trim().split('\n')
}

/** How often each answer came. */
export const tally = (answers: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const answer of answers) counts[answer] = (counts[answer] ?? 0) + 1
  return counts
}

/** Asks until the answer is yes. @throws after 20 s, naming what did not come to be */
export const until = async (what: string, probe: () => Promise<boolean>): Promise<void> => {
  const end = Date.now() + 20_000
  while (!(await probe())) {
    if (Date.now() > end) throw new Error(`it has not come to be: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
