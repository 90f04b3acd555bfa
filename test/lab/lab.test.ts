// SPDX-License-Identifier: Apache-2.0
// The lab itself, without xlb: what the other lab tests take for granted.
import { readdirSync } from 'node:fs'
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { until } from './xlb.ts'

const labTest = hasRoot() ? test : test.skip

labTest('the client reaches each real server at its own address', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await Promise.all([lab.http(1, 80), lab.http(2, 80, 'second')])
  t.is((await lab.curl(`http://${lab.host('rs1').address}/`)).stdout, 'rs1\n')
  t.is((await lab.curl(`http://${lab.host('rs2').address}/`)).stdout, 'second\n')
})

labTest('the director, whose far end runs xlb_pass, exchanges TCP with a real server', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await lab.http(1, 80)
  const { stdout } = await lab.run('director', ['curl', '-s', '--max-time', '5', `http://${lab.host('rs1').address}/`])
  t.is(stdout, 'rs1\n')
})

labTest('no real server answers ARP for the VIP, the director does', async (t) => {
  const neighbours = async (lab: Lab) => {
    await lab.curl('--max-time', '0.3', `http://${lab.vip}/`)
    return (await lab.run('client', ['ip', 'neighbour', 'show', lab.vip])).stdout
  }
  const without = await Lab.up(t, { servers: 2, vipOnDirector: false })
  t.notRegex(await neighbours(without), /lladdr/)
  const lab = await Lab.up(t, { servers: 2 })
  t.true((await neighbours(lab)).includes(lab.host('director').mac))
})

labTest(
  'no real server answers for an IPv6 VIP on its lo, nor names it when it asks, and the director answers',
  async (t) => {
    const vipOf = async (lab: Lab) => (await lab.run('client', ['ip', 'neighbour', 'show', lab.vip])).stdout
    const without = await Lab.up(t, { servers: 1, vipOnDirector: false, family: 'IPv6' })
    await without.http(1, 80)
    await without.curl('--max-time', '0.3', `http://${without.vipInUrl}/`)
    t.notRegex(await vipOf(without), /lladdr/)
    // Asked at its own MAC it is as silent: a probe of an entry that is there is unicast (RFC 4861 section 7.3.3).
    const { address, mac } = without.host('rs1')
    const entry = ['ip', 'neighbour', 'replace', without.vip, 'dev', 'eth0', 'lladdr', mac, 'nud']
    await without.run('client', [...entry, 'probe'])
    await until('the entry has failed', async () => !(await vipOf(without)).includes('PROBE'))
    t.notRegex(await vipOf(without), /REACHABLE|lladdr/)
    // It answers from the VIP, and has to ask for the client's MAC first: in the name of another address of its own.
    await without.run('client', [...entry, 'permanent'])
    await without.run('rs1', ['ip', '-6', 'neighbour', 'flush', 'dev', 'eth0'])
    await without.run('client', ['ip', '-6', 'neighbour', 'flush', 'dev', 'eth0', 'nud', 'all'])
    await without.run('client', [...entry, 'stale'])
    t.is((await without.curl(`http://${without.vipInUrl}/`)).stdout, 'rs1\n')
    const asked = (await without.run('client', ['ip', '-6', 'neighbour', 'show', 'dev', 'eth0'])).stdout
    t.regex(asked, new RegExp(`^fe80::\\S+ lladdr ${mac}`, 'm'), 'its link-local address')
    t.false(asked.includes(`${address} `))

    const lab = await Lab.up(t, { servers: 1, family: 'IPv6' })
    await lab.curl('--max-time', '0.3', `http://${lab.vipInUrl}/`)
    t.true((await vipOf(lab)).includes(lab.host('director').mac))
  },
)

labTest('a slow download takes its time and comes whole', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await lab.http(1, 80)
  const started = Date.now()
  const { stdout } = await lab.curl(`http://${lab.host('rs1').address}/slow?bytes=100000&seconds=0.5`)
  t.is(stdout.length, 100_000)
  t.true(Date.now() - started >= 400)
})

labTest('a UDP server answers from the address that was asked', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await lab.udp(1, 53)
  t.deepEqual(await lab.askUdp(lab.host('rs1').address, 53, 'hello', 2), ['rs1 hello', 'rs1 hello'])
})

labTest('a command that outlives its time is killed, and says so by its status', async (t) => {
  const lab = await Lab.up(t, { servers: 0 })
  t.is((await lab.run('client', ['sleep', '30'], { timeoutMs: 50 })).code, 137)
  t.is((await lab.run('client', ['false'])).code, 1)
})

labTest('nothing of a lab is left after its end', async (t) => {
  let prefix = ''
  let pid = 0
  const teardowns: (() => Promise<void>)[] = []
  const lab = await Lab.up({ ...t, teardown: (end: () => Promise<void>) => teardowns.push(end) } as typeof t)
  prefix = lab.prefix
  pid = lab.spawn('rs1', ['sleep', '600']).pid
  for (const end of teardowns) await end()
  t.deepEqual(
    readdirSync('/run/netns').filter((name) => name.startsWith(`${prefix}-`)),
    [],
  )
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})
