// SPDX-License-Identifier: Apache-2.0
// ICMP for a VIP: the director answers a ping; an error about a UDP flow reaches the server that has the flow.
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { hasRoot, Lab } from './lab.ts'
import type { Tracked } from './process.ts'
import { addRouters } from './routers.ts'
import { added, each } from './snmp.ts'
import { ask, attach, backends, list, restore, until, WAYS, type Way } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const fromRoot = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const PING = fromRoot('build/test/ping')
const UDP_LATE = fromRoot('test/lab/udp-late.js')

const SERVERS = ['rs1', 'rs2', 'rs3']
const STACKS = ['director', ...SERVERS]
const PORT = 53
/** So many that all go to one of three servers once in 170,000 runs. */
const FLOWS = 12

const labs = new Map<Way, Lab>()
const ends: (() => unknown)[] = []

test.before(async () => {
  if (!hasRoot()) return
  mkdirSync(fromRoot('build/test'), { recursive: true })
  execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', PING, fromRoot('test/lab/ping.c')])
  for (const way of WAYS) {
    const lab = await Lab.up({ teardown: (end) => ends.push(end) }, { family: way.family })
    await addRouters(lab, 1400, STACKS)
    const sysctls =
      'cd /proc/sys/net/ipv4; echo 0 0 >ping_group_range; echo 0 >icmp_ratelimit; echo 0 >../ipv6/icmp/ratelimit'
    await lab.run('client', ['sh', '-ec', sysctls])
    await attach(lab, way.mode)
    labs.set(way, lab)
  }
})

test.after.always(async () => {
  for (const end of ends) await end()
})

/** The way's lab with this one service, which nobody has used yet. */
const withService = async (way: Way, service: string, scheduler: string): Promise<Lab> => {
  const lab = labs.get(way)
  if (lab === undefined) throw new Error(`no lab for ${way.name}`)
  await restore(lab, [])
  await restore(lab, [{ service: service.replace('VIP', lab.vipInUrl), scheduler, backends: backends(lab, 1, 1, 1) }])
  return lab
}

/** The ports of clients of which a server said so. */
const said = (server: Tracked, what: string): string[] =>
  [...server.stdout.matchAll(new RegExp(`^${what} (\\d+)$`, 'gm'))].map(([, port = '']) => port).sort()

interface LateServer {
  host: string
  process: Tracked
  /** The clients that it owes an answer. */
  held: string[]
}

/** Servers that owe a host's sockets FLOWS answers in all, when those are closed already. Their answers start with `ttl`. */
const lateServers = async (t: ExecutionContext, lab: Lab, host: string, ttl: number): Promise<LateServer[]> => {
  const argv = [process.execPath, UDP_LATE, lab.vip, `${PORT}`, `${ttl}`]
  const servers = SERVERS.map((name) => lab.spawn(name, argv))
  t.teardown(() => Promise.all(servers.map((server) => server.stop())))
  await Promise.all(servers.map((server) => server.waitFor(/^listening /m)))
  const send = `for i in {1..${FLOWS}}; do echo late >/dev/udp/${lab.vip}/${PORT}; done`
  const { code, stderr } = await lab.run(host, ['bash', '-ec', send])
  if (code !== 0) throw new Error(`${host}: ${send}: exit ${code}: ${stderr}`)
  const held = () => servers.map((server) => said(server, 'holds'))
  await until('the servers have every datagram', async () => held().flat().length === FLOWS)
  const late = servers.map((process, i) => ({ host: `rs${i + 1}`, process, held: held()[i] ?? [] }))
  return late.filter((server) => server.held.length > 0)
}

for (const way of WAYS) {
  const { name, family } = way
  const group = family === 'IPv6' ? 'Icmp6' : 'Icmp'
  labTest(`${name}: the director answers a ping to a VIP with services, whole or in fragments`, async (t) => {
    const lab = await withService(way, 'tcp://VIP:80', 'mh')
    const before = await each(lab, STACKS, group, 'InEchos')
    const reasons = (await list(lab)).reasons
    t.is((await lab.run('client', [PING, lab.vip, '5', '64'])).stdout, '64\n'.repeat(5))
    t.is((await lab.run('client', [PING, lab.vip, '3', '4000'])).stdout, '4000\n'.repeat(3))
    t.deepEqual(added(before, await each(lab, STACKS, group, 'InEchos')), { director: 8 })
    const after = (await list(lab)).reasons
    // 4,000 octets are three fragments.
    t.is(after.pass_not_balanced, (reasons.pass_not_balanced ?? 0) + 5 + 3 * 3)
    t.is(after.drop_fragment, reasons.drop_fragment)
  })

  labTest(`${name}: a ping amid connections to the service disturbs neither`, async (t) => {
    const lab = await withService(way, 'tcp://VIP:80', 'rr')
    const servers = await Promise.all([1, 2, 3].map((server) => lab.http(server, 80)))
    t.teardown(() => Promise.all(servers.map((server) => server.stop())))
    const [pinged, answers] = await Promise.all([lab.run('client', [PING, lab.vip, '50', '64']), ask(lab, 30)])
    t.is(pinged.stdout, '64\n'.repeat(50))
    t.deepEqual(
      answers,
      Array.from({ length: 30 }, (_, i) => `rs${(i % 3) + 1}`),
    )
  })

  for (const scheduler of ['mh', 'rr']) {
    labTest(
      `${name}, ${scheduler}: a server learns that the client's port is closed, for each of its flows`,
      async (t) => {
        const lab = await withService(way, `udp://VIP:${PORT}`, scheduler)
        const servers = await lateServers(t, lab, 'client', 64)
        t.true(servers.length > 1)
        // One after the other: what another server gets then is not about a flow of its own.
        for (const { host, process, held } of servers) {
          const before = await each(lab, STACKS, group, 'InDestUnreachs')
          process.kill('SIGUSR1')
          const refused = () => said(process, 'refused')
          await until(`every answer of ${host} is refused`, async () => refused().length >= held.length)
          t.deepEqual(refused(), held)
          t.deepEqual(added(before, await each(lab, STACKS, group, 'InDestUnreachs')), { [host]: held.length })
        }
      },
    )

    labTest(`${name}, ${scheduler}: a server learns that its datagrams' time ran out on the way`, async (t) => {
      const lab = await withService(way, `udp://VIP:${PORT}`, scheduler)
      // The first router already has none left to take off.
      const servers = await lateServers(t, lab, 'far', 1)
      t.true(servers.length > 1)
      for (const { host, process, held } of servers) {
        const before = await each(lab, STACKS, group, 'InTimeExcds')
        process.kill('SIGUSR1')
        const errors = async () => added(before, await each(lab, STACKS, group, 'InTimeExcds'))
        const sum = (counts: number[]) => counts.reduce((all, count) => all + count, 0)
        await until('an error came for each answer', async () => sum(Object.values(await errors())) >= held.length)
        t.deepEqual(await errors(), { [host]: held.length })
      }
    })
  }
}
