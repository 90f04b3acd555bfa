// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { Alarm } from '../../src/daemon/alarm.ts'

/** A clock whose timer goes off when the test says so. */
const make = () => {
  const clock = { nowMs: 1000, rings: 0, waits: [] as { delayMs: number; action: () => void }[] }
  const alarm = new Alarm(
    {
      nowMs: () => clock.nowMs,
      after: (delayMs, action) => {
        const wait = { delayMs, action }
        clock.waits.push(wait)
        return () => clock.waits.splice(clock.waits.indexOf(wait), 1)
      },
    },
    () => clock.rings++,
  )
  const pass = (ms: number) => {
    clock.nowMs += ms
    clock.waits.shift()?.action()
  }
  return { clock, alarm, pass }
}

test('it rings once when it is time, and not for what was taken back', (t) => {
  const { clock, alarm, pass } = make()
  alarm.set(3000)
  alarm.set(3000)
  t.deepEqual(
    clock.waits.map(({ delayMs }) => delayMs),
    [2000],
  )
  alarm.set(2500)
  t.deepEqual(
    clock.waits.map(({ delayMs }) => delayMs),
    [1500],
  )
  pass(1500)
  t.is(clock.rings, 1)
  t.is(clock.waits.length, 0)
  alarm.set(4000)
  alarm.set(undefined)
  t.is(clock.waits.length, 0)
})

test('a timer that goes off early, and a time that is far away, is waited for again', (t) => {
  const { clock, alarm, pass } = make()
  alarm.set(3000)
  pass(1999)
  t.is(clock.rings, 0)
  t.is(clock.waits[0]?.delayMs, 1)
  pass(1)
  t.is(clock.rings, 1)
  alarm.set(clock.nowMs + 1e12)
  t.is(clock.waits[0]?.delayMs, 60_000)
  pass(60_000)
  t.is(clock.rings, 1)
  t.is(clock.waits.length, 1)
})

test('what is due already is rung for soon, and again once it is asked for again', (t) => {
  const { clock, alarm, pass } = make()
  alarm.set(500)
  pass(1)
  t.is(clock.rings, 1)
  alarm.set(500)
  pass(1)
  t.is(clock.rings, 2)
})
