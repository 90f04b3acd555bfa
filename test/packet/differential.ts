// SPDX-License-Identifier: Apache-2.0
// The program and the reference balancer see the same random frames, under the same random changes of configuration, and must
// agree on each: verdict, octets, reasons; and between changes on what is counted of every backend.
import type { DesiredState } from '../../src/core/desired.ts'
import { withGlobalFilter } from '../../src/core/filter.ts'
import { plan } from '../../src/core/plan.ts'
import { OPEN } from '../../src/core/prefixes.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { readCounts } from '../../src/dataplane/counters.ts'
import { readConnections } from '../../src/dataplane/least.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { miscounted } from './counted.ts'
import { inSegment, OWN_MAC, rewritten } from './frames.ts'
import { Balancer, backendMac, breathe, type Reasons, SECOND_INTERFACE, type Sent, VERDICT } from './plane.ts'
import { makeRandom, type Random } from './random.ts'
import { everyFate, everyKind, randomChange } from './random-changes.ts'
import { randomFilter } from './random-filter.ts'
import { RandomTraffic } from './random-frames.ts'
import { pass, RATE_CLOCK } from './rate-clock.ts'
import { type Expected, Reference } from './reference.ts'
import { numberOf } from './ring.ts'

const FRAMES_PER_CHANGE = 300
/** Before the first frame, after everyKind. */
const FIRST_CHANGES = 10

/** Large enough that no entry gives way to another: the reference has room for all. */
const CAPACITY = {
  flows: 2 ** 19,
  flows6: 2 ** 19,
  prefixFlows6: 2 ** 18,
  services: 64,
  backends: 1024,
  clients: 2 ** 14,
  destinations: 2 ** 12,
}

/** What a run has seen, and how often. */
export interface Figures {
  frames: number
  changes: number
  /** Changes that verbs refused. */
  refused: number
  /** By reason. */
  reasons: Map<string, number>
  /** By kind of service that a packet found. */
  kinds: Map<string, number>
  milliseconds: number
}

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

const agree = (sent: Sent, frame: Buffer, expected: Expected): boolean =>
  sent.verdict === verdictOf(expected) &&
  same(sent.reasons, reasonsOf(expected)) &&
  // That the way out is gone is known when the frame is ready to leave.
  (expected.reason === 'DROP_NO_EGRESS' || sent.frame.equals(frameOf(frame, expected)))

/** What the tables say of every live backend, beside the reference: packets and octets, and its connections at present. */
const differingCounts = ({ plane }: Balancer, reference: Reference): string[] =>
  [...readLive(plane).services.values()].flatMap(({ name, backends }) =>
    backends.flatMap(({ counter, want }) => {
      const { packets, bytes } = readCounts(plane, counter)
      const { active, inactive } = readConnections(plane, counter)
      const says = [packets, bytes, active, inactive].map(Number)
      const life = reference.services.get(name)?.lives.get(numberOf(want.address))
      const has = life === undefined ? [] : [life.packets, life.octets, life.active, life.inactive]
      if (says.length === has.length && says.every((value, i) => value === has[i])) return []
      return [`${name} ${want.address}: packets, octets, active, inactive ${says}, not ${has}`]
    }),
  )

/** Changes both. @returns whether verbs refused it: both are then as they were */
const change = (balancer: Balancer, reference: Reference, next: (state: DesiredState) => DesiredState): boolean => {
  const before = balancer.state
  try {
    balancer.change(next)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return false
  }
  const after = balancer.state
  if (plan(before, after).length === 0) return true
  reference.follow(after)
  return true
}

/** A change of configuration, and with it now and then of what holds for all services, and of the time. */
const changeBoth = (random: Random, balancer: Balancer, reference: Reference): boolean => {
  const done = change(balancer, reference, (state) => randomChange(random, state, { rates: true }))
  if (random.once(8)) {
    reference.filter = randomFilter(random)
    balancer.changeGlobals((globals) => withGlobalFilter(globals, () => reference.filter ?? OPEN))
  }
  if (random.once(8)) {
    const seconds = 1 + random.below(4)
    pass(balancer, seconds)
    reference.rates.pass(seconds)
  }
  return done
}

/** One balancer's life. @throws Error that names the seed and the frame where the two differ */
export const differ = async (seed: number, frames: number): Promise<Figures> => {
  const random = makeRandom(seed)
  const traffic = new RandomTraffic(random)
  const balancer = new Balancer({ capacity: CAPACITY, settings: RATE_CLOCK })
  const reference = new Reference()
  const { kinds } = reference
  const figures: Figures = { frames, changes: 0, refused: 0, reasons: new Map(), kinds, milliseconds: 0 }
  const start = performance.now()
  const checkCounts = (i: number): void => {
    const wrong = [...differingCounts(balancer, reference), ...miscounted(balancer)]
    if (wrong.length > 0) throw new Error(`XLB_SEED=${seed}: before frame ${i}: ${wrong.join('; ')}`)
  }
  try {
    for (const first of [everyKind, everyFate]) change(balancer, reference, first)
    for (let i = 0; i < frames; i++) {
      if (i % FRAMES_PER_CHANGE === 0) {
        await breathe()
        checkCounts(i)
        for (let changes = i === 0 ? FIRST_CHANGES : 1; changes > 0; changes--) {
          figures.changes++
          if (!changeBoth(random, balancer, reference)) figures.refused++
        }
      }
      const frame = traffic.next()
      const expected = reference.expect(frame)
      const sent = balancer.send(Buffer.from(frame))
      figures.reasons.set(expected.reason, (figures.reasons.get(expected.reason) ?? 0) + 1)
      if (agree(sent, frame, expected)) continue
      const got = { ...sent, frame: sent.frame.toString('hex', 0, 18) }
      throw new Error(
        `XLB_SEED=${seed}: frame ${i} differs: ${frame.toString('hex')}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`,
      )
    }
    checkCounts(frames)
  } finally {
    balancer.close()
  }
  figures.milliseconds = performance.now() - start
  return figures
}

const counted = (counts: ReadonlyMap<string, number>): string =>
  [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([what, count]) => `${what} ${count}`)
    .join(', ')

export const formatFigures = ({ frames, changes, refused, reasons, kinds, milliseconds }: Figures): string =>
  [
    `${frames} frames, ${changes} changes of which ${refused} were refused, ${(milliseconds / 1000).toFixed(1)} s`,
    counted(reasons),
    counted(kinds),
  ].join('\n')

const sum = (all: readonly ReadonlyMap<string, number>[]): Map<string, number> => {
  const total = new Map<string, number>()
  for (const counts of all) for (const [what, count] of counts) total.set(what, (total.get(what) ?? 0) + count)
  return total
}

/** Of several runs together. */
export const sumFigures = (all: readonly Figures[]): Figures => {
  const total = (of: (figures: Figures) => number): number => all.reduce((before, each) => before + of(each), 0)
  return {
    frames: total(({ frames }) => frames),
    changes: total(({ changes }) => changes),
    refused: total(({ refused }) => refused),
    reasons: sum(all.map(({ reasons }) => reasons)),
    kinds: sum(all.map(({ kinds }) => kinds)),
    milliseconds: total(({ milliseconds }) => milliseconds),
  }
}
