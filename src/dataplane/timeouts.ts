// SPDX-License-Identifier: Apache-2.0
// The timeouts in `settings`: one store each, in force with the next packet that looks.
import { CONNECTION_STATES, STATE_NAMES } from '../core/connection-states.ts'
import { TIMEOUT_NAMES, type TimeoutName, type Timeouts } from '../core/timeouts.ts'
import { FlowValue, Settings } from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { viewOf } from './views.ts'

type Clock = Pick<Settings, 'ageShift' | 'jiffiesPerSecond'>

/** Units of the packet path's clock that last as long as these seconds, at least. */
export const agesOf = (seconds: number, { ageShift, jiffiesPerSecond }: Clock): number =>
  Math.ceil((seconds * jiffiesPerSecond) / 2 ** ageShift)

/** The same, back. Two timeouts that are less than a unit apart are one. */
const secondsOf = (ages: number, { ageShift, jiffiesPerSecond }: Clock): number =>
  Math.floor((ages * 2 ** ageShift) / jiffiesPerSecond)

/** settings.timeout. */
export const timeoutAges = (timeouts: Timeouts, clock: Clock): number[] =>
  Array.from({ length: FlowValue.FLOW_STATE_MASK + 1 }, (_, state) => {
    const name = STATE_NAMES[state]
    return name === undefined ? 0 : agesOf(timeouts[name], clock)
  })

export const readTimeouts = (memory: Pick<PlaneMemory, 'buffer'>): Timeouts => {
  const settings = Settings.read(viewOf(memory, 'settings'), 0)
  const pairs = CONNECTION_STATES.map((state): [TimeoutName, number] => [
    state,
    secondsOf(settings.timeout[STATE_NAMES.indexOf(state)] ?? 0, settings),
  ])
  pairs.push(['destination', secondsOf(settings.destinationTimeout, settings)])
  return Object.fromEntries(pairs) as Timeouts
}

/**
 * Sets those that are named. Entries that are there go by them too: one may expire at once, or live longer than it would have.
 * @returns those that were not so before
 */
export const writeTimeouts = (memory: Pick<PlaneMemory, 'buffer'>, timeouts: Partial<Timeouts>): TimeoutName[] => {
  const clock = Settings.read(viewOf(memory, 'settings'), 0)
  const ages = new Uint16Array(memory.buffer('settings'), Settings.offset.timeout, FlowValue.FLOW_STATE_MASK + 1)
  const destination = new Uint32Array(memory.buffer('settings'), Settings.offset.destinationTimeout, 1)
  return TIMEOUT_NAMES.filter((name) => {
    const seconds = timeouts[name]
    if (seconds === undefined) return false
    const wanted = agesOf(seconds, clock)
    if (name === 'destination') return Atomics.exchange(destination, 0, wanted) !== wanted
    return Atomics.exchange(ages, STATE_NAMES.indexOf(name), wanted) !== wanted
  })
}

/** What readTimeouts answers after writeTimeouts. */
export const keptTimeouts = (memory: Pick<PlaneMemory, 'buffer'>, timeouts: Timeouts): Timeouts => {
  const clock = Settings.read(viewOf(memory, 'settings'), 0)
  const kept = TIMEOUT_NAMES.map((name) => [name, secondsOf(agesOf(timeouts[name], clock), clock)])
  return Object.fromEntries(kept) as Timeouts
}
