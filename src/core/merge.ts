// SPDX-License-Identifier: Apache-2.0
// Reload: three states become one. What the configuration file says otherwise than when it was last loaded is taken over; all that was
// changed since by verbs, and that the file did not touch, stays. What is decided is decided field by field, and whether a
// service or a backend is there at all is a field of its own: one that an operator removed stays removed while the file only
// changes what it says of it.
import {
  type Admin,
  type Backend,
  type DesiredState,
  type Globals,
  isLeaving,
  type Path,
  type Service,
} from './desired.ts'
import { sharedLabels } from './label.ts'
import { sameMaxConns } from './max-conns.ts'
import { inVlan } from './paths.ts'
import { groupFaults, samePersistence } from './persistence.ts'
import { sameFilter } from './prefixes.ts'
import { rangeFaults } from './ranges.ts'
import type { StateFault } from './refusal.ts'
import { sameRate } from './source-rate.ts'
import { circleFaults, serviceFaults } from './state-faults.ts'
import { ChangedState, namesToCompare } from './state-map.ts'
import { TIMEOUT_NAMES, type Timeouts } from './timeouts.ts'

type Same<T> = (a: T, b: T) => boolean
/** For each field that is merged, when two values of it are equal. */
type Fields<T> = { readonly [Key in keyof T]-?: Same<T[Key]> }
/** The same as a list: a reload asks it of a hundred thousand backends. */
type FieldList<T> = readonly (readonly [keyof T, Same<never>])[]

const listOf = <T>(fields: Fields<T>): FieldList<T> => Object.entries(fields) as [keyof T, Same<never>][]

const is = <T>(a: T, b: T): boolean => a === b

/** All that a file says of a service by itself. Its address is its name, and never differs. */
const SERVICE_FIELDS = listOf<Omit<Service, 'protocol' | 'vip' | 'port' | 'lastPort' | 'backends'>>({
  scheduler: is,
  forward: is,
  hash: is,
  ringSize: is,
  seed: is,
  ops: is,
  label: is,
  filter: sameFilter,
  sourceRate: sameRate,
  persistence: samePersistence,
})

/** Likewise of a backend; where packets for it go, and how well it is, is nobody's wish. */
const BACKEND_FIELDS = listOf<Omit<Backend, 'address' | 'port' | 'path' | 'health'>>({
  weight: is,
  admin: is,
  vlan: is,
  maxConns: sameMaxConns,
})

const GLOBAL_FIELDS = listOf<Globals>({ filter: sameFilter, newFlows: is })

const TIMEOUT_FIELDS: FieldList<Timeouts> = TIMEOUT_NAMES.map((name) => [name, is])

const sameField = <T>([key, same]: FieldList<T>[number], a: T, b: T): boolean => same(a[key] as never, b[key] as never)

const sameFields = <T>(fields: FieldList<T>, a: T, b: T): boolean => {
  for (const field of fields) if (!sameField(field, a, b)) return false
  return true
}

const withoutUndefined = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T

/** `have`, but for what `file` says otherwise than `base`. */
const mergeFields = <Part extends object, T extends Part>(fields: FieldList<Part>, base: T, file: T, have: T): T => {
  const changed = fields.filter((field) => !sameField<Part>(field, base, file))
  if (changed.length === 0) return have
  return withoutUndefined({ ...have, ...Object.fromEntries(changed.map(([key]) => [key, (file as Part)[key]])) })
}

/** From what lets a backend have all flows to what lets it have none. */
const SEVERITY: Readonly<Record<Admin, number>> = { up: 0, drain: 1, maint: 2, leaving: 3, cut: 4 }

const severest = (a: Admin, b: Admin): Admin => (SEVERITY[a] < SEVERITY[b] ? b : a)

/** Where packets for a backend go that is there already: a path that has to be asked for again is the file's, unresolved. */
const pathAfter = (next: Backend, file: Backend, have: Backend): Path => {
  if (next.vlan === have.vlan) return have.path
  return next.vlan === undefined ? file.path : inVlan(have.path, next.vlan)
}

/**
 * A backend that the file names for the first time, and that is there: as the file says, but that a drain or maintenance holds,
 * whoever asked for it. `up` is what a file says that says nothing, so that it cannot be told from a wish to end that.
 */
const adoptBackend = (file: Backend, have: Backend): Backend =>
  isLeaving(have)
    ? { ...file, path: pathAfter(file, file, have) }
    : {
        ...file,
        admin: severest(file.admin, have.admin),
        ...(have.health === undefined ? {} : { health: have.health }),
        path: pathAfter(file, file, have),
      }

const mergeBackend = (base: Backend, file: Backend, have: Backend): Backend => {
  const next = mergeFields(BACKEND_FIELDS, base, file, have)
  return next === have ? have : { ...next, path: pathAfter(next, file, have) }
}

const byAddress = (backends: readonly Backend[] | undefined): Map<string, Backend> =>
  new Map(backends?.map((backend) => [backend.address, backend]))

/**
 * Backends by address. `base` undefined: none were in the file before.
 *
 * @param keepsOwn whether those that only `have` names stay
 */
const mergeBackends = (
  base: readonly Backend[] | undefined,
  file: readonly Backend[],
  have: readonly Backend[],
  keepsOwn: boolean,
): Backend[] => {
  const before = byAddress(base)
  const after = byAddress(file)
  const merged: Backend[] = []
  for (const backend of have) {
    const [was, is] = [before.get(backend.address), after.get(backend.address)]
    if (isLeaving(backend)) merged.push(is === undefined || was !== undefined ? backend : adoptBackend(is, backend))
    else if (is === undefined && was === undefined && keepsOwn) merged.push(backend)
    else if (is !== undefined)
      merged.push(was === undefined ? adoptBackend(is, backend) : mergeBackend(was, is, backend))
  }
  const known = byAddress(have)
  // Those that were in the file before, and are not here, a verb has removed.
  return [...merged, ...file.filter(({ address }) => !before.has(address) && !known.has(address))]
}

/** A service that the file names for the first time, and that is there. */
const adoptService = (file: Service, have: Service, keepsOwn: boolean): Service => ({
  ...file,
  backends: mergeBackends(undefined, file.backends, have.backends, keepsOwn),
})

const sameBackends = (a: readonly Backend[], b: readonly Backend[]): boolean => {
  if (a.length !== b.length) return false
  let others: Map<string, Backend> | undefined
  let i = 0
  for (const backend of a) {
    let other = b[i++]
    if (other?.address !== backend.address) {
      others ??= byAddress(b)
      other = others.get(backend.address)
    }
    if (other === undefined || !sameFields(BACKEND_FIELDS, backend, other)) return false
  }
  return true
}

/** Is the same wanted of both? Where packets for their backends go, and the order of these, is none of it. */
const sameWish = (a: Service, b: Service): boolean =>
  a === b || (sameFields(SERVICE_FIELDS, a, b) && sameBackends(a.backends, b.backends))

/** One service; undefined: it is not there, or shall not be. `isFirst`: nothing was loaded before. */
const mergeService = (
  base: Service | undefined,
  file: Service | undefined,
  have: Service | undefined,
  isFirst: boolean,
): Service | undefined => {
  if (file === undefined) return base === undefined && !isFirst ? have : undefined
  if (base === undefined) return have === undefined ? file : adoptService(file, have, !isFirst)
  if (have === undefined || sameWish(base, file)) return have
  return {
    ...mergeFields(SERVICE_FIELDS, base, file, have),
    backends: mergeBackends(base.backends, file.backends, have.backends, true),
  }
}

/** Do two services lead packets the same way? Of a merge only paths that the file cannot know yet may differ. */
const sameResult = (a: Service, b: Service): boolean => {
  const paths = byAddress(b.backends)
  return sameWish(a, b) && a.backends.every(({ address, path }) => paths.get(address)?.path === path)
}

/**
 * What shall be after the file was read again: a ChangedState of `have`, or `have` itself where nothing changes. Backends that a
 * verb removed, and that are there for their flows' sake alone, stay as withLeavingOf has it. A backend that is new has the
 * file's path, which is unresolved until it is asked for; so has one whose VLAN the file leaves to the route again.
 *
 * @param base the file as it was last loaded. Undefined: it never was. Then what it does not name goes, and what it names is as
 *   it says, but that a drain in `have` holds: by whom it was asked for is not known.
 * @param file as it is now. Where it says no seed of a service, that of `base`, else that of `have`.
 * @param have what is in the maps
 */
export const mergeState = (base: DesiredState | undefined, file: DesiredState, have: DesiredState): DesiredState => {
  const changes: [string, Service | undefined][] = []
  const isFirst = base === undefined
  for (const name of new Set([...(base ?? have).keys(), ...file.keys()])) {
    const [was, is] = [base?.get(name), file.get(name)]
    // Asked first, because a state that is read on demand need not be read for what stays.
    if (was !== undefined && is !== undefined && sameWish(was, is)) continue
    const now = have.get(name)
    const next = mergeService(was, is, now, isFirst)
    const same = next === now || (next !== undefined && now !== undefined && sameResult(next, now))
    if (!same) changes.push([name, next])
  }
  return changes.length === 0 ? have : ChangedState.of(have, changes)
}

/** mergeState, of what holds for all services. */
export const mergeGlobals = (base: Globals | undefined, file: Globals, have: Globals): Globals => {
  if (base === undefined) return sameFields(GLOBAL_FIELDS, file, have) ? have : file
  const next = mergeFields(GLOBAL_FIELDS, base, file, have)
  return { filter: next.filter, newFlows: next.newFlows }
}

/** mergeState, of timeouts. */
export const mergeTimeouts = (base: Timeouts | undefined, file: Timeouts, have: Timeouts): Timeouts =>
  base === undefined ? file : mergeFields(TIMEOUT_FIELDS, base, file, have)

/**
 * What a file and verbs, each right by itself, make wrong together: services whose ranges of ports overlap, one label twice, a VIP
 * that is a backend, a limit with a scheduler that has none. A reload is refused with the first of these, and changes nothing.
 */
export function* mergeFaults(have: DesiredState, merged: DesiredState): Generator<StateFault> {
  if (merged === have) return
  const changed = [...namesToCompare(have, merged)]
  for (const name of changed) {
    const service = merged.get(name)
    if (service === undefined) continue
    for (const { keys, refusal } of serviceFaults(service)) yield { service: name, keys, refusal }
  }
  yield* rangeFaults(merged.keys())
  yield* sharedLabels(merged)
  yield* groupFaults(merged.values())
  yield* circleFaults(merged, changed.every((name) => have.has(name)) ? changed : undefined)
}

/** A service as the file has it, and as it is; null: it is not there. */
export interface RuntimeChange {
  base: Service | null
  have: Service | null
}

const withoutLeaving = (service: Service): Service =>
  service.backends.some(isLeaving)
    ? { ...service, backends: service.backends.filter((backend) => !isLeaving(backend)) }
    : service

/**
 * What verbs made of the file as it was loaded: what is kept for after a restart, and what no file says yet. Backends that leave
 * are removed ones. Both sides are kept, so that a file that was edited meanwhile is merged, not overruled: see withChanges.
 *
 * @param names the services to look at: those of which a verb may have changed something
 */
export const runtimeChanges = (
  base: DesiredState,
  have: DesiredState,
  names: Iterable<string> = namesToCompare(base, have),
): Map<string, RuntimeChange> => {
  const changes = new Map<string, RuntimeChange>()
  for (const name of names) {
    const was = base.get(name)
    const found = have.get(name)
    const now = found === undefined ? undefined : withoutLeaving(found)
    if (was === now || (was !== undefined && now !== undefined && sameWish(was, now))) continue
    changes.set(name, { base: was ?? null, have: now ?? null })
  }
  return changes
}

/** runtimeChanges, of what holds for all services. */
export const sameForAll = (base: Globals, have: Globals): boolean => sameFields(GLOBAL_FIELDS, base, have)

/**
 * A state with one side of what was kept. After a restart, with the file as it is then,
 * `mergeState(withChanges(file, kept, 'base'), file, withChanges(file, kept, 'have'))` is what shall be.
 */
export const withChanges = (
  state: DesiredState,
  changes: ReadonlyMap<string, RuntimeChange>,
  side: keyof RuntimeChange,
): DesiredState =>
  changes.size === 0
    ? state
    : ChangedState.of(
        state,
        [...changes].map(([name, change]) => [name, change[side] ?? undefined]),
      )
