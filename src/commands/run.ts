// SPDX-License-Identifier: Apache-2.0
// `xlb run`: the daemon in the foreground, until a signal ends it.
import { Daemon } from '../daemon/daemon.ts'
import { makeLogger } from '../daemon/logging.ts'
import { serviceManager } from '../shell/notify-service.ts'
import type { ConfigOptions } from './check.ts'
import type { Context } from './context.ts'

export interface RunOptions extends ConfigOptions {
  logLevel: string
}

export const runRun = async ({ native, paths }: Context, options: RunOptions): Promise<void> => {
  const log = makeLogger(paths.name, options.logLevel)
  const daemon = new Daemon({ native, paths, file: options.config, environment: process.env, log })
  const manager = serviceManager(native.system, (fault) => log.warn({ err: fault }, 'the service manager is not told'))
  await daemon.start()
  const runs = `balances by ${options.config}`
  manager.ready(runs)
  // The event loop turns, or this timer does not: nothing of the daemon's work is done outside of it.
  manager.startWatchdog(() => true)
  process.on('SIGHUP', () => {
    manager.reloading(`reloads ${options.config}`)
    manager.ready(daemon.reload() ? runs : `${options.config} is refused, and what was loaded before runs on`)
  })
  const end = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'ends; what is attached goes on balancing')
    manager.stopping('ends')
    void daemon.close().then(() => process.exit(0))
  }
  process.once('SIGTERM', end)
  process.once('SIGINT', end)
}
