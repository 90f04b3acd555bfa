// SPDX-License-Identifier: Apache-2.0
// A configuration file meets what is there: what it says otherwise than when it was last loaded is applied, all at once.
import type { Config } from '../config/reading.ts'
import type { DesiredState, Globals } from '../core/desired.ts'
import { mergeFaults, mergeGlobals, mergeState, mergeTimeouts, withChanges } from '../core/merge.ts'
import { Settings } from '../dataplane/layout.gen.ts'
import { readTimeouts, writeTimeouts } from '../dataplane/timeouts.ts'
import { viewOf } from '../dataplane/views.ts'
import { DEFAULT_NEW_FLOWS, newFlowsPerAge } from '../shell/load.ts'
import { type Changed, changeAll, random64, type Session } from '../shell/session.ts'
import { withWays } from './backend-ways.ts'
import type { Changes, Wish } from './state-store.ts'

/** Of a configuration what the maps hold, and how backends come back. */
export type Wanted = Pick<Config, 'interfaces' | 'newFlows' | 'filter' | 'timeouts' | 'policies' | 'desired'>

const NOTHING: DesiredState = new Map()

/**
 * @param base the configuration as it was last loaded; undefined: none ever was
 * @param kept where the maps are others than that was loaded onto: what was changed since, which these do not remember
 * @returns what was changed; and what the file says, with the seeds of its services
 * @throws Refusal where file and verbs, each right by itself, make something wrong together; nothing is changed then
 */
export const applyConfig = (
  session: Session,
  config: Wanted,
  base: Wish | undefined,
  kept: Changes | undefined,
): { changed: Changed; wish: Wish } => {
  const { plane } = session
  const settings = Settings.read(viewOf(plane, 'settings'), 0)
  const perAge = (newFlows: number | undefined) => newFlowsPerAge(newFlows ?? DEFAULT_NEW_FLOWS, settings)
  const loaded = base?.services ?? NOTHING
  const before = kept === undefined ? session.live.desired : withChanges(loaded, kept.services, 'have')
  // Where the file says no seed, that of the file before holds, else that of what is there.
  const file = config.desired(new Map([...before, ...loaded]), random64)
  const baseServices =
    kept === undefined || base === undefined ? base?.services : withChanges(loaded, kept.services, 'base')
  const changed = changeAll(session, {
    services: (have, resolver) => {
      const from = kept === undefined ? have : withChanges(base?.services ?? file, kept.services, 'have')
      const merged = mergeState(baseServices, file, from)
      for (const { refusal } of mergeFaults(from, merged)) throw refusal
      // Whoever made these maps may have drained a backend, and has found ways to all of them.
      return withWays(have, kept === undefined ? merged : mergeState(undefined, merged, have), resolver)
    },
    globals: (have) => {
      const was = base && { filter: base.filter, newFlows: perAge(base.newFlows) }
      const from = kept && { filter: kept.have.filter, newFlows: perAge(kept.have.newFlows) }
      const isUnsaid = was === undefined && config.newFlows === undefined
      const wanted: Globals = { filter: config.filter, newFlows: isUnsaid ? have.newFlows : perAge(config.newFlows) }
      return mergeGlobals(was, wanted, from ?? have)
    },
  })
  const now = kept?.have.timeouts ?? readTimeouts(plane)
  const timeouts = writeTimeouts(plane, mergeTimeouts(base?.timeouts, config.timeouts, now))
  const { interfaces, newFlows = DEFAULT_NEW_FLOWS, filter, policies } = config
  return {
    changed: { ...changed, globals: changed.globals || timeouts.length > 0 },
    wish: { interfaces, newFlows, filter, timeouts: config.timeouts, services: file, policies },
  }
}
