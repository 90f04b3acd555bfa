// SPDX-License-Identifier: Apache-2.0
// Datagrams that are larger than the MTU: the client's stack sends them in fragments, each of which passes the director by
// itself, and all must reach one server. The answer, as large, is the server's own business.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { addRouters } from './routers.ts'
import { attach, backends, list, MODES, type Mode, restore, tally } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const UDP_SIZES = fileURLToPath(new URL('../../test/lab/udp-sizes.js', import.meta.url))
const PORT = 53
/** What an IPv4 packet of 1500 octets has room for. */
const MTU_BYTES = 1480

// One CPU that this process may use: a sender that moves to another one between two fragments may have them change places
// on the veth, which no wire does.
const CPU = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'

const labs = new Map<Mode, Lab>()
const ends: (() => unknown)[] = []

test.before(async () => {
  if (!hasRoot()) return
  for (const mode of MODES) {
    const lab = await Lab.up({ teardown: (end) => ends.push(end) })
    await addRouters(lab, 1280, ['director', 'rs1', 'rs2', 'rs3'])
    await Promise.all([1, 2, 3].map((server) => lab.udp(server, PORT)))
    await attach(lab, mode)
    labs.set(mode, lab)
  }
})

test.after.always(async () => {
  for (const end of ends) await end()
})

const withService = async (mode: Mode, scheduler: string): Promise<Lab> => {
  const lab = labs.get(mode)
  if (lab === undefined) throw new Error(`no lab for ${mode}`)
  await restore(lab, [])
  const seed = '0x0123456789abcdef'
  await restore(lab, [{ service: `udp://${lab.vip}:${PORT}`, scheduler, seed, backends: backends(lab, 1, 1, 1) }])
  return lab
}

/** Asks from one port of a host, a datagram of each size; the answers, `NAME whole`. */
const askSizes = async (lab: Lab, sizes: readonly number[], port = 0, host = 'client'): Promise<string[]> => {
  const argv = ['taskset', '-c', CPU, process.execPath, UDP_SIZES, lab.vip, `${PORT}`, `${port}`, ...sizes.map(String)]
  const { stdout, stderr } = await lab.run(host, argv)
  return stdout.concat(stderr).trim().split('\n')
}

/** Into how many packets datagrams with so many octets go. */
const packets = (sizes: readonly number[]): number =>
  sizes.reduce((sum, size) => sum + Math.ceil((size + 8) / MTU_BYTES), 0)

/** Below, at and beyond what goes into one packet. Several clients may ask at once: a server's socket holds them all. */
const SIZES = [4000, 1, 1472, 1473, 4000, 8000]
/** Up to nearly the largest that there are; a socket holds but two or three such. */
const LARGE = [...SIZES, 30_000, 65_000]
/** Those of them that a router may fragment: what fits the sender's own MTU forbids that. */
const DIVISIBLE = LARGE.filter((size) => size > 1472 || size < 1000)

for (const mode of MODES) {
  labTest(`${mode}, mh: all datagrams of a port reach one server whole, of whatever size`, async (t) => {
    const lab = await withService(mode, 'mh')
    const before = (await list(lab)).reasons
    const answers = await Promise.all(Array.from({ length: 6 }, (_, n) => askSizes(lab, SIZES, 31_000 + n)))
    for (const ofPort of answers) t.deepEqual(ofPort, Array(SIZES.length).fill(ofPort[0]))
    t.deepEqual(Object.keys(tally(answers.flat())).sort(), ['rs1 whole', 'rs2 whole', 'rs3 whole'])
    const after = await list(lab)
    t.is(after.reasons.drop_fragment, before.drop_fragment)
    const counted = after.services[0]?.backends.map(({ counts }) => counts.packets) ?? []
    t.is(
      counted.reduce((sum, count) => sum + count, 0),
      6 * packets(SIZES),
    )
  })

  labTest(`${mode}, rr: large datagrams of new ports go to the backends in turn, of one port to one`, async (t) => {
    const lab = await withService(mode, 'rr')
    const before = (await list(lab)).reasons
    const text = 'fragment'.repeat(500)
    const turns = ['rs1', 'rs2', 'rs3', 'rs1', 'rs2', 'rs3']
    t.deepEqual(
      await lab.askUdp(lab.vip, PORT, text, 6),
      turns.map((name) => `${name} ${text}`),
    )
    t.deepEqual(await askSizes(lab, LARGE), Array(LARGE.length).fill('rs1 whole'))
    const { reasons, services } = await list(lab)
    t.is(reasons.drop_fragment, before.drop_fragment)
    t.deepEqual(
      services[0]?.backends.map(({ counts }) => counts.packets),
      [2 * 3 + packets(LARGE), 2 * 3, 2 * 3],
    )
  })

  labTest(`${mode}, sh: large datagrams of all ports of a client reach one server whole`, async (t) => {
    const lab = await withService(mode, 'sh')
    const answers = await Promise.all([0, 0, 0].map(() => askSizes(lab, SIZES)))
    t.deepEqual(Object.values(tally(answers.flat())), [3 * SIZES.length])
    t.regex(answers[0]?.[0] ?? '', /^rs[123] whole$/)
  })

  for (const scheduler of ['mh', 'rr', 'sh']) {
    labTest(`${mode}, ${scheduler}: what a router fragments once more reaches one server whole`, async (t) => {
      const lab = await withService(mode, scheduler)
      const before = (await list(lab)).reasons
      const answers = await askSizes(lab, DIVISIBLE, 31_100, 'far')
      t.regex(answers[0] ?? '', /^rs[123] whole$/)
      t.deepEqual(answers, Array(DIVISIBLE.length).fill(answers[0]))
      t.is((await list(lab)).reasons.drop_fragment, before.drop_fragment)
    })
  }
}
