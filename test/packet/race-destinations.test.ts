// SPDX-License-Identifier: Apache-2.0
// Two CPUs note the same few destinations of lblc and lblcr in two buckets, whose notes end, shrink and give way all the time. What
// bpf/destination.h says prevents that a note is half of one moment and half of another is that a writer claims it first.
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Destination, DestinationLimit, DestinationState, DestinationValue } from '../../src/dataplane/layout.gen.ts'
import { loadProgram } from '../../src/shell/load.ts'
import { bpfFileSystem } from '../native/setup.ts'
import { miscounted } from './counted.ts'
import { tcpFrame } from './frames.ts'
import { Balancer, FAST_CLOCK } from './plane.ts'
import { compile, type Edit, readResult, runOn, SLOW, writeFlows } from './race.ts'

const SERVICE = 'tcp://192.0.2.0/24:80'
const BACKENDS = 12
const MILLISECONDS = 2500
const PATIENCE = 16
const SCHEDULERS = ['lblc', 'lblcr'] as const

interface Result {
  packets: number
  other: number
  /** Notes that were looked at while packets ran, and those of them that no writer meant. */
  looked: number
  torn: number
  example: string
  /** Claimed by nobody, when all is over. */
  leftClaimed: number
  miscounted: string[]
}

const field = (value: bigint, shift: number, mask: number): number => Number((value >> BigInt(shift)) & BigInt(mask))

/** The backends of each note that did not change while it was read. */
const readNotes = (words: BigUint64Array): number[][] => {
  const notes: number[][] = []
  for (let at = 0; at < words.length; at += Destination.size / 8) {
    const value = Atomics.load(words, at + Destination.offset.value / 8)
    const pair = [0, 1].map((i) => Atomics.load(words, at + Destination.offset.backend / 8 + i))
    if (Atomics.load(words, at + Destination.offset.value / 8) !== value) continue
    if (field(value, 0, DestinationValue.DESTINATION_STATE_MASK) <= DestinationState.DESTINATION_CLAIMED) continue
    const count = field(value, DestinationValue.DESTINATION_COUNT_SHIFT, DestinationValue.DESTINATION_COUNT_MASK)
    notes.push(Array.from({ length: count }, (_, i) => field(pair[i >> 2] ?? 0n, 16 * (i & 3), 0xffff)))
  }
  return notes
}

/** Would a writer have written it? */
const isWhole = (note: readonly number[], scheduler: (typeof SCHEDULERS)[number]): boolean =>
  note.length >= 1 &&
  note.length <= (scheduler === 'lblc' ? 1 : DestinationLimit.DESTINATION_BACKENDS) &&
  new Set(note).size === note.length &&
  note.every((backend) => backend < BACKENDS)

const race = async (
  t: ExecutionContext,
  path: string,
  scheduler: (typeof SCHEDULERS)[number],
  patience = 1,
): Promise<Result> => {
  const balancer = new Balancer({
    capacity: { flows6: 4, destinations: 4, backends: 64, services: 4 },
    settings: { ageShift: FAST_CLOCK, timeout: new Array<number>(16).fill(1), destinationTimeout: 1 },
    load: (native, maps, slot, settings) => loadProgram(native, maps, slot, settings, { programFile: path }),
  })
  t.teardown(() => balancer.close())
  const backends = Object.fromEntries(Array.from({ length: BACKENDS }, (_, i) => [i + 1, { weight: 1 }]))
  balancer.add(SERVICE, { scheduler }, backends)
  writeFlows(
    balancer,
    Array.from({ length: 16 }, (_, i) => ({
      source: `203.0.113.${i}`,
      sourcePort: 1024 + i,
      vip: `192.0.2.${i % 6}`,
      check: 0n,
      backends: [1, 1],
    })),
  )
  const program = balancer.object.program('race')
  const pin = join(bpfFileSystem(t), 'race')
  program.pin(pin)
  program.close()
  const words = new BigUint64Array(balancer.plane.buffer('destinations'))
  const result = { looked: 0, torn: 0, example: '' }
  for (let turn = 0; turn < patience && result.torn === 0; turn++) {
    let running = true
    const runs = Promise.all([0, 1].map((cpu) => runOn(cpu, pin, tcpFrame(), MILLISECONDS))).finally(() => {
      running = false
    })
    while (running) {
      for (let i = 0; i < 200; i++) {
        for (const note of readNotes(words)) {
          result.looked++
          if (isWhole(note, scheduler)) continue
          result.torn++
          result.example = note.join()
        }
      }
      await new Promise((resolve) => void setTimeout(resolve, 1))
    }
    await runs
  }
  const { packets, other } = readResult(balancer)
  const states = Array.from({ length: words.length / 4 }, (_, i) =>
    field(words[4 * i + Destination.offset.value / 8] ?? 0n, 0, DestinationValue.DESTINATION_STATE_MASK),
  )
  const leftClaimed = states.filter((state) => state === DestinationState.DESTINATION_CLAIMED).length
  return { packets, other, ...result, leftClaimed, miscounted: miscounted(balancer) }
}

for (const scheduler of SCHEDULERS) {
  for (const [pace, edits] of [
    ['at full speed', []],
    ['with pauses between the accesses to a note', SLOW],
  ] as const) {
    test.serial(
      `${scheduler}: two CPUs note the same destinations, ${pace}: each note is one that was meant`,
      async (t) => {
        t.timeout(120_000)
        const result = await race(t, compile('destinations', edits, { any: true }), scheduler)
        t.log(result)
        t.is(result.torn, 0, result.example)
        t.is(result.other, 0, 'every packet has a backend')
        t.is(result.leftClaimed, 0)
        t.deepEqual(result.miscounted, [])
        t.true(result.packets > 50_000)
        t.true(result.looked > 1000)
      },
    )
  }
}

/** The value is there before the backends are. */
const NO_CLAIM: Edit = [
  'destination.h',
  'search->value, DESTINATION_CLAIMED) == search->value)',
  'search->value, value) == search->value)',
]

test.serial('this test can fail: it notices a set whose value comes before its backends', async (t) => {
  t.timeout(180_000)
  const result = await race(t, compile('destinations-no-claim', [...SLOW, NO_CLAIM], { any: true }), 'lblcr', PATIENCE)
  t.log(result)
  t.true(result.torn > 0)
})
