// SPDX-License-Identifier: Apache-2.0
import { formatService, parseService, type ServiceAddress } from '../core/address.ts'
import { type ConnectionState, IPVS_STATES } from '../core/connection-states.ts'
import { parseSource } from '../core/endpoint.ts'
import { Refusal } from '../core/refusal.ts'
import { type Connection, Connections, type Wanted } from '../dataplane/connections.ts'
import { ServiceFlag } from '../dataplane/layout.gen.ts'
import type { Context, GlobalOptions } from './context.ts'
import { backendWords, demandNamed } from './named.ts'
import { printAll } from './output.ts'
import { plural } from './text.ts'

export interface ConnectionsOptions extends GlobalOptions {
  backend?: string
  source?: string
  state?: ConnectionState
  format?: 'ipvsadm'
  persistence?: boolean
}

/** Minutes and seconds, as ipvsadm has it: 14:59. */
const expiry = (seconds: number): string => {
  const minutes = Math.floor(seconds / 60)
  const rest = Math.floor(seconds) % 60
  return `${minutes < 10 ? '0' : ''}${minutes}:${rest < 10 ? '0' : ''}${rest}`
}

const SPACES = Array.from({ length: 32 }, (_, count) => ' '.repeat(count))

/** String.padEnd, at a fraction of its cost: there may be millions of rows. */
const padded = (text: string, width: number): string => text + (SPACES[width - text.length] ?? '')

/** One line; addresses are padded to a width. */
const row = (
  [protocol, expire, state, source, virtual, destination]: readonly [string, string, string, string, string, string],
  addressWidth: number,
): string => {
  const start = `${padded(protocol, 3)} ${padded(expire, 6)} ${padded(state, 11)} `
  return `${start}${padded(source, addressWidth)} ${padded(virtual, addressWidth)} ${destination}\n`
}

/** As wide as the longest: 255.255.255.255:65535. */
const ADDRESS_WIDTH = 21
const HEADINGS = ['pro', 'expire', 'state', 'source', 'virtual', 'destination'] as const

function* forPeople(connections: Iterable<Connection>): Generator<string> {
  yield row(HEADINGS, ADDRESS_WIDTH)
  for (const { protocol, secondsLeft, state, source, virtual, destination } of connections) {
    yield row([protocol, expiry(secondsLeft), state, source, virtual, destination], ADDRESS_WIDTH)
  }
}

/** ipvsadm.c, list_conn and print_conn: "%-3s %-6s %-11s %-18s %-18s %s". */
function* asIpvsadm(connections: Iterable<Connection>): Generator<string> {
  yield 'IPVS connection entries\npro expire state       source             virtual            destination\n'
  for (const { protocol, secondsLeft, state, source, virtual, destination } of connections) {
    yield row([protocol.toUpperCase(), expiry(secondsLeft), IPVS_STATES[state], source, virtual, destination], 18)
  }
}

/** One document, a connection a line. */
function* asJson(instance: string, connections: Connections): Generator<string> {
  yield `{\n  "instance": ${JSON.stringify(instance)},\n  "connections": [`
  let separator = '\n'
  for (const { protocol, secondsLeft, state, source, virtual, destination } of connections) {
    const expires = Math.round(secondsLeft * 1000) / 1000
    // Texts of known characters: nothing needs escaping, and JSON.stringify would take most of the command's time.
    yield `${separator}    {"protocol":"${protocol}","expiresInSeconds":${expires},"state":"${state}","source":"${source}","virtual":"${virtual}","destination":"${destination}"}`
    separator = ',\n'
  }
  yield `${connections.count > 0 ? '\n  ' : ''}],\n  "leftOver": ${connections.leftOver}\n}\n`
}

/** What the words ask for, before anything is looked up. @throws Refusal for words that are wrong */
const wantedOf = (service: ServiceAddress | undefined, options: ConnectionsOptions): Wanted => {
  const { backend, source, state, format, json } = options
  if (json === true && format !== undefined) {
    throw new Refusal('connections: --json and --format exclude each other', 'choose one', { usage: true })
  }
  return {
    ...(service === undefined ? {} : { service: formatService(service) }),
    ...(backend === undefined
      ? {}
      : { backend: backendWords('xlb connections SERVICE --backend ADDRESS', backend, service) }),
    ...(source === undefined ? {} : { source: parseSource(source) }),
    ...(state === undefined ? {} : { state }),
  }
}

/** What a person may miss in the list, and why it is not there. */
const noteMissing = (context: Context, { leftOver }: Connections, hashed: string | undefined): void => {
  if (context.json) return
  if (hashed !== undefined) {
    context.note(`${hashed} keeps no flows, but for those that a change of its ring would have moved`)
  }
  if (leftOver > 0) {
    context.note(`not listed: ${plural(leftOver, 'entry', 'entries')} whose service or backend was removed`)
  }
}

interface Found {
  connections: Connections
  /** The service that was asked for, where it keeps no flows. */
  hashed: string | undefined
}

/** @throws Refusal for words that are wrong, and for a service or backend that is not there */
const find = (context: Context, serviceText: string | undefined, options: ConnectionsOptions): Found => {
  const service = serviceText === undefined ? undefined : parseService(serviceText)
  const wanted = wantedOf(service, options)
  return context.session((session) => {
    demandNamed(session, service, wanted.backend)
    const named = session.live.services.get(wanted.service ?? '')
    const tracked = named === undefined || (named.service.flags & ServiceFlag.SERVICE_TRACKED) !== 0
    return {
      connections: new Connections(session.plane, session.live.services.values(), wanted),
      hashed: tracked ? undefined : named.name,
    }
  })
}

export const runConnections = async (
  context: Context,
  serviceText: string | undefined,
  options: ConnectionsOptions,
): Promise<void> => {
  const { connections, hashed } = find(context, serviceText, options)
  const texts =
    options.format === 'ipvsadm'
      ? asIpvsadm(connections)
      : context.json
        ? asJson(context.paths.name, connections)
        : forPeople(connections)
  await printAll(texts)
  noteMissing(context, connections, hashed)
}

/** As runConnections, for whoever wants the first so many of them, and how many there are. */
export const answerConnections = (
  context: Context,
  serviceText: string | undefined,
  limit: number,
  options: ConnectionsOptions,
): void => {
  const { connections, hashed } = find(context, serviceText, options)
  const first: Connection[] = []
  for (const connection of connections) {
    if (first.push(connection) === limit) break
  }
  const listed = first.map(({ secondsLeft, ...connection }) => ({
    ...connection,
    expiresInSeconds: Math.round(secondsLeft * 1000) / 1000,
  }))
  const { count, leftOver } = connections
  context.answer(
    { instance: context.paths.name, connections: listed, count, leftOver },
    [...forPeople(first)].join('').trimEnd(),
  )
  noteMissing(context, connections, hashed)
}
