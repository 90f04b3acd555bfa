// SPDX-License-Identifier: Apache-2.0
// The command line. Each verb's modules are set up when the verb is called: most of a command's time is its start.
import { Command, CommanderError } from 'commander'
import { addAttachVerbs } from './cli/attach.ts'
import { addDaemonVerbs } from './cli/daemon.ts'
import { addFileVerbs } from './cli/files.ts'
import { addFilterVerbs } from './cli/filters.ts'
import { addServiceVerbs } from './cli/services.ts'
import { addShowVerbs } from './cli/show.ts'
import { withGlobals } from './cli/verb.ts'
import { reportError } from './commands/context.ts'
import { Refusal } from './core/refusal.ts'
import { VERSION } from './core/version.ts'

const program = withGlobals(new Command('xlb'))
  .description('layer-4 load balancer: direct server return in XDP')
  .version(VERSION)
  .showSuggestionAfterError()

for (const add of [addAttachVerbs, addServiceVerbs, addFilterVerbs, addShowVerbs, addFileVerbs, addDaemonVerbs])
  add(program)

const quietly = (command: Command): void => {
  command.exitOverride()
  command.configureOutput({ writeErr: () => {} })
  for (const child of command.commands) quietly(child)
}

const wrongUse = (error: CommanderError): Refusal =>
  new Refusal(error.message.replace(/^error: /, '').replace(/\n/g, ' '), 'xlb --help, or xlb VERB --help', {
    usage: true,
  })

const main = async (): Promise<void> => {
  quietly(program)
  try {
    await program.parseAsync()
  } catch (error) {
    const json = process.argv.includes('--json')
    if (!(error instanceof CommanderError)) process.exitCode = reportError(error, json)
    else if (error.code === 'commander.help')
      process.exitCode = reportError(new Refusal('no verb was given', 'xlb --help', { usage: true }), json)
    else if (error.exitCode !== 0) process.exitCode = reportError(wrongUse(error), json)
  }
}

void main()
