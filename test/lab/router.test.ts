// SPDX-License-Identifier: Apache-2.0
// Clients in a second segment, behind routers: they reach the VIP by the router's MAC, and real servers answer by their own
// route, past the director.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { addRouters, FAR } from './routers.ts'
import { attach, backends, list, MODES, restore, tally } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const SERVERS = ['rs1', 'rs2', 'rs3']

const must = async (lab: Lab, host: string, argv: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await lab.run(host, argv)
  if (code !== 0) throw new Error(`${host}: ${argv.join(' ')}: exit ${code}: ${stderr}`)
  return stdout
}

/** Octets that the switch has sent to a host, and got of it. */
const octets = async (lab: Lab, host: string): Promise<{ to: number; from: number }> => {
  const [link] = JSON.parse(await must(lab, 'switch', ['ip', '-s', '-j', 'link', 'show', 'dev', `to-${host}`])) as {
    stats64: { rx: { bytes: number }; tx: { bytes: number } }
  }[]
  return { to: link?.stats64.tx.bytes ?? 0, from: link?.stats64.rx.bytes ?? 0 }
}

const curl = (lab: Lab, ...argv: string[]): Promise<string> =>
  must(lab, 'far', ['curl', '-sS', '--max-time', '15', '-H', 'Connection: close', ...argv])

for (const mode of MODES) {
  labTest(`${mode}: clients behind routers are balanced as near ones are`, async (t) => {
    const lab = await Lab.up(t)
    await addRouters(lab, 1500, ['director', ...SERVERS])
    await Promise.all([1, 2, 3].flatMap((server) => [lab.http(server, 80), lab.udp(server, 53)]))
    await attach(lab, mode)
    const all = backends(lab, 1, 1, 1)
    const service = (name: string, scheduler: string) => ({ service: name, scheduler, backends: all })
    await restore(lab, [service(`tcp://${lab.vipInUrl}:80`, 'rr'), service(`udp://${lab.vipInUrl}:53`, 'rr')])
    t.deepEqual(tally((await curl(lab, `http://${lab.vipInUrl}/?[1-12]`)).trim().split('\n')), {
      rs1: 4,
      rs2: 4,
      rs3: 4,
    })
    // A router has one MAC for all clients behind it, and for the near client it is not there.
    const mixed = await Promise.all([
      curl(lab, `http://${lab.vipInUrl}/?[1-6]`),
      lab.curl(`http://${lab.vipInUrl}/?[1-6]`),
    ])
    t.is(mixed[0].trim().split('\n').length, 6)
    t.is(mixed[1].stdout.trim().split('\n').length, 6)

    const headers = await curl(lab, '-D', '-', '-o', '/dev/null', `http://${lab.vipInUrl}/`)
    t.regex(headers, new RegExp(`x-client: ${FAR.replaceAll('.', '\\.')}:`), 'the server sees the client itself')
    t.true(headers.includes(`x-local: ${lab.vipInUrl}:80`))

    for (const scheduler of ['mh', 'sh']) {
      await restore(lab, []) // Else its ring would be marked, for the flows of before.
      await restore(lab, [service(`tcp://${lab.vipInUrl}:80`, scheduler)])
      const answers = tally((await curl(lab, `http://${lab.vipInUrl}/?[1-40]`)).trim().split('\n'))
      t.is(Object.keys(answers).length, scheduler === 'sh' ? 1 : 3, JSON.stringify(answers))
    }
  })

  labTest(`${mode}: answers go from the real server to the router, and not by the director`, async (t) => {
    const lab = await Lab.up(t)
    await addRouters(lab, 1500, SERVERS) // The director itself has no route to the far client.
    await Promise.all([1, 2, 3].map((server) => lab.http(server, 80)))
    await attach(lab, mode)
    await restore(lab, [{ service: `tcp://${lab.vipInUrl}:80`, scheduler: 'rr', backends: backends(lab, 1, 1, 1) }])
    const bytes = 5_000_000
    const before = await octets(lab, 'director')
    const router = await octets(lab, 'router')
    const url = `http://${lab.vipInUrl}/slow?bytes=${bytes}&seconds=0`
    const shown = await curl(lab, '-o', '/dev/null', '-w', '%{size_download} %header{x-server}', url)
    t.regex(shown, new RegExp(`^${bytes} rs[123]$`))
    const after = await octets(lab, 'director')
    t.true((await octets(lab, 'router')).to - router.to > bytes, 'the router got the answer')
    // The client's half alone comes here, and leaves again.
    t.true(after.to - before.to < bytes / 10, `${after.to - before.to} octets came to the director`)
    t.true(after.from - before.from < bytes / 10)
    const { reasons } = await list(lab)
    t.is(reasons.drop_no_backend, 0)
    t.true((reasons.tx_forwarded ?? 0) > 10)
  })
}

labTest('a backend behind the router is refused: no frame of this segment reaches it', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await addRouters(lab, 1500, ['director', 'rs1'])
  await attach(lab)
  await restore(lab, [{ service: `tcp://${lab.vipInUrl}:80`, scheduler: 'rr', backends: backends(lab, 1) }])
  const { code, stderr } = await lab.xlb(['backend', 'set', `tcp://${lab.vipInUrl}:80`, FAR])
  t.is(code, 1)
  t.regex(stderr, /is behind the gateway 10\.89\.0\.1, and direct server return reaches only the same segment/)
})
