// SPDX-License-Identifier: Apache-2.0
// Whether a case went the same way in IPVS and in xlb.
import type { Scheduler } from '../../src/core/desired.ts'
import type { Load } from '../packet/counted.ts'
import { type Answers, flowsOf, givenTo, type Server } from './answers.ts'
import type { Case } from './cases.ts'

export interface Comparison {
  /** Connections; or, of a case that compares shares, what is hashed: clients, or destinations. */
  of: number
  differing: number
  /** What is wrong, in words. None: they agree. */
  faults: string[]
}

const named = (server: Server): string => (server === undefined ? 'nobody' : `server ${server}`)
const worded = ({ active, inactive }: Load): string => `${active} active and ${inactive} inactive`

/** What servers have at the end, where either counts it. */
const loadFaults = (theirs: Answers, ours: Answers): string[] =>
  [...theirs.loads].flatMap(([server, their]) => {
    const our = ours.loads.get(server) ?? { active: 0, inactive: 0 }
    if (our.active === their.active && our.inactive === their.inactive) return []
    return [`server ${server} has ${worded(their)} in IPVS, ${worded(our)} in xlb`]
  })

const compareFrames = (each: Case, theirs: Answers, ours: Answers): Comparison => {
  const flows = flowsOf(each)
  const differing = new Set<number>()
  const faults: string[] = []
  for (const [i, { opened }] of flows.entries()) {
    const [their, our] = [theirs.servers[i], ours.servers[i]]
    if (their === our) continue
    if (differing.size === 0) faults.push(`connection ${opened}: IPVS asks ${named(their)}, xlb ${named(our)}`)
    differing.add(opened)
  }
  const of = new Set(flows.map(({ opened }) => opened)).size
  return { of, differing: differing.size, faults: [...faults, ...loadFaults(theirs, ours)] }
}

const countsOf = <T>(values: readonly T[]): Map<T, number> => {
  const counts = new Map<T, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return counts
}

/** How many of `a` have no like in `b`, whatever their order. */
const unmatched = (a: readonly Server[], b: readonly Server[]): number => {
  const others = countsOf(b)
  return [...countsOf(a)].reduce((sum, [server, count]) => sum + Math.max(0, count - (others.get(server) ?? 0)), 0)
}

/** Connections that go to another server than at first. Those of one that is gone go nowhere. */
const strayFaults = (each: Case, who: string, { servers }: Answers): string[] => {
  const given = givenTo(each, servers)
  const stray = flowsOf(each).filter(({ opened }, i) => servers[i] !== undefined && servers[i] !== given[opened])
  const count = new Set(stray.map(({ opened }) => opened)).size
  return count === 0 ? [] : [`${count} connections change their server in ${who}`]
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

interface Turns {
  /** How many connections a round has. */
  round: number
  /** By number of opening. */
  opened: number[]
}

/** Rounds of rr pass over weights, and give whoever has one a turn. */
const roundOf = (scheduler: Scheduler, weights: ReadonlyMap<number, number>): number => {
  const turns = [...weights.values()].filter((weight) => weight > 0)
  return scheduler === 'rr' ? turns.length : sum(turns)
}

/** What is opened between one change and the next. */
const turnsOf = ({ scheduler, weights, steps }: Case): Turns[] => {
  const now = new Map(Object.entries(weights).map(([server, weight]) => [Number(server), weight]))
  let turns: Turns = { round: roundOf(scheduler, now), opened: [] }
  const all = [turns]
  const seen = new Set<number>()
  for (const step of steps) {
    if (step.kind === 'frame') {
      if (!seen.has(step.flow.opened)) turns.opened.push(step.flow.opened)
      seen.add(step.flow.opened)
      continue
    }
    if (step.kind === 'weight') now.set(step.server, step.weight)
    if (step.kind === 'remove') now.delete(step.server)
    turns = { round: roundOf(scheduler, now), opened: [] }
    all.push(turns)
  }
  return all
}

/** In each round every server has its turns, in whatever order. After a change either may first end a round that it had begun. */
const compareRounds = (each: Case, theirs: Answers, ours: Answers): Comparison => {
  const [their, our] = [givenTo(each, theirs.servers), givenTo(each, ours.servers)]
  let [of, differing] = [0, 0]
  for (const [i, { round, opened }] of turnsOf(each).entries()) {
    for (let at = i === 0 ? 0 : round; at + round <= opened.length; at += round) {
      const of1 = (given: readonly Server[]): Server[] => opened.slice(at, at + round).map((number) => given[number])
      of += round
      differing += unmatched(of1(their), of1(our))
    }
  }
  const faults = differing > 0 ? ['some rounds are shared otherwise'] : []
  return { of, differing, faults: [...faults, ...strayFaults(each, 'IPVS', theirs), ...strayFaults(each, 'xlb', ours)] }
}

/** Which server each hashed address has; of one that has several, the last. */
const serversOf = (each: Case, { servers }: Answers): { byKey: Map<string, Server>; torn: number } => {
  const byKey = new Map<string, Server>()
  const torn = new Set<string>()
  for (const [i, { client, port, destination }] of flowsOf(each).entries()) {
    const key = each.scheduler === 'dh' ? destination : each.hash === 'source' ? client : `${client}:${port}`
    if (byKey.has(key) && byKey.get(key) !== servers[i]) torn.add(key)
    byKey.set(key, servers[i])
  }
  return { byKey, torn: torn.size }
}

/**
 * By weight a server should have a share p of n: within 4 standard deviations of a fair draw, which chance leaves once in 16,000
 * times; and the places of IPVS's table, 256 for sh and dh, are not shared more finely than by one.
 */
const shareFaults = (each: Case, who: string, byKey: ReadonlyMap<string, Server>): string[] => {
  const counts = countsOf([...byKey.values()])
  const all = sum(Object.values(each.weights))
  const faults = Object.entries(each.weights).flatMap(([server, weight]) => {
    const [p, share] = [weight / all, counts.get(Number(server)) ?? 0]
    const allowed = 4 * Math.sqrt(byKey.size * p * (1 - p)) + (p > 0 ? byKey.size / 256 : 0)
    if (Math.abs(share - byKey.size * p) <= allowed) return []
    return [`in ${who} server ${server} has ${share} of ${byKey.size}, not ${Math.round(byKey.size * p)}`]
  })
  const lost = counts.get(undefined)
  return lost === undefined ? faults : [...faults, `in ${who} ${lost} of ${byKey.size} have no server`]
}

const compareShares = (each: Case, theirs: Answers, ours: Answers): Comparison => {
  const [their, our] = [serversOf(each, theirs), serversOf(each, ours)]
  const faults = Object.entries({ IPVS: their, xlb: our }).flatMap(([who, { byKey, torn }]) => [
    ...(torn === 0 ? [] : [`in ${who} ${torn} of ${byKey.size} have several servers`]),
    ...shareFaults(each, who, byKey),
  ])
  return { of: our.byKey.size, differing: unmatched([...their.byKey.values()], [...our.byKey.values()]), faults }
}

export const compareCase = (each: Case, theirs: Answers, ours: Answers): Comparison => {
  switch (each.same) {
    case 'frames':
      return compareFrames(each, theirs, ours)
    case 'rounds':
      return compareRounds(each, theirs, ours)
    case 'shares':
      return compareShares(each, theirs, ours)
  }
}
