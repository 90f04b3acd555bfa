// SPDX-License-Identifier: Apache-2.0
// Program and reference balancer beside each other, each time on other traffic: XLB_SEED=n repeats a run, and scripts/differential
// goes on for as long as it is told to.
import test from 'ava'
import { differ, formatFigures, sumFigures } from './differential.ts'
import type { ReasonName } from './plane.ts'

const ROUNDS = 2
const FRAMES = 60_000

/** What packets have to have met, of either family. */
const KINDS = [
  ...[
    'rr',
    'wrr',
    'lc',
    'wlc',
    'sed',
    'nq',
    'mh',
    'sh',
    'one port',
    'range',
    'every port',
    'ops',
    'persistent',
    'limited',
  ],
  ...['rated', 'error', 'fragment after its first', 'DROP_RATE_LIMITED', 'DROP_BACKEND_CUT'],
  ...['DROP_NO_EGRESS', 'PASS_LOCAL', 'PASS_FROM_PEER'],
]
const EXPECTED = [
  ...['ipv4', 'ipv6'].flatMap((sort) => KINDS.map((kind) => `${sort} ${kind}`)),
  ...['prefix of ipv4', 'prefix of ipv6'].flatMap((sort) =>
    ['dh', 'lblc', 'lblcr', 'persistent', 'error'].map((kind) => `${sort} ${kind}`),
  ),
]

/** All that a packet of this traffic can come to. */
const REASONS: readonly ReasonName[] = [
  ...(['PASS_OTHER_MAC', 'PASS_NOT_IP', 'PASS_NOT_VIP', 'PASS_NO_SERVICE', 'PASS_NOT_BALANCED', 'PASS_LOCAL'] as const),
  ...([
    'PASS_FROM_PEER',
    'TX_FORWARDED',
    'TX_REDIRECTED',
    'DROP_MALFORMED',
    'DROP_TRUNCATED',
    'DROP_EXTENSIONS',
  ] as const),
  ...([
    'DROP_FRAGMENT',
    'DROP_NO_BACKEND',
    'DROP_NO_EGRESS',
    'DROP_BACKEND_CUT',
    'DROP_DENIED_GLOBAL',
    'DROP_DENIED',
  ] as const),
  ...(['DROP_RATE_LIMITED', 'DROP_BACKENDS_FULL'] as const),
]

test('program and reference agree on every frame, and on what is counted of every backend', async (t) => {
  t.timeout(900_000)
  const seed = Number(process.env.XLB_SEED ?? Date.now() % 2 ** 31)
  const figures = []
  for (let round = 0; round < ROUNDS; round++) figures.push(await differ(seed + round, FRAMES))
  const all = sumFigures(figures)
  for (const line of formatFigures(all).split('\n')) t.log(line)
  const missing = [
    ...EXPECTED.filter((kind) => !all.kinds.has(kind)),
    ...REASONS.filter((reason) => !all.reasons.has(reason)),
  ]
  t.deepEqual(missing, [], `XLB_SEED=${seed}: nothing came to these`)
})
