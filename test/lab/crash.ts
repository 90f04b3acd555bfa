// SPDX-License-Identifier: Apache-2.0
// Kills verbs at random points, by the thousand: each leaves the state before it or the state after it, what packets go by
// is sound, and the next verb works. On the director of a lab, with an attached instance that has one service:
//
//   lab-net exec PREFIX director node --single-threaded --import tsx test/lab/crash.ts INSTANCE KILLS SEED BACKEND=MAC...
//
// Each verb runs in a forked child (fork.c). A kill waits for nothing; or until the child has let all packets pass that came
// before (most of a verb's time, in which the kernel takes no signal); or until it is about to commit. Then it waits for a
// time drawn evenly from what the verb takes from there.
// Prints a line of JSON; exits 1 where there are faults.
import { parseMac } from '../../src/core/address.ts'
import { type DesiredState, isLeaving, type Path, type Service } from '../../src/core/desired.ts'
import { AF } from '../../src/core/ip.ts'
import { sameService } from '../../src/core/plan.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { loadNative } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'
import { changeState, type Session, withSession } from '../../src/shell/session.ts'
import { planeFaults } from './crash-plane.ts'
import { randomFrom, type Verb, Verbs } from './crash-verbs.ts'
import { inChild } from './fork.ts'

const [instance = '', killsText = '', seedText = '', ...backends] = process.argv.slice(2)
const macs = new Map(backends.map((each) => each.split('=') as [string, string]))
const kills = Number(killsText)
const seed = Number(seedText)
const REFUSED = 3

const native = loadNative()
const paths = pathsOf(instance)

/** How far a child had come when it was killed: its last mark. */
const STAGES = {
  '': 'before the verb began',
  b: 'taking the lock, reading, waiting for packets',
  w: 'building',
  c: 'at the commit or after it',
  d: 'after the verb had ended',
  r: 'after the verb was refused',
} as const

/** Killed in them, a verb was under way. */
const AMID: readonly (keyof typeof STAGES)[] = ['b', 'w', 'c']

/** Runs a verb as the command line does. */
const run = (verb: Verb, mark: (letter: string) => void = () => {}): number =>
  withSession(native, paths, (session: Session) => {
    const { plane } = session
    const wait = plane.waitForPrograms.bind(plane)
    plane.waitForPrograms = () => {
      wait()
      mark('w')
    }
    try {
      changeState(
        session,
        (state, resolver) => {
          const found = resolver.resolve(verb.asks)
          return verb.apply(state, (address): Path => found.get(address) ?? { kind: 'unresolved', why: 'not asked' })
        },
        () => mark('c'),
      )
      return 0
    } catch (error) {
      if (error instanceof Refusal) return REFUSED
      throw error
    }
  })

/** The state as a fresh reader finds it, and what is unsound about it. */
const read = (): { state: DesiredState; faults: string[] } => {
  const plane = openPlaneAt(native, paths.pins)
  try {
    const live = readLive(plane)
    return { state: live.desired, faults: planeFaults(plane, live) }
  } finally {
    plane.close()
  }
}

/** But for backends that leave: each verb takes those out that have no flows any more. */
const sameState = (a: DesiredState, b: DesiredState): boolean =>
  a.size === b.size &&
  [...a].every(([name, service]) => {
    const other = b.get(name)
    return other !== undefined && sameService(withoutLeaving(service), withoutLeaving(other))
  })

const withoutLeaving = (service: Service): Service => ({
  ...service,
  backends: service.backends.filter((backend) => !isLeaving(backend)),
})

const pathOf = (address: string): Path => ({
  kind: 'link',
  mac: parseMac(macs.get(address) ?? ''),
  interfaceSlot: 0,
})

const MARKS = ['', 'w', 'c'] as const
type Mark = (typeof MARKS)[number]

/** Mean times that a kind of verb takes, from the fork or a mark on, microseconds. */
class Durations {
  readonly #means = new Map<string, number>()

  of(kind: string, mark: Mark): number {
    return this.#means.get(`${mark} ${kind}`) ?? { '': 30_000, w: 3_000, c: 1_000 }[mark]
  }

  note(kind: string, mark: Mark, microseconds: number): void {
    this.#means.set(`${mark} ${kind}`, 0.7 * this.of(kind, mark) + 0.3 * microseconds)
  }
}

const random = randomFrom(seed)
const { state: first } = read()
const [spared = ''] = first.keys()
const verbs = new Verbs(random, [...macs.keys()], spared)
const durations = new Durations()
const stages: Record<string, number> = {}
const kinds: Record<string, number> = {}
const services: Record<string, number> = {}
/** `outside`: killed before the verb began or after it had ended, which counts for nothing. */
const counts = { kills: 0, outside: 0, before: 0, after: 0, refused: 0, endedByItself: 0 }
const faults: string[] = []
const started = process.hrtime.bigint()
let state = first

for (let round = 0; counts.kills < kills && faults.length < 10; round++) {
  const verb = verbs.draw(state)
  const before = state
  const after = verb.apply(before, pathOf)
  const mark = MARKS[round % MARKS.length] ?? ''
  // Now and then one may end, to tell how long it takes.
  const measured = Math.floor(round / MARKS.length) % 12 === 0
  const microseconds = measured ? undefined : random() * durations.of(verb.kind, mark)
  const ended = inChild(
    (say) => {
      say('b')
      const code = run(verb, say)
      say(code === 0 ? 'd' : 'r')
      return code
    },
    { mark, microseconds },
  )
  const where = `round ${round}, ${verb.kind}, marks '${ended.marks}'`
  const stage = (ended.marks.at(-1) ?? '') as keyof typeof STAGES
  const isAmid = ended.code === undefined && AMID.includes(stage)
  if (isAmid) {
    counts.kills++
    kinds[verb.kind] = (kinds[verb.kind] ?? 0) + 1
    if (verb.of !== undefined) services[verb.of] = (services[verb.of] ?? 0) + 1
  }
  if (ended.code === undefined) {
    stages[STAGES[stage]] = (stages[STAGES[stage]] ?? 0) + 1
    if (!isAmid) counts.outside++
  } else if (ended.code === REFUSED) counts.refused++
  else if (ended.code === 0) {
    if (microseconds === undefined) durations.note(verb.kind, mark, ended.microseconds)
    else counts.endedByItself++
  } else faults.push(`${where}: the verb failed with ${ended.code}`)

  const now = read()
  faults.push(...now.faults.map((fault) => `${where}: ${fault}`))
  const isBefore = sameState(now.state, before)
  const isAfter = sameState(now.state, after)
  if (!isBefore && !isAfter) faults.push(`${where}: neither the state before nor the state after`)
  if (isAfter && !ended.marks.includes('c')) faults.push(`${where}: changed before its commit`)
  if (isBefore && ended.marks.includes('d')) faults.push(`${where}: ended without its change`)
  if (isAmid) counts[isAfter ? 'after' : 'before']++

  // The next verb, on what the kill has left.
  const next = verbs.draw(now.state)
  const wanted = next.apply(now.state, pathOf)
  const code = run(next)
  const then = read()
  faults.push(...then.faults.map((fault) => `${where}, then ${next.kind}: ${fault}`))
  const reached = code === REFUSED ? now.state : wanted
  if (!sameState(then.state, reached)) faults.push(`${where}: ${next.kind} after it came to another state`)
  state = then.state
}

const managed = [AF.ipv4, AF.ipv6]
  .flatMap((family) => native.netlink.neighbours(family))
  .filter((each) => each.managed).length
const seconds = Number(process.hrtime.bigint() - started) / 1e9
console.log(
  JSON.stringify({ ...counts, seed, seconds: Math.round(seconds * 10) / 10, stages, kinds, services, managed, faults }),
)
process.exitCode = faults.length > 0 ? 1 : 0
