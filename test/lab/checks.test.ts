// SPDX-License-Identifier: Apache-2.0
// A check of the configuration whose results are reported: who is not reported in time is out, a daemon that is killed has not forgotten it,
// and a report brings it back.
import test from 'ava'
import { answerOf, ask as askSocket, configFile, configure, listed, startDaemon, until } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { ask, tally } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

labTest(
  'a backend that nobody reports any more is out within its time, also past kill -9, until it is reported',
  async (t) => {
    const lab = await Lab.up(t)
    const file = configFile(t)
    const service = `tcp://${lab.vip}:80`
    const addresses = [1, 2].map((i) => lab.host(`rs${i}`).address)
    const [rs1 = '', rs2 = ''] = addresses
    const write = (expires?: string) =>
      configure(file, {
        interfaces: ['eth0'],
        checks: { app: { type: 'report', rise: 2, ...(expires === undefined ? {} : { expires }) } },
        services: [{ service, scheduler: 'rr', check: 'app', backends: addresses.map((address) => ({ address })) }],
      })
    const report = async (address: string) =>
      (await answerOf(lab, 'backend/report', { service, address, check: 'up' })).text.replace(/.*: check /, '')
    const states = async () => (await listed(lab)).services[0]?.backends.map(({ state }) => state).join(' ')
    const serving = async (count: number): Promise<string[]> => Object.keys(tally(await ask(lab, count))).sort()

    write()
    for (const server of [1, 2]) await lab.http(server, 80)
    const first = await startDaemon(lab, file)
    await until('all are up', 5000, async () => (await states()) === 'up up')
    t.is(await report(rs1), 'up (1 of 2)')
    t.is(await report(rs1), 'up')

    write('4s')
    t.regex((await answerOf(lab, 'reload')).text, /how backends come back: of 1 service/)
    // The one is reported on, the other was never.
    await until('the one that nobody reports is out', 10_000, async () => {
      await report(rs1)
      return (await states()) === 'up down'
    })
    t.deepEqual(await serving(6), ['rs1'], 'none is lost, and none goes there')
    await first.waitFor(/"from":"up 1","to":"down 1","reason":"check app down: not reported for 4 s"/)
    const { body } = await askSocket(`/run/xlb/${lab.instance()}/api.sock`, 'GET', '/metrics')
    const labels = (address: string) => `{service="${service}",backend="${address}"}`
    t.true(body.includes(`xlb_backend_check_up${labels(rs1)} 1`), body)
    t.true(body.includes(`xlb_backend_check_up${labels(rs2)} 0`), body)
    t.regex(
      (await answerOf(lab, 'status')).text,
      new RegExp(`${rs2} of .* is out: check app down: not reported for 4 s, since `),
    )

    await first.stop('SIGKILL')
    await startDaemon(lab, file)
    t.is(await states(), 'up down', 'nothing is forgotten')
    await until('the other one is out', 10_000, async () => (await states()) === 'down down')
    t.is(await report(rs2), 'up (1 of 2); check app down: not reported for 4 s')
    t.is(await states(), 'down down')
    t.is(await report(rs2), 'up')
    t.is(await states(), 'down up')
    t.deepEqual(await serving(4), ['rs2'])

    write('1h')
    await answerOf(lab, 'reload')
    t.is(await states(), 'up up', 'what was reported holds again')
    t.regex((await answerOf(lab, 'save')).text, /checks:\n {2}app:\n[\s\S]*expires: 1h\n[\s\S]*check: app\n/)
  },
)
