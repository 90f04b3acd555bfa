// SPDX-License-Identifier: Apache-2.0
// What a reload cannot make so is told, with how to: sizes, modes, the API.
import test from 'ava'
import type { Config } from '../../src/config/reading.ts'
import { type InForce, pendingOf } from '../../src/daemon/pending.ts'
import type { Capacity } from '../../src/dataplane/memory.ts'
import { DEFAULT_CAPACITY } from '../../src/shell/load.ts'

type Said = Pick<Config, 'api' | 'capacity' | 'interfaces'>

const FILE = 'xlb.yaml'
const NOTHING: Said = { api: { listen: [] }, capacity: {}, interfaces: [] }
const IN_FORCE: InForce = { api: { listen: [] }, capacity: DEFAULT_CAPACITY, interfaces: [] }

const told = (said: Partial<Said>, inForce: Partial<InForce> = {}, before: (keyof Capacity)[] = []) => {
  const names = new Set([...before, ...(Object.keys(said.capacity ?? {}) as (keyof Capacity)[])])
  return pendingOf(FILE, { ...NOTHING, ...said }, names, { ...IN_FORCE, ...inForce })
}

const whats = (...args: Parameters<typeof told>): string[] => told(...args).map(({ what }) => what)

test('where all is in force there is nothing to tell', (t) => {
  t.deepEqual(told({}), [])
  t.deepEqual(told({ capacity: { flows: DEFAULT_CAPACITY.flows, prefixFlows6: DEFAULT_CAPACITY.prefixFlows6 } }), [])
})

test('sizes are compared as they would be made: a power of two', (t) => {
  const capacity = { ...DEFAULT_CAPACITY, flows: 65_536, services: 16 }
  t.deepEqual(told({ capacity: { flows: 65_536, services: 9 } }, { capacity }), [])
  t.deepEqual(told({ capacity: { flows: 65_537, services: 17, prefixFlows6: 131_072 } }, { capacity }), [
    {
      what: 'not in force yet, but once xlb is attached anew: limits of xlb.yaml: flows 131,072 (now 65,536), services 32 (now 16), prefix-flows6 131,072 (now 65,536)',
      mend: 'when flows may end: systemctl stop xlb; xlb detach --all; systemctl start xlb. What verbs changed is remembered',
    },
  ])
})

test('a size that the file had and has no more would be the default; one that it never had is whoever attached’s', (t) => {
  const capacity = { ...DEFAULT_CAPACITY, flows: 65_536 }
  t.deepEqual(told({}, { capacity }), [])
  t.regex(whats({}, { capacity }, ['flows'])[0] ?? '', / flows 2,097,152 \(now 65,536\)$/)
})

test('before anything is attached no size is another', (t) => {
  t.deepEqual(told({ capacity: { flows: 65_536 } }, { capacity: undefined }), [])
})

test('of the API the keys are told that differ, and no token', (t) => {
  const have = { group: 'ops', listen: ['127.0.0.1:9618'], token: 'correct-horse-battery' }
  t.deepEqual(told({ api: { ...have } }, { api: have }), [])
  t.deepEqual(whats({ api: { ...have, token: 'incorrect-horse-battery' } }, { api: have }), [
    'not in force yet, but once the daemon is started again: api.token of xlb.yaml',
  ])
  t.regex(whats({ api: { listen: [] } }, { api: have })[0] ?? '', /: api\.group, api\.listen, api\.token of xlb\.yaml$/)
  t.regex(told({ api: { listen: [] } }, { api: have })[0]?.mend ?? '', /systemctl restart xlb/)
})

test('an attached interface keeps its mode; auto is content with each', (t) => {
  const interfaces = [
    { name: 'eth0', mode: 'native' },
    { name: 'eth1', mode: 'generic' },
  ]
  const said: Config['interfaces'] = [
    { name: 'eth0', mode: 'generic' },
    { name: 'eth1', mode: 'auto' },
    { name: 'eth2', mode: 'native' },
  ]
  t.deepEqual(told({ interfaces: said }, { interfaces }), [
    {
      what: 'not in force yet, but once it is attached anew: eth0 in generic mode, as xlb.yaml says (now native)',
      mend: 'when flows may end: systemctl stop xlb; xlb detach eth0; systemctl start xlb. What verbs changed is remembered',
    },
  ])
})
