// SPDX-License-Identifier: Apache-2.0
import { uptime } from 'node:os'
import type { ProgramInfo } from '../dataplane/native.ts'
import { type Upgrade, type UpgradedInterface, upgrade } from '../shell/upgrade.ts'
import type { Context, GlobalOptions } from './context.ts'
import { duration, plural } from './text.ts'

export interface UpgradeArguments extends GlobalOptions {
  check?: boolean
}

const secondsSince = ({ loadedNs }: ProgramInfo): number => Math.max(0, uptime() - Number(loadedNs) / 1e9)

const described = (info: ProgramInfo | undefined): string =>
  info === undefined ? '' : `program ${info.id} (tag ${info.tag}, loaded ${duration(secondsSince(info))} ago)`

const mendOf = (name: string): string =>
  `once ${name} is there: xlb attach ${name}, which takes this build's program; if it is gone for good: xlb detach ${name}`

const lineOf = ({ name, outcome, loaded, build }: UpgradedInterface): string => {
  if (outcome === 'current') return `${name}: has this build's ${described(loaded)}`
  if (outcome === 'outdated') return `${name}: ${described(loaded)} would be replaced, by one of tag ${build?.tag}`
  return `${name}: replaced ${described(loaded)} by program ${build?.id} (tag ${build?.tag})`
}

const summaryOf = ({ interfaces, clock }: Upgrade, check: boolean): string => {
  const count = interfaces.filter(({ outcome }) => outcome === 'outdated' || outcome === 'replaced').length
  const what = [...(count > 0 ? [plural(count, 'program')] : []), ...(clock === 'current' ? [] : ['the clock program'])]
  if (what.length === 0) return 'nothing to do'
  return check
    ? `nothing was changed; xlb upgrade would replace ${what.join(' and ')}`
    : `replaced ${what.join(' and ')}; tables, flows and counters are what they were`
}

const jsonOf = ({ name, mode, outcome, loaded, build, fault }: UpgradedInterface, check: boolean) => ({
  name,
  mode,
  outcome,
  loaded: loaded === undefined ? null : { id: loaded.id, tag: loaded.tag, secondsAgo: secondsSince(loaded) },
  // Only a program that took the other's place lives on, and its id with it.
  build: build === undefined ? null : { id: check || outcome === 'current' ? null : build.id, tag: build.tag },
  fault: fault ?? null,
  mend: fault === undefined ? null : mendOf(name),
})

export const runUpgrade = ({ native, paths, answer, note }: Context, options: UpgradeArguments): void => {
  const check = options.check === true
  const done = upgrade(native, paths, { check })
  for (const { name, outcome, fault } of done.interfaces) {
    if (outcome === 'skipped') note(`warning: ${name}: skipped: ${fault}\n         ${mendOf(name)}`)
  }
  answer(
    { instance: paths.name, check, interfaces: done.interfaces.map((each) => jsonOf(each, check)), clock: done.clock },
    [...done.interfaces.filter(({ outcome }) => outcome !== 'skipped').map(lineOf), summaryOf(done, check)].join('\n'),
  )
}
