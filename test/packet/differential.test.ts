// SPDX-License-Identifier: Apache-2.0
// The program and the reference balancer see the same frames, under the same changes of configuration, and must agree on
// each: verdict, octets, reason. XLB_SEED=n repeats a run.
import test from 'ava'
import type { DesiredState } from '../../src/core/desired.ts'
import { withGlobalFilter } from '../../src/core/filter.ts'
import { plan } from '../../src/core/plan.ts'
import { OPEN } from '../../src/core/prefixes.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { inSegment, OWN_MAC, rewritten } from './frames.ts'
import { Balancer, backendMac, breathe, type Reasons, SECOND_INTERFACE, VERDICT } from './plane.ts'
import { makeRandom } from './random.ts'
import { randomFilter } from './random-filter.ts'
import { type Expected, Reference } from './reference.ts'
import { randomChange, randomFrame } from './traffic.ts'

const FRAMES = 120_000
const FRAMES_PER_CHANGE = 300

const seedOf = (round: number): number => Number(process.env.XLB_SEED ?? (Date.now() % 2 ** 31) + round)

const verdictOf = ({ reason }: Expected): number => {
  if (reason === 'TX_FORWARDED') return VERDICT.TX
  if (reason === 'TX_REDIRECTED') return VERDICT.REDIRECT
  return reason.startsWith('PASS') ? VERDICT.PASS : VERDICT.DROP
}

const frameOf = (frame: Buffer, expected: Expected): Buffer => {
  if (!expected.reason.startsWith('TX')) return frame
  const source = expected.reason === 'TX_FORWARDED' ? OWN_MAC : SECOND_INTERFACE.mac
  return rewritten(inSegment(frame, expected.vlan), backendMac(expected.backend ?? 0), source)
}

const reasonsOf = ({ reason, inserted, noted }: Expected): Reasons => ({
  [reason]: 1,
  ...(inserted ? { FLOW_INSERTED: 1 } : {}),
  ...(noted === true ? { CLIENT_NOTED: 1 } : {}),
})

const same = (a: Reasons, b: Reasons): boolean =>
  Object.keys(a).length === Object.keys(b).length &&
  Object.entries(a).every(([name, by]) => b[name as keyof Reasons] === by)

/** Changes both. A refused change leaves both as they were. */
const change = (balancer: Balancer, reference: Reference, next: (state: DesiredState) => DesiredState): void => {
  const before = balancer.state
  try {
    balancer.change(next)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return
  }
  const after = balancer.state
  if (plan(before, after).length > 0) reference.follow(after)
}

/** The counters of every live backend. */
const differingCounts = (balancer: Balancer, reference: Reference): string[] =>
  [...reference.services].flatMap(([name, { lives }]) =>
    [...lives.values()].flatMap(({ number, packets, octets }) => {
      const counts = balancer.counters(name, number)
      const agree = Number(counts.packets) === packets && Number(counts.bytes) === octets
      return agree ? [] : [`${name} backend ${number}: ${counts.packets}, not ${packets} packets`]
    }),
  )

for (const round of [1, 2]) {
  test.serial(`round ${round}: program and reference agree on every frame`, async (t) => {
    t.timeout(900_000)
    const seed = seedOf(round)
    const random = makeRandom(seed)
    const balancer = new Balancer({
      capacity: { flows: 2 ** 17, flows6: 2 ** 19, services: 64, backends: 1024, clients: 2 ** 14 },
    })
    t.teardown(() => balancer.close())
    const reference = new Reference()
    const seen = new Map<string, number>()
    let noOpinion = 0
    for (let i = 0; i < FRAMES / 2; i++) {
      if (i % FRAMES_PER_CHANGE === 0) {
        await breathe()
        const wrong = differingCounts(balancer, reference)
        if (wrong.length > 0) return t.fail(`XLB_SEED=${seed}: before frame ${i}: ${wrong.join('; ')}`)
        change(balancer, reference, (state) => randomChange(random, state))
        if (random.once(8)) {
          reference.filter = randomFilter(random)
          balancer.changeGlobals((globals) => withGlobalFilter(globals, () => reference.filter ?? OPEN))
        }
      }
      const frame = randomFrame(random)
      const expected = reference.expect(frame)
      if (expected === undefined) {
        noOpinion++
        continue
      }
      const sent = balancer.send(Buffer.from(frame))
      seen.set(expected.reason, (seen.get(expected.reason) ?? 0) + 1)
      const agree =
        sent.verdict === verdictOf(expected) &&
        same(sent.reasons, reasonsOf(expected)) &&
        sent.frame.equals(frameOf(frame, expected))
      if (!agree) {
        t.log(`seed ${seed}, frame ${i}: ${frame.toString('hex')}`)
        t.log('expected', expected, 'got', sent.verdict, sent.reasons, sent.backend, sent.frame.toString('hex', 0, 12))
        return t.fail(`XLB_SEED=${seed}: frame ${i} differs`)
      }
    }
    t.true(noOpinion < FRAMES / 1000, `no opinion of ${noOpinion}`)
    t.log([...seen].map(([reason, count]) => `${reason} ${count}`).join(', '))
    t.log([...reference.kinds].map(([kind, count]) => `${kind} ${count}`).join('; '))
    const kinds = [...reference.kinds.keys()]
    for (const kind of ['one port', 'range', 'every port', 'prefix', 'ipv6', 'persistent']) {
      t.true(
        kinds.some((each) => each.includes(kind)),
        `no packet for ${kind}`,
      )
    }
    t.true([...reference.kinds.keys()].some((kind) => kind.startsWith('prefix')))
    for (const end of ['ops', 'persistent']) t.true([...reference.kinds.keys()].some((kind) => kind.endsWith(end)))
    // Down backends are no one's choice without a race; everything else has to have come up.
    t.true(seen.size >= 12, [...seen.keys()].join())
  })
}
