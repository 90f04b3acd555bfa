// SPDX-License-Identifier: Apache-2.0
// A backend that goes under its connections: `backend drain --deadline` waits for them, `backend rm --flows` says what becomes of them.
import test from 'ava'
import { loadNative } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'
import { begin, type Download, endsWhole } from './download.ts'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, list, MODES, restore, save, tally, until, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const stateOf = async ({ lab, address }: Download): Promise<string | undefined> =>
  (await list(lab)).services[0]?.backends.find((row) => row.address === address)?.state

/** The backends that have a record, whatever `list` says of them. */
const recorded = (lab: Lab, act: (flows: ArrayBuffer) => void = () => {}): string[] => {
  const plane = openPlaneAt(loadNative(), pathsOf(lab.instance()).pins)
  try {
    act(plane.buffer('flows'))
    return [...readLive(plane).services.values()].flatMap(({ backends }) => backends.map(({ want }) => want.address))
  } finally {
    plane.close()
  }
}

const drain = (download: Download, deadline: string, ...options: string[]) =>
  download.lab.spawnXlb(['backend', 'drain', download.service, download.address, '--deadline', deadline, ...options])

labTest('drain --deadline waits until the download has ended, and holds nobody up meanwhile', async (t) => {
  const download = await begin(t, 'native', 'rr')
  const { lab, server } = download
  const waiting = drain(download, '1m')
  await waiting.waitFor(/^1 flow remains, (1m|59s|58s) left$/m)
  t.is(tally(await ask(lab, 6))[server], undefined, 'no new flow')
  t.is(await stateOf(download), 'drain', 'other verbs take their turn')
  t.true(waiting.running)
  await endsWhole(t, download)
  const { code, stdout, stderr } = await waiting.ended
  t.is(code, 0, stderr)
  t.is(stderr, '')
  t.is(stdout.trim().split('\n').at(-1), `${download.address} of ${download.service}: no flow remains`)
})

labTest('drain --deadline ends at once where no flow is', async (t) => {
  const download = await begin(t, 'native', 'rr')
  await endsWhole(t, download)
  const idle = { ...download, address: download.lab.host(download.server === 'rs1' ? 'rs2' : 'rs1').address }
  const { code, stdout } = await drain(idle, '30s').ended
  t.is(code, 0)
  t.is(stdout, `${idle.address} of ${download.service}: no flow remains\n`)
})

labTest(
  'at the deadline drain fails, says how many are left, and leaves them and the backend as they are',
  async (t) => {
    const download = await begin(t, 'native', 'wrr')
    const { code, stdout, stderr } = await drain(download, '2s').ended
    t.is(code, 1)
    t.regex(stdout, /^1 flow remains, 2s left\n/)
    t.regex(stderr, /^xlb: deadline: .*: 1 flow remains; it stays drained\n.*xlb backend rm .* --flows keep\|cut\|move/)
    t.is(await stateOf(download), 'drain')
    const json = await drain(download, '2s', '--json').ended
    t.is(json.code, 1)
    const lines = json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    t.true(lines.length >= 2)
    t.is(lines.at(-1)?.secondsLeft, 0)
    for (const [i, { secondsLeft, ...line }] of lines.entries()) {
      const { service, address: backend } = download
      t.deepEqual(line, { service, backend, remaining: 1, unseenSeconds: 0, done: false })
      t.true(Number(secondsLeft) <= 2 - i, `${secondsLeft} left in line ${i}`)
    }
    t.truthy((JSON.parse(json.stderr) as { error: { mend: string } }).error.mend)
    await endsWhole(t, download)
  },
)

labTest('drain that is interrupted leaves the backend drained, and says so', async (t) => {
  const download = await begin(t, 'native', 'rr')
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const waiting = drain(download, '1m')
    await waiting.waitFor(/^1 flow remains/m)
    const { code, stderr } = await waiting.stop(signal)
    t.is(code, status)
    t.is(stderr, `stopped waiting: ${download.address} of ${download.service} stays drained; 1 flow remains\n`)
    t.is(await stateOf(download), 'drain')
  }
  await endsWhole(t, download)
})

labTest('drain ends where another command takes the backend back in, or removes it', async (t) => {
  const download = await begin(t, 'native', 'rr')
  const { lab, service, address } = download
  const first = drain(download, '1m')
  await first.waitFor(/^1 flow remains/m)
  await xlb(lab, ['backend', 'set', service, address])
  const taken = await first.ended
  t.is(taken.code, 1)
  t.regex(taken.stderr, /was taken back in by another command/)
  const second = drain(download, '1m')
  await second.waitFor(/^1 flow remains/m)
  await xlb(lab, ['backend', 'rm', service, address])
  const removed = await second.ended
  t.is(removed.code, 0)
  t.regex(removed.stdout, /was removed: no flow remains\n$/)
})

labTest('on a terminal drain shows how many remain in one line', async (t) => {
  const download = await begin(t, 'native', 'rr')
  const { lab, service, address } = download
  const argv = lab.xlbArgv(['backend', 'drain', service, address, '--deadline', '3s'])
  const { code, stdout } = await lab.run('director', ['script', '-qec', argv.join(' '), '/dev/null'])
  t.is(code, 1)
  const shown = stdout.split('\r\x1b[K').slice(1)
  t.true(shown.length >= 3, stdout)
  t.is(shown[0], '1 flow remains, 3s left')
  t.true(shown.slice(0, -1).every((line) => !line.includes('\n')))
  t.regex(stdout, new RegExp(`deadline: ${address} of ${service}: 1 flow remains`))
})

labTest('on a terminal drain counts down as flows end, to the last line', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  const service = `tcp://${lab.vip}:7`
  const { address } = lab.host('rs1')
  await lab.lines(1, 7)
  await attach(lab)
  await restore(lab, [{ service, scheduler: 'rr', backends: [{ address }] }])
  const clients = [await lab.holdLines(7, 1, 0), await lab.holdLines(7, 1, 0)]
  const xlbArgv = lab.xlbArgv(['backend', 'drain', service, address, '--deadline', '40s'])
  const waiting = lab.spawn('director', ['script', '-qec', xlbArgv.join(' '), '/dev/null'])
  for (const [i, shown] of ['2 flows remain', '1 flow remains'].entries()) {
    await waiting.waitFor(new RegExp(`\\r\\x1b\\[K${shown}, \\d+s left`))
    await clients[i]?.stop()
  }
  const { code, stdout } = await waiting.ended
  t.is(code, 0, stdout)
  const [first = '', ...lines] = stdout.split('\r\n')
  const counts = first.split('\r\x1b[K').map((text) => /^\d+ flows? remains?|^no flow remains/.exec(text)?.[0] ?? text)
  t.deepEqual(
    counts.filter((text, i) => text !== '' && text !== counts[i - 1]),
    ['2 flows remain', '1 flow remains', `${address} of ${service}: no flow remains`],
  )
  t.deepEqual(lines, [''])
})

labTest(
  'a hashed service: drain counts the flows that show themselves, and says of which it cannot know',
  async (t) => {
    const download = await begin(t, 'native', 'mh')
    const waiting = drain(download, '15s')
    await waiting.waitFor(/^no flow is known \(in a hashed service, silent ones show within \d+m\d+s\), 15s left$/m)
    await endsWhole(t, download)
    const { code, stdout } = await waiting.ended
    t.is(code, 0)
    t.regex(stdout, /no flow is known to remain\. A hashed service sees a flow when it sends something/)
  },
)

for (const mode of MODES) {
  for (const scheduler of mode === 'native' ? ['rr', 'mh'] : ['rr']) {
    labTest(
      `${mode}, ${scheduler}: rm --flows keep: the download ends whole, new connections go elsewhere`,
      async (t) => {
        const download = await begin(t, mode, scheduler)
        const { lab, service, server, address } = download
        await xlb(lab, ['backend', 'rm', service, address, '--flows', 'keep'])
        t.is(tally(await ask(lab, 12))[server], undefined)
        t.is(await stateOf(download), 'leaving')
        const saved = await save(lab)
        t.false(saved.includes(address), 'save writes what is wanted, and it is removed')
        t.is(
          await xlb(lab, ['restore', '-'], { input: saved }),
          'nothing to change\n',
          'restore does not end its flows',
        )
        t.true(download.curl.running)
        await endsWhole(t, download)
      },
    )

    labTest(
      `${mode}, ${scheduler}: rm --flows cut: the download stands still, and goes on if it is set again`,
      async (t) => {
        const download = await begin(t, mode, scheduler, 20_000_000)
        const { lab, service, server, address, curl } = download
        await xlb(lab, ['backend', 'rm', service, address, '--flows', 'cut'])
        t.is(tally(await ask(lab, 12))[server], undefined)
        t.is(await stateOf(download), 'cut')
        t.is(await download.release(), '1\n')
        await until('packets are dropped by name', async () => ((await list(lab)).reasons.drop_backend_cut ?? 0) > 3)
        const { length } = curl.stdout
        await new Promise((resolve) => setTimeout(resolve, 500))
        t.true(curl.running, 'nobody has reset it')
        t.is(curl.stdout.length, length)
        t.true(length < 20_000_000)
        await xlb(lab, ['backend', 'set', service, address])
        t.is((await curl.ended).code, 0)
        t.is(curl.stdout.length, 20_000_000)
      },
    )
  }
}

labTest(
  'a backend that was removed with its flows kept is gone when they have ended, with the next change',
  async (t) => {
    const download = await begin(t, 'native', 'rr')
    const { lab, service, address } = download
    await xlb(lab, ['backend', 'rm', service, address, '--flows', 'keep'])
    await endsWhole(t, download)
    t.is(await stateOf(download), 'leaving', 'its entry is there for two minutes after the connection has closed')
    const other = `tcp://${lab.vip}:81`
    await xlb(lab, ['service', 'add', other])
    t.true(recorded(lab).includes(address))
    recorded(lab, (flows) => new BigUint64Array(flows).fill(0n))
    t.is(await stateOf(download), undefined, 'list does not show what has no flows')
    t.true(recorded(lab).includes(address))
    await xlb(lab, ['service', 'rm', other])
    t.false(recorded(lab).includes(address), 'a verb about another service has taken it out')
    t.is(recorded(lab).length, 2)
  },
)

labTest(
  'a removed backend can be removed again otherwise, and a whole new state without its service ends it',
  async (t) => {
    const download = await begin(t, 'native', 'rr')
    const { lab, service, address, curl } = download
    const rm = (fate: string) => xlb(lab, ['backend', 'rm', service, address, '--flows', fate])
    t.regex(await rm('keep'), /removed .*: its flows stay until they end/)
    t.is(await rm('keep'), 'nothing to change\n')
    t.regex(await rm('cut'), /removed .*: packets of its flows are dropped/)
    t.is(await stateOf(download), 'cut')
    t.regex(await rm('keep'), /removed/)
    t.regex(await rm('move'), /removed .*: its flows are scheduled anew/)
    t.is(await stateOf(download), undefined)
    await download.release()
    t.is((await curl.ended).code, 56, 'curl: connection reset by peer')
    await xlb(lab, ['backend', 'set', service, address])
    await rm('keep')
    await restore(lab, [])
    t.deepEqual(recorded(lab), [])
  },
)
