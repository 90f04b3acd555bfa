// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import {
  BPF_F_MMAPABLE,
  BPF_MAP_TYPE_ARRAY,
  type PinnedTable,
  tableFaults,
  versionFault,
} from '../../src/dataplane/contract.ts'
import { Contract } from '../../src/dataplane/layout.gen.ts'
import { elementsFor, MAPPED, type MappedName } from '../../src/dataplane/memory.ts'

const BPF_MAP_TYPE_DEVMAP = 14
/** The kernel sets it for every DEVMAP. */
const BPF_F_RDONLY_PROG = 128

/** The tables and maps that attach makes, some of them changed. */
const tables = (changed: Record<string, Partial<PinnedTable> | undefined> = {}): Map<string, PinnedTable> => {
  const elements = elementsFor({ services: 100, backends: 1000, flows: 5000, flows6: 5000 }, 3)
  const made = new Map(
    (Object.keys(MAPPED) as MappedName[]).map((name): [string, PinnedTable] => [
      name,
      {
        type: BPF_MAP_TYPE_ARRAY,
        keySize: 4,
        valueSize: elements[name] * MAPPED[name],
        maxEntries: 1,
        flags: BPF_F_MMAPABLE,
      },
    ]),
  )
  made.set('sweep', { type: BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 24, maxEntries: 1, flags: 0 })
  made.set('egress', { type: BPF_MAP_TYPE_DEVMAP, keySize: 4, valueSize: 4, maxEntries: 64, flags: BPF_F_RDONLY_PROG })
  for (const [name, change] of Object.entries(changed)) {
    const table = made.get(name) ?? { type: 2, keySize: 4, valueSize: 64, maxEntries: 1, flags: BPF_F_MMAPABLE }
    if (change === undefined) made.delete(name)
    else made.set(name, { ...table, ...change })
  }
  return made
}

test('the tables that attach makes fit, whatever their sizes', (t) => {
  t.deepEqual(tableFaults(tables()), [])
})

test('a table that is missing, or that this xlb does not know, is named', (t) => {
  t.deepEqual(tableFaults(tables({ cursors: undefined, flows7: {}, constructor: {} })), [
    'table cursors: is not there',
    'table flows7: is not known to this xlb',
    'table constructor: is not known to this xlb',
  ])
})

test('a table whose elements have another size is named with both sizes', (t) => {
  const bytes = (tables().get('services')?.valueSize ?? 0) * 3
  t.deepEqual(tableFaults(tables({ services: { valueSize: bytes } })), [
    `table services: has ${bytes} octets, which is no power of two of elements of ${MAPPED.services}`,
  ])
  t.deepEqual(tableFaults(tables({ root: { valueSize: 4096 }, settings: { valueSize: 128 } })), [
    `table root: has 4096 octets, not ${MAPPED.root}`,
    `table settings: has 128 octets, not ${MAPPED.settings}`,
  ])
})

test('a table of another kind of map is named', (t) => {
  t.deepEqual(
    tableFaults(tables({ flows: { type: 1 }, rings: { maxEntries: 2 }, backends: { keySize: 8 }, cpus: { flags: 0 } })),
    [
      'table rings: has 2 values with keys of 4 octets, not one with a key of 4',
      'table backends: has 1 values with keys of 8 octets, not one with a key of 4',
      'table flows: is of map type 1, not 2 (ARRAY)',
      'table cpus: cannot be mapped into memory',
    ],
  )
})

test('a map that is no table has to be there, of its own kind; its number of entries is free', (t) => {
  t.deepEqual(tableFaults(tables({ egress: { flags: 0, maxEntries: 8 } })), [])
  t.deepEqual(tableFaults(tables({ egress: undefined })), ['map egress: is not there'])
  t.deepEqual(tableFaults(tables({ egress: { type: 25, valueSize: 8, flags: 1 } })), [
    'map egress: its type is 25, not 14, its valueSize is 8, not 4, its flags is 1, not 0',
  ])
})

test('tables that are read by one index have equally many elements', (t) => {
  t.deepEqual(tableFaults(tables({ service_details: { valueSize: MAPPED.service_details } })), [
    'tables services and service_details: have 256 and 1 elements, not equally many',
  ])
})

test('a contract of another version is said to be so, with both versions', (t) => {
  const ours = Contract.CONTRACT_VERSION
  t.is(versionFault(ours), undefined)
  t.is(versionFault(ours + 1), `what is pinned speaks version ${ours + 1} of the map layouts, this xlb version ${ours}`)
})
