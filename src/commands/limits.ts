// SPDX-License-Identifier: Apache-2.0
import { Settings } from '../dataplane/layout.gen.ts'
import { viewOf } from '../dataplane/views.ts'
import { newFlowsPerAge, newFlowsPerSecond } from '../shell/load.ts'
import { changeAll, type Session } from '../shell/session.ts'
import type { Context, GlobalOptions } from './context.ts'
import { grouped } from './text.ts'

const settingsOf = ({ plane }: Session): Settings => Settings.read(viewOf(plane, 'settings'), 0)

/** The bound on new flows, of a CPU in a second. */
export const newFlowsNow = (session: Session): number =>
  newFlowsPerSecond(session.live.globals.newFlows, settingsOf(session))

/** A bound in a second as Globals has it. @throws Refusal where it is none */
export const newFlowsAt = (session: Session, perSecond: number): number =>
  newFlowsPerAge(perSecond, settingsOf(session))

export const runLimits = (context: Context, options: GlobalOptions & { newFlows?: number }): void => {
  const { newFlows } = options
  const { now, changed } = context.session((session) => {
    if (newFlows === undefined) return { now: newFlowsNow(session), changed: false }
    const wanted = newFlowsAt(session, newFlows)
    const { globals } = changeAll(session, { globals: (have) => ({ ...have, newFlows: wanted }) })
    return { now: newFlows, changed: globals }
  })
  const text = `new flows: ${grouped(now)} a second on each CPU`
  context.answer({ changed, newFlows: now }, newFlows !== undefined && !changed ? `nothing to change; ${text}` : text)
}
