// SPDX-License-Identifier: Apache-2.0
// `xlb diff`: what `xlb restore --attach` would change. It reads, and changes nothing: no backend is asked for its MAC.
import { existsSync } from 'node:fs'
import { type KeyChange, keyChanges, serviceChanges } from '../config/difference.ts'
import { readConfig } from '../config/read.ts'
import type { Config } from '../config/reading.ts'
import { type ForAll, forAllEntry } from '../config/write.ts'
import { capacityKey } from '../core/capacity.ts'
import type { DesiredState, Path } from '../core/desired.ts'
import { formatDuration } from '../core/duration.ts'
import { withHealthOf } from '../core/health.ts'
import { withLeavingOf } from '../core/leaving.ts'
import { inVlan } from '../core/paths.ts'
import { type Change, plan } from '../core/plan.ts'
import { DEFAULT_TIMEOUTS } from '../core/timeouts.ts'
import { capacityOf, powerOfTwo } from '../dataplane/memory.ts'
import { keptTimeouts, readTimeouts } from '../dataplane/timeouts.ts'
import { demandPrivilege } from '../shell/instance.ts'
import { DEFAULT_NEW_FLOWS } from '../shell/load.ts'
import type { Session } from '../shell/session.ts'
import type { ConfigOptions } from './check.ts'
import type { Context } from './context.ts'
import { forAllLines, serviceLines } from './diff-text.ts'
import { newFlowsAt, newFlowsNow } from './limits.ts'
import { printAll } from './output.ts'

interface Difference {
  isAttached: boolean
  services: Change[]
  /** Of what holds for all services. */
  forAll: KeyChange[]
  /** Interfaces that `restore --attach` would attach. */
  attach: string[]
  /** Sizes that other tables than those which are attached would have. */
  fixed: KeyChange[]
}

const UNASKED: Path = { kind: 'unresolved', why: 'not asked' }

/** Backends go where they go now: the way to new ones is not asked for. */
const withKnownPaths = (want: DesiredState, have: DesiredState): DesiredState =>
  new Map(
    [...want].map(([name, service]) => {
      const paths = new Map(have.get(name)?.backends.map(({ address, path }) => [address, path]))
      const backends = service.backends.map((backend) => ({
        ...backend,
        path: inVlan(paths.get(backend.address) ?? UNASKED, backend.vlan),
      }))
      return [name, { ...service, backends }]
    }),
  )

/** Seeds of new services are drawn when they come. */
const NO_SEED = () => 0n

const servicesDifference = (config: Config, have: DesiredState): Change[] =>
  plan(have, withLeavingOf(have, withHealthOf(have, withKnownPaths(config.desired(have, NO_SEED), have))))

/** Timeouts all of them: one that a file leaves out has its default. */
const forAll = (globals: ForAll) => ({
  ...forAllEntry(globals),
  timeouts: Object.fromEntries(Object.entries(globals.timeouts).map(([name, each]) => [name, formatDuration(each)])),
})

const forAllDifference = (have: ForAll, want: ForAll): KeyChange[] => keyChanges(forAll(have), forAll(want), [])

const attachedDifference = (session: Session, config: Config): Difference => {
  const { live, plane, interfaces } = session
  const newFlows = newFlowsNow(session)
  const isSameRate = config.newFlows === undefined || newFlowsAt(session, config.newFlows) === live.globals.newFlows
  const attached = interfaces.filter((each) => each.attached).map(({ name }) => name)
  const capacity = capacityOf(plane)
  return {
    isAttached: true,
    services: servicesDifference(config, live.desired),
    forAll: forAllDifference(
      { newFlows, filter: live.globals.filter, timeouts: readTimeouts(plane) },
      {
        newFlows: isSameRate ? newFlows : (config.newFlows ?? newFlows),
        filter: config.filter,
        timeouts: keptTimeouts(plane, config.timeouts),
      },
    ),
    attach: config.interfaces.map(({ name }) => name).filter((name) => !attached.includes(name)),
    fixed: Object.entries(config.capacity).flatMap(([name, wanted]) => {
      const now = capacity[name as keyof typeof capacity]
      return powerOfTwo(wanted) === now ? [] : [{ key: `limits.${capacityKey(name)}`, have: now, want: wanted }]
    }),
  }
}

const difference = ({ paths, session: withSession }: Context, config: Config): Difference => {
  demandPrivilege()
  if (existsSync(paths.pins)) return withSession((session) => attachedDifference(session, config))
  return {
    isAttached: false,
    services: servicesDifference(config, new Map()),
    forAll: forAllDifference(
      { newFlows: DEFAULT_NEW_FLOWS, filter: undefined, timeouts: DEFAULT_TIMEOUTS },
      { newFlows: config.newFlows ?? DEFAULT_NEW_FLOWS, filter: config.filter, timeouts: config.timeouts },
    ),
    attach: config.interfaces.map(({ name }) => name),
    fixed: [],
  }
}

function* lines({ isAttached, services, forAll: keys, attach, fixed }: Difference): Generator<string> {
  if (!isAttached) yield 'xlb is not attached: all of it is new\n'
  for (const name of attach) yield `+ interface ${name}, with xlb restore --attach\n`
  for (const line of forAllLines(keys)) yield `${line}\n`
  for (const change of services) yield `${serviceChanges([change]).flatMap(serviceLines).join('\n')}\n`
  for (const { key, have, want } of fixed) {
    yield `${key}: ${want} is wanted, and ${have} is attached: it changes with xlb detach --all and xlb restore --attach alone\n`
  }
  if (services.length + keys.length + attach.length === 0) yield 'nothing would change\n'
}

const jsonOf = (found: Difference) => ({ ...found, services: serviceChanges(found.services) })

/** For whoever has read the files. */
export const answerDiff = (context: Context, config: Config): void => {
  const found = difference(context, config)
  context.answer(jsonOf(found), [...lines(found)].join('').trimEnd())
}

export const runDiff = async (context: Context, options: ConfigOptions): Promise<void> => {
  const config = readConfig(options.config, process.env)
  const found = difference(context, config)
  if (options.json !== true) return printAll(lines(found))
  return printAll([`${JSON.stringify(jsonOf(found), null, 2)}\n`])
}
