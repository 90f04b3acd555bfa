// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import type { ConnectionsOptions } from '../commands/connections.ts'
import { oneOf, wholeNumber } from '../commands/context.ts'
import type { ListOptions } from '../commands/list.ts'
import { VERDICTS } from '../core/captured.ts'
import { CONNECTION_STATES } from '../core/connection-states.ts'
import { parseDuration } from '../core/duration.ts'
import { Refusal } from '../core/refusal.ts'
import { optionsOf, perform, verb } from './verb.ts'

export const addShowVerbs = (program: Command): void => {
  verb(program, 'list', 'show interfaces, services and backends')
    .argument('[service]')
    .option('--stats', 'flows, packets and bytes so far, and why packets were passed or dropped')
    .option('--rate', 'the same, per second')
    .option('--format <format>', 'ipvsadm: as ipvsadm -Ln prints it', oneOf('--format', ['ipvsadm']))
    .action((text: string | undefined, _: unknown, command: Command) => {
      const options = optionsOf<ListOptions>(command)
      if (options.json === true && options.format !== undefined) {
        throw new Refusal('list: --json and --format exclude each other', 'choose one', { usage: true })
      }
      return perform(command, async (context) => (await import('../commands/list.ts')).runList(context, text, options))
    })

  verb(program, 'status', 'show what is wrong, the worst first').action((_: unknown, command: Command) =>
    perform(command, async (context) => (await import('../commands/status.ts')).runStatus(context)),
  )

  verb(program, 'doctor', 'find what is wrong with this director, its VIPs and its real servers; 1 if anything is')
    .argument('[service]')
    .option('--setup', 'print the commands that set up each real server, and examine nothing')
    .option(
      '--listen <time>',
      'look so long at packets for partial checksums: 10s, 1m (default: where connections are stuck)',
      (text) => parseDuration('--listen', text),
    )
    .option('--here', 'examine by this process, though a daemon runs: as root it sees what takes CAP_SYS_ADMIN')
    .action((text: string | undefined, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/doctor.ts')).runDoctor(context, text, optionsOf(command)),
      ),
    )

  verb(program, 'connections', 'list the flow table: connections of tracked services')
    .argument('[service]')
    .option('--backend <address>', 'of this backend alone')
    .option('--source <address[/prefix][:port]>', 'of these clients alone')
    .option('--state <state>', CONNECTION_STATES.join(', '), oneOf('--state', CONNECTION_STATES))
    .option('--format <format>', 'ipvsadm: as ipvsadm -Lcn prints it', oneOf('--format', ['ipvsadm']))
    .option('--persistence', 'which backend each client of a persistent service was given, instead')
    .action((text: string | undefined, _: unknown, command: Command) =>
      perform(command, async (context) => {
        const options = optionsOf<ConnectionsOptions>(command)
        if (options.persistence === true) {
          ;(await import('../commands/persistent.ts')).runPersistent(context, text, options)
        } else await (await import('../commands/connections.ts')).runConnections(context, text, options)
      }),
    )

  verb(program, 'trace', 'explain what would become of a packet, and change nothing')
    .argument('<protocol>', 'tcp or udp')
    .argument('<source:port>', 'where it comes from, such as 198.51.100.7:40000')
    .argument('<vip:port>', 'where it goes to, such as 192.0.2.10:80')
    .option('--syn', 'TCP: it opens a connection (default: it belongs to one)')
    .option('--interface <name>', 'where it comes in (default: the first that is attached)')
    .action((protocol: string, source: string, destination: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/trace.ts')).runTrace(context, protocol, source, destination, optionsOf(command)),
      ),
    )

  verb(program, 'capture', 'show packets as they come, each with its verdict, reason and backend')
    .option('--service <service>', 'of this service alone, and what was dropped before it came to any')
    .option('--verdict <list>', `any of ${VERDICTS.join(', ')}`)
    .option('--reason <list>', 'any of these, as `xlb list --stats` names them')
    .option('--all', 'also what is for no VIP')
    .option('--source <address[/prefix][:port]>', 'of these clients alone')
    .option('--backend <address>', 'of this backend alone')
    .option('--interface <name>', 'of this interface alone (default: all that are attached)')
    .option('-c, --count <n>', 'end after so many packets', wholeNumber('--count'))
    .option('--seconds <n>', 'end after so long', wholeNumber('--seconds'))
    .option('--snaplen <octets>', 'of each frame (default: 16416, the most)', wholeNumber('--snaplen'))
    .option('--buffer <MiB>', 'for packets that wait to be written (default: 8)', wholeNumber('--buffer'))
    .option('-w, --write <file>', 'a pcapng file, for Wireshark; - is standard output (default: lines of text)')
    .action((_: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/capture.ts')).runCapture(context, optionsOf(command)),
      ),
    )

  verb(program, 'bench', "measure the packet path on this machine; touches no instance's state")
    .option('--rounds <n>', 'interleaved rounds (default: 9)', wholeNumber('--rounds'))
    .option('--cpu <n>', 'the CPU to measure on (default: the last)', wholeNumber('--cpu'))
    .option('--no-veth', 'leave out the frames that travel over a veth pair')
    .action((_: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/bench.ts')).runBench(context, optionsOf(command))),
    )
}
