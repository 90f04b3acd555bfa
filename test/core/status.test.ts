// SPDX-License-Identifier: Apache-2.0
// What is wrong with an instance as a whole, and since when.
import test from 'ava'
import { type DaemonFacts, type Facts, problemsOf } from '../../src/core/status.ts'
import { backend, service } from '../daemon/maps.ts'

const SERVICE = 'tcp://192.0.2.10:80'

const DAEMON: DaemonFacts = {
  pid: 1,
  startedMs: 1,
  file: 'xlb.yaml',
  loadedMs: 1,
  refused: null,
  unmade: null,
  missing: [],
  sharedMacs: [],
  changed: [],
  pending: [],
}

const WELL: Facts = {
  interfaces: [{ name: 'eth0', attached: true, fault: null }],
  egress: [],
  tables: [],
  services: [],
  daemon: DAEMON,
}

const told = (facts: Partial<Facts>, daemon: Partial<DaemonFacts> = {}): string[] =>
  problemsOf({ ...WELL, daemon: { ...DAEMON, ...daemon }, ...facts }).map(
    ({ severity, what, sinceMs, mend }) => `${severity} ${sinceMs}: ${what}; ${mend}`,
  )

test('where all is well there is nothing to tell', (t) => {
  t.deepEqual(told({}), [])
})

test('a service that takes no new flow is so since the last of its backends went', (t) => {
  const backends = [backend(21, { admin: 'drain' }), backend(22, { admin: 'maint' })]
  const facts = { full: false, unreached: null, found: undefined }
  const [first] = told({
    services: [
      {
        service: service(backends),
        backends: [
          { ...facts, address: '192.0.2.21', sinceMs: 7000 },
          { ...facts, address: '192.0.2.22', sinceMs: 5000 },
        ],
      },
    ],
  })
  t.is(first, `down 7000: ${SERVICE} takes no new flow: no backend does; see its backends below`)
  const [empty] = told({ services: [{ service: service([]), backends: [] }] })
  t.regex(empty ?? '', /^down null: .* it has no backend; xlb backend set/)
})

test('an interface that is missing, a refused reload, and maps that could not be made are told since when they are so', (t) => {
  t.deepEqual(
    told(
      { interfaces: [] },
      {
        missing: [{ name: 'eth0', why: 'eth0 does not exist', sinceMs: 3000 }],
        refused: { why: '1 fault', sinceMs: 4000 },
        unmade: { why: 'the table of services is full', sinceMs: 2000 },
      },
    ),
    [
      'down 3000: eth0 is not attached: eth0 does not exist; no packet is balanced there; see to the interface; the daemon attaches it as soon as it can',
      'down 2000: what is attached is new, and does not hold what was loaded: the table of services is full; see to that; the daemon tries it again each second',
      'degraded 4000: the last reload was refused, and the configuration before it is in force: 1 fault; xlb check -c xlb.yaml, then xlb reload',
    ],
  )
})

test('a table that is full, and one that is nearly so, is made larger in the file where a daemon runs', (t) => {
  const tables = [
    { name: 'services', used: 4, capacity: 4, option: '--services' },
    { name: 'backends', used: 91, capacity: 100, option: '--backends' },
    { name: 'flows', used: 90, capacity: 100, option: '--flows' },
  ]
  t.deepEqual(told({ tables }), [
    'degraded null: the table of services is full: 4 of 4; set limits.services in xlb.yaml to more; then: systemctl stop xlb, xlb detach --all, systemctl start xlb',
    'degraded null: the table of backends is nearly full: 91 of 100; set limits.backends in xlb.yaml to more; then: systemctl stop xlb, xlb detach --all, systemctl start xlb',
  ])
  t.regex(told({ tables, daemon: null })[0] ?? '', /save, detach, and attach again with a larger --services$/)
})
