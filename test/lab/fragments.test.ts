// SPDX-License-Identifier: Apache-2.0
// Datagrams that are larger than the MTU: the client's stack sends them in fragments, each of which passes the director by
// itself, and all must reach one server. The answer, as large, is the server's own business.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type Family, hasRoot, Lab } from './lab.ts'
import { addRouters } from './routers.ts'
import { attach, backends, list, restore, tally, WAYS, type Way } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const UDP_SIZES = fileURLToPath(new URL('../../test/lab/udp-sizes.js', import.meta.url))
const PORT = 53
/** What an IPv4 packet of 1500 octets has room for; and a whole IPv6 packet, and a fragment, which has a header more. */
const ROOM = { IPv4: { whole: 1480, fragment: 1480 }, IPv6: { whole: 1460, fragment: 1448 } }

// One CPU that this process may use: a sender that moves to another one between two fragments may have them change places
// on the veth, which no wire does.
const CPU = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'

const labs = new Map<Way, Lab>()
const ends: (() => unknown)[] = []

test.before(async () => {
  if (!hasRoot()) return
  for (const way of WAYS) {
    const lab = await Lab.up({ teardown: (end) => ends.push(end) }, { family: way.family })
    await addRouters(lab, 1280, ['director', 'rs1', 'rs2', 'rs3'])
    await Promise.all([1, 2, 3].map((server) => lab.udp(server, PORT)))
    await attach(lab, way.mode)
    labs.set(way, lab)
  }
})

test.after.always(async () => {
  for (const end of ends) await end()
})

const withService = async (way: Way, scheduler: string): Promise<Lab> => {
  const lab = labs.get(way)
  if (lab === undefined) throw new Error(`no lab for ${way.name}`)
  await restore(lab, [])
  const seed = '0x0123456789abcdef'
  await restore(lab, [{ service: `udp://${lab.vipInUrl}:${PORT}`, scheduler, seed, backends: backends(lab, 1, 1, 1) }])
  return lab
}

/** Asks from one port of a host, a datagram of each size; the answers, `NAME whole`. */
const askSizes = async (lab: Lab, sizes: readonly number[], port = 0, host = 'client'): Promise<string[]> => {
  const argv = ['taskset', '-c', CPU, process.execPath, UDP_SIZES, lab.vip, `${PORT}`, `${port}`, ...sizes.map(String)]
  const { stdout, stderr } = await lab.run(host, argv)
  return stdout.concat(stderr).trim().split('\n')
}

/** Into how many packets datagrams with so many octets go. */
const packets = (sizes: readonly number[], family: Family): number =>
  sizes
    .map((size) => (size + 8 <= ROOM[family].whole ? 1 : Math.ceil((size + 8) / ROOM[family].fragment)))
    .reduce((sum, count) => sum + count, 0)

/** Below, at and beyond what goes into one packet. Several clients may ask at once: a server's socket holds them all. */
const SIZES = [4000, 1, 1452, 1453, 1472, 1473, 4000, 8000]
/** Up to nearly the largest that there are; a socket holds but two or three such. */
const LARGE = [...SIZES, 30_000, 65_000]
/** Those of them that a router may fragment: what fits the sender's own MTU forbids that. IPv6's sender does it all itself. */
const DIVISIBLE = LARGE.filter((size) => size > 1472 || size < 1000)
/** More than the link takes: IPv6's senders learn that by losing one, the client and then the server, whom the director tells. */
const BEYOND = [1300, 1300]

for (const way of WAYS) {
  const { name, family } = way
  labTest(`${name}, mh: all datagrams of a port reach one server whole, of whatever size`, async (t) => {
    const lab = await withService(way, 'mh')
    const before = (await list(lab)).reasons
    const answers = await Promise.all(Array.from({ length: 6 }, (_, n) => askSizes(lab, SIZES, 31_000 + n)))
    for (const ofPort of answers) t.deepEqual(ofPort, Array(SIZES.length).fill(ofPort[0]))
    t.deepEqual(Object.keys(tally(answers.flat())).sort(), ['rs1 whole', 'rs2 whole', 'rs3 whole'])
    const after = await list(lab)
    t.is(after.reasons.drop_fragment, before.drop_fragment)
    const counted = after.services[0]?.backends.map(({ counts }) => counts.packets) ?? []
    t.is(
      counted.reduce((sum, count) => sum + count, 0),
      6 * packets(SIZES, family),
    )
  })

  labTest(`${name}, rr: large datagrams of new ports go to the backends in turn, of one port to one`, async (t) => {
    const lab = await withService(way, 'rr')
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
      [2 * 3 + packets(LARGE, family), 2 * 3, 2 * 3],
    )
  })

  labTest(`${name}, sh: large datagrams of all ports of a client reach one server whole`, async (t) => {
    const lab = await withService(way, 'sh')
    const answers = await Promise.all([0, 0, 0].map(() => askSizes(lab, SIZES)))
    t.deepEqual(Object.values(tally(answers.flat())), [3 * SIZES.length])
    t.regex(answers[0]?.[0] ?? '', /^rs[123] whole$/)
  })

  for (const scheduler of ['mh', 'rr', 'sh']) {
    labTest(`${name}, ${scheduler}: what goes over a narrower link reaches one server whole`, async (t) => {
      const lab = await withService(way, scheduler)
      const before = (await list(lab)).reasons
      if (family === 'IPv6') await askSizes(lab, BEYOND, 31_100, 'far')
      const answers = await askSizes(lab, DIVISIBLE, 31_100, 'far')
      t.regex(answers[0] ?? '', /^rs[123] whole$/)
      t.deepEqual(answers, Array(DIVISIBLE.length).fill(answers[0]))
      t.is((await list(lab)).reasons.drop_fragment, before.drop_fragment)
    })
  }
}
