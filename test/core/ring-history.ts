// SPDX-License-Identifier: Apache-2.0
// A ring through several changes, and what bpf/schedule.h makes of it for one hash at one age. Nothing here is taken from
// src/core/marks.ts but changeRing itself.
import fc from 'fast-check'
import { changeRing, type MarkedRing, markShift } from '../../src/core/marks.ts'

export const NONE = 0xfff
const MARKED = 0x8000

/** One change: `wait` ages after the one before, backends by slot, and what goes with it. */
export interface Step {
  wait: number
  ring: readonly number[]
  removed: readonly number[]
  deviating: readonly number[]
  markAll: boolean
}

/** A ring from age `from` on, until the next one. */
export interface Era extends Step {
  from: number
  seen: MarkedRing
}

export interface History {
  timeout: number
  shift: number
  eras: readonly Era[]
}

export interface Rule {
  backend: number
  /** The ring's own backend: where a new flow goes. */
  now: number
  marked: boolean
  /** For UDP: the mark is within its timeout. */
  fresh: boolean
  /** What the mark remembers; NONE also where there is no mark. */
  before: number
}

const slotOf = (hash: number, size: number): number => Math.floor((hash * size) / 2 ** 32)

/** Where a packet without an entry goes, as in backend_by_ring and backend_before. All backends but NONE are alive. */
export const ruleAt = ({ shift, timeout }: History, era: Era, hash: number, age: number, udp: boolean): Rule => {
  const slot = era.seen.ring[slotOf(hash, era.seen.ring.length)] ?? NONE
  const now = slot & 0xfff
  if ((slot & MARKED) === 0) return { backend: now, now, marked: false, fresh: false, before: NONE }
  const memory = era.seen.before?.[slotOf(hash, era.seen.before.length)] ?? NONE
  const before = memory & 0xfff
  const epochs = (Math.floor(age / 2 ** shift) - (memory >> 12)) & 0xf
  const fresh = age <= era.from + timeout && epochs <= 6
  const useBefore = before !== NONE && (!udp || fresh)
  return { backend: useBefore ? before : now, now, marked: true, fresh, before }
}

/** The era that packets see at an age. */
export const eraAt = ({ eras }: History, age: number): Era | undefined => eras.findLast(({ from }) => from <= age)

export const historyOf = (start: number, timeout: number, steps: readonly Step[]): History => {
  const shift = markShift(timeout)
  const eras: Era[] = []
  let from = start
  let seen: MarkedRing | undefined
  let written = start
  for (const step of steps) {
    from += step.wait
    const fresh = Uint16Array.from(step.ring)
    seen =
      seen === undefined
        ? { ring: fresh }
        : changeRing({
            current: seen,
            fresh,
            now: from,
            written,
            timeout,
            markShift: shift,
            deviating: new Set(step.deviating),
            removed: new Set(step.removed),
            markAll: step.markAll,
            rehashed: false,
            foreignBefore: false,
          })
    written = from
    eras.push({ ...step, from, seen })
  }
  return { timeout, shift, eras }
}

const BACKENDS = 5

interface Options {
  /** Slots of the ring, 1 to this; the same for every step if `resized` is false. */
  sizes: number
  resized: boolean
  /** Entries of the flow table that name another backend, and services that went by the table alone before. */
  deviations: boolean
}

const stepOf = (size: number, timeout: number, deviations: boolean): fc.Arbitrary<Step> =>
  fc
    .record({
      wait: fc.integer({ min: 0, max: 2 * timeout }),
      // The same few rings again and again, so that a slot often gets back what it had.
      picks: fc.array(fc.nat({ max: 2 * BACKENDS }), { minLength: size, maxLength: size }),
      removed: fc.oneof(
        { weight: 3, arbitrary: fc.constant<number[]>([]) },
        fc.subarray([...new Array(BACKENDS).keys()]),
      ),
      none: fc.integer({ min: 0, max: 9 }).map((die) => die === 0),
      deviating: deviations ? fc.subarray([...new Array(size).keys()]) : fc.constant<number[]>([]),
      markAll: deviations ? fc.integer({ min: 0, max: 9 }).map((die) => die === 0) : fc.constant(false),
    })
    .map(({ picks, none, ...step }) => {
      const left = [...new Array(BACKENDS).keys()].filter((backend) => !step.removed.includes(backend))
      const pick = (die: number): number => (none ? NONE : (left[die % left.length] ?? NONE))
      return { ...step, ring: picks.map(pick) }
    })

/** Histories of up to nine rings; ages near a wrap of the epoch's four bits and far from it. */
export const history = ({ sizes, resized, deviations }: Options): fc.Arbitrary<History> =>
  fc
    .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 1, max: sizes }))
    .chain(([timeout, start, size]) => {
      const one = resized
        ? fc.integer({ min: 1, max: sizes }).chain((other) => stepOf(other, timeout, deviations))
        : stepOf(size, timeout, deviations)
      return fc.array(one, { minLength: 2, maxLength: 9 }).map((steps) => historyOf(start, timeout, steps))
    })

export const hash = fc.integer({ min: 0, max: 2 ** 32 - 1 })

/** Was a backend removed by one of the changes after `after`, up to age `until`? */
export const isRemoved = ({ eras }: History, backend: number, after: Era, until: number): boolean =>
  eras.slice(eras.indexOf(after) + 1).some(({ from, removed }) => from <= until && removed.includes(backend))

/** Each ring that packets saw at some age, with the one that came next. */
const successions = ({ eras }: History): [Era, Era][] =>
  eras.slice(1).flatMap((next, i): [Era, Era][] => {
    const era = eras[i]
    return era === undefined || era.from === next.from ? [] : [[era, next]]
  })

/**
 * The promise of a change: a flow without an entry, led to a backend by the ring itself (not by a mark) until a change came,
 * is led there by the rings after it until the timeout has passed since that change, unless the backend was removed.
 *
 * @param byRing did the ring itself decide, just before the change?
 * @throws with the first place where the promise is broken
 */
export const keepPromise = (past: History, hash: number, udp: boolean, byRing: (rule: Rule) => boolean): void => {
  for (const [era, next] of successions(past)) {
    const rule = ruleAt(past, era, hash, next.from - 1, udp)
    if (rule.now === NONE || !byRing(rule)) continue
    for (let age = next.from; age <= next.from + past.timeout; age++) {
      const seen = eraAt(past, age)
      if (seen === undefined || isRemoved(past, rule.now, era, age)) continue
      const led = ruleAt(past, seen, hash, age, udp).backend
      if (led === rule.now) continue
      throw new Error(`at age ${age} led to ${led}: until the change at ${next.from} the ring said ${rule.now}`)
    }
  }
}
