// SPDX-License-Identifier: Apache-2.0
// What a service manager hears, at a socket of its kind.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { loadNative } from '../../src/dataplane/native.ts'
import { ServiceManager } from '../../src/shell/notify-service.ts'
import { Tracked } from '../lab/process.ts'

const folder = mkdtempSync(join(tmpdir(), 'xlb-notify-'))
const RECEIVER = join(folder, 'datagrams')
const { system } = loadNative()

test.before(() => {
  const source = fileURLToPath(new URL('datagrams.c', import.meta.url))
  execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', RECEIVER, source])
})
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

let sockets = 0

const listen = async (t: ExecutionContext, name = join(folder, `${sockets++}`)) => {
  const receiver = new Tracked([RECEIVER, name])
  t.teardown(() => receiver.stop())
  await receiver.waitFor(/listening/)
  return { name, receiver, heard: () => receiver.stdout.trim().split('\n').slice(1) }
}

const manager = (environment: Record<string, string>, faults: string[] = []): ServiceManager =>
  new ServiceManager({
    system,
    environment,
    pid: 77,
    monotonicNs: () => 5_000_999n,
    onFault: ({ message }) => faults.push(message),
  })

const hears = async (t: ExecutionContext, name: string | undefined): Promise<void> => {
  const { name: socket, receiver, heard } = await listen(t, name)
  const told = manager({ NOTIFY_SOCKET: socket })
  t.true(told.isAsked)
  told.status('reads the file')
  told.ready('3 services,\n12 backends')
  told.reloading('reloads')
  told.watchdog()
  told.stopping('ends')
  await receiver.waitFor(/STOPPING/)
  t.deepEqual(heard(), [
    'STATUS=reads the file',
    'READY=1|STATUS=3 services, 12 backends',
    'RELOADING=1|MONOTONIC_USEC=5000|STATUS=reloads',
    'WATCHDOG=1',
    'STOPPING=1|STATUS=ends',
  ])
}

test('a service manager at a path hears each state, and newlines cannot make another', (t) => hears(t, undefined))
test('one at an abstract name does too', (t) => hears(t, `@xlb-test-${process.pid}`))

test('where nobody asked, or by a kind of socket that there is not, nothing is sent', (t) => {
  for (const environment of [{}, { NOTIFY_SOCKET: '' }, { NOTIFY_SOCKET: 'vsock:2:1' }, { NOTIFY_SOCKET: '/' }]) {
    const faults: string[] = []
    const told = manager({ ...environment, WATCHDOG_USEC: '1000000' }, faults)
    t.false(told.isAsked)
    t.is(told.watchdogMs, undefined)
    told.ready('')
    t.deepEqual(faults, [])
  }
})

test('that nobody listens is said once', (t) => {
  const faults: string[] = []
  const told = manager({ NOTIFY_SOCKET: join(folder, 'nobody') }, faults)
  for (let i = 0; i < 3; i++) told.watchdog()
  t.is(faults.length, 1)
  t.regex(faults[0] ?? '', /nobody: ENOENT/)
  const long = manager({ NOTIFY_SOCKET: `/${'x'.repeat(200)}` }, faults)
  long.watchdog()
  t.regex(faults[1] ?? '', /ENAMETOOLONG/)
})

test('a receiver that does not keep up stops nobody', (t) => {
  const name = join(folder, 'full')
  const child = new Tracked(['sh', '-c', `"${RECEIVER}" "${name}" & echo $!; wait`])
  t.teardown(() => child.stop())
  return child.waitFor(/listening/).then(async () => {
    const pid = Number(/^[0-9]+$/m.exec(child.stdout)?.[0])
    t.teardown(() => process.kill(pid, 'SIGKILL'))
    process.kill(pid, 'SIGSTOP')
    await sleep(50)
    const faults: string[] = []
    const told = manager({ NOTIFY_SOCKET: name }, faults)
    const from = Date.now()
    for (let i = 0; i < 5000; i++) told.watchdog()
    t.true(Date.now() - from < 2000)
    t.is(faults.length, 1)
    t.regex(faults[0] ?? '', /EAGAIN/)
  })
})

test('the watchdog hears at half of its time, while all is well, and only if it asked this process', async (t) => {
  const { name, heard } = await listen(t)
  const asked = { NOTIFY_SOCKET: name, WATCHDOG_USEC: '40000' }
  t.is(manager({ ...asked, WATCHDOG_PID: '78' }).watchdogMs, undefined)
  t.is(manager({ ...asked, WATCHDOG_USEC: 'no' }).watchdogMs, undefined)
  const told = manager({ ...asked, WATCHDOG_PID: '77' })
  t.is(told.watchdogMs, 20)
  let isWell = true
  const end = told.startWatchdog(() => isWell)
  await sleep(300)
  isWell = false
  await sleep(100)
  const count = heard().length
  t.true(count >= 3 && count <= 16, `${count}`)
  await sleep(200)
  t.is(heard().length, count, 'nothing while all is not well')
  isWell = true
  end()
  await sleep(100)
  t.is(heard().length, count, 'nothing after it was ended')
})
