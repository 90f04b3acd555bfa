// SPDX-License-Identifier: Apache-2.0
// A link on the way to the client is narrower than either end knows. The answers do not pass the director, but the router's
// error about them is for the VIP, and does (RFC 1191, RFC 8201): the server that sends must get it, or a large answer never comes.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { addRouters, farOf } from './routers.ts'
import { added, type Counters, each, snmp } from './snmp.ts'
import { attach, backends, list, restore, until, WAYS, type Way } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const SERVERS = ['rs1', 'rs2', 'rs3']
const STACKS = ['director', ...SERVERS]
const BYTES = 10_000_000
const MTU = 1400

const labs = new Map<Way, Lab>()
const ends: (() => unknown)[] = []

const must = async (lab: Lab, host: string, command: string): Promise<string> => {
  const { code, stdout, stderr } = await lab.run(host, ['sh', '-ec', command])
  if (code !== 0) throw new Error(`${host}: ${command}: exit ${code}: ${stderr}`)
  return stdout
}

test.before(async () => {
  if (!hasRoot()) return
  for (const way of WAYS) {
    const lab = await Lab.up({ teardown: (end) => ends.push(end) }, { family: way.family })
    await addRouters(lab, MTU, STACKS)
    // A server that found the MTU out by trying would need no errors (RFC 4821).
    for (const host of SERVERS) await must(lab, host, 'echo 0 >/proc/sys/net/ipv4/tcp_mtu_probing')
    await Promise.all([1, 2, 3].map((server) => lab.http(server, 80)))
    await attach(lab, way.mode)
    labs.set(way, lab)
  }
})

test.after.always(async () => {
  for (const end of ends) await end()
})

/** The way's lab with a service that nobody has used yet, and servers that know nothing of the path. */
const fresh = async (way: Way, scheduler: string): Promise<Lab> => {
  const lab = labs.get(way)
  if (lab === undefined) throw new Error(`no lab for ${way.name}`)
  await restore(lab, [])
  // With a seed of its own a port has its backend, in every run.
  const seed = '0x0123456789abcdef'
  await restore(lab, [{ service: `tcp://${lab.vipInUrl}:80`, scheduler, seed, backends: backends(lab, 1, 1, 1) }])
  await forget(lab)
  return lab
}

/** The servers forget what they learnt of the path. */
const forget = async (lab: Lab): Promise<void> => {
  for (const host of SERVERS) await must(lab, host, `ip ${lab.family === 'IPv6' ? '-6' : '-4'} route flush cache`)
}

/** Which servers have learnt what the path to the client takes. */
const informed = async (lab: Lab): Promise<string[]> => {
  const routes = await Promise.all(SERVERS.map((host) => must(lab, host, `ip route get ${farOf(lab.family)}`)))
  return SERVERS.filter((_, i) => new RegExp(`\\bmtu ${MTU}\\b`).test(routes[i] ?? ''))
}

/** Of each host, how many errors came that said that a packet was too big. */
const tooBig = (lab: Lab, hosts: readonly string[] = STACKS): Promise<Counters> =>
  lab.family === 'IPv6' ? each(lab, hosts, 'Icmp6', 'InPktTooBigs') : each(lab, hosts, 'Icmp', 'InDestUnreachs')

const download = (port: number | '', seconds: number) => [
  ...['curl', '--silent', '--show-error', '--max-time', `${seconds}`, '--output', '/dev/null'],
  ...(port === '' ? [] : ['--local-port', `${port}`]),
  ...['-H', 'Connection: close', '-w', '%header{x-server} %{size_download}'],
]

/** A download by the client behind the routers; the server that answered. Throws where it is not whole. */
const transfer = async (lab: Lab, port: number | ''): Promise<string> => {
  const url = `http://${lab.vipInUrl}/slow?bytes=${BYTES}&seconds=0`
  const { code, stdout, stderr } = await lab.run('far', [...download(port, 20), url])
  const [server = '', bytes] = stdout.split(' ')
  if (code !== 0 || Number(bytes) !== BYTES) throw new Error(`curl: exit ${code}: ${stderr}; ${stdout}`)
  return server
}

for (const [i, way] of WAYS.entries()) {
  const group = way.family === 'IPv6' ? 'Icmp6' : 'Icmp'
  for (const [j, scheduler] of ['mh', 'rr'].entries()) {
    labTest(
      `${way.name}, ${scheduler}: the error reaches the server whose flow it is about, and no other stack`,
      async (t) => {
        const lab = await fresh(way, scheduler)
        const served = new Set<string>()
        // The ring says which port goes to which server: six, and more until all have had one.
        for (let n = 0; n < 6 || (served.size < 3 && n < 40); n++) {
          await forget(lab)
          const before = await tooBig(lab)
          const server = await transfer(lab, 30_000 + 1_000 * i + 100 * j + n)
          const errors = added(before, await tooBig(lab))
          t.deepEqual(Object.keys(errors), [server])
          t.deepEqual(await informed(lab), [server])
          served.add(server)
        }
        t.is(served.size, 3)
      },
    )

    labTest(`${way.name}, ${scheduler}: transfers from all servers at once come whole`, async (t) => {
      const lab = await fresh(way, scheduler)
      const before = await tooBig(lab)
      // An error that no socket's flow is quoted in counts here.
      const strayed = await each(lab, STACKS, group, 'InErrors')
      const ports = Array.from({ length: 6 }, (_, n) => 30_050 + 1_000 * i + 100 * j + n)
      const servers = new Set(await Promise.all(ports.map((port) => transfer(lab, port))))
      t.true(servers.size > 1)
      const errors = added(before, await tooBig(lab))
      t.deepEqual(Object.keys(errors), [...servers].sort())
      t.deepEqual(await informed(lab), [...servers].sort())
      t.deepEqual(added(strayed, await each(lab, STACKS, group, 'InErrors')), {})
      t.is((await list(lab)).reasons.drop_fragment, 0)
    })
  }
}

for (const way of WAYS.filter(({ mode }) => mode === 'native')) {
  labTest(`${way.name}: without the errors a transfer stands still, and with them it goes on`, async (t) => {
    const lab = await fresh(way, 'rr')
    const family = way.family === 'IPv6' ? '-6' : '-4'
    const before = await tooBig(lab)
    const attempts = async () => (await snmp(lab, 'rs1', 'Tcp')).RetransSegs ?? 0
    const first = await attempts()
    // Of what the router itself makes, nothing leaves for the VIP; what it forwards comes by an interface.
    await must(lab, 'router', `ip ${family} rule add iif lo to ${lab.vip} blackhole`)
    const curl = lab.spawn('far', [...download('', 20), `http://${lab.vipInUrl}/slow?bytes=${BYTES}&seconds=0`])
    // Its timer has then run out more than once, and each time for longer (RFC 6298 section 5.5).
    await until('rs1 has sent the same again and again', async () => (await attempts()) >= first + 3)
    t.true(curl.running)
    t.deepEqual(added(before, await tooBig(lab)), {})
    t.deepEqual(await informed(lab), [])
    await must(lab, 'router', `ip ${family} rule del iif lo to ${lab.vip} blackhole`)
    t.is((await curl.ended).stdout, `rs1 ${BYTES}`)
    t.deepEqual(await informed(lab), ['rs1'])
  })
}
