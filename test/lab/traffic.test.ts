// SPDX-License-Identifier: Apache-2.0
// Real TCP and UDP through the director: which real server answers, by each scheduler.
import test from 'ava'
import { hasRoot, inUrl, Lab } from './lab.ts'
import { ask, attach, backends, list, restore, tally, WAYS, type Way } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

/** One lab for each way: HTTP at port 80 and UDP at port 53 of each real server. */
const labs = new Map<Way, Lab>()
const ends: (() => unknown)[] = []

test.before(async () => {
  if (!hasRoot()) return
  for (const way of WAYS) {
    const lab = await Lab.up({ teardown: (end) => ends.push(end) }, { family: way.family })
    await Promise.all([1, 2, 3].flatMap((server) => [lab.http(server, 80), lab.udp(server, 53)]))
    await attach(lab, way.mode)
    labs.set(way, lab)
  }
})

test.after.always(async () => {
  for (const end of ends) await end()
})

/** The way's lab with this one service, which nobody has used yet. */
const withService = async (
  way: Way,
  scheduler: string,
  weights: readonly number[] = [1, 1, 1],
  protocolAndPort: readonly ['tcp' | 'udp', number] = ['tcp', 80],
): Promise<Lab> => {
  const lab = labs.get(way)
  if (lab === undefined) throw new Error(`no lab for ${way.name}`)
  const [protocol, port] = protocolAndPort
  await restore(lab, [])
  const service = `${protocol}://${lab.vipInUrl}:${port}`
  await restore(lab, [{ service, scheduler, backends: backends(lab, ...weights) }])
  return lab
}

/** How many entries the flow table of the lab's family has. */
const flows = async (lab: Lab): Promise<number> => {
  const { flows: ipv4, flows6 } = await list(lab)
  return (lab.family === 'IPv4' ? ipv4 : flows6).used
}

const PORTS = Array.from({ length: 24 }, (_, i) => 20_000 + i * 7)

for (const way of WAYS) {
  const { mode, name } = way
  labTest(`${name}: rr gives new connections to the backends in turn, in exact order`, async (t) => {
    // A weight above 0 means nothing to rr.
    const lab = await withService(way, 'rr', [1, 5, 1])
    t.deepEqual(
      await ask(lab, 30),
      Array.from({ length: 30 }, (_, i) => `rs${(i % 3) + 1}`),
    )
    const { services, interfaces } = await list(lab)
    t.deepEqual(interfaces, [{ name: 'eth0', mode, attached: true, fault: null }])
    t.deepEqual(
      services[0]?.backends.map(({ counts }) => counts.flows),
      [10, 10, 10],
    )
  })

  labTest(`${name}: wrr gives every run of connections to the backends in proportion to their weights`, async (t) => {
    const lab = await withService(way, 'wrr', [4, 2, 1])
    const answers = await ask(lab, 35)
    for (let from = 0; from < 35; from += 7) {
      t.deepEqual(tally(answers.slice(from, from + 7)), { rs1: 4, rs2: 2, rs3: 1 })
    }
    t.not(answers.slice(0, 4).join(), 'rs1,rs1,rs1,rs1', 'turns are interleaved, not in blocks')
  })

  labTest(`${name}: sh sends all of one client to one backend, whatever its port`, async (t) => {
    const lab = await withService(way, 'sh')
    const [first = '', ...others] = await ask(lab, 20)
    t.regex(first, /^rs[123]$/)
    t.deepEqual(tally(others), { [first]: 19 })
    t.is(await flows(lab), 0, 'a hashed service keeps no flows')
  })

  labTest(`${name}: mh sends one address and port to one backend, and spreads them over all`, async (t) => {
    const lab = await withService(way, 'mh')
    const first = await lab.httpFrom(PORTS)
    t.deepEqual(Object.keys(tally(first)).sort(), ['rs1', 'rs2', 'rs3'])
    t.deepEqual(await lab.httpFrom(PORTS), first)
    t.is(await flows(lab), 0, 'a hashed service keeps no flows')
  })

  labTest(`${name}: mh gives a backend new connections by its weight, and one of weight 0 none`, async (t) => {
    const lab = await withService(way, 'mh', [3, 0, 1])
    const counts = tally(await ask(lab, 120))
    t.deepEqual(Object.keys(counts).sort(), ['rs1', 'rs3'])
    // Binomial: 90 expected, and 65 or fewer with a probability of 1e-7.
    t.true((counts.rs1 ?? 0) > 65, `rs1 had ${counts.rs1} of 120`)
  })

  labTest(`${name}: the server sees the client's own address and port, and the VIP as its own`, async (t) => {
    const lab = await withService(way, 'rr')
    const { stdout } = await lab.curl('--local-port', '23456', '-D', '-', `http://${lab.vipInUrl}/`)
    t.true(stdout.includes(`x-client: ${inUrl(lab.host('client').address)}:23456`), stdout)
    t.true(stdout.includes(`x-local: ${lab.vipInUrl}:80`), stdout)
  })

  labTest(`${name}: a UDP service by rr gives new ports to the backends in turn, one port to one`, async (t) => {
    const lab = await withService(way, 'rr', [1, 1, 1], ['udp', 53])
    t.deepEqual(await lab.askUdp(lab.vip, 53, 'a', 6), ['rs1 a', 'rs2 a', 'rs3 a', 'rs1 a', 'rs2 a', 'rs3 a'])
    t.deepEqual(await lab.askUdp(lab.vip, 53, 'b', 5, 'same'), Array(5).fill('rs1 b'))
  })

  labTest(`${name}: a UDP service by sh gives all ports of one client to one backend`, async (t) => {
    const lab = await withService(way, 'sh', [1, 1, 1], ['udp', 53])
    t.deepEqual(Object.values(tally(await lab.askUdp(lab.vip, 53, 'c', 9))), [9])
  })

  labTest(`${name}: TCP and UDP of one VIP and port are two services`, async (t) => {
    const lab = await withService(way, 'rr')
    const [rs1 = { address: '' }, rs2 = { address: '' }] = backends(lab, 1, 1)
    await restore(lab, [
      { service: `tcp://${lab.vipInUrl}:53`, backends: [rs1] },
      { service: `udp://${lab.vipInUrl}:53`, backends: [rs2] },
    ])
    t.deepEqual(await lab.askUdp(lab.vip, 53, 'x', 2), ['rs2 x', 'rs2 x'])
    t.is((await lab.curl(`http://${lab.vipInUrl}:53/`)).code, 7, 'rs1 has nothing at TCP port 53, and refuses')
    const counted = (await list(lab)).services.map(({ backends: rows }) => rows[0]?.counts.flows)
    t.deepEqual(counted, [1, 2])
  })

  labTest(`${name}: what is for a VIP but for no service reaches the director's own stack`, async (t) => {
    const lab = await withService(way, 'rr')
    const before = (await list(lab)).reasons.pass_no_service ?? 0
    t.is((await lab.curl(`http://${lab.vipInUrl}:81/`)).code, 7, 'the stack answers with a reset')
    t.is((await list(lab)).reasons.pass_no_service, before + 1)
  })

  labTest(`${name}: a service whose backends all have weight 0 drops new connections, and says why`, async (t) => {
    const lab = await withService(way, 'wrr', [0, 0, 0])
    const before = (await list(lab)).reasons
    t.is((await lab.curl('--max-time', '0.5', `http://${lab.vipInUrl}/`)).code, 28)
    const { reasons } = await list(lab)
    t.true((reasons.drop_no_backend ?? 0) > (before.drop_no_backend ?? 0))
    t.is(reasons.pass_no_service, before.pass_no_service, 'the stack would have answered with a reset')
  })
}
