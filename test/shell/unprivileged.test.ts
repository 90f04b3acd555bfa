// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import test from 'ava'
import { Refusal } from '../../src/core/refusal.ts'
import { effectiveCapabilities, missingCapabilities } from '../../src/shell/capabilities.ts'
import { accountOf, runUnprivileged, type Unprivileged } from '../../src/shell/unprivileged.ts'

const rootTest = process.getuid?.() === 0 ? test : test.skip

const run = (command: readonly string[], options: Partial<Unprivileged> = {}) =>
  runUnprivileged({ command, user: 'nobody', timeoutMs: 10_000, ...options })

const shell = (script: string, options: Partial<Unprivileged> = {}) => run(['/bin/sh', '-c', script], options)

rootTest('a command runs as its user, of no other group, without a capability and no way to gain one', async (t) => {
  const { stdout, code } = await shell('id -u; id -g; id -G; grep -E "^(Cap|NoNewPrivs)" /proc/self/status; pwd')
  t.is(code, 0)
  const { uid, gid } = accountOf('nobody')
  const [who, group, groups, ...status] = stdout.trim().split('\n')
  t.deepEqual([who, group, groups], [`${uid}`, `${gid}`, `${gid}`])
  t.is(status.pop(), '/')
  t.is(status.pop()?.replaceAll('\t', ' '), 'NoNewPrivs: 1')
  t.is(status.length, 5)
  for (const line of status) t.regex(line, /^Cap\w+:\s+0+$/)
})

rootTest('it has what it was given in its environment and on its input, and nothing of ours', async (t) => {
  process.env.XLB_TEST_SECRET = 'tell-nobody'
  const { stdout } = await shell('env; cat', { environment: { XLB_KIND: 'backend' }, input: 'a line\n' })
  delete process.env.XLB_TEST_SECRET
  const lines = stdout
    .trim()
    .split('\n')
    .filter((line) => !/^(PWD|OLDPWD|SHLVL|_)=/.test(line))
  t.deepEqual(lines.sort(), [
    'HOME=/',
    'LANG=C.UTF-8',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'XLB_KIND=backend',
    'a line',
  ])
})

rootTest('no shell reads its words', async (t) => {
  const words = ['$(id)', '`id`', '; id', '--help', '*', "'"]
  const { stdout, code } = await run(['printf', '%s|', ...words])
  t.is(code, 0)
  t.is(stdout, `${words.join('|')}|`)
})

rootTest('a command that takes too long is killed, with all that it has started', async (t) => {
  const from = Date.now()
  const outcome = await shell('trap "" TERM; sleep 60 & echo $!; sleep 60; sleep 60', { timeoutMs: 200 })
  t.true(outcome.timedOut)
  t.is(outcome.code, undefined)
  t.is(outcome.signal, 'SIGKILL')
  t.true(Date.now() - from < 5000)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.false(isRunning(outcome.stdout.trim()))
})

rootTest('what it leaves behind is killed, and does not keep its output open', async (t) => {
  const { stdout, code, timedOut } = await shell('sleep 60 & echo $!')
  t.is(code, 0)
  t.false(timedOut)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.false(isRunning(stdout.trim()))
})

/** A killed child of a process that does not wait for it stays as a zombie until init has seen it. */
const isRunning = (pid: string): boolean => /^[0-9]+$/.test(pid) && existsSync(`/proc/${pid}/exe`)

rootTest('so much of its output is kept, and the rest thrown away', async (t) => {
  const { stdout, stderr, code, truncated } = await shell('yes | head -c 10000000; echo no >&2', { outputMax: 100 })
  t.is(code, 0)
  t.is(stdout, 'y\n'.repeat(50))
  t.is(stderr, 'no\n')
  t.true(truncated)
  t.false((await shell('echo yes')).truncated)
})

rootTest('how it ended is told', async (t) => {
  t.is((await shell('exit 3')).code, 3)
  t.is((await shell('kill -ABRT $$')).signal, 'SIGABRT')
  t.like(await run(['/nowhere/tell']), { code: 127, fault: undefined })
  t.regex((await run(['/nowhere/tell'])).stderr, /No such file/)
  t.is((await run(['true'], { input: 'x'.repeat(1_000_000) })).code, 0, 'one that reads nothing')
})

test('a user that is not there, or is root, is refused', (t) => {
  const passwd = 'root:x:0:0:root:/root:/bin/sh\ntell:x:200:300::/:/bin/false\ntoor:x:0:5::/:/bin/sh\nodd\n'
  t.deepEqual(accountOf('tell', passwd), { uid: 200, gid: 300 })
  for (const [user, words] of [
    ['root', /is root/],
    ['toor', /is root/],
    ['odd', /is not in/],
    ['nobody', /is not in/],
    ['', /is not in/],
  ] as const) {
    const refusal = t.throws(() => accountOf(user, passwd), { instanceOf: Refusal })
    t.regex(refusal?.message ?? '', words)
  }
})

test('capabilities are read of a status, and SYS_ADMIN stands in for what it once was', (t) => {
  const held = (hex: string) => effectiveCapabilities(`Name:\tx\nCapPrm:\t0\nCapEff:\t${hex}\nCapBnd:\t0\n`)
  t.deepEqual(missingCapabilities(['BPF', 'NET_ADMIN', 'PERFMON'], held('000000c000001000')), [])
  t.deepEqual(missingCapabilities(['BPF', 'NET_ADMIN', 'PERFMON'], held('0000000000201000')), [])
  t.deepEqual(missingCapabilities(['BPF', 'NET_ADMIN', 'NET_RAW'], held('0000000000200000')), ['NET_ADMIN', 'NET_RAW'])
  t.deepEqual(missingCapabilities(['BPF', 'NET_ADMIN'], held('0')), ['BPF', 'NET_ADMIN'])
})
