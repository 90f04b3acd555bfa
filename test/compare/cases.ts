// SPDX-License-Identifier: Apache-2.0
// The cases that IPVS and xlb are given alike: a scheduler, real servers with weights, and a sequence of steps.
import type { Scheduler } from '../../src/core/desired.ts'
import type { MaxConns } from '../../src/core/max-conns.ts'
import { makeRandom, type Random } from '../packet/random.ts'
import { connections, datagrams, type Step, type Traffic } from './traffic.ts'

export interface Case {
  name: string
  /** From 1. */
  number: number
  scheduler: Scheduler
  /**
   * As xlb names it. Its VIP, or its prefix, is its own: IPVS keeps connections, and what a server has of them, when a
   * service goes, and gives them back to the next.
   */
  service: string
  /** By number: 198.51.100.NUMBER. In this order they are added to xlb, and in the reverse to ipvsadm, which puts each first. */
  weights: Record<number, number>
  maxConns: Record<number, MaxConns>
  /** What sh and mh hash. */
  hash: 'source' | 'source-port'
  same: Sameness
  steps: Step[]
}

/**
 * What is to be the same: who gets each frame; each server's turns in each round, where turns come in another order; or,
 * where the hash functions differ, that each client (for `dh` each destination) stays with one server, and that servers
 * have their shares by weight.
 */
export type Sameness = 'frames' | 'rounds' | 'shares'

const OPENED = 1000
const EQUAL = { 1: 1, 2: 1, 3: 1, 4: 1 }
const WEIGHTED = { 1: 1, 2: 2, 3: 4, 4: 3, 5: 0 }

type Variant = Partial<Pick<Case, 'weights' | 'maxConns' | 'hash' | 'same'>> & {
  kind: string
  protocol?: 'tcp' | 'udp'
  /** Steps in between, each after that many opened connections. */
  between?: Record<number, Step>
  traffic?: Partial<Traffic>
}

const PLAIN: Variant[] = [{ kind: 'equal' }, { kind: 'weighted', weights: WEIGHTED }]

const REWEIGHTED: Variant = {
  kind: 'reweighted',
  weights: WEIGHTED,
  between: {
    200: { kind: 'weight', server: 3, weight: 0 },
    400: { kind: 'weight', server: 5, weight: 6 },
    600: { kind: 'weight', server: 3, weight: 2 },
    800: { kind: 'weight', server: 2, weight: 7 },
  },
}

const REMOVED: Variant = {
  kind: 'removed',
  weights: WEIGHTED,
  between: { 300: { kind: 'remove', server: 3 }, 600: { kind: 'remove', server: 1 } },
}

const LIMITED: Variant = {
  kind: 'limited',
  weights: WEIGHTED,
  maxConns: { 2: { upper: 60, lower: 40 }, 3: { upper: 150, lower: 0 } },
}

const BY_LOAD: Variant[] = [
  ...PLAIN,
  REWEIGHTED,
  REMOVED,
  LIMITED,
  // In either the entry of a connection that was reset lasts 10 s. All of these are past that, and nothing else is.
  { kind: 'expired', weights: WEIGHTED, between: { 500: { kind: 'wait', seconds: 12 } } },
  { kind: 'reused', weights: WEIGHTED, traffic: { opened: 400, ports: 150 } },
  { kind: 'aborted', weights: WEIGHTED, traffic: { resetsHalfOpen: true } },
  { kind: 'udp', protocol: 'udp', weights: WEIGHTED },
]

const eightfold = (weights: Record<number, number>): Record<number, number> =>
  Object.fromEntries(Object.entries(weights).map(([server, weight]) => [server, 8 * weight]))

const eightfoldStep = (step: Step): Step => (step.kind === 'weight' ? { ...step, weight: 8 * step.weight } : step)

/** To lblc and lblcr a weight is a number of connections. With these some servers have too many at times, and others too few. */
const BY_LOCALITY: Variant[] = BY_LOAD.filter(({ kind }) => kind !== 'expired').map((variant) => ({
  ...variant,
  weights: eightfold(variant.weights ?? { 1: 2, 2: 2, 3: 2, 4: 2 }),
  between: Object.fromEntries(Object.entries(variant.between ?? {}).map(([at, step]) => [at, eightfoldStep(step)])),
  traffic: { ...variant.traffic, destinations: 6 },
}))

const BY_SOURCE: Variant[] = [
  ...PLAIN.map((variant): Variant => ({ ...variant, hash: 'source' })),
  { kind: 'port', weights: WEIGHTED, hash: 'source-port' },
]

const VARIANTS: readonly { scheduler: Scheduler; same: Sameness; variants: readonly Variant[] }[] = [
  { scheduler: 'rr', same: 'frames', variants: [...PLAIN, REMOVED, LIMITED, { ...REWEIGHTED, same: 'rounds' }] },
  { scheduler: 'wrr', same: 'rounds', variants: [...PLAIN, REMOVED, REWEIGHTED] },
  { scheduler: 'lc', same: 'frames', variants: BY_LOAD },
  { scheduler: 'wlc', same: 'frames', variants: BY_LOAD },
  { scheduler: 'sed', same: 'frames', variants: BY_LOAD },
  { scheduler: 'nq', same: 'frames', variants: BY_LOAD },
  { scheduler: 'sh', same: 'shares', variants: BY_SOURCE },
  { scheduler: 'mh', same: 'shares', variants: BY_SOURCE },
  { scheduler: 'dh', same: 'shares', variants: PLAIN },
  { scheduler: 'lblc', same: 'frames', variants: BY_LOCALITY },
  { scheduler: 'lblcr', same: 'frames', variants: BY_LOCALITY },
]

/** These choose by destination: theirs are services of prefixes. */
const BY_DESTINATION: readonly Scheduler[] = ['dh', 'lblc', 'lblcr']

const makeCase = (
  { scheduler, same }: (typeof VARIANTS)[number],
  variant: Variant,
  number: number,
  random: Random,
): Case => {
  const { kind, protocol = 'tcp', between = {} } = variant
  const isPrefix = BY_DESTINATION.includes(scheduler)
  const vip = isPrefix ? `10.${number}.0.0` : `192.0.2.${number}`
  const traffic = { vip, destinations: 1, clients: 250, opened: OPENED, living: 60, between, ...variant.traffic }
  const hashed = { ...traffic, opened: 3 * OPENED, [isPrefix ? 'destinations' : 'clients']: OPENED }
  const make = protocol === 'udp' ? datagrams : connections
  return {
    name: `${scheduler}-${kind}`,
    number,
    scheduler,
    service: `${protocol}://${vip}${isPrefix ? '/16' : ''}:80`,
    weights: variant.weights ?? EQUAL,
    maxConns: variant.maxConns ?? {},
    hash: variant.hash ?? 'source',
    same: variant.same ?? same,
    steps: make(random, same === 'shares' ? hashed : traffic),
  }
}

export const makeCases = (seed: number): Case[] =>
  VARIANTS.flatMap((each) => each.variants.map((variant) => ({ each, variant }))).map(({ each, variant }, i) =>
    makeCase(each, variant, i + 1, makeRandom(seed * 1000 + i)),
  )
