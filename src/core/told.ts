// SPDX-License-Identifier: Apache-2.0
// What a daemon keeps of a backend beside the maps: what was reported of it, and from what it came back. Of these, of what is configured,
// and of the time standing.ts makes where the backend stands; nothing here is ever computed of what it stood at before.
import { type Check, expiredText, UNREPORTED_TEXT } from './check.ts'
import { type Backend, isLeaving } from './desired.ts'
import { Refusal } from './refusal.ts'
import {
  AGENT_STATES,
  type AgentState,
  EFFECTS,
  type Inputs,
  type ReturnPolicy,
  type Since,
  type Standing,
} from './standing.ts'

export const CHECK_STATES = ['up', 'down', 'unknown'] as const
export type CheckState = (typeof CHECK_STATES)[number]

export interface Told {
  check?: Since<CheckState>
  agent?: Since<AgentState> & { percent: number }
  /** Of one that this check counts as down for lack of reports: since when there was none. Else nobody keeps that. */
  silent?: { check: string; sinceMs: number }
  /** Of one that came back from maintenance. Its admin state is in the maps. */
  admin?: Since<'up' | 'maint'>
  /** Of one that could be reached once, and then could not. One that never could is no less for that when it comes. */
  neighbour?: Since<'resolved' | 'unresolved'>
}

/** What somebody says of a backend who is not the daemon itself. */
export type Report =
  | { kind: 'check'; state: CheckState; text?: string }
  | { kind: 'agent'; state: AgentState; percent: number; text?: string }
  | { kind: 'forget' }

export interface ReportOptions {
  check?: CheckState
  agent?: AgentState
  percent?: number
  text?: string
  forget?: boolean
}

/** Longer ones are cut: they are for a line of a table. */
const TEXT_MAX = 200

/** A text of somebody else, fit for one line of a terminal or a log. */
const oneLine = (text: string): string =>
  text
    .replace(/[\s\p{C}]+/gu, ' ')
    .trim()
    .slice(0, TEXT_MAX)

const usage = { usage: true }

/** @throws Refusal where the options say nothing, or more than one thing */
export const reportOf = ({ check, agent, percent, text, forget }: ReportOptions): Report => {
  const said = [check !== undefined, agent !== undefined, forget === true].filter(Boolean).length
  if (said !== 1) {
    throw new Refusal(
      `report: ${said === 0 ? 'it says nothing of the backend' : 'it says more than one thing of the backend'}`,
      `give one of: --check ${CHECK_STATES.join('|')}, --agent ${AGENT_STATES.join('|')}, --forget`,
      usage,
    )
  }
  if (percent !== undefined && agent !== 'up') {
    throw new Refusal(
      '--percent: is the share of the weight that an agent that is up asks for',
      'add --agent up',
      usage,
    )
  }
  if (percent !== undefined && !(Number.isInteger(percent) && percent >= 0 && percent <= 100)) {
    throw new Refusal(`--percent ${percent}: is not within 0 to 100`, 'give 0 to 100; 100: all of the weight', usage)
  }
  if (forget === true) {
    if (text === undefined) return { kind: 'forget' }
    throw new Refusal('--text: says why, and --forget keeps nothing', 'leave it out', usage)
  }
  const why = text === undefined ? '' : oneLine(text)
  const more = why === '' ? {} : { text: why }
  if (check !== undefined) return { kind: 'check', state: check, ...more }
  return { kind: 'agent', state: agent ?? 'up', percent: percent ?? 100, ...more }
}

/** Of a report that says something else than those before it: how many there are by now, and how many it takes. */
export interface Pending {
  count: number
  of: number
}

/** As a reason's words have it: `check down: connection refused`; of one that its check names: `check app down (1 of 3)`. */
export const reportText = (report: Report, more: { check?: string; pending?: Pending } = {}): string => {
  if (report.kind === 'forget') return 'what was reported of it is forgotten'
  const words = report.kind === 'agent' && report.state === 'up' ? `up, ${report.percent} %` : report.state
  const name = report.kind === 'check' && more.check !== undefined ? `${more.check} ` : ''
  const pending = more.pending === undefined ? '' : ` (${more.pending.count} of ${more.pending.of})`
  return `${report.kind} ${name}${words}${pending}${report.text === undefined ? '' : `: ${report.text}`}`
}

/** A reason now: its time is that of its last change of state. */
export const changed = <State>(
  now: Since<State> | undefined,
  state: State,
  nowMs: number,
  text?: string,
): Since<State> => ({
  state,
  ...(now === undefined ? {} : now.state === state ? previous(now) : { before: now.state }),
  sinceMs: now?.state === state ? now.sinceMs : nowMs,
  ...(text === undefined ? {} : { text }),
})

const previous = <State>({ before }: Since<State>): { before?: State } => (before === undefined ? {} : { before })

/** Undefined: there is nothing of it to keep. */
export const orNothing = (told: Told): Told | undefined => (Object.keys(told).length === 0 ? undefined : told)

/** After a report. */
export const reported = (told: Told | undefined, report: Report, nowMs: number): Told | undefined => {
  if (report.kind === 'forget') {
    const { check: _, agent: __, silent: ___, ...rest } = told ?? {}
    return orNothing(rest)
  }
  if (report.kind === 'check') return { ...told, check: changed(told?.check, report.state, nowMs, report.text) }
  const { state, percent, text } = report
  return { ...told, agent: { ...changed(told?.agent, state, nowMs, text), percent } }
}

const adminAfter = (told: Told, have: Backend | undefined, want: Backend, nowMs: number): Told['admin'] => {
  if (want.admin !== 'up') return undefined
  if (have?.admin === 'maint') return { state: 'up', before: 'maint', sinceMs: nowMs }
  return have === undefined || have.admin === 'up' ? told.admin : undefined
}

const neighbourAfter = (told: Told, have: Backend | undefined, want: Backend, nowMs: number): Told['neighbour'] => {
  const state = want.path.kind === 'unresolved' ? 'unresolved' : 'resolved'
  if (told.neighbour !== undefined) return changed(told.neighbour, state, nowMs)
  const isLost = have !== undefined && have.path.kind !== 'unresolved' && state === 'unresolved'
  return isLost ? { state, before: 'resolved', sinceMs: nowMs } : undefined
}

/** After a backend became another: `have` undefined where it was not there. One that is removed is not known any more. */
export const followed = (
  told: Told | undefined,
  have: Backend | undefined,
  want: Backend,
  nowMs: number,
): Told | undefined => {
  if (isLeaving(want)) return undefined
  const known: Told = (have !== undefined && isLeaving(have) ? undefined : told) ?? {}
  const { admin: _, neighbour: __, ...reports } = known
  const admin = adminAfter(known, have, want, nowMs)
  const neighbour = neighbourAfter(known, have, want, nowMs)
  return orNothing({
    ...reports,
    ...(admin === undefined ? {} : { admin }),
    ...(neighbour === undefined ? {} : { neighbour }),
  })
}

/** Without what has no effect: that it came back so long ago that its share has grown to all of it; and without a slow start that it did. */
export const settled = (told: Told | undefined, { slowStartMs }: ReturnPolicy, nowMs: number): Told | undefined => {
  // Asked of each backend when a daemon starts: mostly there is nothing to let go of.
  if (told?.admin === undefined && told?.neighbour === undefined) return told
  const { admin, neighbour, ...rest } = told
  const isGrown = ({ sinceMs }: Since<unknown>): boolean => nowMs >= sinceMs + slowStartMs
  const isPast = (each: NonNullable<Told['neighbour']>): boolean =>
    slowStartMs === 0 || (each.state === 'resolved' && isGrown(each))
  return orNothing({
    ...rest,
    ...(admin === undefined || isGrown(admin) ? {} : { admin }),
    ...(neighbour === undefined || isPast(neighbour) ? {} : { neighbour }),
  })
}

/**
 * Has all that time does with it been done by now, so long as no check expires? To ask this takes less than to compute where it
 * stands.
 */
export const isSteady = (told: Told, { holdMs, slowStartMs }: ReturnPolicy, nowMs: number): boolean => {
  const lastMs = Math.max(
    told.check?.sinceMs ?? 0,
    told.agent?.sinceMs ?? 0,
    told.admin?.sinceMs ?? 0,
    told.neighbour?.sinceMs ?? 0,
  )
  return nowMs >= lastMs + holdMs + slowStartMs
}

/** What is known of a backend beside what is told of it. */
export interface Known {
  /** Since when its weight and admin state are as they are. */
  sinceMs: number
  /** Why it cannot be reached, and since when. */
  unreached?: { why: string; sinceMs: number } | undefined
  /** When it was reported last, or since when it might have been; left out: nobody knows, and nothing expires. */
  seenMs?: number
}

/** Since when nothing was reported of one with this check. Where the clock was set, the one of the two is of the clock before. */
export const silentSince = (told: Told | undefined, { name }: Check, seenMs: number): number => {
  const silent = told?.silent
  return silent?.check === name && !(seenMs < silent.sinceMs) ? silent.sinceMs : seenMs
}

/** What was reported, as time will have it. */
export const checkOf = (
  told: Told | undefined,
  check: Check | undefined,
  seenMs = Number.NaN,
): NonNullable<Inputs['check']> | undefined => {
  if (check === undefined) return told?.check && { ...told.check, trusted: true }
  const lastMs = silentSince(told, check, seenMs)
  const { name, expiresMs, initially } = check
  return {
    ...(told?.check ?? { state: 'unknown', sinceMs: lastMs, text: UNREPORTED_TEXT }),
    trusted: initially === 'up',
    name,
    ...(expiresMs === undefined || Number.isNaN(lastMs)
      ? {}
      : { expiry: { atMs: lastMs + expiresMs, text: expiredText(expiresMs) } }),
  }
}

const neighbourOf = ({ path }: Pick<Backend, 'path'>, told: Told, { unreached }: Known): Pick<Inputs, 'neighbour'> => {
  if (path.kind !== 'unresolved') return told.neighbour === undefined ? {} : { neighbour: told.neighbour }
  const sinceMs = unreached?.sinceMs ?? told.neighbour?.sinceMs ?? Number.NaN
  return { neighbour: { state: 'unresolved', sinceMs, text: unreached?.why ?? path.why } }
}

/** All that where it stands is computed of. Times that nobody knows are NaN. */
export const inputsOf = (
  backend: Pick<Backend, 'weight' | 'admin' | 'path'>,
  told: Told,
  policy: ReturnPolicy,
  known: Known,
): Inputs => {
  const { weight, admin } = backend
  const state = admin === 'drain' || admin === 'maint' ? admin : 'up'
  const check = checkOf(told, policy.check, known.seenMs)
  return {
    weight,
    admin: told.admin ?? { state, sinceMs: known.sinceMs },
    ...(check === undefined ? {} : { check }),
    ...(told.agent === undefined ? {} : { agent: told.agent }),
    ...neighbourOf(backend, told, known),
    policy,
  }
}

/** What checks, agents and time say of a backend: the worst of it. */
export interface Decisive {
  name: 'check' | 'hold' | 'agent' | 'slow-start'
  effect: (typeof EFFECTS)[number]
  /** `check down: connection refused`, `held out for 5 s more`, `slow start 30 %, all of it in 20 s`. */
  text: string
  /** Unix time. */
  sinceMs: number
}

const WORDS = { check: 'check ', hold: '', agent: 'agent ', 'slow-start': 'slow start ' } as const

/** Undefined: nothing of that is against it. */
export const decisive = ({ reasons }: Standing): Decisive | undefined => {
  let worst: Decisive | undefined
  for (const { name, effect, text, sinceMs } of reasons) {
    if (name === 'weight' || name === 'admin' || name === 'neighbour' || effect === 'none') continue
    if (worst !== undefined && EFFECTS.indexOf(worst.effect) >= EFFECTS.indexOf(effect)) continue
    worst = { name, effect, text: `${WORDS[name]}${text}`, sinceMs: sinceMs ?? Number.NaN }
  }
  return worst
}
