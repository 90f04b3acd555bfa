// SPDX-License-Identifier: Apache-2.0
// The daemon beside living connections: none is lost when it is reloaded, killed, started again, or drains a backend; and whatever
// somebody else does to what it keeps is mended.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { egressKey } from '../../src/dataplane/memory.ts'
import { loadNative } from '../../src/dataplane/native.ts'
import { answerOf, configFile, configure, listed, problems, startDaemon, until } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { remakeEth0 } from './remake.ts'
import { type Listing, list, on, xlb } from './xlb.ts'

const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))
const SLOWER = /"to":"warning","reason":"it was native before, and is generic now, .* no XDP program; when/g
const labTest = hasRoot() ? test.serial : test.serial.skip

const servers = (lab: Lab, count = 3): string[] =>
  Array.from({ length: count }, (_, i) => lab.host(`rs${i + 1}`).address)

const backendOf = ({ services }: Listing, address: string) =>
  services[0]?.backends.find((each) => each.address === address)

const backend = async (lab: Lab, address: string) => backendOf(await listed(lab), address)

const saved = async (lab: Lab): Promise<string> => (await answerOf(lab, 'save')).text

labTest('connections live through reload, kill -9, a start, a drain and verbs; and what verbs did lasts', async (t) => {
  const lab = await Lab.up(t)
  const file = configFile(t)
  const [rs1 = '', rs2 = '', rs3 = ''] = servers(lab)
  const service = `tcp://${lab.vip}:80`
  const config = (weight: number) => ({
    interfaces: ['eth0'],
    api: { token: `\${XLB_TOKEN}` },
    services: [{ service, scheduler: 'rr', backends: [{ address: rs1, weight }, { address: rs2 }] }],
  })
  configure(file, config(1))
  const env = { XLB_TOKEN: 'correct-horse-battery' }
  const first = await startDaemon(lab, file, env)
  for (const server of [1, 2, 3]) await lab.lines(server, 80)
  await until('both answer', 5000, async () => (await problems(lab)).length === 0)
  const held = await lab.holdLines(80, 40, 50)

  configure(file, config(5))
  t.regex(await xlb(lab, ['reload']), /1 service changed/)
  t.is(backendOf(await list(lab), rs1)?.weight, 5)
  configure(file, { interfaces: ['eth0'], services: [{ service: 'tcp://nonsense:80' }] })
  t.is((await lab.xlb(['reload'])).code, 1)
  t.is((await backend(lab, rs1))?.weight, 5, 'the old state runs on')
  const refused = (await problems(lab)).filter((each) => each.startsWith('degraded: the last reload was refused'))
  t.is(refused.length, 1)
  t.notRegex(refused[0] ?? '', /\n/, 'a line of a table')
  const later = {
    ...config(5),
    limits: { flows: 65_536 },
    api: { listen: ['127.0.0.1:1'], token: 'incorrect-horse-battery' },
  }
  configure(file, later)
  t.regex(
    await xlb(lab, ['reload']),
    /nothing to change\nnot in force yet, .*: api\.listen, api\.token of .*\n.*\nnot in force yet, .*: limits of /,
  )
  await first.waitFor(/"to":"pending","reason":"not in force yet, .*: api\.listen, api\.token of/)
  await first.waitFor(/"to":"pending","reason":"not in force yet, .*: limits of .*: flows 65,536 \(now 2,097,152\)/)
  const notices = await problems(lab)
  t.is(notices.filter((each) => /^notice: not in force yet/.test(each)).length, 2, notices.join('\n'))
  configure(file, config(5))
  t.regex(await xlb(lab, ['reload']), /nothing to change\n$/)

  await xlb(lab, ['backend', 'set', service, rs3, '--weight', '4'])
  await xlb(lab, ['backend', 'drain', service, rs1])
  t.is((await first.stop('SIGKILL')).code, 137)
  t.is(backendOf(await list(lab), rs1)?.state, 'drain', 'without a daemon the verb reads what is pinned')
  configure(file, config(6))
  const second = await startDaemon(lab, file, env)
  const after = await backend(lab, rs1)
  t.is(after?.state, 'drain', 'what an operator said outlives the daemon')
  t.is(after?.weight, 6, 'and what the file says otherwise is in force')
  t.is((await backend(lab, rs3))?.weight, 4)
  t.regex(await xlb(lab, ['status']), /^notice +tcp:.*changed at run time/m)

  await second.stop('SIGTERM')
  t.false(existsSync(`/run/xlb/${lab.instance()}/api.sock`))
  const { intact, lost } = JSON.parse((await held.stop('SIGTERM')).stdout.trim().split('\n').at(-1) ?? '{}')
  t.deepEqual(lost, [])
  t.is(intact, 40)

  // As after a restart of the host: nothing is pinned.
  await xlb(lab, ['detach', '--all'])
  await startDaemon(lab, file, env)
  t.is((await backend(lab, rs1))?.state === 'up', false, 'still drained')
  t.is((await backend(lab, rs3))?.weight, 4)
  await xlb(lab, ['save', '-o', file])
  const text = readFileSync(file, 'utf8')
  t.true(text.includes(`\${XLB_TOKEN}`) && !text.includes(env.XLB_TOKEN), text)
  await xlb(lab, ['reload'])
  t.false(
    (await problems(lab)).some((each) => each.includes('changed at run time')),
    'save makes a configuration of it',
  )
  t.is((await backend(lab, rs3))?.weight, 4)
})

labTest('what somebody else does to maps, links and interfaces is mended', async (t) => {
  const lab = await Lab.up(t)
  const file = configFile(t)
  const service = `tcp://${lab.vip}:80`
  configure(file, {
    interfaces: ['eth0'],
    services: [{ service, scheduler: 'mh', backends: servers(lab).map((address) => ({ address })) }],
  })
  const daemon = await startDaemon(lab, file)
  for (const server of [1, 2, 3]) await lab.http(server, 80)
  await until('all answer', 5000, async () => (await problems(lab)).length === 0)
  const before = await saved(lab)
  t.is(await xlb(lab, ['save']), before, 'the command prints what the daemon answers')

  const native = loadNative()
  const pins = `/sys/fs/bpf/xlb/${lab.instance()}`
  for (const [name, edit] of [
    ['backends', (octets: Uint8Array) => octets.fill(0, 0, 64)],
    ['rings', (octets: Uint8Array) => octets.fill(0xff, 0, 4096)],
    ['vip_buckets', (octets: Uint8Array) => octets.fill(0)],
    ['services', (octets: Uint8Array) => octets.fill(0, 0, 128)],
    ['root', (octets: Uint8Array) => octets.fill(0, 0, 8)],
    ['settings', (octets: Uint8Array) => octets.fill(0, 0, 32)],
  ] as const) {
    const map = native.openMap(`${pins}/maps/${name}`)
    edit(new Uint8Array(map.mmap()))
    await daemon.waitFor(new RegExp(`octets of ${name} were changed`), 5000)
    map.unmap()
    map.close()
    t.is(await saved(lab), before, name)
    t.is((await lab.curl(`http://${lab.vip}/`)).code, 0, name)
  }

  const egress = native.openMap(`${pins}/maps/egress`)
  const device = egress.lookup(egressKey(0))
  egress.delete(egressKey(0))
  await daemon.waitFor(/octets of egress were changed/, 5000)
  t.deepEqual(egress.lookup(egressKey(0)), device)
  egress.close()

  const link = native.openLink(`${pins}/links/${readdirSync(`${pins}/links`)[0]}`)
  link.detach()
  link.close()
  await until('the link is made again', 5000, async () => (await listed(lab)).interfaces[0]?.attached === true)
  t.is((await lab.curl(`http://${lab.vip}/`)).code, 0)

  const stranger = native.openObject(PASS)
  stranger.load()
  const taken = native.openLink(`${pins}/links/${readdirSync(`${pins}/links`)[0]}`)
  taken.update(stranger.program('xlb_pass'))
  const takenFrom =
    /interface eth0: attached again \(\w+\): another program \(xlb_pass, id \d+\) was put into its XDP link; its link has/
  await daemon.waitFor(takenFrom, 5000)
  t.is((await listed(lab)).interfaces[0]?.attached, true)
  t.is((await lab.curl(`http://${lab.vip}/`)).code, 0)
  t.is(taken.info.ifindex > 0 && taken.info.programId !== stranger.program('xlb_pass').info.id, true, 'the same link')
  taken.close()
  stranger.close()
  // A capture's program is no stranger's.
  await xlb(lab, ['capture', '--seconds', '3'])
  t.is(daemon.stdout.split('was put into its XDP link').length, 3, 'told once, in a field and in the message')
  t.deepEqual(await problems(lab), [])

  rmSync(pins, { recursive: true })
  const isUp = async () => {
    const found = await listed(lab).catch(() => undefined)
    return found?.services[0]?.backends.every(({ state }) => state === 'up')
  }
  await until('the pins are made again', 10_000, async () => (await isUp()) === true)
  t.is(await saved(lab), before, 'what was pinned is made again')
  t.is((await lab.curl(`http://${lab.vip}/`)).code, 0)

  await on(lab, 'director', 'ip link del dev eth0')
  await until('it is told that eth0 is missing', 5000, async () =>
    (await problems(lab)).some((each) => each.startsWith('down: eth0 is not attached')),
  )
  await remakeEth0(lab)
  await until('eth0 is attached again', 10_000, async () => (await listed(lab)).interfaces[0]?.attached === true)
  await until('backends answer', 10_000, async () => (await problems(lab)).length === 0)
  t.is((await lab.curl(`http://${lab.vip}/`)).code, 0)

  const mode = async () => (await listed(lab)).interfaces.find(({ attached }) => attached)?.mode
  const detachLink = () =>
    on(lab, 'director', `bpftool link detach pinned ${pins}/links/${readdirSync(`${pins}/links`)[0]}`)
  await detachLink()
  await until('it is native', 5000, async () => (await mode()) === 'native')
  await on(lab, 'switch', 'ip link set dev to-director xdpdrv off')
  const slower = () => daemon.stdout.match(SLOWER)?.length ?? 0
  const told = slower()
  await detachLink()
  await until('it is generic', 5000, async () => (await mode()) === 'generic')
  await until('it is told', 5000, () => slower() > told)
  await on(lab, 'switch', `ip link set dev to-director xdpdrv obj ${PASS} sec xdp`)
  await detachLink()
  await until('it is native again', 5000, async () => (await mode()) === 'native')
})

labTest('drain --deadline waits for the flows of a backend while a daemon performs the verbs', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  const file = configFile(t)
  const service = `tcp://${lab.vip}:80`
  const [rs1 = '', rs2 = ''] = servers(lab, 2)
  configure(file, {
    interfaces: ['eth0'],
    services: [{ service, scheduler: 'rr', backends: [{ address: rs1 }, { address: rs2 }] }],
  })
  const daemon = await startDaemon(lab, file)
  await Promise.all([1, 2].map((server) => lab.lines(server, 80)))
  await until('both answer', 5000, async () => (await problems(lab)).length === 0)
  const held = await lab.holdLines(80, 2, 100)
  const drain = (deadline: string) => lab.spawnXlb(['backend', 'drain', service, rs1, '--deadline', deadline, '--json'])
  const late = await drain('1s').ended
  t.is(late.code, 1)
  t.regex(late.stderr, /deadline: .*: 1 flow remains; it stays drained/)
  t.is((await backend(lab, rs1))?.state, 'drain')

  const waiting = drain('40s')
  await waiting.waitFor(/"remaining":1,.*"done":false/)
  t.true(waiting.running)
  const { lost } = JSON.parse((await held.stop()).stdout.trim().split('\n').at(-1) ?? '{}')
  t.deepEqual(lost, [])
  const { code, stdout, stderr } = await waiting.ended
  t.is(code, 0, stderr)
  const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}')
  t.like(last, { service, backend: rs1, remaining: 0, done: true })

  const alone = drain('40s')
  t.is((await alone.ended).code, 0, 'drained already, and idle')
  const orphan = await lab.holdLines(80, 1, 0)
  const other = lab.spawnXlb(['backend', 'drain', service, rs2, '--deadline', '40s'])
  await other.waitFor(/^1 flow remains/m)
  await daemon.stop('SIGKILL')
  const left = await other.ended
  t.is(left.code, 1)
  t.regex(left.stderr, /it has ended; the backend stays drained/)
  t.is(backendOf(await list(lab), rs2)?.state, 'drain')
  await orphan.stop()
})

labTest(
  'a backend that is silent is out with the reason, and back when it answers; its new MAC is followed',
  async (t) => {
    const lab = await Lab.up(t)
    const file = configFile(t)
    const [rs1 = '', rs2 = ''] = servers(lab)
    configure(file, {
      interfaces: ['eth0'],
      services: [{ service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: [{ address: rs1 }, { address: rs2 }] }],
    })
    const daemon = await startDaemon(lab, file)
    await until('both are up', 5000, async () => (await problems(lab)).length === 0)

    await on(lab, 'rs2', 'ip link set eth0 address 02:00:00:00:77:77')
    await on(lab, 'rs2', `ip -s neigh flush all >/dev/null 2>&1 || true`)
    await on(lab, 'director', `ip neigh replace ${rs2} lladdr 02:00:00:00:77:77 dev eth0 nud reachable`)
    await until('the new MAC is there', 5000, async () => (await backend(lab, rs2))?.mac === '02:00:00:00:77:77')

    // One MAC for two, as where one machine answers for both.
    const { mac } = lab.host('rs1')
    await on(lab, 'director', `ip neigh replace ${rs2} lladdr ${mac} dev eth0 nud permanent`)
    await Promise.all([
      daemon.waitFor(/"subject":"shared MAC","to":"warning","reason":"[^"]*"/),
      until('it is told', 5000, async () =>
        (await problems(lab)).some((each) => each.startsWith('degraded: ') && each.includes(mac)),
      ),
    ])
    const shared = /"subject":"shared MAC","to":"warning","reason":"[^"]*"/.exec(daemon.stdout)?.[0] ?? ''
    t.true(
      [rs1, rs2, mac].every((each) => shared.includes(each)),
      shared,
    )
    await on(lab, 'director', `ip neigh replace ${rs2} lladdr 02:00:00:00:77:77 dev eth0 nud reachable`)
    await daemon.waitFor(/"subject":"shared MAC","to":"ended"/)
    t.deepEqual(await problems(lab), [])

    await on(lab, 'rs1', 'ip link set eth0 down')
    await on(lab, 'director', `ip neigh change ${rs1} dev eth0 nud probe 2>/dev/null || true`)
    await until('rs1 is out', 25_000, async () => (await backend(lab, rs1))?.state === 'no-mac')
    const told = await problems(lab)
    t.true(
      told.some((each) => each.includes(`${rs1} of`) && each.includes('does not answer ARP on eth0')),
      told.join('\n'),
    )
    const { reasons } = JSON.parse(await xlb(lab, ['list', '--json'])).services[0].backends.find(
      (each: { address: string }) => each.address === rs1,
    ) as { reasons: { name: string; effect: string; text: string; since: string | null }[] }
    const out = reasons.filter(({ effect }) => effect === 'out')
    t.deepEqual(
      out.map(({ name, text }) => [name, text]),
      [['neighbour', `unresolved: ${rs1} does not answer ARP on eth0`]],
    )
    t.regex(out[0]?.since ?? '', /^\d{4}-/)
    await on(lab, 'rs1', 'ip link set eth0 up')
    await until('rs1 is back', 25_000, async () => (await backend(lab, rs1))?.state === 'up')
  },
)
