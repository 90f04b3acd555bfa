// SPDX-License-Identifier: Apache-2.0
// Transparent caches: the director is the next hop to a prefix, and its real servers answer for any address of it.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { answers, hashesDestinations, routePrefix } from './prefix-lab.ts'
import { attach, backends, MODES, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const PREFIX = '198.18.7.0/24'
const SERVICE = `tcp://${PREFIX}:80`
const HOSTS = Array.from({ length: 16 }, (_, i) => `198.18.7.${i * 16}`)

for (const mode of MODES) {
  labTest(`${mode}: dh sends each destination of a prefix to one cache, always the same`, (t) =>
    hashesDestinations(t, { family: 'IPv4', mode }, PREFIX, HOSTS),
  )
}

labTest(
  'a VIP goes before a prefix and the longer prefix before the shorter; save and restore keep them',
  async (t) => {
    const lab = await Lab.up(t, { servers: 3 })
    await routePrefix(lab, PREFIX, 3)
    await attach(lab)
    const [rs1 = { address: '' }, rs2 = { address: '' }, rs3 = { address: '' }] = backends(lab, 1, 1, 1)
    await restore(lab, [
      { service: SERVICE, scheduler: 'dh', backends: [rs1] },
      { service: 'tcp://198.18.7.64/26:80', scheduler: 'sh', backends: [rs2] },
      { service: 'tcp://198.18.7.80:80', scheduler: 'rr', backends: [rs3] },
    ])
    const hosts = ['198.18.7.1', '198.18.7.64', '198.18.7.80', '198.18.7.127', '198.18.7.128']
    const expected = ['rs1', 'rs2', 'rs3', 'rs2', 'rs1']
    t.deepEqual((await answers(lab, hosts)).flat(), expected)
    const saved = await save(lab)
    t.regex(saved, /service: tcp:\/\/198\.18\.7\.64\/26:80$/m)
    t.regex(saved, /hash: destination$/m)
    await xlb(lab, ['clear'])
    await xlb(lab, ['restore', '-'], { input: saved })
    t.is(await save(lab), saved)
    t.deepEqual((await answers(lab, hosts)).flat(), expected)
    const traced = await xlb(lab, ['trace', 'tcp', `${lab.host('client').address}:40000`, '198.18.7.65:80'])
    t.true(traced.includes('198.18.7.65 is none, but in 198.18.7.64/26, the longest prefix that holds it'), traced)
    t.true(traced.includes('tcp://198.18.7.64/26:80, sh, hashed'), traced)
  },
)

labTest('a large answer through a tracked prefix arrives whole, and its flow is listed by destination', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await routePrefix(lab, PREFIX, 2)
  await attach(lab)
  await restore(lab, [{ service: `tcp://${PREFIX}:*`, scheduler: 'rr', backends: backends(lab, 1, 1) }])
  const url = `http://${HOSTS[5]}/slow?bytes=2000000&seconds=1`
  const { stdout } = await lab.curl('-o', '/dev/null', '-w', '%{size_download}', url)
  t.is(stdout, '2000000')
  t.deepEqual((await answers(lab, HOSTS.slice(0, 4))).flat(), ['rs2', 'rs1', 'rs2', 'rs1'])
  const listed = await xlb(lab, ['connections', `tcp://${PREFIX}:*`])
  t.true(listed.includes(`${HOSTS[5]}:80`), listed)
  t.true(listed.includes(`${lab.host('client').address}:`), listed)
})
