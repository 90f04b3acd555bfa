// SPDX-License-Identifier: Apache-2.0
// A service that changes under living connections loses none of them. Some talk all the time, so that the flow table may come
// to know them; some are silent until the end, so that nothing but the marks of the ring keeps them.
import test, { type ExecutionContext } from 'ava'
import { type Family, hasRoot, Lab } from './lab.ts'
import type { Tracked } from './process.ts'
import { attach, backends, list, type Mode, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const PORT = 90
/** Connections that are opened before the first change, and half way: some talk all the time, some not at all. */
interface Load {
  talking: number
  silent: number
  later: number
}

const FULL: Load = { talking: 150, silent: 60, later: 20 }
const SMALL: Load = { talking: 40, silent: 40, later: 20 }

interface Outcome {
  opened: number
  intact: number
  lost: { localPort: number; server: string; why: string }[]
  servers: Record<string, number>
  lines: number
}

/** A verb's words, without the service: `backend drain 2` is of rs2. */
type Step = readonly ['set', ...string[]] | readonly ['backend', 'set' | 'drain' | 'rm', number, ...string[]]

const WEIGHTS_AND_MEMBERS: readonly Step[] = [
  ['backend', 'set', 1, '--weight', '7'],
  ['backend', 'set', 4],
  ['backend', 'drain', 2],
  ['backend', 'set', 3, '--weight', '0'],
  ['set', '--ring-size', '4093'],
  ['backend', 'set', 2, '--weight', '3'],
  ['backend', 'drain', 4],
  ['backend', 'set', 3, '--weight', '2'],
  ['set', '--ring-size', '1021'],
  ['backend', 'set', 4, '--weight', '9'],
]

const argvOf = (lab: Lab, service: string, step: Step): string[] => {
  if (step[0] === 'set') return ['service', 'set', service, ...step.slice(1).map(String)]
  const [, verb, server, ...options] = step
  return ['backend', verb, service, lab.host(`rs${server}`).address, ...options]
}

const outcomeOf = async (client: Tracked): Promise<Outcome> => {
  client.kill('SIGTERM')
  const { stdout, stderr } = await client.ended
  const last = stdout.trim().split('\n').at(-1) ?? ''
  if (!last.startsWith('{')) throw new Error(`line-client said: ${stdout} ${stderr}`)
  return JSON.parse(last) as Outcome
}

/** Opens connections, applies the steps, opens more half way; then every one of them has to be as it was. */
const losesNone = async (
  t: ExecutionContext,
  scheduler: string,
  steps: readonly Step[],
  { talking, silent, later }: Load = SMALL,
  family: Family = 'IPv4',
  mode: Mode = 'native',
): Promise<Lab> => {
  const lab = await Lab.up(t, { servers: 4, family })
  await Promise.all([1, 2, 3, 4].map((server) => lab.lines(server, PORT)))
  await attach(lab, mode)
  const service = `tcp://${lab.vipInUrl}:${PORT}`
  await restore(lab, [{ service, scheduler, backends: backends(lab, 1, 1, 1) }])
  const clients = [await lab.holdLines(PORT, talking, 50), await lab.holdLines(PORT, silent, 0)]
  const half = Math.floor(steps.length / 2)
  for (const [i, step] of steps.entries()) {
    if (i === half) clients.push(await lab.holdLines(PORT, later, 50), await lab.holdLines(PORT, later, 0))
    await xlb(lab, argvOf(lab, service, step))
  }
  const outcomes = await Promise.all(clients.map(outcomeOf))
  t.deepEqual(
    outcomes.map(({ lost }) => ({ lost: lost.length, first: lost[0] })),
    outcomes.map(() => ({ lost: 0, first: undefined })),
  )
  t.deepEqual(
    outcomes.map(({ intact }) => intact),
    [talking, silent, later, later],
  )
  t.true((outcomes[0]?.lines ?? 0) > 3 * talking, 'those that talk did so while the service changed')
  return lab
}

const SCHEDULER_CHANGES: Readonly<Record<string, readonly Step[]>> = {
  rr: [
    ['set', '--scheduler', 'wrr'],
    ['set', '--scheduler', 'mh'],
    ['set', '--scheduler', 'rr'],
  ],
  wrr: [
    ['set', '--scheduler', 'mh'],
    ['set', '--scheduler', 'rr'],
    ['set', '--scheduler', 'wrr'],
  ],
  mh: [
    ['set', '--scheduler', 'wrr'],
    ['set', '--scheduler', 'mh'],
  ],
  sh: [
    ['set', '--scheduler', 'wrr', '--hash', 'source'],
    ['set', '--scheduler', 'sh'],
  ],
}

for (const [scheduler, changes] of Object.entries(SCHEDULER_CHANGES)) {
  labTest(`${scheduler}: weights, members, drains and ring sizes change, and no connection is lost`, async (t) => {
    const lab = await losesNone(t, scheduler, WEIGHTS_AND_MEMBERS, FULL)
    t.is((await list(lab)).services[0]?.backends.length, 4)
  })

  labTest(`${scheduler}: schedulers change with weights between, and no connection is lost`, async (t) => {
    const between = WEIGHTS_AND_MEMBERS.slice(0, 4)
    const steps = changes.flatMap((change, i) => [change, between[i] ?? change])
    await losesNone(t, scheduler, steps)
  })
}

for (const scheduler of ['mh', 'wrr']) {
  labTest(
    `IPv6, ${scheduler}: weights, members, drains and ring sizes change, and no connection is lost`,
    async (t) => {
      const lab = await losesNone(t, scheduler, WEIGHTS_AND_MEMBERS, SMALL, 'IPv6')
      t.is((await list(lab)).flows.used, 0, 'the flows are in the table of IPv6')
    },
  )
}

for (const scheduler of ['mh', 'rr']) {
  labTest(
    `generic, ${scheduler}: weights, members, drains and ring sizes change, and no connection is lost`,
    async (t) => {
      const lab = await losesNone(t, scheduler, WEIGHTS_AND_MEMBERS, SMALL, 'IPv4', 'generic')
      t.is((await list(lab)).interfaces[0]?.mode, 'generic')
    },
  )
}

labTest('mh: a drained server whose connections ended is removed, and no other connection is lost', async (t) => {
  const steps: readonly Step[] = [
    ['backend', 'set', 4],
    ['backend', 'rm', 4],
    ['backend', 'set', 1, '--weight', '5'],
    ['backend', 'set', 4, '--weight', '2'],
  ]
  // rs4 is removed before half time, so nobody who opened a connection has it.
  await losesNone(t, 'mh', steps)
})

labTest('mh: the seed changes first and weights after it, and no connection is lost', async (t) => {
  await losesNone(t, 'mh', [
    ['set', '--seed', '0x0123456789abcdef'],
    ['backend', 'set', 1, '--weight', '7'],
    ['backend', 'set', 4],
    ['backend', 'drain', 2],
  ])
})

labTest('sh: the hash changes first (to mh) and weights after it, and no connection is lost', async (t) => {
  await losesNone(t, 'sh', [
    ['set', '--scheduler', 'mh'],
    ['backend', 'set', 1, '--weight', '7'],
    ['backend', 'set', 4],
    ['backend', 'drain', 2],
  ])
})

labTest('another hash is refused while flows are still found by the old one, and nothing changes', async (t) => {
  const lab = await Lab.up(t, { servers: 3 })
  await attach(lab)
  const service = `tcp://${lab.vipInUrl}:${PORT}`
  await restore(lab, [{ service, scheduler: 'mh', backends: backends(lab, 1, 1, 1) }])
  await xlb(lab, ['backend', 'set', service, lab.host('rs1').address, '--weight', '9'])
  const before = await xlb(lab, ['save'])
  for (const change of [
    ['--seed', '0x1'],
    ['--hash', 'source'],
    ['--scheduler', 'sh'],
  ]) {
    const { code, stderr } = await lab.xlb(['service', 'set', service, ...change])
    t.is(code, 1)
    t.regex(stderr, /its ring changed less than \d+ s ago/)
  }
  t.is(await xlb(lab, ['save']), before)
})
