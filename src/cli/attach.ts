// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { oneOf, wholeNumber } from '../commands/context.ts'
import { optionsOf, perform, verb } from './verb.ts'

const MODES = ['auto', 'native', 'generic'] as const

export const addAttachVerbs = (program: Command): void => {
  verb(program, 'attach', 'load the program onto an interface')
    .argument('<interface>')
    .option('--mode <mode>', MODES.join(', '), oneOf('--mode', MODES), 'auto')
    .option(
      '--services <n>',
      'room for services, rounded up to a power of two (default: 1024)',
      wholeNumber('--services'),
    )
    .option(
      '--backends <n>',
      'room for backends over all services, rounded up likewise (default: 8192)',
      wholeNumber('--backends'),
    )
    .option(
      '--flows <n>',
      'entries of the flow table, rounded up to a power of two (default: 2097152)',
      wholeNumber('--flows'),
    )
    .option(
      '--flows6 <n>',
      'entries of the flow table of IPv6, rounded up to a power of two; 32 octets each (default: 524288)',
      wholeNumber('--flows6'),
    )
    .option(
      '--prefix-flows6 <n>',
      'the same of IPv6 prefixes, whose entries have both addresses; 48 octets each (default: 65536)',
      wholeNumber('--prefix-flows6'),
    )
    .option(
      '--prefixes <n>',
      'room for prefixes over all filters, rounded up to a power of two (default: 131072)',
      wholeNumber('--prefixes'),
    )
    .option(
      '--clients <n>',
      'clients of persistent services, rounded up to a power of two; 32 octets each (default: 262144)',
      wholeNumber('--clients'),
    )
    .option(
      '--destinations <n>',
      'destinations that lblc and lblcr remember, rounded up to a power of two; 32 octets each (default: 65536)',
      wholeNumber('--destinations'),
    )
    .option(
      '--new-flows <n>',
      'tracked flows that one CPU may record in a second (default: 250000)',
      wholeNumber('--new-flows'),
    )
    .action((name: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/attach.ts')).runAttach(context, name, optionsOf(command)),
      ),
    )

  verb(program, 'detach', 'take the program off an interface; with the last one, services end')
    .argument('[interface]')
    .option('--all', 'off every interface')
    .action((name: string | undefined, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/attach.ts')).runDetach(context, name, optionsOf(command)),
      ),
    )

  verb(program, 'upgrade', "replace the program of every attached interface by this build's, without a gap")
    .option('--check', 'say what would be replaced, and change nothing')
    .action((_: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/upgrade.ts')).runUpgrade(context, optionsOf(command)),
      ),
    )
}
