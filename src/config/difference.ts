// SPDX-License-Identifier: Apache-2.0
// What changes, in the configuration file's own keys: whatever the file can say is compared, and nothing that is secret is shown.
import { isLeaving } from '../core/desired.ts'
import type { Change } from '../core/plan.ts'
import { noteOf, schemaAt } from './notes.ts'
import { configSchema } from './schema.ts'
import { entryOf } from './write.ts'

export interface KeyChange {
  key: string
  /** Undefined: not said. Both are, of what is secret. */
  have?: unknown
  want?: unknown
  /** Of a list: its entries that come and go. */
  added?: string[]
  removed?: string[]
  isSecret?: true
}

export interface EntryChange {
  kind: Change['kind']
  name: string
  keys: KeyChange[]
}

export interface ServiceChange extends EntryChange {
  backends: EntryChange[]
}

type Entry = Readonly<Record<string, unknown>>

const isMapping = (value: unknown): value is Entry =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const listChange = (have: readonly unknown[], want: readonly unknown[]): Pick<KeyChange, 'added' | 'removed'> => {
  const before = new Set(have.map(String))
  const after = new Set(want.map(String))
  return {
    added: [...after].filter((each) => !before.has(each)),
    removed: [...before].filter((each) => !after.has(each)),
  }
}

const isSecret = (path: readonly (string | number)[]): boolean => {
  const schema = schemaAt(configSchema, path)
  return schema !== undefined && noteOf(schema)?.isSecret === true
}

/** What two entries say differently. @param place of the entry in a file, by which secrets are known */
export const keyChanges = (have: Entry, want: Entry, place: readonly (string | number)[], under = ''): KeyChange[] =>
  [...new Set([...Object.keys(have), ...Object.keys(want)])].flatMap((name): KeyChange[] => {
    const [before, after] = [have[name], want[name]]
    const key = `${under}${name}`
    if (isMapping(before) || isMapping(after)) {
      const [inner, next] = [before, after].map((each) => (isMapping(each) ? each : {}))
      return keyChanges(inner ?? {}, next ?? {}, [...place, name], `${key}.`)
    }
    if (Array.isArray(before) || Array.isArray(after)) {
      const lists = [before, after].map((each) => (Array.isArray(each) ? each : []))
      const change = listChange(lists[0] ?? [], lists[1] ?? [])
      return change.added?.length === 0 && change.removed?.length === 0 ? [] : [{ key, ...change }]
    }
    if (before === after) return []
    if (isSecret([...place, name])) return [{ key, isSecret: true }]
    return [{ key, ...(before === undefined ? {} : { have: before }), ...(after === undefined ? {} : { want: after }) }]
  })

type ServiceEntry = ReturnType<typeof entryOf>

const NO_BACKENDS: ServiceEntry['backends'] = []
const BACKEND = ['services', 0, 'backends', 0] as const

const backendChanges = (have: ServiceEntry['backends'], want: ServiceEntry['backends']): EntryChange[] => {
  const before = new Map(have.map((each) => [each.address, each]))
  const after = new Map(want.map((each) => [each.address, each]))
  const changes: EntryChange[] = []
  for (const [name, { address: _, ...entry }] of before) {
    if (!after.has(name)) changes.push({ kind: 'remove', name, keys: keyChanges(entry, {}, BACKEND) })
  }
  for (const [name, { address: _, ...entry }] of after) {
    const { address: __, ...known } = before.get(name) ?? { address: name }
    const keys = keyChanges(known, entry, BACKEND)
    if (!before.has(name)) changes.push({ kind: 'add', name, keys })
    else if (keys.length > 0) changes.push({ kind: 'change', name, keys })
  }
  return changes
}

/** A plan, told in keys. A backend that is there for its flows alone is in no file, and so told of as not there. */
export const serviceChanges = (changes: readonly Change[]): ServiceChange[] =>
  changes.map((change) => {
    const { backends: had = NO_BACKENDS, service: _, ...have } = change.kind === 'add' ? {} : entryOf(change.have)
    const {
      backends: wanted = NO_BACKENDS,
      service: __,
      ...want
    } = change.kind === 'remove' ? {} : entryOf(change.want)
    // The seed of a new service is not its change.
    const keys = keyChanges(have, want, ['services', 0]).filter(
      ({ isSecret: hidden }) => change.kind === 'change' || hidden !== true,
    )
    return { kind: change.kind, name: change.name, keys, backends: backendChanges(had, wanted) }
  })

/** How many backends a plan's service has that a file would name. */
export const backendCount = (change: Change): number =>
  (change.kind === 'remove' ? change.have : change.want).backends.filter((each) => !isLeaving(each)).length
