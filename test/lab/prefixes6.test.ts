// SPDX-License-Identifier: Apache-2.0
// Prefixes of IPv6: real connections to many addresses of one, by schedulers that hash and by such that track.
import test from 'ava'
import { hasRoot, inUrl, Lab } from './lab.ts'
import { answers, hashesDestinations, routePrefix } from './prefix-lab.ts'
import { attach, backends, MODES, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const PREFIX = '2001:db8:7::/64'
const SERVICE = `tcp://[${PREFIX}]:80`
const HOSTS = Array.from({ length: 16 }, (_, i) => `2001:db8:7:0:${(i + 1).toString(16)}::${i + 1}`)

for (const mode of MODES) {
  labTest(`${mode}: dh sends each destination of an IPv6 prefix to one cache, always the same`, (t) =>
    hashesDestinations(t, { family: 'IPv6', mode }, PREFIX, HOSTS),
  )
}

labTest('rr: connections to addresses of a prefix take turns, and are listed with their destinations', async (t) => {
  const lab = await Lab.up(t, { servers: 2, family: 'IPv6' })
  await routePrefix(lab, PREFIX, 2)
  await attach(lab)
  await restore(lab, [{ service: `tcp://[${PREFIX}]:*`, scheduler: 'rr', backends: backends(lab, 1, 1) }])
  const host = inUrl(HOSTS[5] ?? '')
  const { stdout } = await lab.curl(
    '-o',
    '/dev/null',
    '-w',
    '%{size_download}',
    `http://${host}/slow?bytes=2000000&seconds=1`,
  )
  t.is(stdout, '2000000')
  t.deepEqual((await answers(lab, HOSTS.slice(0, 4))).flat(), ['rs2', 'rs1', 'rs2', 'rs1'])
  const listed = await xlb(lab, ['connections', `tcp://[${PREFIX}]:*`])
  for (const each of [HOSTS[5], ...HOSTS.slice(0, 4)]) t.true(listed.includes(`[${each}]:80`), listed)
  t.true(listed.includes(`[${lab.host('client').address}]:`), listed)
  t.regex(await xlb(lab, ['list']), /of IPv6 prefixes: 5 of 65,536/)
})

labTest('a VIP goes before a prefix and the longer before the shorter; save and restore keep them', async (t) => {
  const lab = await Lab.up(t, { servers: 3, family: 'IPv6' })
  await routePrefix(lab, PREFIX, 3)
  await attach(lab)
  const [rs1 = { address: '' }, rs2 = { address: '' }, rs3 = { address: '' }] = backends(lab, 1, 1, 1)
  await restore(lab, [
    { service: SERVICE, scheduler: 'dh', backends: [rs1] },
    { service: 'tcp://[2001:db8:7:0:4000::/66]:80', scheduler: 'sh', backends: [rs2] },
    { service: 'tcp://[2001:db8:7:0:8000::]:80', scheduler: 'rr', backends: [rs3] },
  ])
  // The VIP is the number that the directory has for the prefix.
  const hosts = ['2001:db8:7::1', '2001:db8:7:0:4000::', '2001:db8:7:0:8000::', '2001:db8:7:0:8000::1']
  const expected = ['rs1', 'rs2', 'rs3', 'rs1']
  t.deepEqual((await answers(lab, hosts)).flat(), expected)
  const saved = await save(lab)
  t.true(saved.includes('tcp://[2001:db8:7:0:4000::/66]:80'), saved)
  await xlb(lab, ['clear'])
  await xlb(lab, ['restore', '-'], { input: saved })
  t.is(await save(lab), saved)
  t.deepEqual((await answers(lab, hosts)).flat(), expected)
  const traced = await xlb(lab, ['trace', 'tcp', `[${lab.host('client').address}]:40000`, '[2001:db8:7:0:4000::7]:80'])
  t.true(traced.includes('is none, but in 2001:db8:7:0:4000::/66, the longest prefix that holds it'), traced)
})
