// SPDX-License-Identifier: Apache-2.0
// Persistence with real connections: one client, real servers that answer with their names.
import test from 'ava'
import { type Family, hasRoot, Lab, type Registrar } from './lab.ts'
import { ask, attach, backends, type Mode, on, restore, save, tally, WAYS, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const PORTS = [80, 8080]

const service = (lab: Lab, port: number) => `tcp://${lab.vipInUrl}:${port}`

/** A lab whose servers answer HTTP at both ports, and services of these ports with persistence on these terms. */
const begin = async (
  t: Registrar,
  mode: Mode,
  terms: Record<string, unknown>,
  family: Family = 'IPv4',
): Promise<Lab> => {
  const lab = await Lab.up(t, { family })
  await Promise.all([1, 2, 3].flatMap((server) => PORTS.map((port) => lab.http(server, port))))
  await attach(lab, mode)
  await restore(
    lab,
    PORTS.map((port) => ({ service: service(lab, port), scheduler: 'rr', ...terms, backends: backends(lab, 1, 1, 1) })),
  )
  return lab
}

interface ClientRow {
  client: string
  group: string | null
  services: string[]
  backend: string
  expiresInSeconds: number
  assured: boolean
}

const clients = async (lab: Lab, ...more: string[]): Promise<ClientRow[]> =>
  (JSON.parse(await xlb(lab, ['connections', '--persistence', '--json', ...more])) as { clients: ClientRow[] }).clients

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** The one server that all of these answers come from. */
const only = (answers: readonly string[]): string => {
  const counts = tally(answers)
  const [server, ...others] = Object.keys(counts)
  if (server === undefined || others.length > 0) throw new Error(`several servers: ${JSON.stringify(counts)}`)
  return server
}

for (const { mode, family, name } of WAYS) {
  labTest(`${name}: all connections of a client go to one server, at both services of a group`, async (t) => {
    const lab = await begin(t, mode, { persist: '60s', group: 'web' }, family)
    const server = only(await ask(lab, 12, 80))
    t.is(only(await ask(lab, 12, 8080)), server)
    const [row, ...others] = await clients(lab)
    t.deepEqual(others, [])
    t.is(row?.client, lab.host('client').address)
    t.is(row?.backend, lab.host(server).address)
    t.is(row?.group, 'web')
    t.deepEqual(row?.services, PORTS.map((port) => service(lab, port)).sort())
    t.true(row?.assured)
    t.true((row?.expiresInSeconds ?? 0) > 50 && (row?.expiresInSeconds ?? 0) <= 62)
  })
}

labTest('a mask makes one client of a network, and save and restore keep what was said', async (t) => {
  const lab = await begin(t, 'native', { persist: '60s', 'persist-mask': 24, 'drain-persistence': 'cut', group: 'web' })
  only(await ask(lab, 3))
  const [row] = await clients(lab)
  t.is(row?.client, `${lab.host('client').address.replace(/\d+$/, '0')}/24`)
  t.is((await clients(lab, '--source', lab.host('client').address)).length, 1)
  t.is((await clients(lab, '--source', '198.51.100.0/24')).length, 0)
  t.is((await clients(lab, '--backend', row?.backend ?? '')).length, 1)
  const saved = await save(lab)
  for (const words of ['persist: 60s', 'persist-mask: 24', 'drain-persistence: cut', 'group: web']) {
    t.true(saved.includes(words), words)
  }
  await xlb(lab, ['clear'])
  await xlb(lab, ['restore', '-'], { input: saved })
  t.is(await save(lab), saved)
  t.regex(await xlb(lab, ['list']), /rr dsr persist 60s\/24 drain cut group web/)
})

labTest('IPv6: a mask makes one client of all addresses of a network, without it each is a client', async (t) => {
  const lab = await begin(t, 'native', { persist: '60s', 'persist-mask6': 64 }, 'IPv6')
  const addresses = Array.from({ length: 6 }, (_, i) => `fd00:89::c:${i + 1}`)
  for (const address of addresses) await on(lab, 'client', `ip address add ${address}/64 dev eth0 nodad`)
  const from = async (address: string): Promise<string> => {
    const { stdout } = await lab.curl('--interface', address, '-H', 'Connection: close', `http://${lab.vipInUrl}/`)
    return stdout.trim()
  }
  const all = async (): Promise<string[]> => {
    const answers = []
    for (const address of addresses) answers.push(await from(address))
    return answers
  }
  only(await all())
  t.deepEqual(
    (await clients(lab)).map(({ client }) => client),
    ['fd00:89::/64'],
  )
  await xlb(lab, ['service', 'set', service(lab, 80), '--persist', '60s', '--persist-mask6', '128'])
  const first = await all()
  t.deepEqual(tally(first), { rs1: 2, rs2: 2, rs3: 2 })
  t.deepEqual(await all(), first)
  t.is((await clients(lab, '--source', 'fd00:89::c:0/112')).length, 6)
})

labTest('services without a group have each a persistence of its own', async (t) => {
  const lab = await begin(t, 'native', { persist: '60s' })
  await ask(lab, 1, 80)
  await xlb(lab, ['service', 'set', service(lab, 80), '--no-persist'])
  const server = only(await ask(lab, 5, 8080))
  t.is(Object.keys(tally(await ask(lab, 6, 80))).length, 3, 'without persistence connections take turns')
  t.is(only(await ask(lab, 5, 8080)), server)
})

labTest('when the time has passed with no connection, the client is scheduled anew', async (t) => {
  const lab = await begin(t, 'native', { persist: '2s' })
  const servers = []
  for (let turn = 0; turn < 3; turn++) {
    servers.push(only(await ask(lab, 4)))
    await pause(4200)
    t.deepEqual(await clients(lab), [])
  }
  t.is(new Set(servers).size, 3, 'rr: three servers in turn')
})

labTest('a connection that is used keeps the client at its server past the time', async (t) => {
  const lab = await begin(t, 'native', { persist: '2s' })
  await Promise.all([1, 2, 3].map((server) => lab.lines(server, 7000)))
  await xlb(lab, ['service', 'add', service(lab, 7000), '--scheduler', 'rr', '--persist', '2s'])
  for (const server of [1, 2, 3]) {
    await xlb(lab, ['backend', 'set', service(lab, 7000), lab.host(`rs${server}`).address])
  }
  const held = await lab.holdLines(7000, 1, 300)
  const [before] = await clients(lab, service(lab, 7000))
  await pause(6000)
  const [after] = await clients(lab, service(lab, 7000))
  t.is(after?.backend, before?.backend)
  t.not(before, undefined)
  await held.stop()
})

for (const how of ['keep', 'cut'] as const) {
  labTest(`--drain-persistence ${how}: what becomes of the clients of a drained server`, async (t) => {
    const lab = await begin(t, 'native', { persist: '60s', group: 'web', 'drain-persistence': how })
    const server = only(await ask(lab, 3))
    for (const port of PORTS) await xlb(lab, ['backend', 'drain', service(lab, port), lab.host(server).address])
    const later = only(await ask(lab, 8))
    t.is(later === server, how === 'keep')
    t.is(only(await ask(lab, 8, 8080)), later)
  })
}

labTest('xlb trace says that a client follows its note', async (t) => {
  const lab = await begin(t, 'native', { persist: '60s', group: 'web' })
  const server = only(await ask(lab, 2))
  const { address } = lab.host('client')
  const text = await xlb(lab, ['trace', 'tcp', `${address}:1234`, `${lab.vip}:8080`, '--syn'])
  t.regex(text, new RegExp(`persistence client ${address}, group web: ${lab.host(server).address}, for \\d+ s`))
  t.regex(text, /by the client's note/)
})
