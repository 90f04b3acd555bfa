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
import { BAD_WORDS, WEB } from './bad-words.ts'
import { refuses, type Wrong } from './wrong.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const CLI = fileURLToPath(new URL('../../dist/xlb.cjs', import.meta.url))

const HASHED_UDP = 'udp://10.89.0.100:5353'

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

for (const wrong of BAD_WORDS) {
  labTest(`refused with exit code 2: ${wrong.what}`, (t) => refuses(t, lab, wrong))
}

const UNKNOWN = 'tcp://10.89.0.100:8080'

const BAD_WORLD: readonly Wrong[] = [
  {
    what: 'a service that is there',
    argv: ['service', 'add', WEB],
    code: 1,
    says: [`service ${WEB} exists already`, `xlb service set ${WEB}`],
  },
  {
    what: 'a range that overlaps another',
    argv: ['service', 'add', 'tcp://10.89.0.100:8050-8150'],
    code: 1,
    says: [
      'service tcp://10.89.0.100:8050-8150: overlaps tcp://10.89.0.100:8000-8099: both have ports 8050-8099',
      'give each port to one range',
    ],
  },
  {
    what: 'clients of a service without persistence',
    argv: ['connections', WEB, '--persistence'],
    code: 1,
    says: [`service ${WEB} has no persistence`, `xlb service set ${WEB} --persist 300s`],
  },
  {
    what: 'a filter of an unknown service',
    argv: ['filter', 'add', UNKNOWN, 'deny', '192.0.2.0/24'],
    code: 1,
    says: [`${UNKNOWN} does not exist`],
  },
  {
    what: 'rm of a prefix that is not there',
    argv: ['filter', 'rm', '192.0.2.0/24'],
    code: 1,
    says: ['prefix 192.0.2.0/24: is not in the list', 'xlb filter list'],
  },
  {
    what: 'a list with wrong lines',
    argv: ['filter', 'load', '-'],
    input: 'deny 192.0.2.0/24\ndeny 192.0.2.1/24\nallow\n',
    code: 1,
    says: ['nothing was changed', 'line 2: ', 'write 192.0.2.0/24', 'line 3: '],
  },
  {
    what: 'a list that contradicts itself',
    argv: ['filter', 'load', WEB, '-'],
    input: 'deny 192.0.2.0/24\nallow 192.0.2.0/24\n',
    code: 1,
    says: ['line 2: says of a prefix the opposite of line 1'],
  },
  {
    what: 'a list that is not there',
    argv: ['filter', 'load', '/nowhere/list'],
    code: 1,
    says: ['/nowhere/list: cannot be read', 'deny 198.51.100.0/24'],
  },
  {
    what: 'more prefixes than there is room for',
    argv: ['filter', 'load', '-'],
    input: Array.from({ length: 131_073 }, (_, i) => `deny 10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`).join('\n'),
    code: 1,
    says: [
      'the table of prefixes is full: 131073 are wanted, and it holds 131072',
      'nothing was changed',
      '--prefixes',
    ],
  },
  {
    what: 'set of an unknown service',
    argv: ['service', 'set', UNKNOWN],
    code: 1,
    says: [`${UNKNOWN} does not exist`, 'xlb list'],
  },
  { what: 'rm of an unknown service', argv: ['service', 'rm', UNKNOWN], code: 1, says: [`${UNKNOWN} does not exist`] },
  {
    what: 'a backend of an unknown service',
    argv: ['backend', 'set', UNKNOWN, '10.89.0.21'],
    code: 1,
    says: [`${UNKNOWN} does not exist`],
  },
  {
    what: 'drain of an unknown backend',
    argv: ['backend', 'drain', WEB, '10.89.0.22'],
    code: 1,
    says: ['backend 10.89.0.22', 'does not exist', '10.89.0.21'],
  },
  {
    what: 'maint of an unknown backend',
    argv: ['backend', 'maint', WEB, '10.89.0.22'],
    code: 1,
    says: ['backend 10.89.0.22', 'does not exist', '10.89.0.21'],
  },
  {
    what: 'rm of an unknown backend',
    argv: ['backend', 'rm', WEB, '10.89.0.22'],
    code: 1,
    says: ['backend 10.89.0.22', 'does not exist'],
  },
  {
    what: 'rm --flows cut where flows are not known',
    argv: ['backend', 'rm', HASHED_UDP, '10.89.0.21', '--flows', 'cut'],
    code: 1,
    says: ['backend 10.89.0.21', 'a hashed UDP service does not know its flows', '--flows move, or --flows keep'],
  },
  {
    what: 'list of an unknown service',
    argv: ['list', UNKNOWN],
    code: 1,
    says: [`${UNKNOWN} does not exist`, 'xlb list'],
  },
  {
    what: 'connections of an unknown service',
    argv: ['connections', UNKNOWN],
    code: 1,
    says: [`${UNKNOWN} does not exist`, 'xlb list'],
  },
  {
    what: "connections of a backend that is another service's",
    argv: ['connections', WEB, '--backend', '10.89.0.22'],
    code: 1,
    says: [`backend 10.89.0.22 of ${WEB} does not exist`, '10.89.0.21'],
  },
  {
    what: 'connections of a backend that no service has',
    argv: ['connections', '--backend', '10.89.0.99'],
    code: 1,
    says: ['backend 10.89.0.99 does not exist in any service', 'xlb list'],
  },
  {
    what: 'trace at an interface that is not attached',
    argv: ['trace', 'tcp', '10.89.0.1:40000', '10.89.0.100:80', '--interface', 'eth9'],
    code: 1,
    says: ['not attached to eth9', 'eth0'],
  },
  {
    what: 'a VIP as a backend',
    argv: ['backend', 'set', WEB, '10.89.0.100'],
    code: 1,
    says: ['10.89.0.100', 'is a VIP itself', 'by its own address'],
  },
  {
    what: 'a backend as a VIP',
    argv: ['service', 'add', 'tcp://10.89.0.21:80'],
    code: 1,
    says: ['10.89.0.21', 'is a VIP itself'],
  },
  {
    what: 'a prefix that holds a backend',
    argv: ['service', 'add', 'tcp://10.89.0.0/27:80', '--scheduler', 'dh'],
    code: 1,
    says: ['backend 10.89.0.21', 'is in 10.89.0.0/27, which is a service'],
  },
  {
    what: 'an interface that is attached',
    argv: ['attach', 'eth0'],
    code: 1,
    says: ['attached to eth0 already', 'xlb detach eth0'],
  },
  { what: 'the loopback', argv: ['attach', 'lo'], code: 1, says: ['lo is the loopback', 'eth0'] },
  {
    what: 'detach of an interface that is not attached',
    argv: ['detach', 'eth9'],
    code: 1,
    says: ['not attached to eth9', 'eth0'],
  },
  {
    what: 'a file that is missing',
    argv: ['restore', '/nonexistent/xlb.yaml'],
    code: 1,
    says: ['/nonexistent/xlb.yaml', 'cannot be read', 'xlb save'],
  },
  { what: 'a folder in place of a file', argv: ['restore', '/'], code: 1, says: ['/: cannot be read', 'xlb save'] },
  {
    what: 'a place that cannot be written',
    argv: ['save', '--output', '/nonexistent/xlb.yaml'],
    code: 1,
    says: ['/nonexistent/xlb.yaml'],
  },
]

for (const wrong of BAD_WORLD) {
  labTest(`refused with exit code 1: ${wrong.what}`, (t) => refuses(t, lab, wrong))
}

const FAULTY = `
services:
  - service: tcp://10.89.0.101:70000
    backends: []
  - service: tcp://10.89.0.102:80
    ring-size: 1000
    backends:
      - { address: 10.89.0.300 }
      - { address: 10.89.0.22 }
      - { address: 10.89.0.22 }
  - { service: "tcp://10.89.0.103:80", backends: [ { address: 10.89.0.102 } ] }
  - { service: "tcp://10.89.0.104:80" }
  - { service: "tcp://10.89.0.104:80" }
`

const RANGES = `
services:
  - { service: "tcp://10.89.0.100:1000-1999" }
  - { service: "tcp://10.89.0.100:1999-2999" }
  - { service: "tcp://10.89.0.100:1500-1600" }
  - { service: "udp://10.89.0.100:1500-1600", backends: [ { address: "10.89.0.21:1500" } ] }
  - { service: "tcp://10.89.0.100:53", ops: true }
`

const MISTYPED = `
interfaces: [ { name: eth0, mode: fast } ]
limits: { services: many }
services:
  - { service: "tcp://10.89.0.101:80", sheduler: rr }
  - { service: "tcp://10.89.0.101:81", scheduler: fastest, backends: [ { address: 10.89.0.22, weight: 70000 } ] }
  - { service: "tcp://10.89.0.101:82", seed: 12345 }
  - { backends: [] }
`

const BAD_FILES: readonly Wrong[] = [
  {
    what: 'a file with several faults, all of them named',
    argv: ['restore', '-'],
    input: FAULTY,
    code: 1,
    says: [
      'nothing was changed',
      /^ {7}-:3:14: services\[0\]\.service: .*port 70000 exceeds 65535/m,
      /services\[1\]\.ring-size: .*ring size 1000 is not a prime/,
      /services\[1\]\.backends\[0\]\.address: .*'10\.89\.0\.300' is neither an IPv4 nor an IPv6 address/,
      /-:10:9: services\[1\]\.backends\[2\]: .*10\.89\.0\.22.*is there twice/,
      /services\[2\]\.backends\[0\]: .*10\.89\.0\.102.*is a VIP itself/,
      /services\[4\]\.service: tcp:\/\/10\.89\.0\.104:80 is there twice/,
    ],
  },
  {
    what: 'a file with ranges that overlap, all of them named',
    argv: ['restore', '-'],
    input: RANGES,
    code: 1,
    says: [
      'nothing was changed',
      /services\[2\]\.service: .*:1500-1600: overlaps .*:1000-1999: both have ports 1500-1600; give each port to one range/,
      /services\[1\]\.service: .*:1999-2999: overlaps .*:1000-1999: both have port 1999;/,
      /services\[3\]\.backends\[0\]\.address: .*has ports 1500-1600.*leave the port out/,
      /services\[4\]\.ops: .*one-packet scheduling would spread the segments/,
    ],
  },
  {
    what: 'a file with keys and values of the wrong kind, all of them named',
    argv: ['restore', '-'],
    input: MISTYPED,
    code: 1,
    says: [
      /interfaces\[0\]/,
      /limits\.services/,
      /services\[0\].*sheduler/,
      /services\[1\]\.scheduler/,
      /services\[1\]\.backends\[0\]\.weight/,
      /services\[2\]\.seed/,
      /services\[3\]\.service/,
      'nothing was changed',
    ],
  },
  { what: 'malformed YAML', argv: ['restore', '-'], input: 'services: [ {', code: 1, says: ['-: ', /mend/] },
  {
    what: 'malformed JSON',
    argv: ['restore', '-'],
    input: '{ "services": ',
    code: 1,
    says: ['-:1:15: ', /YAML/, /mend/],
  },
  { what: 'a file that is a list', argv: ['restore', '-'], input: '- a\n- b\n', code: 1, says: ['-:1:1: ', /mapping/] },
  { what: 'a file that is a number', argv: ['restore', '-'], input: '42\n', code: 1, says: ['-:1:1: ', /mapping/] },
]

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
