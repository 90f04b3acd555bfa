// SPDX-License-Identifier: Apache-2.0
import { formatService, parseService } from '../core/address.ts'
import type { DesiredState } from '../core/desired.ts'
import { addService, removeService, type ServiceOptions, setService } from '../core/verbs.ts'
import { changeState, random64 } from '../shell/session.ts'
import type { Context, GlobalOptions } from './context.ts'

const change = (context: Context, done: string, apply: (state: DesiredState) => DesiredState): void => {
  const changes = context.session((session) => changeState(session, apply))
  context.answer(
    { changed: changes.map(({ kind, name }) => ({ kind, service: name })) },
    changes.length > 0 ? done : 'nothing to change',
  )
}

const chosen = (options: ServiceOptions): ServiceOptions => {
  const { scheduler, forward, hash, ringSize, seed, ops, sourceRate, sourceBurst, sourcePrefix } = options
  const { persist, persistMask, persistMask6, drainPersistence, group, name } = options
  return {
    ...(scheduler === undefined ? {} : { scheduler }),
    ...(forward === undefined ? {} : { forward }),
    ...(hash === undefined ? {} : { hash }),
    ...(ringSize === undefined ? {} : { ringSize }),
    ...(seed === undefined ? {} : { seed }),
    ...(ops === undefined ? {} : { ops }),
    ...(sourceRate === undefined ? {} : { sourceRate }),
    ...(sourceBurst === undefined ? {} : { sourceBurst }),
    ...(sourcePrefix === undefined ? {} : { sourcePrefix }),
    ...(persist === undefined ? {} : { persist }),
    ...(persistMask === undefined ? {} : { persistMask }),
    ...(persistMask6 === undefined ? {} : { persistMask6 }),
    ...(drainPersistence === undefined ? {} : { drainPersistence }),
    ...(group === undefined ? {} : { group }),
    ...(name === undefined ? {} : { name }),
  }
}

export const runServiceAdd = (context: Context, text: string, options: GlobalOptions & ServiceOptions): void => {
  const service = parseService(text)
  change(context, `added ${formatService(service)}`, (state) => addService(state, service, chosen(options), random64()))
}

export const runServiceSet = (context: Context, text: string, options: GlobalOptions & ServiceOptions): void => {
  const service = parseService(text)
  change(context, `changed ${formatService(service)}`, (state) => setService(state, service, chosen(options)))
}

export const runServiceRemove = (context: Context, text: string): void => {
  const service = parseService(text)
  change(context, `removed ${formatService(service)}`, (state) => removeService(state, service))
}
