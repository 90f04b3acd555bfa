// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { readConfig } from '../config/read.ts'
import type { Config } from '../config/reading.ts'
import { writeConfig } from '../config/write.ts'
import type { DesiredState, Globals, Path } from '../core/desired.ts'
import { withHealthOf } from '../core/health.ts'
import { familyOf } from '../core/ip.ts'
import { withLeavingOf } from '../core/leaving.ts'
import { inVlan } from '../core/paths.ts'
import { Refusal } from '../core/refusal.ts'
import { capacityOf } from '../dataplane/memory.ts'
import { readTimeouts, writeTimeouts } from '../dataplane/timeouts.ts'
import { attach } from '../shell/attach.ts'
import type { Changed } from '../shell/session.ts'
import { changeAll, type Resolver, random64, type Session } from '../shell/session.ts'
import { type Context, type GlobalOptions, printWarnings } from './context.ts'
import { newFlowsAt, newFlowsNow } from './limits.ts'
import { plural } from './text.ts'
import { writeWhole } from './write-whole.ts'

/** Those that a daemon keeps attached, as it was asked for; and whatever is attached beside. */
const savedInterfaces = ({ interfaces }: Session, daemon: Context['daemon']) => {
  const kept = daemon?.interfaces() ?? []
  const names = new Set(kept.map(({ name }) => name))
  return [...kept, ...interfaces.filter(({ name }) => !names.has(name))]
}

/** What is, as the text of a file; beside a daemon with what its own file says of it. */
export const savedText = (
  { session: withSession, daemon }: Pick<Context, 'session' | 'daemon'>,
  format: 'yaml' | 'json',
): string =>
  withSession((session) => {
    const written = daemon?.written()
    return writeConfig(
      {
        ...(written === undefined ? {} : { written }),
        interfaces: savedInterfaces(session, daemon),
        capacity: capacityOf(session.plane),
        newFlows: newFlowsNow(session),
        filter: session.live.globals.filter,
        timeouts: readTimeouts(session.plane),
        services: session.live.desired,
        ...(daemon === undefined ? {} : { policies: daemon.policies() }),
      },
      format,
    )
  })

export const runSave = (context: Context, options: GlobalOptions & { output?: string }): void => {
  const text = savedText(context, context.json ? 'json' : 'yaml')
  if (options.output === undefined) {
    process.stdout.write(text)
    return
  }
  writeWhole(options.output, text)
}

/** How the kernel asks for these addresses. */
const askedBy = (addresses: readonly string[]): string => {
  const asked = { ipv4: 'ARP', ipv6: 'neighbour discovery' }
  return [...new Set(addresses.map((address) => asked[familyOf(address)]))].sort().join(' or ')
}

/** Fills in every backend's path, all of them asked at once. */
const withResolvedPaths = (state: DesiredState, resolver: Resolver, force: boolean, context: Context): DesiredState => {
  const addresses = new Set([...state.values()].flatMap((service) => service.backends.map(({ address }) => address)))
  const paths = resolver.resolve(addresses)
  const silent = [...paths].filter(([, path]) => path.kind === 'unresolved').map(([address]) => address)
  const what = `${silent.length} backends do not answer ${askedBy(silent)}`
  const which = `${silent.slice(0, 5).join(', ')}${silent.length > 5 ? ', ...' : ''}`
  if (silent.length > 0 && !force) {
    resolver.release(addresses)
    throw new Refusal(
      `${what}: ${which}`,
      'see that they are up and in this segment; or take them at weight 0 until they answer: --force',
    )
  }
  if (silent.length > 0) context.note(`warning: ${what} and have weight 0: ${which}`)
  const pathOf = (address: string): Path => paths.get(address) ?? { kind: 'unresolved', why: 'not asked' }
  return new Map(
    [...state].map(([name, service]) => [
      name,
      {
        ...service,
        backends: service.backends.map((backend) => ({
          ...backend,
          path: inVlan(pathOf(backend.address), backend.vlan),
        })),
      },
    ]),
  )
}

/** `--attach`: the file's interfaces that are not attached yet. */
const attachMissing = (context: Context, config: Config): void => {
  const { native, paths } = context
  const present = existsSync(paths.pins)
    ? context.session(({ interfaces }) => interfaces.filter(({ attached }) => attached).map(({ name }) => name))
    : []
  for (const { name, mode } of config.interfaces) {
    if (present.includes(name)) continue
    const { capacity, newFlows } = existsSync(paths.pins) ? { capacity: {} } : config
    const bound = newFlows === undefined ? {} : { newFlows }
    const { warnings } = attach(native, paths, { interfaceName: name, mode, capacity, ...bound })
    context.daemon?.attached(name, mode)
    printWarnings(context, warnings)
  }
}

const report = ({ services, globals }: Changed) => ({
  changed: services.map(({ kind, name }) => ({ kind, service: name })),
  changedForAll: globals,
})

const isChanged = ({ services, globals }: Changed): boolean => services.length > 0 || globals

const changedText = ({ services, globals }: Changed): string =>
  `${plural(services.length, 'service')}${globals ? ', and what holds for all,' : ''}`

export interface RestoreOptions extends GlobalOptions {
  force?: boolean
  attach?: boolean
}

export const runRestore = (context: Context, file: string, options: RestoreOptions): void =>
  restore(context, file, readConfig(file, process.env, { aside: '; nothing was changed' }), options)

/** @param file its name, for words */
export const restore = (context: Context, file: string, config: Config, options: RestoreOptions): void => {
  if (options.attach === true) attachMissing(context, config)
  const { newFlows, filter } = config
  const changed = context.session((session) => {
    const changed = changeAll(session, {
      services: (have, resolver) =>
        withLeavingOf(
          have,
          withHealthOf(
            have,
            withResolvedPaths(config.desired(have, random64), resolver, options.force === true, context),
          ),
        ),
      globals: (have: Globals) => ({
        newFlows: newFlows === undefined ? have.newFlows : newFlowsAt(session, newFlows),
        filter,
      }),
    })
    const timeouts = writeTimeouts(session.plane, config.timeouts)
    return { ...changed, globals: changed.globals || timeouts.length > 0 }
  })
  context.answer(
    report(changed),
    isChanged(changed) ? `restored from ${file}: ${changedText(changed)} changed` : 'nothing to change',
  )
}

export const runClear = ({ session: withSession, answer }: Context): void => {
  const changed = withSession((session) =>
    changeAll(session, {
      services: () => new Map(),
      globals: (have: Globals) => ({ ...have, filter: undefined }),
    }),
  )
  const filter = changed.globals ? ', and the filter of all services' : ''
  answer(
    report(changed),
    isChanged(changed) ? `removed ${plural(changed.services.length, 'service')}${filter}` : 'nothing to change',
  )
}
