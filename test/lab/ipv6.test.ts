// SPDX-License-Identifier: Apache-2.0
// IPv6 backends and neighbour discovery, and both families on one director. Traffic, drains, errors and fragments of IPv6 are
// beside those of IPv4, in the tests of each.
import test from 'ava'
import { hasRoot, inUrl, Lab, ofFamily } from './lab.ts'
import { ask, attach, backends, list, restore, save, until, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const NEW_MAC = '02:00:00:00:00:77'
const SILENT = 'fd00:89::77'

const neighbour = async (lab: Lab, address: string): Promise<string> =>
  (await lab.run('director', ['ip', '-6', 'neighbour', 'show', address, 'dev', 'eth0'])).stdout

const rowOf = async (lab: Lab, address: string) =>
  (await list(lab)).services[0]?.backends.find((row) => row.address === address)

/** A lab of IPv6 with servers, a service by rr, and a backend of it. */
const begin = async (t: Parameters<typeof Lab.up>[0]) => {
  const lab = await Lab.up(t, { servers: 2, family: 'IPv6' })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  const service = `tcp://${lab.vipInUrl}:80`
  const [rs1 = { address: '', weight: 1 }, rs2 = { address: '', weight: 1 }] = backends(lab, 1, 1)
  await restore(lab, [{ service, scheduler: 'rr', backends: [rs1] }])
  return { lab, service, rs1, rs2 }
}

labTest('a backend is kept resolved by the kernel while a service has it, and let go with the last', async (t) => {
  const { lab, service, rs1, rs2 } = await begin(t)
  t.regex(await neighbour(lab, rs1.address), /managed/)
  await xlb(lab, ['service', 'add', `udp://${lab.vipInUrl}:53`])
  for (const one of [service, `udp://${lab.vipInUrl}:53`]) await xlb(lab, ['backend', 'set', one, rs2.address])
  await xlb(lab, ['backend', 'rm', service, rs2.address])
  t.regex(await neighbour(lab, rs2.address), /managed/, 'the other service still has it')
  await xlb(lab, ['backend', 'rm', `udp://${lab.vipInUrl}:53`, rs2.address])
  t.notRegex(await neighbour(lab, rs2.address), /managed/)
})

labTest(
  'a backend that does not answer neighbour discovery is refused, and nothing of the attempt is left',
  async (t) => {
    const { lab, service, rs1 } = await begin(t)
    const before = await save(lab)
    const { code, stdout, stderr } = await lab.xlb(['backend', 'set', service, SILENT])
    t.is(code, 1)
    t.is(stdout, '')
    t.regex(stderr, /backend fd00:89::77 does not answer neighbour discovery on eth0/)
    t.regex(stderr, /--force/)
    t.is(await save(lab), before)
    t.notRegex(await neighbour(lab, SILENT), /managed/)

    const file = JSON.stringify({ services: [{ service, backends: [{ address: SILENT }, rs1] }] })
    const restored = await lab.xlb(['restore', '-'], { input: file })
    t.is(restored.code, 1)
    t.regex(restored.stderr, /fd00:89::77/)
    t.notRegex(restored.stderr, /\bARP: fd00/)
    t.is(await save(lab), before)
  },
)

labTest('with --force a silent backend is taken at weight 0, until a verb finds that it answers', async (t) => {
  const { lab, service, rs1 } = await begin(t)
  const forced = await lab.xlb(['backend', 'set', service, SILENT, '--weight', '5', '--force'])
  t.is(forced.code, 0)
  t.regex(forced.stderr, /warning: fd00:89::77 does not answer neighbour discovery on eth0: it has weight 0/)
  const before = await rowOf(lab, SILENT)
  t.deepEqual([before?.state, before?.weight, before?.effectiveWeight, before?.mac], ['no-mac', 5, 0, null])
  t.deepEqual(await ask(lab, 4), ['rs1', 'rs1', 'rs1', 'rs1'])

  await lab.run('rs2', ['ip', 'address', 'add', `${SILENT}/128`, 'dev', 'eth0', 'nodad'])
  await until("the director's kernel has found it", async () => (await list(lab)).staleMacs.includes(SILENT))
  await xlb(lab, ['backend', 'set', service, rs1.address, '--weight', '2'])
  const after = await rowOf(lab, SILENT)
  t.deepEqual([after?.state, after?.weight, after?.effectiveWeight], ['up', 5, 1])
  t.is(after?.mac, lab.host('rs2').mac)
  t.deepEqual([...new Set(await ask(lab, 4))].sort(), ['rs1', 'rs2'])
})

labTest("a backend's new MAC is told by list, and taken over by the next verb that changes something", async (t) => {
  const { lab, service, rs1, rs2 } = await begin(t)
  t.is((await rowOf(lab, rs1.address))?.mac, lab.host('rs1').mac)
  await lab.run('rs1', ['ip', 'link', 'set', 'dev', 'eth0', 'address', NEW_MAC])
  await until("the director's kernel has learnt the new MAC", async () => {
    // Whatever rs1 sends to the director it first solicits, and so tells its own MAC.
    const say = `ip -6 neighbour flush dev eth0; echo x >/dev/udp/${lab.host('director').address}/9`
    await lab.run('rs1', ['bash', '-c', say])
    return (await neighbour(lab, rs1.address)).includes(NEW_MAC)
  })
  t.deepEqual((await list(lab)).staleMacs, [rs1.address])
  t.regex(await xlb(lab, ['list']), /^MACs CHANGED since: fd00:89::21; packets still go to the old ones\. Mend: xlb /m)
  await xlb(lab, ['backend', 'set', service, rs2.address])
  t.deepEqual((await list(lab)).staleMacs, [])
  t.is((await rowOf(lab, rs1.address))?.mac, NEW_MAC)
  t.deepEqual([...new Set(await ask(lab, 4))].sort(), ['rs1', 'rs2'])
})

labTest('services of both families on one director have turns, flows and counters of their own', async (t) => {
  const lab = await Lab.up(t, { family: 'IPv6' })
  await Promise.all([1, 2, 3].flatMap((server) => [lab.http(server, 80), lab.udp(server, 53)]))
  await attach(lab)
  const ipv6 = backends(lab, 1, 1, 1)
  const ipv4 = ipv6.map(({ address, weight }) => ({ address: ofFamily(address, 'IPv4'), weight }))
  const vip4 = ofFamily(lab.vip, 'IPv4')
  await restore(lab, [
    { service: `tcp://${vip4}:80`, scheduler: 'rr', backends: ipv4 },
    { service: `tcp://${lab.vipInUrl}:80`, scheduler: 'rr', backends: ipv6 },
    { service: `udp://${vip4}:53`, scheduler: 'rr', backends: ipv4.slice(0, 1) },
    { service: `udp://${lab.vipInUrl}:53`, scheduler: 'rr', backends: ipv6.slice(1, 2) },
  ])
  const argv = ['-H', 'Connection: close', `http://${vip4}/?[1-12]`]
  const [of6, of4] = await Promise.all([ask(lab, 12), lab.curl(...argv)])
  const turns = Array.from({ length: 12 }, (_, i) => `rs${(i % 3) + 1}`)
  t.deepEqual(of6, turns)
  t.deepEqual(of4.stdout.trim().split('\n'), turns)
  t.deepEqual(await lab.askUdp(vip4, 53, 'x', 2), ['rs1 x', 'rs1 x'])
  t.deepEqual(await lab.askUdp(lab.vip, 53, 'x', 3), ['rs2 x', 'rs2 x', 'rs2 x'])
  const { services, flows, flows6 } = await list(lab)
  t.deepEqual(
    services.map((each) => each.backends.map(({ counts }) => counts.flows)),
    [[4, 4, 4], [4, 4, 4], [2], [3]],
  )
  t.deepEqual([flows.used, flows6.used], [14, 15])

  // What is saved of both comes back as it was, and works.
  const before = await save(lab)
  await xlb(lab, ['clear'])
  await xlb(lab, ['restore', '-'], { input: before })
  t.is(await save(lab), before)
  await xlb(lab, ['detach', '--all'])
  await xlb(lab, ['restore', '-', '--attach'], { input: before })
  t.is(await save(lab), before)
  t.is(new Set(await ask(lab, 3)).size, 3)
  t.is((await lab.curl(`http://${vip4}/`)).code, 0)
})

labTest('open connections are listed with brackets, filtered by source, and traced to the same backend', async (t) => {
  const lab = await Lab.up(t, { family: 'IPv6' })
  const port = 7000
  await Promise.all([1, 2, 3].map((server) => lab.lines(server, port)))
  await attach(lab)
  const service = `tcp://${lab.vipInUrl}:${port}`
  await restore(lab, [{ service, scheduler: 'rr', backends: backends(lab, 1, 1, 1) }])
  const held = await lab.holdLines(port, 6, 0)
  const connections = async (...words: string[]) =>
    (
      JSON.parse(await xlb(lab, ['connections', ...words, '--json'])) as {
        connections: { source: string; virtual: string; destination: string; state: string }[]
      }
    ).connections
  const found = await connections()
  t.is(found.length, 6)
  for (const { source, virtual, destination, state } of found) {
    t.true(source.startsWith(`${inUrl(lab.host('client').address)}:`), source)
    t.is(virtual, `${lab.vipInUrl}:${port}`)
    t.is(state, 'established')
    const said = JSON.parse(await xlb(lab, ['trace', 'tcp', source, virtual, '--json'])) as {
      choice: { by: string; backend: string }
      verdict: string
    }
    t.is(said.choice.by, 'entry')
    t.is(`${inUrl(said.choice.backend)}:${port}`, destination)
    t.is(said.verdict, 'XDP_TX')
  }
  const rs2 = lab.host('rs2').address
  t.is((await connections(service, '--backend', rs2)).length, 2)
  t.is((await connections('--source', 'fd00:89::/64')).length, 6)
  t.is((await connections('--source', 'fd00:90::/64')).length, 0)
  t.is((await connections('--source', found[3]?.source ?? '')).length, 1)
  t.is((await connections('--source', '10.89.0.0/24')).length, 0)
  t.is((await xlb(lab, ['connections', '--format', 'ipvsadm'])).trim().split('\n').length, 8)
  await held.stop()
})
