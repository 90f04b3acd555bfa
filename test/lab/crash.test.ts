// SPDX-License-Identifier: Apache-2.0
// Verbs killed with SIGKILL at a thousand random points, while connections live: crash.ts does it, in several labs at once.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { compileFork } from './fork.ts'
import { type Family, hasRoot, inUrl, Lab, ofFamily, type Registrar } from './lab.ts'
import { FAMILIES, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const CRASH = fileURLToPath(new URL('crash.ts', import.meta.url))
/** Most of a verb's time it waits, for packets that came before it: several side by side take hardly longer than one. */
const LABS = 4
const KILLS = 1_000
const PORT = 90
const CONNECTIONS = 40

interface Report {
  kills: number
  outside: number
  before: number
  after: number
  refused: number
  endedByItself: number
  seed: number
  seconds: number
  stages: Record<string, number>
  kinds: Record<string, number>
  services: Record<string, number>
  managed: number
  faults: string[]
}

/** A lab with one service, some connections held through it, and `kills` kills on its director. */
const crashInLab = async (t: Registrar, kills: number, seed: number, family: Family) => {
  const lab = await Lab.up(t, { family: 'IPv6' })
  t.timeout?.(300_000)
  await Promise.all([1, 2, 3].map((server) => lab.lines(server, PORT)))
  await xlb(lab, ['attach', 'eth0', '--services', '64', '--backends', '512', '--flows', '65536'])
  const hosts = [1, 2, 3].map((server) => lab.host(`rs${server}`))
  const named = FAMILIES.flatMap((each) => hosts.map(({ address, mac }) => `${ofFamily(address, each)}=${mac}`))
  const vip = ofFamily(lab.vip, family)
  const own = hosts.map(({ address }) => ({ address: ofFamily(address, family) }))
  await restore(lab, [{ service: `tcp://${inUrl(vip)}:${PORT}`, scheduler: 'mh', backends: own }])
  const client = await lab.holdLines(PORT, CONNECTIONS, 200, vip)
  const argv = [process.execPath, '--single-threaded', '--import', import.meta.resolve('tsx'), CRASH]
  const { stdout, stderr } = await lab.run('director', [...argv, lab.instance(), `${kills}`, `${seed}`, ...named], {
    timeoutMs: 300_000,
  })
  if (!stdout.startsWith('{')) throw new Error(`crash.ts said: ${stdout}${stderr}`)
  const report = JSON.parse(stdout) as Report
  client.kill('SIGTERM')
  const { lost } = JSON.parse((await client.ended).stdout.trim().split('\n').at(-1) ?? '{}') as { lost: unknown[] }
  const cleared = await lab.xlb(['clear'])
  const listed = await lab.xlb(['list'])
  const detached = await lab.xlb(['detach', '--all'])
  return { report, lost, codes: [cleared.code, listed.code, detached.code] }
}

const counted = (counts: Record<string, number>): string =>
  Object.entries(counts)
    .map(([what, count]) => `${count} ${what}`)
    .join('; ')

const TITLE = 'killed at a thousand points, a verb leaves the state before or after it, and the next one works'

labTest(TITLE, async (t) => {
  compileFork()
  const seeds = Array.from({ length: LABS }, () => Math.floor(Math.random() * 2 ** 32))
  const runs = await Promise.all(
    seeds.map((seed, i) => crashInLab(t, KILLS / LABS, seed, i % 2 === 0 ? 'IPv4' : 'IPv6')),
  )
  for (const { report, lost, codes } of runs) {
    const { kills, outside, before, after, stages, seed, seconds } = report
    t.log(
      `seed ${seed}: ${kills} kills amid a verb (${outside} beside one) in ${seconds} s: ${before} left the state before, ${after} the state after`,
    )
    t.log(counted(stages))
    t.log(counted(report.kinds))
    t.log(counted(report.services))
    t.deepEqual(report.faults, [])
    t.is(kills, KILLS / LABS)
    t.is(before + after, kills)
    t.deepEqual(lost, [], 'no connection is lost')
    t.deepEqual(codes, [0, 0, 0])
  }
  const sum = (of: (report: Report) => number) => runs.reduce((total, { report }) => total + of(report), 0)
  const shares = [sum(({ before }) => before), sum(({ after }) => after), sum(({ stages }) => stages.building ?? 0)]
  t.true(
    shares.every((share) => share >= KILLS / 10),
    `too few kills before the commit, after it, or amid the building: ${shares}`,
  )
  const few = [
    ...[
      'service add',
      'service set',
      'service set --persist',
      'filter load',
      'backend set',
      'backend drain',
      'restore',
    ].filter((kind) => sum(({ kinds }) => kinds[kind] ?? 0) < KILLS / 50),
    ...['ipv4 vip', 'ipv6 vip', 'ipv4 prefix', 'ipv6 prefix'].filter(
      (of) => sum(({ services }) => services[of] ?? 0) < KILLS / 50,
    ),
  ]
  t.deepEqual(few, [], 'too few kills')
})
