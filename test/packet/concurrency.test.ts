// SPDX-License-Identifier: Apache-2.0
// Two CPUs insert, hit, end and push out flows in the same two buckets, of either flow table: no packet ever goes to another flow's
// backend. bpf/flow.h says what prevents it: the key is looked at again after the value, and the value bears the key's check bits.
import test from 'ava'
import { compile, type Edit, race, SLOW, SLOW_NOTES } from './race.ts'
import { RACING, type RaceKind } from './race-flows.ts'

const MILLISECONDS = 2500
/** The rarest of the faults below (it takes two inserts between two reads) was seen once to three times a run: so, up to sixteen. */
const PATIENCE = 16

/** Each takes away one of the things that flow.h relies on. */
const LOOKS_ONCE: Edit = [
  'flow.h',
  '*value = READ_WORD(flow->value);\n	return READ_WORD(flow->key) == key;',
  '*value = READ_WORD(flow->value);\n	return true;',
]
const LOOKS_ONCE_AT_SOURCES: Edit = [
  'flow.h',
  'flow_read(&flow6->flow, place->key, value) &&\n	       holds_address6(&flow6->source, place->source);',
  'flow_read(&flow6->flow, place->key, value);',
]
const LOOKS_ONCE_AT_BOTH: Edit = [
  'prefix_flow6.h',
  'flow_read(&entry->flow, key, value) && holds_addresses6(entry, source, destination);',
  'flow_read(&entry->flow, key, value);',
]
const NO_CHECK_BITS: Edit = [
  'flow.h',
  '#define FLOW_MATCH_MASK (FLOW_CHECK_BITS << FLOW_CHECK_SHIFT | 0xffffULL)',
  '#define FLOW_MATCH_MASK (0xffffULL)',
]
const COUNTS_LOSERS: Edit = [
  'record.h',
  'count_entry(place->key, value, -counts_as(flow_state(value)));\n		count(cpu, FLOW_REFUSED_RACE);',
  'count(cpu, FLOW_REFUSED_RACE);',
]
const NO_CLAIM_OF_PREFIX: Edit = [
  'record.h',
  '__sync_val_compare_and_swap(&entry->flow.value, victim, claimed) != victim',
  '__sync_val_compare_and_swap(&entry->flow.value, victim, value) != victim',
]
const NO_CLAIM: Edit = [
  'record.h',
  '__sync_val_compare_and_swap(&flow->value, victim.value, claimed) != victim.value',
  '__sync_val_compare_and_swap(&flow->value, victim.value, value) != victim.value',
]

for (const kind of Object.keys(RACING) as RaceKind[]) {
  for (const [name, alike] of [
    ['flows that both CPUs have, each with check bits of its own', false],
    ['flows of each CPU that all have the same check bits', true],
  ] as const) {
    for (const [pace, edits] of [
      ['at full speed', []],
      ['with pauses between the accesses to an entry', SLOW],
    ] as const) {
      test.serial(`${kind}: ${name}, ${pace}: none gets another's backend`, async (t) => {
        t.timeout(60_000)
        const result = await race(t, compile(`original-${kind}`, edits, { alike, kind }), {
          alike,
          kind,
          milliseconds: MILLISECONDS,
        })
        t.log(result)
        t.is(result.wrong, 0, result.example)
        t.is(result.other, 0)
        t.deepEqual(result.miscounted, [])
        t.true(result.packets > 100_000)
        t.true(result.inserted > 10_000)
      })
    }
  }
}

for (const [name, mutant, edit, alike, kind] of [
  ['a reader that does not look at the key again', 'looks-once', LOOKS_ONCE, true, 'ipv4'],
  ['a reader that does not look at the source again', 'looks-once', LOOKS_ONCE_AT_SOURCES, true, 'ipv6'],
  ['a reader that does not look at both addresses again', 'looks-once', LOOKS_ONCE_AT_BOTH, true, 'prefix6'],
  ['a writer that claims no place', 'no-claim', NO_CLAIM, true, 'ipv4'],
  ['a writer that claims no place', 'no-claim', NO_CLAIM, true, 'ipv6'],
  ['a writer that claims no place', 'no-claim', NO_CLAIM_OF_PREFIX, true, 'prefix6'],
  ['a value without check bits', 'no-check', NO_CHECK_BITS, false, 'ipv4'],
  ['a value without check bits', 'no-check', NO_CHECK_BITS, false, 'ipv6'],
] as const) {
  test.serial(`this test can fail: it notices ${name}, ${kind}`, async (t) => {
    t.timeout(90_000)
    const result = await race(t, compile(`${mutant}-${kind}`, [...SLOW, edit], { alike, kind }), {
      alike,
      kind,
      milliseconds: MILLISECONDS,
      patience: PATIENCE,
    })
    t.log(result)
    t.true(result.wrong > 0)
  })
}

test.serial(
  'this test can fail: it notices an entry that is counted although another CPU took its place',
  async (t) => {
    t.timeout(60_000)
    const edits: Edit[] = [...SLOW, COUNTS_LOSERS]
    const result = await race(t, compile('counts-losers', edits, { alike: false }), {
      alike: false,
      milliseconds: MILLISECONDS,
    })
    t.log(result)
    t.true(result.miscounted.length > 0)
  },
)

const CLIENTS = { alike: false, clients: true, milliseconds: MILLISECONDS } as const

for (const [pace, edits] of [
  ['at full speed', []],
  ['with pauses between the accesses to a note', SLOW_NOTES],
] as const) {
  test.serial(
    `clients of a persistent service that push out each other's notes, ${pace}: none follows another's`,
    async (t) => {
      t.timeout(60_000)
      const result = await race(t, compile('clients', edits, CLIENTS), CLIENTS)
      t.log(result)
      t.is(result.wrong, 0, result.example)
      t.is(result.other, 0)
      t.true(result.packets > 100_000)
      t.true(result.noted > 10_000)
    },
  )
}

/** What persist.h relies on. */
const NO_NOTE_CHECK_BITS: Edit = [
  'persist.h',
  '#define CLIENT_CHECK_BITS 0xffffffULL',
  '#define CLIENT_CHECK_BITS 0ULL',
]
const NAME_AFTER_VALUE: Edit = [
  'persist.h',
  '!client_readiness(value, now) || __sync_val_compare_and_swap(&client->value, value, claimed) != value',
  '!client_readiness(value, now) || __sync_val_compare_and_swap(&client->value, value, note) != value',
]

test.serial(
  'this test can fail: it notices notes that are published before their names, without check bits',
  async (t) => {
    t.timeout(60_000)
    // Of writes alone: with reads that call a function too, the mutant's frames exceed the stack.
    const edits = [...SLOW_NOTES.slice(1), NO_NOTE_CHECK_BITS, NAME_AFTER_VALUE]
    const result = await race(t, compile('no-note-check', edits, CLIENTS), { ...CLIENTS, patience: PATIENCE })
    t.log(result)
    t.true(result.wrong > 0)
  },
)
