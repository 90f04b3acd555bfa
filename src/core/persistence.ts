// SPDX-License-Identifier: Apache-2.0
// Persistence: a client's later connections go to the server of its first one. Services of one group share it, and with it all
// that is said of it.
import { formatService, type ServiceAddress } from './address.ts'
import { type Backend, type DesiredState, isAlive, isLeaving, type Service } from './desired.ts'
import { Refusal, type StateFault } from './refusal.ts'
import { ChangedState } from './state-map.ts'

export const DRAIN_PERSISTENCES = ['keep', 'cut'] as const
/** Does a backend that is drained, or of weight 0, keep the clients that were given it? */
export type DrainPersistence = (typeof DRAIN_PERSISTENCES)[number]

export interface Persistence {
  /** For how long a client's server is kept after its last connection. */
  seconds: number
  /** Leading bits of a client's IPv4 address that tell it from another. */
  prefix: number
  /** The same of IPv6. */
  prefix6: number
  drain: DrainPersistence
  /** Services of one group send a client to the same server. Undefined: a persistence of its own. */
  group: string | undefined
}

/** As verbs have them; false takes it away. */
export interface PersistenceOptions {
  persist?: number | false
  persistMask?: number
  persistMask6?: number
  drainPersistence?: DrainPersistence
  group?: string | false
}

/** IPVS's greatest (ipvsadm.c, MAX_TIMEOUT): 31 days. */
export const PERSIST_SECONDS_MAX = 31 * 86_400
export const DEFAULT_PREFIX = 32
export const DEFAULT_PREFIX6 = 128
const GROUP_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$/

const usage = { usage: true }

/** Whatever is wrong with one service's persistence by itself. */
export function* persistenceFaults(service: Service): Generator<Refusal> {
  const { persistence } = service
  if (persistence === undefined) return
  const where = `service ${formatService(service)}`
  if (service.ops) {
    yield new Refusal(
      `${where}: one-packet scheduling gives each datagram a backend of its own, persistence each client`,
      'leave one of the two out',
      usage,
    )
  }
  const { seconds, prefix, prefix6, group } = persistence
  const ranges = [
    ['persistence of', seconds, PERSIST_SECONDS_MAX, ' s'],
    ['persistence mask', prefix, DEFAULT_PREFIX, ''],
    ['persistence mask of IPv6', prefix6, DEFAULT_PREFIX6, ''],
  ] as const
  for (const [what, value, greatest, unit] of ranges) {
    if (Number.isInteger(value) && value >= 1 && value <= greatest) continue
    yield new Refusal(
      `${where}: ${what} ${value}${unit} is not within 1 to ${greatest}`,
      `choose 1 to ${greatest}`,
      usage,
    )
  }
  if (group !== undefined && !GROUP_NAME.test(group)) {
    yield new Refusal(
      `${where}: group '${group}' is no name`,
      'choose up to 31 letters, digits, dots, dashes and underscores, a letter or digit first',
      usage,
    )
  }
}

const others = (state: DesiredState, group: string, service: ServiceAddress): Service[] => {
  const name = formatService(service)
  return [...state.values()].filter((each) => each.persistence?.group === group && formatService(each) !== name)
}

/** Equal but for the group. */
const sameTerms = (a: Persistence, b: Persistence): boolean =>
  a.seconds === b.seconds && a.prefix === b.prefix && a.prefix6 === b.prefix6 && a.drain === b.drain

export const samePersistence = (a: Persistence | undefined, b: Persistence | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.group === b.group && sameTerms(a, b))

/** `300s/24 keep group web`: without what is the default. */
export const formatPersistence = ({ seconds, prefix, prefix6, drain, group }: Persistence): string =>
  [
    `${seconds}s${prefix === DEFAULT_PREFIX ? '' : `/${prefix}`}`,
    ...(prefix6 === DEFAULT_PREFIX6 ? [] : [`ipv6/${prefix6}`]),
    ...(drain === 'keep' ? [] : [`drain ${drain}`]),
    ...(group === undefined ? [] : [`group ${group}`]),
  ].join(' ')

/** What the options name of a persistence's terms. */
const termsNamed = (options: PersistenceOptions): Partial<Persistence> => ({
  ...(typeof options.persist === 'number' ? { seconds: options.persist } : {}),
  ...(options.persistMask === undefined ? {} : { prefix: options.persistMask }),
  ...(options.persistMask6 === undefined ? {} : { prefix6: options.persistMask6 }),
  ...(options.drainPersistence === undefined ? {} : { drain: options.drainPersistence }),
})

const needsPersist = (service: ServiceAddress, options: PersistenceOptions): Refusal => {
  const { persistMask, persistMask6, drainPersistence, group } = options
  const said = Object.entries({ mask: persistMask, mask6: persistMask6, drain: drainPersistence, group })
    .filter(([, value]) => value !== undefined)
    .map(([what, value]) => `${what} ${value}`)
  return new Refusal(
    `service ${formatService(service)}: ${said.join(', ')} is said of a persistence, and there is none`,
    'say for how long: --persist 300s',
    usage,
  )
}

/** Joins a group that has services already: on their terms. */
const joined = (service: ServiceAddress, terms: Persistence, named: Partial<Persistence>): Persistence => {
  if (!sameTerms(terms, { ...terms, ...named })) {
    throw new Refusal(
      `service ${formatService(service)}: group ${terms.group} has persistence ${formatPersistence({ ...terms, group: undefined })}, which is not what is asked for`,
      'leave it out to join on these terms; or change them for the whole group, with service set on one that is in it',
    )
  }
  return terms
}

/**
 * A service's persistence after a verb with these options.
 *
 * @throws Refusal where options contradict each other, or the group that it joins
 */
export const nextPersistence = (
  state: DesiredState,
  service: ServiceAddress,
  before: Persistence | undefined,
  options: PersistenceOptions,
): Persistence | undefined => {
  const named = termsNamed(options)
  const isAsked = Object.keys(named).length > 0 || typeof options.group === 'string'
  if (options.persist === false) {
    if (isAsked) throw needsPersist(service, options)
    return undefined
  }
  const group = options.group === undefined ? before?.group : options.group === false ? undefined : options.group
  if (group !== undefined && group !== before?.group) {
    const [other] = others(state, group, service)
    if (other?.persistence !== undefined) return joined(service, other.persistence, named)
  }
  if (before === undefined && named.seconds === undefined) {
    if (isAsked) throw needsPersist(service, options)
    return undefined
  }
  const defaults = { seconds: 0, prefix: DEFAULT_PREFIX, prefix6: DEFAULT_PREFIX6, drain: 'keep' } as const
  return { ...defaults, ...before, ...named, group }
}

/** As a part of a service: a service without persistence has no such field. */
export const persisting = (persistence: Persistence | undefined): { persistence?: Persistence } =>
  persistence === undefined ? {} : { persistence }

/** What was said of one service's persistence holds for all of its group. */
export const withGroup = (state: DesiredState, { persistence, ...service }: Service): DesiredState => {
  if (persistence?.group === undefined) return state
  const differing = others(state, persistence.group, service).filter(
    (other) => !samePersistence(other.persistence, persistence),
  )
  if (differing.length === 0) return state
  return ChangedState.of(
    state,
    differing.map((other) => [formatService(other), { ...other, persistence }]),
  )
}

/** Services of one group whose terms differ: a file may say so, verbs cannot. */
export function* groupFaults(services: Iterable<Service>): Generator<StateFault> {
  const groups = new Map<string, Service>()
  for (const service of services) {
    const { persistence } = service
    if (persistence?.group === undefined) continue
    const first = groups.get(persistence.group)
    if (first?.persistence === undefined) groups.set(persistence.group, service)
    else if (!samePersistence(first.persistence, persistence)) {
      const name = formatService(service)
      const refusal = new Refusal(
        `service ${name}: its persistence ${formatPersistence(persistence)} is not that of ${formatService(first)}, ${formatPersistence(first.persistence)}`,
        'give all services of a group the same, or another group',
      )
      yield { service: name, keys: ['group'], refusal }
    }
  }
}

/** Does a backend take clients that were given it, whatever it does with new ones? */
export const takesClients = ({ persistence }: Pick<Service, 'persistence'>, backend: Backend): boolean =>
  isAlive(backend) &&
  !isLeaving(backend) &&
  ((backend.admin === 'up' && backend.weight > 0 && backend.health?.percent !== 0) || persistence?.drain === 'keep')
