// SPDX-License-Identifier: Apache-2.0
// Where a backend stands: what packets go by, recomputed each time from all the reasons that there are. Nothing here remembers the
// weight that it had before; each reason says for itself since when it holds, and what it was before where that matters.
import type { Check } from './check.ts'
import { type Health, healthyWeight } from './health.ts'

/** What is configured of a backend's return, and of what is reported of it. */
export interface ReturnPolicy {
  /** How long it stays out after its check came up again, so that one that flaps is not let in at each flap. */
  holdMs: number
  /** How long its share grows after it came back. 0: it has all of it at once. */
  slowStartMs: number
  /** The share that it begins with, 1 to 100. */
  slowStartPercent: number
  /** Left out: whoever reports something of it is believed at once, until the next report. */
  check?: Check
}

export const AT_ONCE: ReturnPolicy = { holdMs: 0, slowStartMs: 0, slowStartPercent: 10 }

/** A reason's state, the one before it (undefined: none that is known), and Unix time of the change between them. */
export interface Since<State> {
  state: State
  before?: State
  sinceMs: number
  /** In a person's words: why. */
  text?: string
}

/** HAProxy's agent-check (configuration.txt, agent-check): a share of the configured weight, or no new flows, or out. */
export const AGENT_STATES = ['up', 'drain', 'maint', 'down'] as const
export type AgentState = (typeof AGENT_STATES)[number]

export interface Inputs {
  /** As configured. */
  weight: number
  admin: Since<'up' | 'drain' | 'maint'>
  /** Left out: nobody checks it. */
  check?: Since<'up' | 'down' | 'unknown'> & {
    /** Does it get flows while its check has said nothing yet? */
    trusted: boolean
    /** Of the configured one. */
    name?: string
    /** From when on it counts as down, for lack of reports; `text` says so. */
    expiry?: { atMs: number; text: string }
  }
  /** Left out: there is none. */
  agent?: Since<AgentState> & { percent: number }
  /** Does the kernel know where its frames go? Left out: whoever asks does not know. */
  neighbour?: Since<'resolved' | 'unresolved'>
  policy: ReturnPolicy
}

export const REASONS = ['weight', 'admin', 'neighbour', 'check', 'hold', 'agent', 'slow-start'] as const
export type ReasonName = (typeof REASONS)[number]

/** In ascending severity: nothing; a smaller share; no new flows, established ones stay; no packet at all. */
export const EFFECTS = ['none', 'less', 'no-new-flows', 'out'] as const
export type Effect = (typeof EFFECTS)[number]

export interface Reason {
  name: ReasonName
  effect: Effect
  text: string
  /** Unix time; undefined of what was always so. */
  sinceMs?: number
}

export interface Standing {
  /** What schedulers go by that heed weights. */
  weight: number
  /** Do flows that it has stay with it? Else they are scheduled anew. */
  alive: boolean
  /**
   * What of it the data plane is told: all but the configured weight, admin state and neighbour, which it knows. Undefined: there is
   * nothing else.
   */
  health: Health | undefined
  /** Each that there is, in the order of REASONS, whether it has an effect or not. */
  reasons: Reason[]
  /** When to ask again though no input changes; undefined: not at all. */
  nextChangeMs: number | undefined
}

/** Ramps have so many steps, as each is written into maps, and a hashed service's ring is made anew for it. */
const STEPS = 20
const STEP_LEAST_MS = 1000

const agentEffect = ({ state, percent }: NonNullable<Inputs['agent']>): Effect => {
  switch (state) {
    case 'up':
      return percent >= 100 ? 'none' : percent > 0 ? 'less' : 'no-new-flows'
    case 'drain':
      return 'no-new-flows'
    case 'maint':
    case 'down':
      return 'out'
  }
}

const ADMIN_EFFECTS = { up: 'none', drain: 'no-new-flows', maint: 'out' } as const

type Checked = NonNullable<Inputs['check']>

/** What is not reported again in time says nothing any more: from then on the backend counts as down. */
export const checkNow = (check: Checked, nowMs: number): Checked => {
  const { expiry, ...rest } = check
  if (expiry === undefined || nowMs < expiry.atMs) return check
  return { ...rest, state: 'down', before: check.state, sinceMs: expiry.atMs, text: expiry.text }
}

const checkEffect = ({ state, trusted }: Checked): Effect =>
  state === 'down' ? 'out' : state === 'unknown' && !trusted ? 'no-new-flows' : 'none'

/** When it may come back after its check failed; undefined: that has not failed, or fails. */
const holdEnd = ({ check, policy }: Inputs): number | undefined =>
  check?.state === 'up' && check.before === 'down' ? check.sinceMs + policy.holdMs : undefined

/** Until when it is held out; undefined: it is not. */
const heldUntil = (inputs: Inputs, nowMs: number): number | undefined => {
  const end = holdEnd(inputs)
  return end !== undefined && nowMs < end && nowMs >= (inputs.check?.sinceMs ?? 0) ? end : undefined
}

/** Ends of times when it was out: the last of them is when it came back. */
function* returns(inputs: Inputs): Generator<number> {
  const { admin, agent, neighbour } = inputs
  if (admin.state === 'up' && admin.before === 'maint') yield admin.sinceMs
  const end = holdEnd(inputs)
  if (end !== undefined) yield end
  if (agent?.state === 'up' && (agent.before === 'maint' || agent.before === 'down')) yield agent.sinceMs
  if (neighbour?.state === 'resolved' && neighbour.before === 'unresolved') yield neighbour.sinceMs
}

interface Ramp {
  percent: number
  startMs: number
  endMs: number
  nextMs: number
}

/** How far its share has grown; undefined: it has all of it, or has not come back yet. */
const rampOf = (inputs: Inputs, nowMs: number): Ramp | undefined => {
  const { slowStartMs, slowStartPercent } = inputs.policy
  const startMs = Math.max(...returns(inputs))
  const endMs = startMs + slowStartMs
  if (slowStartMs <= 0 || !Number.isFinite(startMs) || nowMs < startMs || nowMs >= endMs) return undefined
  const stepMs = Math.max(STEP_LEAST_MS, slowStartMs / STEPS)
  const steps = Math.floor((nowMs - startMs) / stepMs)
  const from = Math.min(100, Math.max(1, slowStartPercent))
  const percent = Math.floor(from + ((100 - from) * steps * stepMs) / slowStartMs)
  // Rounded up: asked a fraction of a millisecond before, the answer would be the same, and asked again at once.
  return { percent, startMs, endMs, nextMs: Math.min(endMs, Math.ceil(startMs + (steps + 1) * stepMs)) }
}

const seconds = (milliseconds: number): string => `${Math.ceil(milliseconds / 1000)} s`

const withText = (word: string, text: string | undefined): string => (text === undefined ? word : `${word}: ${text}`)

function* reasonsOf(inputs: Inputs, ramp: Ramp | undefined, nowMs: number): Generator<Reason> {
  const { weight, admin, neighbour, check, agent } = inputs
  yield { name: 'weight', effect: weight === 0 ? 'no-new-flows' : 'none', text: `${weight}` }
  const { state, sinceMs, text } = admin
  yield { name: 'admin', effect: ADMIN_EFFECTS[state], text: withText(state, text), sinceMs }
  if (neighbour !== undefined) {
    const effect = neighbour.state === 'resolved' ? 'none' : 'out'
    yield { name: 'neighbour', effect, text: withText(neighbour.state, neighbour.text), sinceMs: neighbour.sinceMs }
  }
  if (check !== undefined) {
    const { name, state, sinceMs, text } = check
    const words = name === undefined ? state : `${name} ${state}`
    yield { name: 'check', effect: checkEffect(check), text: withText(words, text), sinceMs }
  }
  const held = heldUntil(inputs, nowMs)
  if (check !== undefined && held !== undefined) {
    const text = `held out for ${seconds(held - nowMs)} more`
    yield { name: 'hold', effect: 'out', text, sinceMs: check.sinceMs }
  }
  if (agent !== undefined) {
    const word = agent.state === 'up' ? `up, ${agent.percent} %` : agent.state
    const { sinceMs, text } = agent
    yield { name: 'agent', effect: agentEffect(agent), text: withText(word, text), sinceMs }
  }
  if (ramp === undefined) return
  const { percent, startMs, endMs } = ramp
  const effect = percent < 100 ? 'less' : 'none'
  yield { name: 'slow-start', effect, text: `${percent} %, all of it in ${seconds(endMs - nowMs)}`, sinceMs: startMs }
}

/** What the data plane knows without being told. */
const KNOWN: ReadonlySet<ReasonName> = new Set(['weight', 'admin', 'neighbour'])

const has = (reasons: readonly Reason[], effect: Effect): boolean => reasons.some((reason) => reason.effect === effect)

/** The shares of agent and ramp together; something is left of what both leave something of. */
const percentOf = ({ agent }: Inputs, ramp: Ramp | undefined): number => {
  const percent = Math.min(100, agent?.state === 'up' ? agent.percent : 100) * ((ramp?.percent ?? 100) / 100)
  return percent <= 0 ? 0 : Math.max(1, Math.round(percent))
}

/**
 * Where a backend stands at `nowMs`, Unix time. Times of inputs lie ahead of it where the clock was set back: then a hold and a ramp
 * that began at these are over, as nobody knows when they would end.
 */
export const standing = (given: Inputs, nowMs: number): Standing => {
  const inputs = given.check?.expiry === undefined ? given : { ...given, check: checkNow(given.check, nowMs) }
  const ramp = rampOf(inputs, nowMs)
  const reasons = [...reasonsOf(inputs, ramp, nowMs)]
  const told = reasons.filter(({ name }) => !KNOWN.has(name))
  const isOut = has(told, 'out')
  const percent = isOut || has(told, 'no-new-flows') ? 0 : percentOf(inputs, ramp)
  const alive = !has(reasons, 'out')
  return {
    weight: alive && !has(reasons, 'no-new-flows') ? healthyWeight(inputs.weight, percent) : 0,
    alive,
    health: told.length === 0 ? undefined : { alive: !isOut, percent, sinceMs: sinceOf(told) },
    reasons,
    nextChangeMs: earlier(heldUntil(inputs, nowMs) ?? ramp?.nextMs, inputs.check?.expiry?.atMs),
  }
}

const earlier = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b)

/** Since when it is so: the last of what let it be well, or the first of the worst of what does not. */
const sinceOf = (reasons: readonly Reason[]): number => {
  const worst = Math.max(...reasons.map(({ effect }) => EFFECTS.indexOf(effect)))
  const times = reasons.flatMap(({ effect, sinceMs }) =>
    EFFECTS.indexOf(effect) === worst && sinceMs !== undefined ? [sinceMs] : [],
  )
  return worst === 0 ? Math.max(...times) : Math.min(...times)
}
