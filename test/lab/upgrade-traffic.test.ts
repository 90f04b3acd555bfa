// SPDX-License-Identifier: Apache-2.0
// Traffic through a director whose program is replaced under it, again and again.
import test, { type ExecutionContext } from 'ava'
import { type Counts, readCounts, readReasons } from '../../src/dataplane/counters.ts'
import { countFlows } from '../../src/dataplane/flows.ts'
import { Reason } from '../../src/dataplane/layout.gen.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { hasRoot, Lab } from './lab.ts'
import { tablesOf, tagsOf, useVersion, withPlane } from './program.ts'
import { compileVariant } from './variant.ts'
import { attach, backends, type Mode, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const HELD = 40
const DOWNLOAD = { bytes: 30_000_000, seconds: 20 }

interface Seen {
  /** packets, bytes and flows of each backend, then packets by reason. */
  counts: bigint[]
  /** Established flows of the service with the held connections. */
  established: number
  settings: string
}

const see = (lab: Lab): Seen =>
  withPlane(lab, (plane) => {
    const live = readLive(plane)
    const flows = countFlows(plane, plane.age())
    const all = [...live.services.values()].flatMap((service) =>
      service.backends.map((backend) => ({ service, backend })),
    )
    const counts = all.flatMap(({ backend }): bigint[] => {
      const { packets, bytes, flows: begun }: Counts = readCounts(plane, backend.counter)
      return [packets, bytes, begun]
    })
    const held = all.filter(({ service }) => service.name.endsWith(':7000'))
    return {
      counts: [...counts, ...readReasons(plane)],
      established: held.reduce(
        (sum, { service, backend }) => sum + flows.of(service.service.id, backend.index).active,
        0,
      ),
      settings: Buffer.from(plane.buffer('settings')).toString('hex'),
    }
  })

/** What the reasons from the first to the last drop, and those of passing for want of a service, have counted. */
const lostIn = ({ counts }: Seen): bigint => {
  const reasons = counts.slice(-Reason.REASONS)
  return [Reason.PASS_NO_SERVICE, Reason.PASS_NOT_VIP, Reason.DROP_NO_BACKEND, Reason.DROP_BACKEND_DOWN].reduce(
    (sum, reason) => sum + (reasons[reason] ?? 0n),
    0n,
  )
}

/** Segments that the client's TCP has sent again. */
const retransmitted = async (lab: Lab): Promise<number> => {
  const { stdout } = await lab.run('client', ['cat', '/proc/net/snmp'])
  const [names, values] = stdout.split('\n').filter((line) => line.startsWith('Tcp:'))
  const at = (names ?? '').split(' ').indexOf('RetransSegs')
  return Number((values ?? '').split(' ')[at])
}

const begin = async (t: ExecutionContext, mode: Mode): Promise<Lab> => {
  const lab = await Lab.up(t)
  t.timeout(400_000)
  await Promise.all([1, 2, 3].flatMap((server) => [lab.http(server, 80), lab.lines(server, 7000)]))
  await attach(lab, mode)
  await restore(lab, [
    { service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: backends(lab, 1, 1, 1) },
    { service: `tcp://${lab.vip}:7000`, scheduler: 'wrr', backends: backends(lab, 3, 2, 1) },
  ])
  return lab
}

interface Replaced {
  interfaces: { name: string; outcome: string; loaded: { tag: string }; build: { tag: string } }[]
}

/** Gives the old version again and has `xlb upgrade` replace it, and looks at what must not go down or away. */
const replaceOnce = async (t: ExecutionContext, lab: Lab, giveOld: () => void, tags: readonly [string, string]) => {
  giveOld()
  const before = see(lab)
  const { interfaces } = JSON.parse(await xlb(lab, ['upgrade', '--json'])) as Replaced
  t.deepEqual(
    interfaces.map(({ outcome, loaded, build }) => [outcome, loaded.tag, build.tag]),
    [['replaced', ...tags]],
  )
  const after = see(lab)
  t.true(
    after.counts.every((count, i) => count >= (before.counts[i] ?? 0n)),
    'no counter goes down',
  )
  t.true(after.counts.some((count, i) => count > (before.counts[i] ?? 0n)))
  t.is(after.established, HELD, 'established flows stay')
  t.is(after.settings, before.settings)
}

for (const [mode, times] of [
  ['native', 50],
  ['generic', 8],
] as const) {
  labTest(`${mode}: the program is replaced ${times} times under traffic, and no connection notices`, async (t) => {
    const lab = await begin(t, mode)
    const [ours = ''] = tagsOf(lab) as string[]
    const old = useVersion(lab, compileVariant(1))
    t.teardown(old.close)
    const [other = ''] = tagsOf(lab) as string[]
    const url = `http://${lab.vip}/`
    const held = await lab.holdLines(7000, HELD, 20)
    const download = lab.spawn('client', [
      ...['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download}'],
      `${url}slow?bytes=${DOWNLOAD.bytes}&seconds=${DOWNLOAD.seconds}`,
    ])
    const short = lab.spawn('client', [
      ...['curl', '-sS', '--fail', '--fail-early', '--max-time', '5', '--rate', '200/s', '-H', 'Connection: close'],
      `${url}?[1-1000000]`,
    ])
    const [tables, saved, first, sentAgain] = [tablesOf(lab), await save(lab), see(lab), await retransmitted(lab)]
    for (let i = 0; i < times; i++) await replaceOnce(t, lab, old.again, [other, ours])

    t.true(short.running, short.stderr)
    await short.stop()
    t.is(short.stderr, '')
    const answers = short.stdout.trim().split('\n')
    t.true(answers.length > 10 * times)
    t.deepEqual([...new Set(answers)].sort(), ['rs1', 'rs2', 'rs3'])
    const { code, stdout, stderr } = await download.ended
    t.deepEqual([code, stdout, stderr], [0, `${DOWNLOAD.bytes}`, ''])
    const { stdout: said } = await held.stop()
    const lines = JSON.parse(said.trim().split('\n').at(-1) ?? '') as { lost: unknown[]; intact: number; lines: number }
    t.deepEqual([lines.intact, lines.lost], [HELD, []], 'each got every answer, from one server')
    const last = see(lab)
    t.deepEqual(tablesOf(lab), tables, 'the tables are the same ones')
    t.is(await save(lab), saved)
    t.is(lostIn(last), lostIn(first))
    const again = (await retransmitted(lab)) - sentAgain
    t.log(`${times} upgrades: ${answers.length} short connections, ${lines.lines} lines; ${again} segments sent again`)
  })
}
