// SPDX-License-Identifier: Apache-2.0
// Two directors in one segment that are each other's backends, and their own: what one of them has sent is never balanced by the
// other. Frames are counted, on the wire and by both programs: a loop would make more of them than were sent.
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { ask, attach, type BackendRow, type Listing, list, MODES, type Mode, restore, tally } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const HTTP_SERVER = fileURLToPath(new URL('http-server.js', import.meta.url))
const DIRECTORS = ['director', 'director2'] as const
const BACKENDS = [...DIRECTORS, 'rs1']
type Director = (typeof DIRECTORS)[number]

const must = async (lab: Lab, host: string, command: string): Promise<string> => {
  const { code, stdout, stderr } = await lab.run(host, ['sh', '-ec', command])
  if (code !== 0) throw new Error(`${host}: ${command}: exit ${code}: ${stderr}`)
  return stdout
}

/** Two directors and a real server. @param named each director's backends: all three, if nothing is said */
const setUp = async (
  t: ExecutionContext,
  mode: Mode,
  scheduler: string,
  named: (director: Director) => readonly string[] = () => BACKENDS,
): Promise<Lab> => {
  const lab = await Lab.up(t, { directors: 2, servers: 1 })
  // As a real server's: the first director alone answers ARP for the VIP.
  const settings = 'echo 1 >arp_ignore; echo 2 >arp_announce'
  await must(lab, 'director2', `cd /proc/sys/net/ipv4/conf/all; ${settings}; ip address add ${lab.vip}/32 dev lo`)
  for (const name of DIRECTORS) {
    const server = lab.spawn(name, [process.execPath, HTTP_SERVER, name, '80'])
    await server.waitFor(/^listening /m)
  }
  await lab.http(1, 80)
  const service = `tcp://${lab.vip}:80`
  for (const director of DIRECTORS) {
    await attach(lab, mode, { director })
    // Each draws a seed of its own, so that they do not even agree on whose a flow is.
    const backends = named(director).map((host) => ({ address: lab.host(host).address }))
    await restore(lab, [{ service, scheduler, backends }], { director })
  }
  return lab
}

/** The client's packets for the VIP go to this director. */
const goBy = (lab: Lab, director: Director): Promise<string> =>
  must(lab, 'client', `ip neighbour replace ${lab.vip} lladdr ${lab.host(director).mac} dev eth0 nud permanent`)

interface Statistics {
  stats64: { tx: { packets: number } }
}

/** Frames that the switch has sent to the directors, and those that the client has sent. */
const frames = async (lab: Lab): Promise<{ arrived: number; sent: number }> => {
  const count = async (host: string, name: string): Promise<number> => {
    const links = JSON.parse(await must(lab, host, `ip -s -j link show dev ${name}`)) as Statistics[]
    return links[0]?.stats64.tx.packets ?? 0
  }
  const ports = await Promise.all(DIRECTORS.map((name) => count('switch', `to-${name}`)))
  return { arrived: ports.reduce((sum, each) => sum + each, 0), sent: await count('client', 'eth0') }
}

interface Two {
  of: Record<Director, Listing>
  /** Packets that a director has sent to a backend. */
  sent: (from: Director, to: string) => number
}

const both = async (lab: Lab): Promise<Two> => {
  const [one, two] = await Promise.all(DIRECTORS.map((director) => list(lab, { director })))
  if (one === undefined || two === undefined) throw new Error('unreachable: there are two')
  const of = { director: one, director2: two }
  const row = (from: Director, to: string): BackendRow | undefined =>
    of[from].services[0]?.backends.find(({ address }) => address === lab.host(to).address)
  return { of, sent: (from, to) => row(from, to)?.counts.packets ?? 0 }
}

/** What each director has got from the other is what that has sent, and no more; all of it went to its own stack. */
const noneTurned = (t: ExecutionContext, now: Two): void => {
  for (const [here, there] of [
    ['director', 'director2'],
    ['director2', 'director'],
  ] as const) {
    t.is(now.of[here].reasons.pass_from_peer, now.sent(there, here), `${here} from ${there}`)
    t.is(now.of[here].reasons.pass_local, now.sent(here, here))
    t.is(now.of[here].reasons.tx_forwarded, now.sent(here, there) + now.sent(here, 'rs1'))
  }
}

const REQUESTS = 30

for (const mode of MODES) {
  for (const scheduler of ['rr', 'mh']) {
    labTest(
      `${mode}, ${scheduler}: clients of either director are served by all, and no packet turns back`,
      async (t) => {
        const lab = await setUp(t, mode, scheduler)
        for (const director of DIRECTORS) {
          await goBy(lab, director)
          const before = await frames(lab)
          const answers = tally(await ask(lab, REQUESTS))
          const after = await frames(lab)
          t.deepEqual(Object.keys(answers).sort(), BACKENDS, 'all serve')
          if (scheduler === 'rr') t.deepEqual(Object.values(answers), [10, 10, 10])
          // Each of the client's frames comes to one director, and from there at most once to the other; so do a few of ARP.
          const [arrived, sent] = [after.arrived - before.arrived, after.sent - before.sent]
          t.true(arrived >= sent && arrived <= 2 * sent + 60, `${sent} frames were sent, ${arrived} arrived`)
          noneTurned(t, await both(lab))
        }
        const now = await both(lab)
        for (const director of DIRECTORS) t.true((now.of[director].reasons.pass_from_peer ?? 0) > 10)
      },
    )
  }

  labTest(`${mode}: of two that name each other and not themselves, none hands a packet back`, async (t) => {
    const lab = await setUp(t, mode, 'rr', (director) => (director === 'director' ? ['director2'] : ['director']))
    for (const director of DIRECTORS) {
      await goBy(lab, director)
      const [before, counted] = [await frames(lab), await both(lab)]
      const refused = await lab.run('client', ['curl', '-s', '--max-time', '2', `http://${lab.vip}/`])
      t.is(refused.code, 28, 'curl: nobody answers')
      const [after, now] = [await frames(lab), await both(lab)]
      const [arrived, sent] = [after.arrived - before.arrived, after.sent - before.sent]
      t.true(arrived >= sent && arrived <= 2 * sent + 20, `${sent} frames were sent, ${arrived} arrived`)
      const there = director === 'director' ? 'director2' : 'director'
      const handed = now.sent(director, there) - counted.sent(director, there)
      const dropped = (now.of[there].reasons.drop_to_sender ?? 0) - (counted.of[there].reasons.drop_to_sender ?? 0)
      t.true(handed >= 2, 'a SYN, and again')
      t.is(dropped, handed)
      t.is(now.sent(there, director), counted.sent(there, director))
    }
  })

  labTest(`${mode}: flooded frames are left alone by whom they are not for, promiscuous or not`, async (t) => {
    const lab = await setUp(t, mode, 'rr')
    // A bridge that remembers no MAC sends every frame to every port.
    await must(lab, 'switch', 'ip link set br0 type bridge ageing_time 0; bridge fdb flush dev br0 2>/dev/null || true')
    await must(lab, 'director', 'ip link set eth0 promisc on')
    for (const director of DIRECTORS) {
      await goBy(lab, director)
      const before = await both(lab)
      t.deepEqual(tally(await ask(lab, REQUESTS)), { director: 10, director2: 10, rs1: 10 })
      const now = await both(lab)
      for (const each of DIRECTORS) {
        const seen = (now.of[each].reasons.pass_other_mac ?? 0) - (before.of[each].reasons.pass_other_mac ?? 0)
        t.true(seen > REQUESTS, `${each} saw ${seen} frames of others`)
      }
      noneTurned(t, now)
    }
  })
}
