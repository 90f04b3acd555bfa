// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { oneOf, wholeNumber } from '../commands/context.ts'
import { parseTimeout } from '../core/timeouts.ts'
import { optionsOf, perform, verb } from './verb.ts'

export const addFilterVerbs = (program: Command): void => {
  const filter = program
    .command('filter')
    .description('allow and deny sources: of a service, or, where none is named, of all services')
  verb(filter, 'add', 'allow or deny prefixes of sources; the longest that covers a source decides')
    .argument('<words...>', '[SERVICE] allow|deny PREFIX...')
    .action((words: string[], _: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/filter.ts')).runFilterAdd(context, words)),
    )
  verb(filter, 'rm', 'remove prefixes from the list')
    .argument('<words...>', '[SERVICE] PREFIX...')
    .action((words: string[], _: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/filter.ts')).runFilterRemove(context, words)),
    )
  verb(filter, 'default', 'say what becomes of sources that no prefix covers')
    .argument('<words...>', '[SERVICE] allow|deny')
    .action((words: string[], _: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/filter.ts')).runFilterDefault(context, words)),
    )
  verb(filter, 'load', 'replace the whole list by that of a file, at once')
    .argument('<words...>', '[SERVICE] FILE; - is standard input')
    .option('--as <verdict>', 'of lines with a prefix alone: allow, deny', oneOf('--as', ['allow', 'deny']))
    .action((words: string[], _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/filter.ts')).runFilterLoad(context, words, optionsOf(command)),
      ),
    )
  verb(filter, 'list', 'print the list, as load reads it')
    .argument('[words...]', '[SERVICE]')
    .action((words: string[], _: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/filter.ts')).runFilterList(context, words)),
    )
  verb(filter, 'clear', 'empty the list, and allow everybody')
    .argument('[words...]', '[SERVICE]')
    .action((words: string[], _: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/filter.ts')).runFilterClear(context, words)),
    )

  verb(program, 'limits', 'show or set bounds that hold for all services')
    .option('--new-flows <n>', 'tracked flows that one CPU may record in a second', wholeNumber('--new-flows'))
    .action((_: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/limits.ts')).runLimits(context, optionsOf(command)),
      ),
    )

  const timeout = (option: string) => (text: string) => parseTimeout(option, text)

  verb(program, 'timeouts', 'show or set how long flow entries last without a packet')
    .option('--established <time>', 'TCP, after the handshake (default: 15m)', timeout('--established'))
    .option('--closing <time>', 'TCP, after a FIN (default: 2m)', timeout('--closing'))
    .option('--closed <time>', 'TCP, after a reset (default: 10s)', timeout('--closed'))
    .option('--half-open <time>', 'TCP, after the SYN (default: 60s)', timeout('--half-open'))
    .option('--adopted <time>', 'TCP, first seen in mid-flow (default: 60s)', timeout('--adopted'))
    .option('--udp <time>', 'UDP, seen again (default: 5m)', timeout('--udp'))
    .option('--udp-once <time>', 'UDP, seen once (default: 5m)', timeout('--udp-once'))
    .option(
      '--destination <time>',
      'which backends lblc and lblcr gave a destination, after its last flow; and a set of lblcr loses one (default: 1d)',
      (text: string) => parseTimeout('--destination', text, 'destination'),
    )
    .action((_: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/timeouts.ts')).runTimeouts(context, optionsOf(command)),
      ),
    )
}
