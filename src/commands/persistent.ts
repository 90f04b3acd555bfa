// SPDX-License-Identifier: Apache-2.0
// `xlb connections --persistence`: which server each client was given.
import { EVERY_PORT, formatService, parseBackend, parseService } from '../core/address.ts'
import { parseSource, type SourceRange } from '../core/endpoint.ts'
import { Refusal } from '../core/refusal.ts'
import { existing } from '../core/verbs.ts'
import { formatClient, type Note, readNotes } from '../dataplane/clients.ts'
import { secondsOfAges } from '../dataplane/connections.ts'
import { ClientState, Settings } from '../dataplane/layout.gen.ts'
import { isPersistent, serversOf } from '../dataplane/persistence.ts'
import type { LiveService } from '../dataplane/reader.ts'
import { viewOf } from '../dataplane/views.ts'
import type { Session } from '../shell/session.ts'
import type { ConnectionsOptions } from './connections.ts'
import type { Context } from './context.ts'
import { duration, table } from './text.ts'

/** What `--json` prints of a client. */
interface ClientRow {
  /** An address, or a network where the mask is shorter. */
  client: string
  group: string | null
  /** Of the group, or the one that has a persistence of its own. */
  services: string[]
  backend: string
  expiresInSeconds: number
  /** Was one of its connections established? If not, it gives way where the table is full. */
  assured: boolean
}

/** A persistence: services that share it, and what their servers' numbers stand for. */
interface Owner {
  group: string | undefined
  services: LiveService[]
  prefix: number
  servers: ReadonlyMap<number, string>
}

const ownersOf = ({ plane, live }: Session): Map<number, Owner> => {
  const byId = new Map<number, LiveService[]>()
  for (const service of live.services.values()) {
    if (!isPersistent(service)) continue
    const id = service.policy.persistId
    byId.set(id, [...(byId.get(id) ?? []), service])
  }
  return new Map(
    [...byId].map(([id, services]) => [
      id,
      {
        group: services[0]?.group,
        services,
        prefix: services[0]?.policy.persistPrefix ?? 0,
        servers: serversOf(plane, services),
      },
    ]),
  )
}

/** Have the client's network and the range addresses in common? Then one of the two holds the other. */
const isWithin = (note: Note, range: SourceRange | undefined): boolean => {
  if (range === undefined) return true
  const { family, words, masks } = parseSource(`${note.address}/${note.prefix}`)
  return (
    family === range.family &&
    words.every((word, i) => ((word ^ (range.words[i] ?? 0)) & (masks[i] ?? 0) & (range.masks[i] ?? 0)) === 0)
  )
}

const rowOf = (note: Note, owner: Owner, settings: Settings): ClientRow | undefined => {
  const backend = owner.servers.get(note.server)
  // One of before the mask was changed is nobody's.
  if (backend === undefined || note.prefix !== owner.prefix) return undefined
  return {
    client: formatClient(note),
    group: owner.group ?? null,
    services: owner.services.map(({ name }) => name).sort(),
    backend,
    expiresInSeconds: Math.round(secondsOfAges(note.agesLeft, settings) * 1000) / 1000,
    assured: note.state === ClientState.CLIENT_ASSURED,
  }
}

const rowsOf = (session: Session, service: string | undefined, { source, backend }: Wanted): ClientRow[] => {
  const owners = ownersOf(session)
  const only = service === undefined ? undefined : session.live.services.get(service)?.policy.persistId
  const settings = Settings.read(viewOf(session.plane, 'settings'), 0)
  const rows: ClientRow[] = []
  for (const note of readNotes(session.plane, session.plane.age())) {
    const owner = owners.get(note.id)
    if (owner === undefined || (only !== undefined && note.id !== only)) continue
    if (!isWithin(note, source)) continue
    const row = rowOf(note, owner, settings)
    if (row !== undefined && (backend === undefined || row.backend === backend)) rows.push(row)
  }
  return rows
}

const render = (rows: readonly ClientRow[]): string =>
  table([
    ['CLIENT', 'BACKEND', 'EXPIRES', 'STATE', 'OF'],
    ...rows.map(({ client, backend, expiresInSeconds, assured, group, services }) => [
      client,
      backend,
      duration(expiresInSeconds),
      assured ? 'assured' : 'new',
      group === null ? (services[0] ?? '') : `group ${group}`,
    ]),
  ]).join('\n')

/** Of whom clients are wanted; what is undefined may be anything. */
interface Wanted {
  source: SourceRange | undefined
  backend: string | undefined
}

/** @throws Refusal for words that are wrong */
const wantedOf = ({ state, format, source, backend }: ConnectionsOptions): Wanted => {
  const refuse = (what: string): never => {
    throw new Refusal(`connections: --persistence lists clients, which have no ${what}`, 'leave one of the two out', {
      usage: true,
    })
  }
  if (state !== undefined) refuse('--state')
  if (format !== undefined) refuse('--format')
  const range = source === undefined ? undefined : parseSource(source)
  if (range?.port !== undefined) refuse('port in --source')
  return {
    source: range,
    backend: backend === undefined ? undefined : parseBackend(backend, EVERY_PORT).address,
  }
}

export const runPersistent = (context: Context, serviceText: string | undefined, options: ConnectionsOptions): void => {
  const wanted = wantedOf(options)
  const address = serviceText === undefined ? undefined : parseService(serviceText)
  const clients = context.session((session) => {
    const named = address === undefined ? undefined : existing(session.live.desired, address)
    if (named !== undefined && named.persistence === undefined) {
      throw new Refusal(
        `service ${serviceText} has no persistence`,
        `give it one: xlb service set ${serviceText} --persist 300s`,
      )
    }
    return rowsOf(session, address === undefined ? undefined : formatService(address), wanted)
  })
  context.answer({ instance: context.paths.name, clients }, render(clients))
}
