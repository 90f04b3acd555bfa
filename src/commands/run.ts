// SPDX-License-Identifier: Apache-2.0
// `xlb run`: the daemon in the foreground, until a signal ends it.
import { Daemon } from '../daemon/daemon.ts'
import { makeLogger } from '../daemon/logging.ts'
import type { ConfigOptions } from './check.ts'
import type { Context } from './context.ts'

export interface RunOptions extends ConfigOptions {
  logLevel: string
}

export const runRun = async ({ native, paths }: Context, options: RunOptions): Promise<void> => {
  const log = makeLogger(paths.name, options.logLevel)
  const daemon = new Daemon({ native, paths, file: options.config, environment: process.env, log })
  await daemon.start()
  process.on('SIGHUP', () => daemon.reload())
  const end = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'ends; what is attached goes on balancing')
    void daemon.close().then(() => process.exit(0))
  }
  process.once('SIGTERM', end)
  process.once('SIGINT', end)
}
