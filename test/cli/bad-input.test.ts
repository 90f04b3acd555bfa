// SPDX-License-Identifier: Apache-2.0
// Wrong input is refused whole: the exit code says whose fault it is, stderr what, where and how to mend it, and nothing
// changes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { Root } from '../../src/dataplane/layout.gen.ts'
import { loadNative } from '../../src/dataplane/native.ts'
import { viewOf } from '../../src/dataplane/views.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'
import { hasRoot, Lab } from '../lab/lab.ts'
import { attach, backends, restore, save } from '../lab/xlb.ts'
import { BAD_FILES } from './bad-files.ts'
import { BAD_WORDS, WEB } from './bad-words.ts'
import { BAD_WORLD, HASHED_UDP } from './bad-world.ts'
import { refuses, withJson } from './wrong.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const CLI = fileURLToPath(new URL('../../dist/xlb.cjs', import.meta.url))

let lab: Lab
let before = ''
let folder = ''
const ends: (() => unknown)[] = []

test.before(async () => {
  if (!hasRoot()) return
  folder = mkdtempSync(join(tmpdir(), 'xlb-bad-'))
  ends.push(() => rmSync(folder, { recursive: true, force: true }))
  lab = await Lab.up({ teardown: (end) => ends.push(end) }, { servers: 2 })
  await attach(lab)
  await restore(lab, [
    { service: WEB, scheduler: 'mh', backends: backends(lab, 1) },
    { service: 'udp://10.89.0.100:53', scheduler: 'rr', backends: backends(lab, 2) },
    { service: 'tcp://10.89.0.100:8000-8099', scheduler: 'mh', backends: backends(lab, 1) },
    { service: HASHED_UDP, scheduler: 'sh', backends: backends(lab, 1) },
  ])
  before = await save(lab)
})

test.after.always(async () => {
  for (const end of ends.reverse()) await end()
})

let said: Awaited<ReturnType<typeof withJson>> = new Map()

labTest('with --json, too, wrong commands change nothing', async (t) => {
  said = await withJson(t, lab, [...BAD_WORDS, ...BAD_WORLD])
  t.true(said.size > 100)
})

for (const wrong of BAD_WORDS) {
  labTest(`refused with exit code 2: ${wrong.what}`, (t) => refuses(t, lab, wrong, said.get(wrong)))
}

for (const wrong of BAD_WORLD) {
  labTest(`refused with exit code 1: ${wrong.what}`, (t) => refuses(t, lab, wrong, said.get(wrong)))
}

for (const wrong of BAD_FILES) {
  labTest(`refused with exit code 1: ${wrong.what}`, async (t) => {
    await refuses(t, lab, wrong)
    // The same text by its file's name: the message says which file.
    const file = join(folder, 'faulty.yaml')
    writeFileSync(file, wrong.input ?? '')
    const { code, stderr } = await lab.xlb(['restore', file])
    t.is(code, wrong.code)
    t.true(stderr.includes(file), stderr)
  })
}

labTest('every verb of an instance that is not attached fails with 1, and names those that are', async (t) => {
  const verbs = [
    ['list'],
    ['save'],
    ['clear'],
    ['upgrade'],
    ['upgrade', '--check'],
    ['capture'],
    ['service', 'add', WEB],
    ['backend', 'rm', WEB, '10.89.0.21'],
  ]
  for (const verb of verbs) {
    const argv = [process.execPath, CLI, '--instance', `${lab.prefix}-none`, ...verb]
    const { code, stdout, stderr } = await lab.run('director', argv)
    t.is(code, 1, verb.join(' '))
    t.is(stdout, '')
    t.regex(stderr, /^xlb: xlb is not attached to any interface \(instance .*-none\)$/m)
    t.true(stderr.includes(lab.prefix) && stderr.includes('xlb attach'), stderr)
  }
  const { code } = await lab.run('director', [
    process.execPath,
    CLI,
    '--instance',
    `${lab.prefix}-none`,
    'detach',
    '--all',
  ])
  t.is(code, 1)
  t.is(await save(lab), before)
})

labTest('an instance name that is no name fails with 2, from the environment too', async (t) => {
  for (const name of ['../x', 'a b', 'x'.repeat(65), 'ä', 'a~building']) {
    const { code, stderr } = await lab.run('director', [process.execPath, CLI, 'list'], { env: { XLB_INSTANCE: name } })
    t.is(code, 2, name)
    t.true(stderr.includes(`instance '${name}'`) && stderr.includes('1 to 64'), stderr)
  }
})

labTest('without root every verb fails with 1 and says so', async (t) => {
  // Nobody, but one who may read xlb's own files wherever this tree lies.
  const reads = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search']
  const user = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', ...reads]
  for (const verb of [
    ['list'],
    ['attach', 'eth0'],
    ['clear'],
    ['detach', '--all'],
    ['service', 'rm', WEB],
    ['upgrade'],
    ['capture'],
  ]) {
    const argv = [...user, process.execPath, CLI, '--instance', lab.prefix, ...verb]
    const { code, stdout, stderr } = await lab.run('director', argv)
    t.is(code, 1, verb.join(' '))
    t.is(stdout, '')
    t.regex(stderr, /xlb needs CAP_BPF and CAP_NET_ADMIN/)
    t.regex(stderr, /sudo/)
  }
  t.is(await save(lab), before)
})

labTest('pins of another contract version fail with 1, both versions named, and stay as they are', async (t) => {
  const plane = openPlaneAt(loadNative(), pathsOf(lab.instance()).pins)
  const root = viewOf(plane, 'root')
  const ours = root.getUint32(Root.offset.contract, true)
  t.teardown(() => plane.close())
  try {
    root.setUint32(Root.offset.contract, ours + 41, true)
    for (const verb of [
      ['list'],
      ['clear'],
      ['service', 'rm', WEB],
      ['attach', 'eth0'],
      ['detach', '--all'],
      ['upgrade'],
      ['capture'],
    ]) {
      const { code, stdout, stderr } = await lab.xlb(verb)
      t.is(code, 1, verb.join(' '))
      t.is(stdout, '')
      t.regex(stderr, new RegExp(`version ${ours + 41} of the map layouts, this xlb version ${ours}\\n`))
      t.regex(stderr, /with the xlb that attached it: xlb save -o FILE/)
    }
  } finally {
    root.setUint32(Root.offset.contract, ours, true)
  }
  t.is(await save(lab), before)
})

labTest('after all of this xlb save prints, byte for byte, what it printed before', async (t) => {
  t.is(await save(lab), before)
})
