// SPDX-License-Identifier: Apache-2.0
// Random changes of configuration, as verbs make them.
import { parseBackend, parseService } from '../../src/core/address.ts'
import {
  choosesByDestination,
  type DesiredState,
  type HashInput,
  isHashed,
  isLeaving,
  type Scheduler,
  type Service,
} from '../../src/core/desired.ts'
import type { Health } from '../../src/core/health.ts'
import { beforePort, familyOf } from '../../src/core/ip.ts'
import { FLOW_FATES, removeBackend } from '../../src/core/leaving.ts'
import type { PersistenceOptions } from '../../src/core/persistence.ts'
import { isPrefix } from '../../src/core/prefix.ts'
import type { SourceRateOptions } from '../../src/core/source-rate.ts'
import { addService, removeService, type ServiceOptions, setService } from '../../src/core/verbs.ts'
import { type BackendSpec, backendAddress, GONE_SLOT, LOCAL, linkPath, UNRESOLVED, withBackend } from './plane.ts'
import type { Random } from './random.ts'
import { withRandomFilter } from './random-filter.ts'
import { BACKENDS, PORTS, PREFIXES, PREFIXES6, VIPS, VIPS6 } from './random-frames.ts'

const SERVICES_MAX = 48

export interface ChangeOptions {
  /** Bounds on the connections of a source too: RATE_CLOCK for the program, and pass() for both. */
  rates?: boolean
}

const BY_TURN: readonly Scheduler[] = ['rr', 'wrr']
const TRACKED: readonly Scheduler[] = [...BY_TURN, 'lc', 'wlc', 'sed', 'nq']
const HASHED: readonly Scheduler[] = ['mh', 'sh', 'mh', 'sh']
const HASHES: readonly HashInput[] = ['source', 'source-port']
const HASHED_OF_PREFIXES: readonly Scheduler[] = [...HASHED, 'dh', 'dh', 'dh']
const TRACKED_OF_PREFIXES: readonly Scheduler[] = [...TRACKED, 'lblc', 'lblcr', 'lblc', 'lblcr']

/** Services of one group have the same terms. */
const PERSISTENCES: readonly PersistenceOptions[] = [
  { persist: 300 },
  { persist: 60, persistMask: 30, persistMask6: 125, drainPersistence: 'cut' },
  { persist: 300, persistMask: 28, persistMask6: 64, group: 'one' },
  { persist: 300, persistMask: 28, persistMask6: 64, group: 'one' },
  { persist: 600, persistMask: 32, drainPersistence: 'cut', group: 'two' },
]

/** Powers of two: the reference counts in seconds, and its sums shall be exact. */
const RATES: readonly SourceRateOptions[] = [
  { sourceRate: 1, sourceBurst: 2 },
  { sourceRate: 4 },
  { sourceRate: 8, sourceBurst: 1 },
  { sourceRate: 2, sourceBurst: 20 },
]

const randomRate = (random: Random, vip: string): SourceRateOptions => ({
  ...random.pick(RATES),
  sourcePrefix: random.pick(familyOf(vip) === 'ipv4' ? [32, 29, 24, 8] : [128, 125, 64, 32]),
})

const addOne = (random: Random, state: DesiredState, { rates }: ChangeOptions): DesiredState => {
  const ofPrefix = random.once(8)
  const ofVips = random.once(2) ? VIPS.slice(0, 3) : VIPS6.slice(0, 3).map(beforePort)
  const ofPrefixes = random.once(2) ? PREFIXES : PREFIXES6.map(beforePort)
  const vip = random.pick<string>(ofPrefix ? ofPrefixes : ofVips)
  const name = `${random.once(3) ? 'udp' : 'tcp'}://${vip}:${random.pick(PORTS)}`
  if (state.has(name)) return state
  const ops = name.startsWith('udp') && random.once(3)
  const tracked = ops ? BY_TURN : ofPrefix ? TRACKED_OF_PREFIXES : TRACKED
  const scheduler = random.pick([...tracked, ...(ofPrefix ? HASHED_OF_PREFIXES : HASHED)])
  const options = {
    scheduler,
    ...(!choosesByDestination({ scheduler }) && random.once(4) ? { hash: random.pick(HASHES) } : {}),
    ringSize: random.pick([31, 127, 251]),
    seed: BigInt(random.word()) * 0x100000001n,
    ops,
    ...(!ops && random.once(3) ? random.pick(PERSISTENCES) : {}),
    ...(rates === true && random.once(6) ? randomRate(random, vip) : {}),
  }
  let next = addService(state, parseService(name), options, 0n)
  for (let i = random.below(5); i > 0; i--)
    next = withBackend(next, name, 1 + random.below(BACKENDS), randomSpec(random, next, name))
  return next
}

const randomSpec = (random: Random, state: DesiredState, name: string): BackendSpec => ({
  ...(random.once(2) ? { weight: random.below(5) } : {}),
  ...(random.once(5) ? randomLimit(random, state, name) : {}),
})

/** Where no flow is recorded there may be none. */
const randomLimit = (random: Random, state: DesiredState, name: string): BackendSpec => {
  const service = state.get(name)
  if (service === undefined || service.ops || isHashed(service) || random.once(4)) return { maxConns: 'none' }
  const upper = 1 + random.below(30)
  return { maxConns: { upper, lower: random.once(2) ? 0 : 1 + random.below(upper) } }
}

/** What a service may become, as far as its limits allow. */
const choiceFor = (service: Service): readonly Scheduler[] => {
  const hashed = isPrefix(service) ? HASHED_OF_PREFIXES : HASHED
  const limited = service.backends.some(({ maxConns }) => maxConns !== undefined)
  const tracked = service.ops ? BY_TURN : isPrefix(service) ? TRACKED_OF_PREFIXES : TRACKED
  return limited ? tracked : [...tracked, ...hashed]
}

/** As a daemon may find a backend. */
const HEALTHS: readonly Health[] = [
  { alive: true, percent: 100, sinceMs: 1_800_000_000_000 },
  { alive: true, percent: 30, sinceMs: 1_800_000_001_000 },
  { alive: true, percent: 0, sinceMs: 1_800_000_002_000 },
  { alive: false, percent: 0, sinceMs: 1_800_000_003_000 },
]

const changedBackend = (random: Random, state: DesiredState, name: string): DesiredState => {
  const backend = 1 + random.below(BACKENDS)
  const address = backendAddress(backend, familyOf(parseService(name).vip))
  const found = state.get(name)?.backends.find((each) => each.address === address)
  const known = found !== undefined
  const leaving = known && isLeaving(found)
  const spec = randomSpec(random, state, name)
  switch (random.below(8)) {
    case 0:
    case 7:
      return known
        ? removeBackend(state, parseService(name), parseBackend(address, parseService(name)), random.pick(FLOW_FATES))
        : state
    case 1:
      return known && !leaving
        ? withBackend(state, name, backend, { [random.pick(['drained', 'maint'])]: true })
        : state
    case 4:
      return withBackend(state, name, backend, { ...spec, health: random.pick(HEALTHS) })
    case 2:
      return withBackend(state, name, backend, {
        ...spec,
        path: random.pick([UNRESOLVED, LOCAL, linkPath(backend, 1), linkPath(backend, GONE_SLOT)]),
      })
    case 3:
      return withBackend(state, name, backend, {
        ...spec,
        path: linkPath(backend, random.below(2), random.once(4) ? undefined : 1 + random.below(4094)),
      })
    default:
      return withBackend(state, name, backend, spec)
  }
}

const changedService = (random: Random, state: DesiredState, name: string, { rates }: ChangeOptions): DesiredState => {
  const service = state.get(name)
  if (service === undefined) return state
  if (rates === true && random.once(6)) {
    return setService(state, service, random.once(3) ? { sourceRate: 0 } : randomRate(random, service.vip))
  }
  if (!service.ops && random.once(4)) {
    const options = random.once(3) ? { persist: false as const } : random.pick(PERSISTENCES)
    return setService(state, service, service.persistence?.group === undefined ? { group: false, ...options } : options)
  }
  if (service.protocol === 'udp' && random.once(3)) return setService(state, service, { ops: !service.ops })
  if (random.once(4)) return setService(state, service, { seed: BigInt(random.word()) })
  if (random.once(8)) return setService(state, service, { hash: random.pick(HASHES) })
  return setService(state, service, { scheduler: random.pick(choiceFor(service)) })
}

/** One of each kind, so that no run is without: for either family each scheduler, each sort of ports, and whatever a service may have. */
export const everyKind = (state: DesiredState): DesiredState => {
  let next = state
  const add = (name: string, options: ServiceOptions, backends: readonly BackendSpec[]): void => {
    next = addService(next, parseService(name), { ringSize: 127, seed: 1n, ...options }, 0n)
    for (const [i, spec] of backends.entries()) next = withBackend(next, name, 1 + i, spec)
  }
  for (const vips of [VIPS, VIPS6.map(beforePort)]) {
    for (const [i, scheduler] of [...TRACKED, 'mh' as const, 'sh' as const].entries()) {
      const options = [{}, PERSISTENCES[0], { sourceRate: 1, sourceBurst: 2 }, {}][i % 4]
      const limit = i === 0 ? { maxConns: { upper: 1, lower: 0 } } : {}
      add(`tcp://${vips[i % 3]}:${PORTS[i]}`, { scheduler, ...options }, [limit, { ...limit, weight: 2 }])
    }
    add(`udp://${vips[0]}:80`, { scheduler: 'rr', ops: true }, [{}, { path: linkPath(2, GONE_SLOT) }])
    add(`udp://${vips[1]}:*`, { scheduler: 'mh' }, [{}, { path: LOCAL }])
    add(`udp://${vips[2]}:*`, { scheduler: 'rr', sourceRate: 1, sourceBurst: 20 }, [{}, {}])
  }
  // By its address alone a later fragment finds the only service of a VIP, while its ring is as it was.
  for (const vip of [VIPS[4], beforePort(VIPS6[4])]) add(`tcp://${vip}:*`, { scheduler: 'sh' }, [{}, {}])
  for (const [one, other] of [
    [PREFIXES[0], PREFIXES[3]],
    [beforePort(PREFIXES6[0]), beforePort(PREFIXES6[1])],
  ]) {
    add(`tcp://${one}:*`, { scheduler: 'dh' }, [{}, {}])
    add(`tcp://${one}:80`, { scheduler: 'lblc' }, [{}, { weight: 2 }, {}])
    add(`tcp://${other}:80`, { scheduler: 'lblcr' }, [{}, { weight: 2 }, {}])
    add(`tcp://${other}:81`, { scheduler: 'lblc', ...PERSISTENCES[0] }, [{}, {}])
  }
  return next
}

/** After everyKind: each first service of a family has a backend whose flows are cut. */
export const everyFate = (state: DesiredState): DesiredState =>
  [VIPS[0], beforePort(VIPS6[0])].reduce((next, vip) => {
    const service = parseService(`tcp://${vip}:${PORTS[0]}`)
    const address = backendAddress(2, familyOf(service.vip))
    return removeBackend(next, service, parseBackend(address, service), 'cut')
  }, state)

/** One verb, or several in one change. @throws Refusal as verbs do */
export const randomChange = (random: Random, state: DesiredState, options: ChangeOptions = {}): DesiredState => {
  let next = state
  for (let verbs = random.once(4) ? 3 : 1; verbs > 0; verbs--) {
    const names = [...next.keys()].sort() // Live services come in the order of a randomly laid out directory.
    if (names.length < 30 || (names.length < SERVICES_MAX && random.once(6))) next = addOne(random, next, options)
    else if (random.once(30)) next = removeService(next, parseService(random.pick(names)))
    else if (random.once(5)) next = changedService(random, next, random.pick(names), options)
    else if (random.once(8)) next = withRandomFilter(random, next, random.pick(names))
    else next = changedBackend(random, next, random.pick(names))
  }
  return next
}
