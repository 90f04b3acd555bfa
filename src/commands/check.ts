// SPDX-License-Identifier: Apache-2.0
import { readConfig } from '../config/read.ts'
import { type GlobalOptions, makeOutput } from './context.ts'
import { plural } from './text.ts'

export interface ConfigOptions extends GlobalOptions {
  config: string
}

/** Reads files alone: neither the addon nor the kernel is asked, and the host may be another. */
export const runCheck = (options: ConfigOptions): void => {
  const { answer } = makeOutput(options)
  const file = options.config
  const { files, services, interfaces } = readConfig(file, process.env, { shown: Number.POSITIVE_INFINITY })
  const backends = [...services.values()].reduce((sum, service) => sum + service.backends.length, 0)
  const included = files.length === 1 ? '' : `, in ${plural(files.length, 'file')}`
  answer(
    { files, interfaces: interfaces.length, services: services.size, backends },
    `${file}: no faults: ${plural(services.size, 'service')}, ${plural(backends, 'backend')}${included}`,
  )
}
