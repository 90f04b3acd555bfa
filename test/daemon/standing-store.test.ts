// SPDX-License-Identifier: Apache-2.0
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Entry, StandingStore } from '../../src/daemon/standing-store.ts'

const make = (t: ExecutionContext) => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-standings-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const store = new StandingStore(folder)
  t.teardown(() => store.close())
  return { folder, file: join(folder, 'standings.jsonl'), store }
}

const entry = (last: number, told: Entry['told'] = { check: { state: 'down', sinceMs: last, text: 'refused' } }) => ({
  service: 'tcp://192.0.2.10:80',
  backend: `192.0.2.${last}`,
  told,
})

test('what was appended is read by the next daemon, the last of each backend; nobody else may read it', (t) => {
  const { folder, file, store } = make(t)
  t.deepEqual(store.read(), { entries: [], broken: 0 })
  store.append(entry(21))
  store.append(entry(22))
  store.append(entry(21, { agent: { state: 'up', before: 'maint', percent: 30, sinceMs: 9 } }))
  store.append({ ...entry(22), told: undefined })
  t.is(statSync(file).mode & 0o777, 0o600)
  const all = {
    agent: { state: 'drain', percent: 100, sinceMs: 1 },
    admin: { state: 'up', before: 'maint', sinceMs: 2 },
  }
  const neighbour = { state: 'resolved', before: 'unresolved', sinceMs: 3 }
  store.append(entry(23, { ...all, neighbour } as Entry['told']))
  t.deepEqual(new StandingStore(folder).read(), {
    entries: [
      entry(21, { agent: { state: 'up', before: 'maint', percent: 30, sinceMs: 9 } }),
      entry(23, { ...all, neighbour } as Entry['told']),
    ],
    broken: 0,
  })
})

test('a line that was being written when the host fell, and what is no report, is left out and counted', (t) => {
  const { file, store } = make(t)
  store.append(entry(21))
  appendFileSync(
    file,
    '{"service":"tcp://192.0.2.10:80","backend":"192.0.2.22","told":{"check":{"state":"ill","sinceMs":1}}}\n',
  )
  appendFileSync(file, '[]\n{"service":"tcp://192.0.2.10:80","back')
  t.deepEqual(store.read(), { entries: [entry(21)], broken: 3 })
})

test('what follows a broken line is kept', (t) => {
  const { folder, file, store } = make(t)
  store.append(entry(21))
  appendFileSync(file, '{"service":"tcp://192.0.2.10:80","back')
  const next = new StandingStore(folder)
  t.teardown(() => next.close())
  const { entries } = next.read()
  if (next.isLong(entries.length)) t.fail()
  next.append(entry(22))
  t.deepEqual(new StandingStore(folder).read(), { entries: [entry(21), entry(22)], broken: 1 })
})

test('where there are many more lines than backends it is written anew, and appended to', (t) => {
  const { folder, file, store } = make(t)
  for (let i = 0; i < 1002; i++) store.append(entry(21, { check: { state: i % 2 ? 'up' : 'down', sinceMs: i } }))
  t.false(store.isLong(1))
  store.append(entry(21))
  t.true(store.isLong(1))
  store.rewrite([entry(21)])
  t.false(store.isLong(1))
  store.append(entry(22))
  t.is(readFileSync(file, 'utf8').trim().split('\n').length, 2)
  t.deepEqual(new StandingStore(folder).read().entries, [entry(21), entry(22)])
})
