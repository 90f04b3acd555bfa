// SPDX-License-Identifier: Apache-2.0
// Tables that are full, and capacities that no table can have.
import { existsSync } from 'node:fs'
import test from 'ava'
import { hasRoot, Lab } from '../lab/lab.ts'
import { restore, save, xlb } from '../lab/xlb.ts'
import { refuses, type Wrong } from './wrong.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

labTest('capacities out of range fail with 2, and attach nothing', async (t) => {
  const lab = await Lab.up(t, { servers: 0 })
  for (const [option, value] of [
    ['--services', '0'],
    ['--services', '32769'],
    ['--backends', '0'],
    ['--backends', '1048577'],
    ['--flows', '1023'],
    ['--prefixes', '0'],
    ['--prefixes', '1048577'],
    ['--new-flows', '0'],
    ['--flows', '67108865'],
  ] as const) {
    const { code, stdout, stderr } = await lab.xlb(['attach', 'eth0', option, value])
    t.is(code, 2, `${option} ${value}`)
    t.is(stdout, '')
    t.regex(stderr, new RegExp(`${option} ${value}: .*\\n +choose \\d+ to \\d+`))
  }
  t.false(existsSync(`/sys/fs/bpf/xlb/${lab.prefix}`))
})

const service = (port: number): string => `tcp://10.89.0.100:${port}`

labTest('a full table is named, with the option that makes it larger, and nothing changes', async (t) => {
  const lab = await Lab.up(t, { servers: 5 })
  const address = (n: number) => lab.host(`rs${n}`).address
  await xlb(lab, ['attach', 'eth0', '--services', '2', '--backends', '4', '--flows', '1024'])
  await restore(lab, [
    { service: service(80), backends: [{ address: address(1) }, { address: address(2) }] },
    { service: service(81), backends: [{ address: address(1) }, { address: address(2) }] },
  ])
  const before = await save(lab)
  const cases: Wrong[] = [
    {
      what: 'one service more',
      argv: ['service', 'add', service(82)],
      code: 1,
      says: ['the table of services is full: 3 are wanted, and it holds 2', 'nothing was changed', '--services'],
    },
    {
      what: 'one backend more',
      argv: ['backend', 'set', service(81), address(3)],
      code: 1,
      says: ['full', 'nothing was changed', '--backends'],
    },
    {
      what: 'a file with more services',
      argv: ['restore', '-'],
      input: JSON.stringify({ services: [80, 81, 82].map((port) => ({ service: service(port) })) }),
      code: 1,
      says: ['the table of services is full', '--services'],
    },
    {
      what: 'a file with more backends',
      argv: ['restore', '-'],
      input: JSON.stringify({
        services: [{ service: service(90), backends: [1, 2, 3, 4, 5].map((n) => ({ address: address(n) })) }],
      }),
      code: 1,
      says: ['full', '--backends'],
    },
  ]
  for (const wrong of cases) await refuses(t, lab, wrong)
  t.is(await save(lab), before)

  // What fits goes on working, and what is full can be exchanged as a whole.
  await xlb(lab, ['backend', 'set', service(80), address(2), '--weight', '9'])
  await restore(lab, [{ service: service(90), backends: [1, 2, 3].map((n) => ({ address: address(n) })) }])
  t.regex(await save(lab), /tcp:\/\/10\.89\.0\.100:90/)
})

labTest('whatever backends were accepted, one of them can still be drained', async (t) => {
  const lab = await Lab.up(t, { servers: 3 })
  await xlb(lab, ['attach', 'eth0', '--services', '2', '--backends', '3', '--flows', '1024'])
  await xlb(lab, ['service', 'add', service(80)])
  await xlb(lab, ['service', 'add', service(81)])
  for (const port of [80, 81]) {
    // As many as fit: none is to be accepted that makes every further change impossible.
    for (const n of [1, 2, 3]) await lab.xlb(['backend', 'set', service(port), lab.host(`rs${n}`).address])
  }
  const { code, stderr } = await lab.xlb(['backend', 'drain', service(80), lab.host('rs1').address])
  t.is(stderr, '')
  t.is(code, 0)
})
