// SPDX-License-Identifier: Apache-2.0
// xlb check reads files, and nothing else: no root, no addon, no instance.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const CLI = fileURLToPath(new URL('../../dist/xlb.cjs', import.meta.url))

const folder = mkdtempSync(join(tmpdir(), 'xlb-check-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const check = (argv: readonly string[], input = '', user: readonly string[] = []) => {
  const [command = '', ...rest] = [...user, process.execPath, CLI, 'check', ...argv]
  const { status, stdout, stderr } = spawnSync(command, rest, { input, encoding: 'utf8' })
  return { status, stdout, stderr }
}

const RIGHT = 'services: [ { service: tcp://192.0.2.10:80, backends: [ { address: 192.0.2.21 } ] } ]\n'
const WRONG = 'services:\n  - { service: tcp://192.0.2.10:80, scheduler: fastest }\n  - { service: tcp://192.0.2.11 }\n'

test('a file without faults: exit code 0, and what is in it', (t) => {
  const { status, stdout, stderr } = check(['-c', '-'], RIGHT)
  t.deepEqual([status, stdout, stderr], [0, '-: no faults: 1 service, 1 backend\n', ''])
  const json = check(['--config', '-', '--json'], RIGHT)
  t.deepEqual(JSON.parse(json.stdout), { files: ['-'], interfaces: 0, services: 1, backends: 1 })
})

test('a file with faults: exit code 1, and on stderr each with file, line, column, path, what and how to mend', (t) => {
  const file = join(folder, 'wrong.yaml')
  writeFileSync(file, WRONG)
  const { status, stdout, stderr } = check(['-c', file])
  t.deepEqual([status, stdout], [1, ''])
  t.deepEqual(stderr.split('\n').slice(0, 3), [
    `xlb: ${file}: 2 faults`,
    `       ${file}:2:48: services[0].scheduler: 'fastest' is not known; it takes rr, wrr, mh, sh, dh, lc, wlc, sed, nq, lblc, lblcr (dh, lblc, lblcr of a prefix alone)`,
    `       ${file}:3:16: services[1].service: service 'tcp://192.0.2.11': has no port; write tcp://192.0.2.11:80`,
  ])
  const { error } = JSON.parse(check(['-c', file, '--json']).stderr) as { error: { faults: unknown[] } }
  t.deepEqual(error.faults[1], {
    file,
    line: 3,
    column: 16,
    path: 'services[1].service',
    what: "service 'tcp://192.0.2.11': has no port",
    mend: 'write tcp://192.0.2.11:80',
  })
})

test('all faults are told, however many', (t) => {
  const { stderr } = check(['-c', '-'], `services:\n${'  - {}\n'.repeat(500)}`)
  t.is(stderr.match(/services\[\d+\]\.service: is missing/g)?.length, 500)
})

test('a file that is not there: exit code 1; wrong words: exit code 2', (t) => {
  const gone = check(['-c', join(folder, 'gone.yaml')])
  t.is(gone.status, 1)
  t.regex(gone.stderr, /gone\.yaml: cannot be read: ENOENT/)
  for (const argv of [['file.yaml'], ['-c'], ['--strict']]) t.is(check(argv).status, 2, argv.join(' '))
})

test('without -c it is /etc/xlb/xlb.yaml', (t) => {
  t.regex(check([]).stdout + check([]).stderr, /\/etc\/xlb\/xlb\.yaml/)
})

const nobodyTest = process.geteuid?.() === 0 ? test : test.skip
nobodyTest('it needs no root', (t) => {
  const reads = ['--inh-caps=-all,+dac_read_search', '--ambient-caps=+dac_read_search']
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', ...reads]
  t.deepEqual(check(['-c', '-'], RIGHT, nobody), {
    status: 0,
    stdout: '-: no faults: 1 service, 1 backend\n',
    stderr: '',
  })
})
