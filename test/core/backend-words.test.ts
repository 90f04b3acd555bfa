// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { BACKEND_STATES, reasonOfState, type StateFacts, stateWord } from '../../src/core/backend-words.ts'

const UP: StateFacts = { admin: 'up', weight: 1, path: 'link', alive: true, percent: 100, full: false }
const DOWN = { alive: false, percent: 0 }

test('a backend has one state, the one that says most about why it takes no flows', (t) => {
  const cases: [Partial<StateFacts>, string][] = [
    [{}, 'up none'],
    [{ path: 'local' }, 'local none'],
    [{ path: 'local', percent: 30 }, 'reduced check'],
    [{ percent: 30, full: true }, 'full connections'],
    [{ percent: 0, full: true }, 'held check'],
    [{ percent: 0, weight: 0 }, 'weight-0 weight'],
    [{ weight: 0, admin: 'drain' }, 'drain admin'],
    [{ ...DOWN, admin: 'drain' }, 'down check'],
    [{ ...DOWN, path: 'unresolved' }, 'no-mac neighbour'],
    [{ ...DOWN, path: 'unresolved', admin: 'maint' }, 'maint admin'],
    [{ ...DOWN, path: 'unresolved', admin: 'leaving' }, 'leaving removed'],
    [{ ...DOWN, admin: 'cut' }, 'cut removed'],
  ]
  for (const [facts, want] of cases) {
    const state = stateWord({ ...UP, ...facts })
    t.is(`${state} ${reasonOfState(state)}`, want)
  }
  t.deepEqual([...new Set(cases.map(([, want]) => want.split(' ')[0] ?? ''))].sort(), [...BACKEND_STATES].sort())
})
