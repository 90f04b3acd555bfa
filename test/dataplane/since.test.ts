// SPDX-License-Identifier: Apache-2.0
// Since when a backend is as a person made it: up, drained, in maintenance, or without weight. What else changes of it leaves that as it was.
import test from 'ava'
import { parseBackend, parseService } from '../../src/core/address.ts'
import type { DesiredState, Path } from '../../src/core/desired.ts'
import { addService, drainBackend, maintBackend, setBackend } from '../../src/core/verbs.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { apply, makePlane } from './plane.ts'

const WEB = parseService('tcp://198.51.100.1:80')
const REAL = parseBackend('192.0.2.1', WEB)
const PATH: Path = { kind: 'link', mac: 2n, interfaceSlot: 0 }
const OTHER_PATH: Path = { kind: 'link', mac: 4n, interfaceSlot: 0 }

const set =
  (change: { weight?: number; path?: Path }) =>
  (state: DesiredState): DesiredState =>
    setBackend(state, WEB, REAL, { path: PATH, ...change })
const drain = (state: DesiredState): DesiredState => drainBackend(state, WEB, REAL)
const maint = (state: DesiredState): DesiredState => maintBackend(state, WEB, REAL)

/** As a reload does, which leaves what a verb said of drain and maintenance. */
const reweigh =
  (weight: number) =>
  (state: DesiredState): DesiredState =>
    new Map(
      [...state].map(([name, service]) => [
        name,
        { ...service, backends: service.backends.map((each) => ({ ...each, weight })) },
      ]),
    )

type Verb = (state: DesiredState) => DesiredState

/** Each verb a second after the one before. @returns after each, whether it is so since then */
const isNewAfter = (...verbs: readonly Verb[]): boolean[] => {
  const plane = makePlane()
  apply(plane, (state) => set({})(addService(state, WEB, {}, 7n)))
  return verbs.map((verb) => {
    plane.nowMs += 1000
    apply(plane, verb)
    return [...readLive(plane.memory).services.values()][0]?.backends[0]?.sinceMs === plane.nowMs
  })
}

test('a drain, maintenance, and the end of both are new states', (t) => {
  t.deepEqual(isNewAfter(drain, maint, drain, set({})), [true, true, true, true])
})

test('another weight, and another MAC, leave it drained since it was drained, and in maintenance likewise', (t) => {
  t.deepEqual(isNewAfter(drain, reweigh(5), reweigh(0), reweigh(3), reweigh(1)), [true, false, false, false, false])
  t.deepEqual(isNewAfter(maint, reweigh(5)), [true, false])
})

test('another weight leaves it up since it was up; none at all is a state of its own, and so is its end', (t) => {
  t.deepEqual(isNewAfter(set({ weight: 5 }), set({ path: OTHER_PATH }), set({ weight: 0 })), [false, false, true])
  t.deepEqual(isNewAfter(reweigh(0), reweigh(2), reweigh(3)), [true, true, false])
})
