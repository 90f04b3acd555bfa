// SPDX-License-Identifier: Apache-2.0
// What all verbs have in common on the command line: options of all of them, and where they are performed.
import type { Command } from 'commander'
import type { Context, GlobalOptions } from '../commands/context.ts'
import { DAEMON_VERBS, daemonSocket } from '../commands/daemon.ts'

/** Options that every verb takes, before or after its name. */
export const withGlobals = (command: Command): Command =>
  command
    .option('--instance <name>', 'one of several xlbs on this host (default: $XLB_INSTANCE, or "default")')
    .option('--json', 'print the result, and errors, as JSON')

export const verb = (parent: Command, name: string, summary: string): Command =>
  withGlobals(parent.command(name).description(summary)).allowExcessArguments(false)

/** The options of a verb, with those given before its name. */
export const optionsOf = <T extends GlobalOptions>(command: Command): T => command.optsWithGlobals<T>()

/** As the command line has it: backend set. */
const nameOf = (command: Command): string => {
  const parent = command.parent
  return parent?.parent == null ? command.name() : `${nameOf(parent)} ${command.name()}`
}

/** The words of a command by the names of its arguments. */
const wordsOf = (command: Command): Record<string, unknown> =>
  Object.fromEntries(command.registeredArguments.map((argument, i) => [argument.name(), command.processedArgs[i]]))

/** Performs a verb: the instance's daemon does where one runs and the verb is of those that it performs; else this process. */
export const perform = async (command: Command, run: (context: Context) => void | Promise<void>): Promise<void> => {
  const options = optionsOf<GlobalOptions & { here?: boolean }>(command)
  const name = nameOf(command)
  const socket = DAEMON_VERBS.has(name) && options.here !== true ? daemonSocket(options.instance) : undefined
  if (socket !== undefined) {
    const { askDaemon } = await import('../commands/ask-daemon.ts')
    const { instance: _, json: __, ...input } = { ...wordsOf(command), ...options }
    if (await askDaemon(socket, name, input, options)) return
  }
  const { makeContext } = await import('../commands/here.ts')
  await run(makeContext(options))
}
