// SPDX-License-Identifier: Apache-2.0
// Real TCP and UDP through the director: which real server answers, by each scheduler.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, backends, list, MODES, type Mode, restore, tally } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

/** One lab for each mode: HTTP at port 80 and UDP at port 53 of each real server. */
const labs = new Map<Mode, Lab>()
const ends: (() => unknown)[] = []

test.before(async () => {
  if (!hasRoot()) return
  for (const mode of MODES) {
    const lab = await Lab.up({ teardown: (end) => ends.push(end) })
    await Promise.all([1, 2, 3].flatMap((server) => [lab.http(server, 80), lab.udp(server, 53)]))
    await attach(lab, mode)
    labs.set(mode, lab)
  }
})

test.after.always(async () => {
  for (const end of ends) await end()
})

/** The mode's lab with this one service, which nobody has used yet. */
const withService = async (
  mode: Mode,
  scheduler: string,
  weights: readonly number[] = [1, 1, 1],
  protocolAndPort: readonly ['tcp' | 'udp', number] = ['tcp', 80],
): Promise<Lab> => {
  const lab = labs.get(mode)
  if (lab === undefined) throw new Error(`no lab for ${mode}`)
  const [protocol, port] = protocolAndPort
  await restore(lab, [])
  const service = `${protocol}://${lab.vip}:${port}`
  await restore(lab, [{ service, scheduler, backends: backends(lab, ...weights) }])
  return lab
}

const PORTS = Array.from({ length: 24 }, (_, i) => 20_000 + i * 7)

for (const mode of MODES) {
  labTest(`${mode}: rr gives new connections to the backends in turn, in exact order`, async (t) => {
    // A weight above 0 means nothing to rr.
    const lab = await withService(mode, 'rr', [1, 5, 1])
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

  labTest(`${mode}: wrr gives every run of connections to the backends in proportion to their weights`, async (t) => {
    const lab = await withService(mode, 'wrr', [4, 2, 1])
    const answers = await ask(lab, 35)
    for (let from = 0; from < 35; from += 7) {
      t.deepEqual(tally(answers.slice(from, from + 7)), { rs1: 4, rs2: 2, rs3: 1 })
    }
    t.not(answers.slice(0, 4).join(), 'rs1,rs1,rs1,rs1', 'turns are interleaved, not in blocks')
  })

  labTest(`${mode}: sh sends all of one client to one backend, whatever its port`, async (t) => {
    const lab = await withService(mode, 'sh')
    const [first = '', ...others] = await ask(lab, 20)
    t.regex(first, /^rs[123]$/)
    t.deepEqual(tally(others), { [first]: 19 })
    t.is((await list(lab)).flows.used, 0, 'a hashed service keeps no flows')
  })

  labTest(`${mode}: mh sends one address and port to one backend, and spreads them over all`, async (t) => {
    const lab = await withService(mode, 'mh')
    const first = await lab.httpFrom(PORTS)
    t.deepEqual(Object.keys(tally(first)).sort(), ['rs1', 'rs2', 'rs3'])
    t.deepEqual(await lab.httpFrom(PORTS), first)
    t.is((await list(lab)).flows.used, 0, 'a hashed service keeps no flows')
  })

  labTest(`${mode}: mh gives a backend new connections by its weight, and one of weight 0 none`, async (t) => {
    const lab = await withService(mode, 'mh', [3, 0, 1])
    const counts = tally(await ask(lab, 120))
    t.deepEqual(Object.keys(counts).sort(), ['rs1', 'rs3'])
    // Binomial: 90 expected, and 65 or fewer with a probability of 1e-7.
    t.true((counts.rs1 ?? 0) > 65, `rs1 had ${counts.rs1} of 120`)
  })

  labTest(`${mode}: the server sees the client's own address and port, and the VIP as its own`, async (t) => {
    const lab = await withService(mode, 'rr')
    const { stdout } = await lab.curl('--local-port', '23456', '-D', '-', `http://${lab.vip}/`)
    t.true(stdout.includes(`x-client: ${lab.host('client').address}:23456`), stdout)
    t.true(stdout.includes(`x-local: ${lab.vip}:80`), stdout)
  })

  labTest(`${mode}: a UDP service by rr gives new ports to the backends in turn, one port to one`, async (t) => {
    const lab = await withService(mode, 'rr', [1, 1, 1], ['udp', 53])
    t.deepEqual(await lab.askUdp(lab.vip, 53, 'a', 6), ['rs1 a', 'rs2 a', 'rs3 a', 'rs1 a', 'rs2 a', 'rs3 a'])
    t.deepEqual(await lab.askUdp(lab.vip, 53, 'b', 5, 'same'), Array(5).fill('rs1 b'))
  })

  labTest(`${mode}: a UDP service by sh gives all ports of one client to one backend`, async (t) => {
    const lab = await withService(mode, 'sh', [1, 1, 1], ['udp', 53])
    t.deepEqual(Object.values(tally(await lab.askUdp(lab.vip, 53, 'c', 9))), [9])
  })

  labTest(`${mode}: TCP and UDP of one VIP and port are two services`, async (t) => {
    const lab = await withService(mode, 'rr')
    const [rs1 = { address: '' }, rs2 = { address: '' }] = backends(lab, 1, 1)
    await restore(lab, [
      { service: `tcp://${lab.vip}:53`, backends: [rs1] },
      { service: `udp://${lab.vip}:53`, backends: [rs2] },
    ])
    t.deepEqual(await lab.askUdp(lab.vip, 53, 'x', 2), ['rs2 x', 'rs2 x'])
    t.is((await lab.curl(`http://${lab.vip}:53/`)).code, 7, 'rs1 has nothing at TCP port 53, and refuses')
    const counted = (await list(lab)).services.map(({ backends: rows }) => rows[0]?.counts.flows)
    t.deepEqual(counted, [1, 2])
  })

  labTest(`${mode}: what is for a VIP but for no service reaches the director's own stack`, async (t) => {
    const lab = await withService(mode, 'rr')
    const before = (await list(lab)).reasons.pass_no_service ?? 0
    t.is((await lab.curl(`http://${lab.vip}:81/`)).code, 7, 'the stack answers with a reset')
    t.is((await list(lab)).reasons.pass_no_service, before + 1)
  })

  labTest(`${mode}: a service whose backends all have weight 0 drops new connections, and says why`, async (t) => {
    const lab = await withService(mode, 'wrr', [0, 0, 0])
    const before = (await list(lab)).reasons
    t.is((await lab.curl('--max-time', '0.5', `http://${lab.vip}/`)).code, 28)
    const { reasons } = await list(lab)
    t.true((reasons.drop_no_backend ?? 0) > (before.drop_no_backend ?? 0))
    t.is(reasons.pass_no_service, before.pass_no_service, 'the stack would have answered with a reset')
  })
}
