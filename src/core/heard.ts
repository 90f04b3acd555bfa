// SPDX-License-Identifier: Apache-2.0
// What becomes of what is known of a backend by a report, and by the lack of one, where a check of the configuration is about it. What a report
// changes is remembered (Told); that one came, and how many say the same, only as long as the daemon lives (Seen).
import type { Check, Seen } from './check.ts'
import { checkNow } from './standing.ts'
import { changed, checkOf, orNothing, type Pending, type Report, reported, silentSince, type Told } from './told.ts'

export interface Heard {
  told: Told | undefined
  seen: Seen
  /** Left out: what was reported is so. */
  pending?: Pending
}

type CheckReport = Extract<Report, { kind: 'check' }>

const without = (told: Told | undefined): Omit<Told, 'silent'> => {
  const { silent: _, ...rest } = told ?? {}
  return rest
}

const checkHeard = (told: Told | undefined, report: CheckReport, check: Check, seen: Seen, nowMs: number): Heard => {
  const was = checkOf(told, check, seen.lastMs)
  const now = was && checkNow(was, nowMs)
  const { state, text } = report
  if (now?.state !== state && state !== 'unknown') {
    const of = state === 'up' ? check.rise : check.fall
    const count = 1 + (seen.streak?.state === state ? seen.streak.count : 0)
    // One that is down for lack of reports stays so until enough of them have come.
    const lastMs = now === was ? nowMs : seen.lastMs
    if (count < of) return { told, seen: { lastMs, streak: { state, count } }, pending: { count, of } }
  }
  // Nothing was reported before, and nothing has expired: it comes from no state.
  const { state: from, before, sinceMs } = now ?? {}
  const isFirst = told?.check === undefined && now === was
  const known =
    isFirst || from === undefined || sinceMs === undefined
      ? undefined
      : { state: from, sinceMs, ...(before === undefined ? {} : { before }) }
  const isSame = known?.state === state && told?.silent === undefined && told?.check?.text === text && now === was
  return {
    told: isSame ? told : { ...without(told), check: changed(known, state, nowMs, text) },
    seen: { lastMs: nowMs },
  }
}

/** After a report of a backend with this check. What changes nothing that lasts leaves `told` the same object. */
export const heard = (told: Told | undefined, report: Report, check: Check, seen: Seen, nowMs: number): Heard => {
  switch (report.kind) {
    case 'check':
      return checkHeard(told, report, check, seen, nowMs)
    case 'agent':
      return { told: reported(told, report, nowMs), seen }
    case 'forget':
      return { told: reported(told, report, nowMs), seen: { lastMs: nowMs } }
  }
}

/** With since when nothing was reported of it, if it counts as down for that; else without. */
export const silenced = (
  told: Told | undefined,
  check: Check | undefined,
  seenMs: number,
  nowMs: number,
): Told | undefined => {
  const sinceMs = check === undefined ? Number.NaN : silentSince(told, check, seenMs)
  if (check?.expiresMs !== undefined && nowMs >= sinceMs + check.expiresMs) {
    const isKept = told?.silent?.check === check.name && told.silent.sinceMs === sinceMs
    return isKept ? told : { ...told, silent: { check: check.name, sinceMs } }
  }
  return told?.silent === undefined ? told : orNothing(without(told))
}
