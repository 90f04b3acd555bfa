// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import test from 'ava'
import fc from 'fast-check'
import {
  AT_ONCE,
  EFFECTS,
  type Inputs,
  REASONS,
  type ReturnPolicy,
  type Since,
  standing,
} from '../../src/core/standing.ts'
import { type Event, event, policies, START, Story } from './story.ts'

const always = <State>(state: State): Since<State> => ({ state, sinceMs: START })

const plain: Inputs = { weight: 10, admin: always('up' as const), policy: AT_ONCE }
const checked = (state: 'up' | 'down' | 'unknown', trusted = true) => ({
  ...plain,
  check: { ...always(state), trusted },
})

/** Name and effect of what has one. */
const effects = (inputs: Inputs, nowMs = START): string =>
  standing(inputs, nowMs)
    .reasons.filter(({ effect }) => effect !== 'none')
    .map(({ name, effect }) => `${name}: ${effect}`)
    .join(', ')

test('where nothing is said against it, a backend has its configured weight, and nobody need ask again', (t) => {
  const { reasons, ...answer } = standing(plain, START)
  t.deepEqual(answer, { weight: 10, alive: true, health: undefined, nextChangeMs: undefined })
  t.deepEqual(reasons, [
    { name: 'weight', effect: 'none', text: '10' },
    { name: 'admin', effect: 'none', text: 'up', sinceMs: START },
  ])
  t.deepEqual(standing(checked('up'), START + 5).health, { alive: true, percent: 100, sinceMs: START })
})

test('what leaves a backend its flows leaves it alive, and what is out is out of both', (t) => {
  const drain = { ...plain, admin: always('drain' as const) }
  const agent = { ...always('drain' as const), percent: 100 }
  for (const inputs of [{ ...plain, weight: 0 }, drain, { ...plain, agent }, checked('unknown', false)]) {
    t.like(standing(inputs, START), { weight: 0, alive: true }, JSON.stringify(inputs))
  }
  const maint = { ...plain, admin: always('maint' as const) }
  const neighbour = { ...plain, neighbour: { ...always('unresolved' as const), text: 'does not answer ARP' } }
  const agents = (['maint', 'down'] as const).map((state) => ({ ...plain, agent: { ...always(state), percent: 100 } }))
  for (const inputs of [maint, neighbour, checked('down'), ...agents]) {
    t.like(standing(inputs, START), { weight: 0, alive: false }, JSON.stringify(inputs))
  }
  t.like(standing(checked('unknown'), START), { weight: 10, alive: true })
})

test('the data plane is told of checks and agents, not of what it knows by itself', (t) => {
  const maint = { ...checked('up'), admin: always('maint' as const) }
  t.like(standing(maint, START), { alive: false, health: { alive: true, percent: 100 } })
  t.deepEqual(standing({ ...checked('down'), weight: 0 }, START).health, { alive: false, percent: 0, sinceMs: START })
})

test("an agent's percentage scales the weight, and leaves at least 1 of it", (t) => {
  const weights = (weight: number) =>
    [0, 1, 49, 50, 100, 180].map((percent) => {
      const agent = { ...always('up' as const), percent }
      return standing({ ...plain, weight, agent }, START).weight
    })
  t.deepEqual(weights(10), [0, 1, 5, 5, 10, 10])
  t.deepEqual(weights(1), [0, 1, 1, 1, 1, 1])
  t.deepEqual(weights(0), [0, 0, 0, 0, 0, 0])
})

const policy: ReturnPolicy = { holdMs: 5000, slowStartMs: 20_000, slowStartPercent: 10 }

test('after its check came up a backend is held out, then grows into its weight in steps', (t) => {
  const inputs: Inputs = {
    ...plain,
    weight: 100,
    check: { state: 'up', before: 'down', sinceMs: START, trusted: true },
    policy,
  }
  t.is(effects(inputs, START), 'hold: out')
  t.like(standing(inputs, START), { weight: 0, alive: false, nextChangeMs: START + 5000 })
  t.like(standing(inputs, START + 4999), { weight: 0, alive: false, nextChangeMs: START + 5000 })
  t.like(standing(inputs, START + 5000), { weight: 10, alive: true, nextChangeMs: START + 6000 })
  t.is(effects(inputs, START + 5000), 'slow-start: less')
  t.like(standing(inputs, START + 15_400), { weight: 55, alive: true, nextChangeMs: START + 16_000 })
  t.like(standing(inputs, START + 25_000), { weight: 100, alive: true, nextChangeMs: undefined })
  t.is(effects(inputs, START + 25_000), '')
})

test('one that was never down is neither held out nor begins slowly', (t) => {
  const check = { state: 'up' as const, before: 'unknown' as const, sinceMs: START, trusted: true }
  t.like(standing({ ...plain, policy, check }, START), { weight: 10, alive: true, nextChangeMs: undefined })
})

test('where the clock is set back a hold is over, and does not begin again and again', (t) => {
  const check = { state: 'up' as const, before: 'down' as const, sinceMs: START, trusted: true }
  const inputs = { ...plain, policy, check }
  t.like(standing(inputs, START - 3_600_000), { weight: 10, alive: true, nextChangeMs: undefined })
})

/** What a daemon keeps of a reason: its state, the one before, and since when. */
const changed = <State>(now: Since<State> | undefined, state: State, nowMs: number): Since<State> =>
  now?.state === state ? now : { state, sinceMs: nowMs, ...(now === undefined ? {} : { before: now.state }) }

const follow = (inputs: Inputs, happened: Event, nowMs: number): Inputs => {
  switch (happened.kind) {
    case 'wait':
      return inputs
    case 'weight':
      return { ...inputs, weight: happened.weight }
    case 'admin':
      return { ...inputs, admin: changed(inputs.admin, happened.state, nowMs) }
    case 'check':
      return { ...inputs, check: { ...changed(inputs.check, happened.state, nowMs), trusted: true } }
    case 'agent':
      return {
        ...inputs,
        agent: { ...changed(inputs.agent, happened.state, nowMs), percent: happened.percent },
      }
    case 'neighbour':
      return { ...inputs, neighbour: changed(inputs.neighbour, happened.state, nowMs) }
  }
}

/** What packets go by. */
const bare = (inputs: Inputs, nowMs: number) => {
  const { weight, alive, health } = standing(inputs, nowMs)
  return { weight, alive, told: health === undefined ? { alive: true, percent: 100 } : { ...health, sinceMs: 0 } }
}

test('recomputed from its reasons it stands as if all that happened had been followed', (t) => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), policies, (events, policy) => {
      const story = new Story(policy)
      let inputs: Inputs = { ...plain, policy, neighbour: always('resolved') }
      for (const happened of events) {
        story.tell(happened)
        inputs = follow(inputs, happened, story.nowMs)
        const { weight, alive } = standing(inputs, story.nowMs)
        assert.deepEqual({ weight, alive }, { weight: story.effective, alive: story.alive })
      }
    }),
    { numRuns: 1000 },
  )
  t.pass()
})

test('until it is to be asked again nothing changes, and then it is soon done asking', (t) => {
  fc.assert(
    fc.property(
      fc.array(event, { maxLength: 12 }),
      policies,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (events, policy, part) => {
        let nowMs = START
        let inputs: Inputs = { ...plain, policy, neighbour: always('resolved') }
        for (const happened of events) {
          if (happened.kind === 'wait') nowMs += happened.ms
          inputs = follow(inputs, happened, nowMs)
        }
        let asked = 0
        for (;;) {
          const { nextChangeMs } = standing(inputs, nowMs)
          if (nextChangeMs === undefined) break
          assert(nextChangeMs > nowMs)
          assert(Number.isInteger(nextChangeMs))
          assert(++asked < 30)
          const between = nowMs + Math.floor(part * (nextChangeMs - 1 - nowMs))
          assert.deepEqual(bare(inputs, between), bare(inputs, nowMs))
          assert.deepEqual(bare(inputs, nextChangeMs - 1), bare(inputs, nowMs))
          nowMs = nextChangeMs
        }
        assert.deepEqual(bare(inputs, nowMs + 1e9), bare(inputs, nowMs))
      },
    ),
    { numRuns: 600 },
  )
  t.pass()
})

test('each reason is told once, in order, with what it does and since when', (t) => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 12 }), policies, (events, policy) => {
      let nowMs = START
      let inputs: Inputs = { ...plain, policy }
      for (const happened of events) {
        if (happened.kind === 'wait') nowMs += happened.ms
        inputs = follow(inputs, happened, nowMs)
      }
      const { reasons, weight, alive, health } = standing(inputs, nowMs)
      const places = reasons.map(({ name }) => REASONS.indexOf(name))
      assert.deepEqual(
        places,
        [...new Set(places)].sort((a, b) => a - b),
      )
      const worst = Math.max(...reasons.map(({ effect }) => EFFECTS.indexOf(effect)))
      assert.equal(alive, worst < EFFECTS.indexOf('out'))
      assert.equal(weight === 0, worst >= EFFECTS.indexOf('no-new-flows'))
      for (const { name, sinceMs } of reasons) assert(name === 'weight' || (sinceMs !== undefined && sinceMs <= nowMs))
      assert(health === undefined || health.sinceMs <= nowMs)
    }),
    { numRuns: 400 },
  )
  t.pass()
})
