// SPDX-License-Identifier: Apache-2.0
// Filters with real TCP, and lists of 100,000 prefixes through the command line.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { attach, backends, list, MODES, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const OTHER = '10.89.0.66'

const up = async (t: Parameters<typeof Lab.up>[0], mode: (typeof MODES)[number], scheduler: string): Promise<Lab> => {
  const lab = await Lab.up(t, { servers: 2 })
  await lab.run('client', ['ip', 'address', 'add', `${OTHER}/24`, 'dev', 'eth0'])
  await Promise.all([lab.http(1, 80), lab.http(2, 80)])
  await attach(lab, mode)
  await restore(lab, [{ service: `tcp://${lab.vip}:80`, scheduler, backends: backends(lab, 1, 1) }])
  return lab
}

/** Is the service there for this source? */
const isServed = async (lab: Lab, source: string): Promise<boolean> => {
  const { code } = await lab.curl('--interface', source, '--max-time', '2', `http://${lab.vip}/`)
  return code === 0
}

for (const mode of MODES) {
  for (const scheduler of ['rr', 'mh'] as const) {
    labTest(
      `${mode}, ${scheduler}: a denied source has no connection, and another has; both where it is taken back`,
      async (t) => {
        const lab = await up(t, mode, scheduler)
        const service = `tcp://${lab.vip}:80`
        const client = lab.host('client').address
        for (const scope of [[], [service]]) {
          await xlb(lab, ['filter', 'add', ...scope, 'deny', OTHER])
          t.deepEqual([await isServed(lab, client), await isServed(lab, OTHER)], [true, false])
          await xlb(lab, ['filter', 'rm', ...scope, OTHER])
          t.deepEqual([await isServed(lab, client), await isServed(lab, OTHER)], [true, true])
        }
        await xlb(lab, ['filter', 'add', service, 'allow', client])
        await xlb(lab, ['filter', 'default', service, 'deny'])
        t.deepEqual([await isServed(lab, client), await isServed(lab, OTHER)], [true, false])
        const { reasons } = await list(lab)
        t.true((reasons.drop_denied_global ?? 0) > 0 && (reasons.drop_denied ?? 0) > 0, JSON.stringify(reasons))
      },
    )
  }
}

labTest('a source that opens too many connections is stopped, and another is not', async (t) => {
  const lab = await up(t, 'native', 'rr')
  await xlb(lab, ['service', 'set', `tcp://${lab.vip}:80`, '--source-rate', '1', '--source-burst', '20'])
  const url = `http://${lab.vip}/?[1-60]`
  // A SYN that is dropped is repeated after a second: by then it is one of the next second's.
  const { stdout } = await lab.curl('--interface', OTHER, '--max-time', '0.5', '-H', 'Connection: close', url)
  t.true(stdout.trim().split('\n').length < 40, stdout)
  t.true(await isServed(lab, lab.host('client').address))
  t.true(((await list(lab)).reasons.drop_rate_limited ?? 0) > 0)
})

labTest('nftables on the director does not see what xlb forwards, as the docs say', async (t) => {
  const lab = await up(t, 'native', 'mh')
  const rules = ['input', 'forward', 'prerouting'].map((hook) => {
    const place = `{ type filter hook ${hook} priority -300; ip saddr ${OTHER} counter drop; }`
    return `add chain inet lab ${hook} ${place}`
  })
  const { code, stderr } = await lab.run('director', ['nft', `add table inet lab; ${rules.join('; ')}`])
  t.is(code, 0, stderr)
  t.true(await isServed(lab, OTHER))
})

const octets = (i: number): string => `${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`

/** CPU seconds that a verb takes, its Node's start included. */
const timed = async (lab: Lab, what: string, argv: readonly string[], input?: string) => {
  const started = process.hrtime.bigint()
  const stdout = await xlb(lab, argv, input === undefined ? {} : { input })
  return { stdout, took: `${what}: ${(Number(process.hrtime.bigint() - started) / 1e9).toFixed(2)} s` }
}

labTest('100,000 prefixes are loaded while connections go on, saved, cleared and restored', async (t) => {
  const lab = await up(t, 'native', 'mh')
  const lines = Array.from({ length: 100_000 }, (_, i) => `deny ${octets(i)}.${i % 128}/32`)
  const more = ['deny 10.89.0.66', 'allow 10.89.0.0/24', 'deny 2001:db8:bad::/48']
  const walls: string[] = []
  let going = true
  let served = 0
  const client = lab.host('client').address
  const traffic = (async () => {
    while (going) {
      if (!(await isServed(lab, client))) throw new Error(`connection ${served + 1} failed`)
      served++
    }
  })()
  for (const count of [100_000, 50_000, 99_999]) {
    const { took } = await timed(
      lab,
      `load ${count}`,
      ['filter', 'load', '-'],
      [...lines.slice(0, count), ...more].join('\n'),
    )
    walls.push(took)
    t.false(await isServed(lab, OTHER))
  }
  going = false
  await traffic
  const one = await timed(lab, 'add one', ['filter', 'add', 'deny', '10.89.0.67'])
  const saved = await timed(lab, 'save', ['save'])
  const json = await timed(lab, 'save --json', ['save', '--json'])
  await xlb(lab, ['filter', 'clear'])
  t.true(await isServed(lab, OTHER))
  const restored = await timed(lab, 'restore', ['restore', '-'], saved.stdout)
  t.is(await save(lab), saved.stdout)
  t.false(await isServed(lab, OTHER))
  await xlb(lab, ['filter', 'clear'])
  const fromJson = await timed(lab, 'restore of JSON', ['restore', '-'], json.stdout)
  t.is(await save(lab), saved.stdout)
  const { stdout } = await timed(lab, 'list', ['filter', 'list'])
  t.is(stdout.trim().split('\n').length, 1 + 99_999 + 4)
  walls.push(one.took, saved.took, json.took, restored.took, fromJson.took)
  t.log(`${served} connections meanwhile; ${walls.join('; ')}`)
})
