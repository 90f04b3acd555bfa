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

/** For a service manager that wants to hear more often than there are looks. */
const LOOKS_MS = 3000

export const runRun = async ({ native, paths }: Context, options: RunOptions): Promise<void> => {
  const log = makeLogger(paths.name, options.logLevel)
  const manager = serviceManager(native.system, (fault) => log.warn({ err: fault }, 'the service manager is not told'))
  const runs = `balances by ${options.config}`
  const statusOf = (taken: boolean): string =>
    taken ? runs : `${options.config} is refused, and what was loaded before runs on`
  const daemon = new Daemon({
    native,
    paths,
    file: options.config,
    environment: process.env,
    log,
    onReload: (taken) => manager.status(statusOf(taken)),
  })
  await daemon.start()
  manager.ready(runs)
  // The event loop turns, or this timer does not; and of what it does, the look at everything is what must succeed now and then.
  manager.startWatchdog(() => daemon.isWell(Math.max(2 * (manager.watchdogMs ?? 0), LOOKS_MS)))
  process.on('SIGHUP', () => {
    manager.reloading(`reloads ${options.config}`)
    manager.ready(statusOf(daemon.reload()))
  })
  const end = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'ends; what is attached goes on balancing')
    manager.stopping('ends')
    void daemon.close().then(() => process.exit(0))
  }
  process.once('SIGTERM', end)
  process.once('SIGINT', end)
}
