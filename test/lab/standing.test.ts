// SPDX-License-Identifier: Apache-2.0
// A backend of which a report says that it is down, beside requests that go on: it gets none of them, comes back in steps, and a daemon that is
// killed meanwhile lets nothing of that be seen by packets.
import test, { type ExecutionContext } from 'ava'
import { effectiveWeight } from '../../src/core/desired.ts'
import { loadNative } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'
import { ask as askSocket, configFile, configure, startDaemon, until } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { ask, list, tally, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

interface Reasoned {
  reasons: { name: string; effect: string; text: string; since: string | null }[]
}

const sinceOf = ({ reasons }: Reasoned) => reasons.find(({ name }) => name === 'check')?.since

/** Reads what schedulers go by, out of the maps: no process need be started for it. */
const weightOf = (t: ExecutionContext, lab: Lab, backend: string): (() => number) => {
  const plane = openPlaneAt(loadNative(), pathsOf(lab.instance()).pins)
  t.teardown(() => plane.close())
  return () => {
    const [service] = readLive(plane).desired.values()
    const found = service?.backends.find(({ address }) => address === backend)
    return service === undefined || found === undefined ? Number.NaN : effectiveWeight(service, found)
  }
}

labTest('a backend that is reported down is out, also past kill -9, and comes back held, then in steps', async (t) => {
  const lab = await Lab.up(t)
  const file = configFile(t)
  const service = `tcp://${lab.vip}:80`
  const addresses = [1, 2, 3].map((i) => lab.host(`rs${i}`).address)
  const [rs1 = ''] = addresses
  const backends = addresses.map((address) => ({ address, weight: 100 }))
  const write = (ofService: object) =>
    configure(file, {
      interfaces: ['eth0'],
      defaults: { 'rejoin-hold': '2s', 'slow-start': '3s' },
      services: [{ service, scheduler: 'wrr', backends, ...ofService }],
    })
  const row = async () => {
    const found = (await list(lab)).services[0]?.backends.find(({ address }) => address === rs1)
    return found as NonNullable<typeof found> & Reasoned
  }
  /** What a person would read. */
  const said = async (verb: string, input: object = {}): Promise<string> => {
    const { status, body } = await askSocket(
      `/run/xlb/${lab.instance()}/api.sock`,
      'POST',
      `/v1/${verb}`,
      JSON.stringify(input),
    )
    t.is(status, 200, body)
    return (JSON.parse(body) as { text: string }).text
  }
  const serving = async (count: number): Promise<string[]> => Object.keys(tally(await ask(lab, count))).sort()

  write({ 'rejoin-hold': '1s' })
  for (const server of [1, 2, 3]) await lab.http(server, 80)
  const first = await startDaemon(lab, file)
  await until('all are up', 5000, async () => (await said('status')).includes('backends: 3 up'))
  t.deepEqual(await serving(12), ['rs1', 'rs2', 'rs3'])
  t.regex(await said('save'), /rejoin-hold: 1s[\s\S]*slow-start: 3s/)

  const report = ['backend', 'report', service, rs1]
  t.regex(await xlb(lab, [...report, '--check', 'down', '--text', 'refused']), /check down: refused/)
  t.deepEqual(await serving(12), ['rs2', 'rs3'], 'none is lost, and none goes there')
  write({ name: 'web' })
  t.regex(await said('reload'), /1 service changed; how backends come back: of 1 service/)
  t.like(await row(), { state: 'down', effectiveWeight: 0 }, 'a reload keeps it')
  t.regex(await said('status'), new RegExp(`DEGRADED +${rs1} of .* is out: check down: refused, since `))
  await first.waitFor(/"from":"up 100","to":"down 100","reason":"check down: refused"/)
  const { body } = await askSocket(`/run/xlb/${lab.instance()}/api.sock`, 'GET', '/metrics')
  t.regex(body, new RegExp(`xlb_backend_state{[^}]*backend="${rs1}",state="down",reason="check"} 1`))

  await first.stop('SIGKILL')
  t.deepEqual(await serving(6), ['rs2', 'rs3'])
  const second = await startDaemon(lab, file)
  const { reasons } = await row()
  t.like(
    reasons.find(({ name }) => name === 'check'),
    { effect: 'out', text: 'down: refused' },
  )

  const begun = performance.now()
  t.regex(await xlb(lab, [...report, '--check', 'up']), /check up; held out for 2 s more/)
  const since = sinceOf(await row())
  const killed = second.stop('SIGKILL').then(() => startDaemon(lab, file))
  const weight = weightOf(t, lab, rs1)
  const seen: { weight: number; atMs: number }[] = []
  const watched = until('all of its weight', 15_000, () => {
    const now = { weight: weight(), atMs: performance.now() - begun }
    if (seen.at(-1)?.weight !== now.weight) seen.push(now)
    return now.weight === 100
  })
  let isOver = false
  const end = () => {
    isOver = true
  }
  watched.then(end, end)
  while (!isOver) {
    const names = await serving(4)
    if (performance.now() - begun < 1900) t.false(names.includes('rs1'))
  }
  await watched
  await killed
  const told = JSON.stringify(seen)
  const weights = seen.map((each) => each.weight)
  t.deepEqual(
    weights,
    [0, 10, 40, 70, 100].filter((each) => weights.includes(each)),
    told,
  )
  t.true(weights.length >= 3, `in steps: ${told}`)
  t.true((seen[1]?.atMs ?? 0) >= 2000, `held out for 2 s: ${told}`)
  t.true((seen.at(-1)?.atMs ?? 0) >= 5000, `and growing for 3: ${told}`)
  t.is(sinceOf(await row()), since, 'a restart begins nothing anew')
  t.deepEqual(await serving(12), ['rs1', 'rs2', 'rs3'])
})
