// SPDX-License-Identifier: Apache-2.0
import { formatService, parseBackend, parseService } from '../core/address.ts'
import type { Path } from '../core/desired.ts'
import { type FlowFate, removeBackend } from '../core/leaving.ts'
import { parseMaxConns } from '../core/max-conns.ts'
import type { Change } from '../core/plan.ts'
import { Refusal } from '../core/refusal.ts'
import { drainBackend, maintBackend, setBackend } from '../core/verbs.ts'
import { parseVlan } from '../core/vlan.ts'
import { changeState } from '../shell/session.ts'
import type { Context, GlobalOptions } from './context.ts'

const report = ({ answer }: Context, changes: readonly Change[], done: string): void =>
  answer(
    { changed: changes.map(({ kind, name }) => ({ kind, service: name })) },
    changes.length > 0 ? done : 'nothing to change',
  )

export const runBackendSet = (
  context: Context,
  serviceText: string,
  backendText: string,
  options: GlobalOptions & { weight?: number; vlan?: string; maxConns?: string; force?: boolean },
): void => {
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const wanted = {
    ...(options.weight === undefined ? {} : { weight: options.weight }),
    ...(options.vlan === undefined ? {} : { vlan: parseVlan(options.vlan) }),
    ...(options.maxConns === undefined ? {} : { maxConns: parseMaxConns('--max-conns', options.maxConns) }),
  }
  let path: Path = { kind: 'unresolved', why: 'not asked' }
  const changes = context.session((session) =>
    changeState(session, (state, resolver) => {
      // Words that are wrong are refused before the kernel is asked for a MAC, which may take seconds.
      setBackend(state, service, backend, { ...wanted, path })
      path = resolver.resolve([backend.address]).get(backend.address) ?? path
      if (path.kind === 'unresolved' && options.force !== true) {
        resolver.release([backend.address])
        throw new Refusal(
          `backend ${path.why}`,
          'see that it is up and in this segment; or take it at weight 0 until it answers: --force',
        )
      }
      return setBackend(state, service, backend, { ...wanted, path })
    }),
  )
  if (path.kind === 'unresolved') context.note(`warning: ${path.why}: it has weight 0 until a later verb finds its MAC`)
  report(context, changes, `set ${backend.address} of ${formatService(service)}`)
}

export const runBackendDrain = async (
  context: Context,
  serviceText: string,
  backendText: string,
  options: GlobalOptions & { deadline?: number },
): Promise<void> => {
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const changes = context.session((session) => changeState(session, (state) => drainBackend(state, service, backend)))
  if (options.deadline !== undefined) {
    const { awaitDrained, standing } = await import('./drained.ts')
    const drained = { service: formatService(service), backend: backend.address }
    return awaitDrained(context, drained, options.deadline, () => standing(context, drained))
  }
  report(
    context,
    changes,
    `draining ${backend.address} of ${formatService(service)}: no new flows, established ones stay`,
  )
}

export const runBackendMaint = (context: Context, serviceText: string, backendText: string): void => {
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const changes = context.session((session) => changeState(session, (state) => maintBackend(state, service, backend)))
  report(
    context,
    changes,
    `${backend.address} of ${formatService(service)} is in maintenance: no new flows, and those that it had are scheduled anew`,
  )
}

/** Without a daemon nobody is there who would remember what is reported, and let the backend in again. */
export const refuseReport = (): never => {
  throw new Refusal(
    'backend report: no daemon of this instance runs, and nobody else keeps what is reported',
    'start it: systemctl start xlb; or take the backend out by xlb backend drain, or maint',
  )
}

const FATES: Record<FlowFate, string> = {
  move: 'its flows are scheduled anew',
  keep: 'its flows stay until they end',
  cut: 'packets of its flows are dropped',
}

export const runBackendRemove = (
  context: Context,
  serviceText: string,
  backendText: string,
  options: GlobalOptions & { flows?: FlowFate },
): void => {
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const { flows = 'move' } = options
  const changes = context.session((session) =>
    changeState(session, (state) => removeBackend(state, service, backend, flows)),
  )
  report(context, changes, `removed ${backend.address} of ${formatService(service)}: ${FATES[flows]}`)
}
