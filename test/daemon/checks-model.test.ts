// SPDX-License-Identifier: Apache-2.0
// Reports, time, other configurations and kills in any order: the maps hold what a naive account of it says.
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import type { Check } from '../../src/core/check.ts'
import { effectiveWeight, isAlive } from '../../src/core/desired.ts'
import { AT_ONCE, type ReturnPolicy } from '../../src/core/standing.ts'
import type { CheckState } from '../../src/core/told.ts'
import { START } from '../core/story.ts'
import { backend, LINK, Maps, NAME } from './maps.ts'

/** Of one backend: what was reported since which check is there, and what comes of it. */
class Account {
  said: CheckState | 'nothing' = 'nothing'
  lastMs: number
  /** Reports since its state was last what was reported. */
  run: CheckState[] = []
  heldUntilMs = 0
  holdMs: number

  constructor(holdMs: number, nowMs: number) {
    this.holdMs = holdMs
    this.lastMs = nowMs
  }

  hasExpired(check: Check | undefined, nowMs: number): boolean {
    return check?.expiresMs !== undefined && nowMs >= this.lastMs + check.expiresMs
  }

  state(check: Check | undefined, nowMs: number): CheckState {
    return this.hasExpired(check, nowMs) ? 'down' : this.said === 'nothing' ? 'unknown' : this.said
  }

  report(state: CheckState, check: Check | undefined, nowMs: number): void {
    const before = this.state(check, nowMs)
    const expired = this.hasExpired(check, nowMs)
    this.run.push(state)
    const others = this.run.findLastIndex((each) => each !== state)
    const needed = check === undefined || state === 'unknown' ? 1 : state === 'up' ? check.rise : check.fall
    if (before !== state && this.run.length - 1 - others < needed) {
      if (!expired) this.lastMs = nowMs
      return
    }
    this.run = []
    this.said = state
    this.lastMs = nowMs
    if (before !== state) this.heldUntilMs = before === 'down' && state === 'up' ? nowMs + this.holdMs : 0
  }

  forget(nowMs: number): void {
    this.said = 'nothing'
    this.run = []
    this.heldUntilMs = 0
    this.lastMs = nowMs
  }

  /** The daemon is killed, and the next one begins. */
  kill(check: Check | undefined, nowMs: number): void {
    this.run = []
    if (!this.hasExpired(check, nowMs)) this.lastMs = nowMs
  }

  /** Another configuration is in force. */
  load(before: Check | undefined, after: Check | undefined, nowMs: number): void {
    if (before?.name === after?.name) return
    this.run = []
    this.lastMs = nowMs
  }

  stands(check: Check | undefined, nowMs: number): { weight: number; alive: boolean } {
    const state = this.state(check, nowMs)
    const isHeld = state === 'up' && this.said === 'up' && nowMs < this.heldUntilMs
    const alive = state !== 'down' && !isHeld
    const takes = state !== 'unknown' || check === undefined || check.initially === 'up'
    return { weight: alive && takes ? 10 : 0, alive }
  }
}

const checks: fc.Arbitrary<Check | undefined> = fc.option(
  fc
    .record({
      name: fc.constantFrom('app', 'app', 'app', 'web'),
      expiresMs: fc.constantFrom(undefined, 1000, 5000, 12_000),
      rise: fc.constantFrom(1, 1, 2, 3),
      fall: fc.constantFrom(1, 1, 2, 3),
      initially: fc.constantFrom('up', 'down'),
    })
    .map(({ expiresMs, ...rest }): Check => ({ ...rest, ...(expiresMs === undefined ? {} : { expiresMs }) })),
  { nil: undefined, freq: 6 },
)

const last = fc.constantFrom(21, 22)
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 9000 }) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('report' as const),
      last,
      state: fc.constantFrom<CheckState>('up', 'up', 'up', 'down', 'down', 'unknown'),
      fails: fc.nat(9).map((each) => each === 0),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('load' as const), check: checks }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('kill' as const), ms: fc.constantFrom(0, 500, 20_000) }) },
  fc.record({ kind: fc.constantFrom('forget' as const, 'remove' as const), last }),
)

const withCheck = (holdMs: number, check: Check | undefined): ReturnPolicy => ({
  ...AT_ONCE,
  holdMs,
  ...(check === undefined ? {} : { check }),
})

test('whatever is reported, loaded and killed, and whenever, the maps hold what a naive account of it says', (t) => {
  const seen = { expired: 0, held: 0, pending: 0, failed: 0 }
  fc.assert(
    fc.property(
      checks,
      fc.constantFrom(0, 0, 3000),
      fc.array(step, { maxLength: 40, size: 'max' }),
      (first, holdMs, steps) => {
        let check = first
        const maps = new Maps(withCheck(holdMs, check), [backend(21), backend(22)])
        maps.follow([NAME])
        const accounts = new Map([21, 22].map((each) => [each, new Account(holdMs, START)]))
        for (const each of steps) {
          const account = 'last' in each ? accounts.get(each.last) : undefined
          switch (each.kind) {
            case 'wait':
              maps.wait(each.ms)
              break
            case 'report': {
              maps.failing = each.fails
              try {
                if (maps.report(each.last, { kind: 'check', state: each.state }) !== undefined) seen.pending++
                account?.report(each.state, check, maps.nowMs)
              } catch {
                seen.failed++
              }
              maps.failing = false
              break
            }
            case 'load':
              for (const of of accounts.values()) of.load(check, each.check, maps.nowMs)
              check = each.check
              maps.policy = withCheck(holdMs, check)
              maps.follow([NAME])
              break
            case 'kill': {
              const killedMs = maps.nowMs
              maps.nowMs += each.ms
              maps.restart()
              for (const of of accounts.values()) {
                // What expires while no daemon runs has not expired to the next one.
                if (!of.hasExpired(check, killedMs)) of.lastMs = maps.nowMs
                of.kill(check, maps.nowMs)
              }
              break
            }
            case 'forget':
              maps.report(each.last, { kind: 'forget' })
              account?.forget(maps.nowMs)
              break
            case 'remove':
              maps.change(each.last, undefined)
              maps.change(each.last, { weight: 10, admin: 'up', path: LINK })
              accounts.set(each.last, new Account(holdMs, maps.nowMs))
              break
          }
          for (const [at, of] of accounts) {
            const now = maps.of(at)
            assert(now !== undefined)
            const is = { weight: effectiveWeight({ scheduler: 'wrr' }, now), alive: isAlive(now) }
            const shall = of.stands(check, maps.nowMs)
            assert.deepEqual(is, shall, `${at} after ${JSON.stringify(each)}`)
            if (of.hasExpired(check, maps.nowMs)) seen.expired++
            if (!shall.alive && of.state(check, maps.nowMs) === 'up') seen.held++
          }
          const { commits } = maps
          const lines = maps.journal.length
          maps.look()
          maps.follow([NAME])
          maps.follow()
          assert.equal(maps.commits, commits, 'looking again changes nothing')
          // One that has grown long is written anew.
          assert(maps.journal.length <= lines)
          assert(maps.dueMs === undefined || maps.dueMs > maps.nowMs)
        }
      },
    ),
    { numRuns: 150 },
  )
  for (const [what, count] of Object.entries(seen)) t.true(count > 20, `${what}: ${count}`)
})
