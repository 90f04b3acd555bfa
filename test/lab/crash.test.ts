// SPDX-License-Identifier: Apache-2.0
// Verbs killed with SIGKILL at a thousand random points, while connections live: crash.ts does it, in several labs at once.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { compileFork } from './fork.ts'
import { hasRoot, Lab, type Registrar } from './lab.ts'
import { backends, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const CRASH = fileURLToPath(new URL('crash.ts', import.meta.url))
/** Most of a verb's time it waits, for packets that came before it: several side by side take hardly longer than one. */
const LABS = 4
const KILLS = 1_000
const PORT = 90
const CONNECTIONS = 40

interface Report {
  kills: number
  before: number
  after: number
  refused: number
  endedByItself: number
  seed: number
  seconds: number
  stages: Record<string, number>
  kinds: Record<string, number>
  managed: number
  faults: string[]
}

/** A lab with one service, some connections held through it, and `kills` kills on its director. */
const crashInLab = async (t: Registrar, kills: number, seed: number) => {
  const lab = await Lab.up(t)
  t.timeout?.(300_000)
  await Promise.all([1, 2, 3].map((server) => lab.lines(server, PORT)))
  await xlb(lab, ['attach', 'eth0', '--services', '64', '--backends', '512', '--flows', '65536'])
  const servers = backends(lab, 1, 1, 1)
  await restore(lab, [{ service: `tcp://${lab.vip}:${PORT}`, scheduler: 'mh', backends: servers }])
  const client = await lab.holdLines(PORT, CONNECTIONS, 200)
  const argv = [process.execPath, '--single-threaded', '--import', import.meta.resolve('tsx'), CRASH]
  const { stdout, stderr } = await lab.run(
    'director',
    [...argv, lab.instance(), `${kills}`, `${seed}`, ...servers.map(({ address }) => address)],
    { timeoutMs: 300_000 },
  )
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
  const runs = await Promise.all(seeds.map((seed) => crashInLab(t, KILLS / LABS, seed)))
  for (const { report, lost, codes } of runs) {
    const { kills, before, after, stages, seed, seconds } = report
    t.log(`seed ${seed}: ${kills} kills in ${seconds} s: ${before} left the state before, ${after} the state after`)
    t.log(counted(stages))
    t.log(counted(report.kinds))
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
})
