// SPDX-License-Identifier: Apache-2.0
import { CAPACITY } from '../core/capacity.ts'
import type { AttachMode } from '../core/preflight-facts.ts'
import { Refusal } from '../core/refusal.ts'
import { attach, detach } from '../shell/attach.ts'
import { type Context, type GlobalOptions, printWarnings } from './context.ts'
import { plural } from './text.ts'

export interface AttachArguments extends GlobalOptions {
  mode: AttachMode
  services?: number
  backends?: number
  flows?: number
  flows6?: number
  prefixFlows6?: number
  prefixes?: number
  clients?: number
  destinations?: number
  newFlows?: number
}

const CAPACITIES = Object.keys(CAPACITY) as (keyof typeof CAPACITY)[]

export const runAttach = (context: Context, interfaceName: string, options: AttachArguments): void => {
  const { native, paths, answer } = context
  const capacity = Object.fromEntries(
    CAPACITIES.flatMap((name) => {
      const value = options[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )
  const attached = attach(native, paths, {
    interfaceName,
    mode: options.mode,
    capacity,
    ...(options.newFlows === undefined ? {} : { newFlows: options.newFlows }),
  })
  context.daemon?.attached(interfaceName, options.mode)
  printWarnings(context, attached.warnings)
  answer(
    {
      instance: paths.name,
      interface: interfaceName,
      ifindex: attached.ifindex,
      mode: attached.mode,
      reason: attached.reason,
      warnings: attached.warnings,
    },
    `attached to ${interfaceName} in ${attached.mode} mode, ${attached.reason}`,
  )
}

export const runDetach = (
  { native, paths, answer, daemon }: Context,
  interfaceName: string | undefined,
  options: GlobalOptions & { all?: boolean },
): void => {
  if ((interfaceName === undefined) !== (options.all === true)) {
    throw new Refusal('detach: name one interface, or --all', 'xlb detach eth0, or xlb detach --all', { usage: true })
  }
  const ended = detach(native, paths, interfaceName)
  for (const name of ended.interfaces) daemon?.detached(name)
  const services = ended.services > 0 ? `; gone with it: ${plural(ended.services, 'service')}` : ''
  answer({ instance: paths.name, ...ended }, `detached from ${ended.interfaces.join(', ') || 'nothing'}${services}`)
}
