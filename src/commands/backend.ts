// SPDX-License-Identifier: Apache-2.0
import { formatService, parseBackend, parseService } from '../core/address.ts'
import { drainBackend, maintBackend, type Path, setBackend } from '../core/desired.ts'
import { type FlowFate, removeBackend } from '../core/leaving.ts'
import { parseMaxConns } from '../core/max-conns.ts'
import type { Change } from '../core/plan.ts'
import { Refusal } from '../core/refusal.ts'
import { parseVlan } from '../core/vlan.ts'
import { changeState, withSession } from '../shell/session.ts'
import { type GlobalOptions, makeContext } from './context.ts'

const report = (options: GlobalOptions, changes: readonly Change[], done: string): void =>
  makeContext(options).answer(
    { changed: changes.map(({ kind, name }) => ({ kind, service: name })) },
    changes.length > 0 ? done : 'nothing to change',
  )

export const runBackendSet = (
  serviceText: string,
  backendText: string,
  options: GlobalOptions & { weight?: number; vlan?: string; maxConns?: string; force?: boolean },
): void => {
  const { native, paths, note } = makeContext(options)
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const wanted = {
    ...(options.weight === undefined ? {} : { weight: options.weight }),
    ...(options.vlan === undefined ? {} : { vlan: parseVlan(options.vlan) }),
    ...(options.maxConns === undefined ? {} : { maxConns: parseMaxConns('--max-conns', options.maxConns) }),
  }
  let path: Path = { kind: 'unresolved', why: 'not asked' }
  const changes = withSession(native, paths, (session) =>
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
  if (path.kind === 'unresolved') note(`warning: ${path.why}: it has weight 0 until a later verb finds its MAC`)
  report(options, changes, `set ${backend.address} of ${formatService(service)}`)
}

export const runBackendDrain = async (
  serviceText: string,
  backendText: string,
  options: GlobalOptions & { deadline?: number },
): Promise<void> => {
  const context = makeContext(options)
  const { native, paths } = context
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const changes = withSession(native, paths, (session) =>
    changeState(session, (state) => drainBackend(state, service, backend)),
  )
  if (options.deadline !== undefined) {
    const { awaitDrained } = await import('./drained.ts')
    return awaitDrained(context, { service: formatService(service), backend: backend.address }, options.deadline)
  }
  report(
    options,
    changes,
    `draining ${backend.address} of ${formatService(service)}: no new flows, established ones stay`,
  )
}

export const runBackendMaint = (serviceText: string, backendText: string, options: GlobalOptions): void => {
  const { native, paths } = makeContext(options)
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const changes = withSession(native, paths, (session) =>
    changeState(session, (state) => maintBackend(state, service, backend)),
  )
  report(
    options,
    changes,
    `${backend.address} of ${formatService(service)} is in maintenance: no new flows, and those that it had are scheduled anew`,
  )
}

const FATES: Record<FlowFate, string> = {
  move: 'its flows are scheduled anew',
  keep: 'its flows stay until they end',
  cut: 'packets of its flows are dropped',
}

export const runBackendRemove = (
  serviceText: string,
  backendText: string,
  options: GlobalOptions & { flows?: FlowFate },
): void => {
  const { native, paths } = makeContext(options)
  const service = parseService(serviceText)
  const backend = parseBackend(backendText, service)
  const { flows = 'move' } = options
  const changes = withSession(native, paths, (session) =>
    changeState(session, (state) => removeBackend(state, service, backend, flows)),
  )
  report(options, changes, `removed ${backend.address} of ${formatService(service)}: ${FATES[flows]}`)
}
