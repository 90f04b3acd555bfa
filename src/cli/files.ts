// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { optionsOf, perform, verb } from './verb.ts'

export const CONFIG_FILE = '/etc/xlb/xlb.yaml'

export const addFileVerbs = (program: Command): void => {
  verb(program, 'save', 'write services and backends as a file that restore reads')
    .option('-o, --output <file>', 'write there, whole or not at all (default: standard output)')
    .action((_: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/state.ts')).runSave(context, optionsOf(command))),
    )

  verb(program, 'restore', 'make services and backends what the file says, all at once')
    .argument('<file>', '- is standard input')
    .option('--force', 'take backends at weight 0 that do not answer ARP or neighbour discovery')
    .option('--attach', "attach the file's interfaces first, where they are not")
    .action((file: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/state.ts')).runRestore(context, file, optionsOf(command)),
      ),
    )

  verb(program, 'check', 'say what is wrong with a configuration file: all of it, and where; needs no root')
    .option('-c, --config <file>', `the file; - is standard input (default: ${CONFIG_FILE})`, CONFIG_FILE)
    .action(async (_: unknown, command: Command) => (await import('../commands/check.ts')).runCheck(optionsOf(command)))

  verb(program, 'diff', 'say what restore --attach would change, and change nothing')
    .option('-c, --config <file>', `the file; - is standard input (default: ${CONFIG_FILE})`, CONFIG_FILE)
    .action((_: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/diff.ts')).runDiff(context, optionsOf(command))),
    )

  verb(program, 'clear', 'remove all services; the program stays attached').action((_: unknown, command: Command) =>
    perform(command, async (context) => (await import('../commands/state.ts')).runClear(context)),
  )
}
