// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import type { Event } from '../../src/core/backend-state.ts'
import type { Notify } from '../../src/core/notify.ts'
import { Notifier, WAITING_MAX } from '../../src/shell/notifier.ts'
import type { Outcome, Unprivileged } from '../../src/shell/unprivileged.ts'

const NOTIFY: Notify = { command: ['/bin/tell', '-v'], user: 'tell', timeoutMs: 5000 }
const WELL: Outcome = {
  code: 0,
  signal: undefined,
  timedOut: false,
  fault: undefined,
  stdout: '',
  stderr: '',
  truncated: false,
}
const event = (backend: number): Event => ({
  time: '2026-01-31T12:00:00.000Z',
  kind: 'backend',
  subject: 'tcp://192.0.2.10:80',
  backend: `192.0.2.${backend}`,
  from: 'up',
  to: 'down',
  reason: 'refused\nthe\0connection',
})

/** A command that ends when it is let. */
const held = (notify: Notify | undefined = NOTIFY) => {
  const asked: Unprivileged[] = []
  const faults: string[] = []
  const ends: ((outcome: Outcome) => void)[] = []
  const notifier = new Notifier(
    {
      run: (each) => {
        asked.push(each)
        return new Promise((resolve) => void ends.push(resolve))
      },
      onFault: ({ backend }, why) => faults.push(`${backend}: ${why}`),
    },
    notify,
  )
  const end = async (outcome: Partial<Outcome> = {}) => {
    ends.shift()?.({ ...WELL, ...outcome })
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { notifier, asked, faults, end }
}

test('a command is told of an event by its environment and its input', (t) => {
  const { notifier, asked } = held()
  notifier.tell(event(21))
  t.deepEqual(asked, [
    {
      ...NOTIFY,
      environment: {
        XLB_TIME: '2026-01-31T12:00:00.000Z',
        XLB_KIND: 'backend',
        XLB_SUBJECT: 'tcp://192.0.2.10:80',
        XLB_BACKEND: '192.0.2.21',
        XLB_FROM: 'up',
        XLB_TO: 'down',
        XLB_REASON: 'refused\nthe connection',
      },
      input: `${JSON.stringify(event(21))}\n`,
    },
  ])
})

test('a long reason is whole in its line, and cut in its variable', (t) => {
  const { notifier, asked } = held()
  notifier.tell({ ...event(21), reason: 'x'.repeat(200_000) })
  t.is(asked[0]?.environment?.XLB_REASON?.length, 4096)
  t.true((asked[0]?.input?.length ?? 0) > 200_000)
})

test('one runs after another, in order', async (t) => {
  const { notifier, asked, end } = held()
  for (const backend of [1, 2, 3]) notifier.tell(event(backend))
  t.is(asked.length, 1)
  for (const count of [2, 3, 3]) {
    await end()
    t.is(asked.length, count)
  }
  t.deepEqual(
    asked.map(({ environment }) => environment?.XLB_BACKEND),
    ['192.0.2.1', '192.0.2.2', '192.0.2.3'],
  )
  await notifier.settled()
  notifier.tell(event(4))
  t.is(asked.length, 4)
})

test('of too many that wait the oldest are left out, and the next one says how many', async (t) => {
  const { notifier, asked, end } = held()
  for (let i = 0; i < WAITING_MAX + 8; i++) notifier.tell(event(i))
  await end()
  t.is(asked[1]?.environment?.XLB_BACKEND, '192.0.2.8')
  t.is(asked[1]?.environment?.XLB_LEFT_OUT, '7')
  await end()
  t.is(asked[2]?.environment?.XLB_LEFT_OUT, undefined)
})

test('why a command did not do its work is told, and the next one runs', async (t) => {
  const { notifier, asked, faults, end } = held()
  for (const backend of [1, 2, 3, 4, 5]) notifier.tell(event(backend))
  await end({ code: 3, stderr: 'no route\nto host\n' })
  await end({ code: undefined, signal: 'SIGSEGV' })
  await end({ code: undefined, signal: 'SIGKILL', timedOut: true })
  await end({ code: undefined, fault: 'spawn ENOENT' })
  await end()
  t.is(asked.length, 5)
  t.deepEqual(faults, [
    '192.0.2.1: /bin/tell ended with exit code 3: no route',
    '192.0.2.2: /bin/tell was ended by SIGSEGV',
    '192.0.2.3: /bin/tell took longer than 5 s, and was killed',
    '192.0.2.4: /bin/tell could not be started: spawn ENOENT',
  ])
})

test('one that may not be run is told too', async (t) => {
  const faults: string[] = []
  const run = (): Promise<Outcome> => {
    throw new Error("user 'x': is not in /etc/passwd")
  }
  const notifier = new Notifier({ run, onFault: (_, why) => faults.push(why) }, NOTIFY)
  notifier.tell(event(1))
  await notifier.settled()
  t.deepEqual(faults, ["user 'x': is not in /etc/passwd"])
})

test('without a command nothing is run, and a reload may give or take one', async (t) => {
  const { notifier, asked, end } = held()
  notifier.configure(undefined)
  notifier.tell(event(1))
  t.is(asked.length, 0)
  notifier.configure(NOTIFY)
  notifier.tell(event(2))
  notifier.tell(event(3))
  notifier.configure(undefined)
  await end()
  t.is(asked.length, 1, 'what waited is not run')
})
