// SPDX-License-Identifier: Apache-2.0
// Clients beside a daemon that is killed at any moment, and beside whoever takes from it what it keeps: requests and connections that
// are lost are counted.
import { readdirSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { loadNative } from '../../src/dataplane/native.ts'
import { configFile, configure, listed, problems, startDaemon, until } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { remakeEth0 } from './remake.ts'
import { type Listing, list, on } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const HELD = 40
/**
 * Of requests and of connections, always: none. While a daemon is not there, or loads a file, what is pinned goes on. What
 * somebody else has broken drops packets until it is mended, some 3 s; TCP sends these again, and nobody has refused them, as this
 * director does not hold the VIP itself.
 */
const LOST = 0

interface Traffic {
  /** Requests that were answered since the last time, each with whatever went wrong meanwhile. */
  answered: (atLeast: number) => Promise<number>
  end: () => Promise<void>
}

/** Ports of connections that are held. */
const TRACKED = 7000
const HASHED = 7001

/** New connections one after the other, and some that are held. Ends with the counts of what was lost. */
const traffic = async (t: ExecutionContext, lab: Lab, port = TRACKED): Promise<Traffic> => {
  const held = await lab.holdLines(port, HELD, 20)
  const requests = lab.spawn('client', [
    ...['curl', '--silent', '--show-error', '--fail', '--max-time', '15', '--rate', '200/s'],
    ...['--header', 'Connection: close', `http://${lab.vip}/?[1-1000000]`],
  ])
  const count = () => requests.stdout.split('\n').length - 1
  let before = 0
  const answered = async (atLeast: number) => {
    const from = before
    await until(`${atLeast} requests are answered`, 20_000, () => count() - from >= atLeast)
    before = count()
    return before - from
  }
  await answered(20)
  return {
    answered,
    end: async () => {
      await requests.stop()
      t.is(requests.stderr.split('\n').filter((line) => line !== '').length, LOST, requests.stderr)
      const { intact, lost } = JSON.parse((await held.stop()).stdout.trim().split('\n').at(-1) ?? '{}')
      t.deepEqual([intact, lost.length], [HELD, LOST], JSON.stringify(lost))
      t.log(`${count()} requests, ${HELD} connections: none lost`)
    },
  }
}

const weightOf = ({ services }: Listing, service: string, address: string): number | undefined =>
  services.find((each) => each.service === service)?.backends.find((each) => each.address === address)?.weight

const setUp = async (t: ExecutionContext) => {
  const lab = await Lab.up(t, { vipOnDirector: false })
  const { mac } = lab.host('director')
  await on(lab, 'client', `ip neighbour replace ${lab.vip} dev eth0 lladdr ${mac} nud permanent`)
  const file = configFile(t)
  const [rs1 = '', rs2 = '', rs3 = ''] = ['rs1', 'rs2', 'rs3'].map((host) => lab.host(host).address)
  const web = `tcp://${lab.vip}:80`
  const backends = [rs1, rs2, rs3].map((address) => ({ address }))
  const write = (weight: number) =>
    configure(file, {
      interfaces: ['eth0'],
      limits: { flows: 65_536 },
      services: [
        { service: web, scheduler: 'mh', backends: [{ address: rs1, weight }, { address: rs2 }] },
        { service: `tcp://${lab.vip}:${TRACKED}`, scheduler: 'rr', backends },
        { service: `tcp://${lab.vip}:${HASHED}`, scheduler: 'mh', backends },
      ],
    })
  write(1)
  const serve = (server: number) => [lab.http(server, 80), lab.lines(server, TRACKED), lab.lines(server, HASHED)]
  await Promise.all([1, 2, 3].flatMap(serve))
  const daemon = await startDaemon(lab, file)
  await until('all answer', 5000, async () => (await problems(lab)).length === 0)
  return { lab, file, daemon, web, rs1, rs2, write }
}

labTest(
  'a daemon that is killed at any moment of a reload and a verb loses nothing, and what was answered holds',
  async (t) => {
    const { lab, file, daemon: first, web, rs1, rs2, write } = await setUp(t)
    const clients = await traffic(t, lab)
    let daemon = first
    for (let round = 0; round < 3; round++) {
      write(2 + round)
      const reload = lab.xlb(['reload'])
      const verb = lab.xlb(['backend', 'set', web, rs2, '--weight', `${10 + round}`])
      // Node's start takes most of it: some are killed before, some within, some after.
      await sleep(100 + Math.random() * 150)
      const before = weightOf(await list(lab).catch(() => ({ services: [] }) as never), web, rs2)
      await daemon.stop('SIGKILL')
      const [reloaded, set] = await Promise.all([reload, verb])
      t.true([0, 1].includes(reloaded.code ?? -1), reloaded.stderr)
      daemon = await startDaemon(lab, file)
      const after = await list(lab)
      t.is(weightOf(after, web, rs1), 2 + round, 'as the file says, whether the reload came to its end or not')
      if (set.code === 0) t.is(weightOf(after, web, rs2), 10 + round, 'what was answered holds')
      else t.true([before, 10 + round].includes(weightOf(after, web, rs2)), 'whole or not at all')
      await clients.answered(20)
    }
    await clients.end()
  },
)

labTest(
  'while maps, link, pins and interface are taken away, clients wait for the mend, and none is lost',
  async (t) => {
    const { lab, daemon } = await setUp(t)
    const clients = await traffic(t, lab)
    const native = loadNative()
    const pins = `/sys/fs/bpf/xlb/${lab.instance()}`
    // Each of the others is edited in test/dataplane/guard.test.ts.
    for (const name of ['backends', 'vip_buckets'] as const) {
      const map = native.openMap(`${pins}/maps/${name}`)
      const octets = new Uint8Array(map.mmap())
      octets.fill(0xff, 0, Math.min(octets.length, 65_536))
      await daemon.waitFor(new RegExp(`octets of ${name} were changed`), 5000)
      map.unmap()
      map.close()
      await clients.answered(5)
    }

    const link = native.openLink(`${pins}/links/${readdirSync(`${pins}/links`)[0]}`)
    link.detach()
    link.close()
    await until('the link is made again', 5000, async () => (await listed(lab)).interfaces[0]?.attached === true)
    await clients.answered(5)

    const isUp = async () => {
      const found = await listed(lab).catch(() => undefined)
      return found?.services.length === 3 && (await problems(lab)).length === 0
    }
    await on(lab, 'director', 'ip link del dev eth0')
    await remakeEth0(lab, false)
    await until('eth0 is attached again', 10_000, isUp)
    await clients.answered(5)
    await clients.end()

    // The flow table goes with the pins: a hash knows where flows belong without it.
    const others = await traffic(t, lab, HASHED)
    rmSync(pins, { recursive: true })
    await until('the pins are made again', 10_000, isUp)
    await others.answered(5)
    await others.end()
  },
)
