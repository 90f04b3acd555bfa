// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { oneOf, wholeNumber } from '../commands/context.ts'
import { Refusal } from '../core/refusal.ts'
import { CONFIG_FILE } from './files.ts'
import { optionsOf, perform, verb } from './verb.ts'

const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

export const addDaemonVerbs = (program: Command): void => {
  verb(program, 'run', 'be the daemon: make everything what a configuration file says, and keep it so')
    .option('-c, --config <file>', `the file (default: ${CONFIG_FILE})`, CONFIG_FILE)
    .option('--log-level <level>', LOG_LEVELS.join(', '), oneOf('--log-level', LOG_LEVELS), 'info')
    .action((_: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/run.ts')).runRun(context, optionsOf(command))),
    )

  verb(program, 'reload', 'have the daemon read its configuration file again, and apply what differs').action(
    (_: unknown, command: Command) =>
      perform(command, () => {
        throw new Refusal(
          'reload: no daemon of this instance runs',
          'systemctl start xlb; or without one: xlb restore FILE',
        )
      }),
  )

  verb(program, 'events', 'follow what the daemon tells of')
    .option('--since <id>', 'from after the event of this number on', wholeNumber('--since'))
    .option('-c, --count <n>', 'end after so many', wholeNumber('--count'))
    .action(async (_: unknown, command: Command) =>
      (await import('../commands/events.ts')).runEvents(optionsOf(command)),
    )
}
