#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The command line. Each verb's code is loaded when the verb is called: most of a command's time is Node's own start.
import { Command, CommanderError } from 'commander'
import type { ConnectionsOptions } from './commands/connections.ts'
import { type GlobalOptions, oneOf, reportError, seedNumber, wholeNumber } from './commands/context.ts'
import { VERDICTS } from './core/captured.ts'
import { CONNECTION_STATES } from './core/connection-states.ts'
import { FORWARDS, HASH_INPUTS, SCHEDULERS } from './core/desired.ts'
import { parseDuration } from './core/duration.ts'
import { FLOW_FATES } from './core/leaving.ts'
import { DRAIN_PERSISTENCES } from './core/persistence.ts'
import { Refusal } from './core/refusal.ts'
import { parseTimeout } from './core/timeouts.ts'

const MODES = ['auto', 'native', 'generic'] as const

/** Options that every verb takes, before or after its name. */
const withGlobals = (command: Command): Command =>
  command
    .option('--instance <name>', 'one of several xlbs on this host (default: $XLB_INSTANCE, or "default")')
    .option('--json', 'print the result, and errors, as JSON')

const verb = (parent: Command, name: string, summary: string): Command =>
  withGlobals(parent.command(name).description(summary)).allowExcessArguments(false)

/** The options of a verb, with those given before its name. */
const optionsOf = <T extends GlobalOptions>(command: Command): T => command.optsWithGlobals<T>()

const serviceOptions = (command: Command): Command =>
  command
    .option('--scheduler <name>', `${SCHEDULERS.join(', ')} (default: wrr)`, oneOf('--scheduler', SCHEDULERS))
    .option('--forward <how>', `${FORWARDS.join(', ')} (default: dsr)`, oneOf('--forward', FORWARDS))
    .option(
      '--hash <input>',
      `${HASH_INPUTS.join(', ')} (default: source for sh, destination for dh, else source-port)`,
      oneOf('--hash', HASH_INPUTS),
    )
    .option(
      '--ring-size <slots>',
      'a prime; 0: the first listed at or above 100 x backends',
      wholeNumber('--ring-size'),
    )
    .option('--seed <number>', "the ring's secret seed, 64 bits; equal on directors that share a VIP", seedNumber)
    .option('--ops', 'one-packet scheduling: each datagram by itself, no flow is recorded (UDP)')
    .option('--no-ops', 'datagrams of one flow go to one backend (default)')
    .option(
      '--source-rate <n>',
      'connections that one source may open in a second; 0: no bound (default)',
      wholeNumber('--source-rate'),
    )
    .option('--source-burst <n>', 'and how many at once (default: as many)', wholeNumber('--source-burst'))
    .option(
      '--source-prefix <bits>',
      'leading bits of an address that make a source (default: all)',
      wholeNumber('--source-prefix'),
    )
    .option(
      '--persist <time>',
      "a client's later connections go to the server of its first, until so long after its last: 300s, 5m, 2h, 1d",
      (text: string) => parseDuration('--persist', text),
    )
    .option('--no-persist', 'each connection is scheduled by itself (default)')
    .option(
      '--persist-mask <bits>',
      'leading bits of an IPv4 address by which clients are told apart (default: 32)',
      wholeNumber('--persist-mask'),
    )
    .option('--persist-mask6 <bits>', 'the same of IPv6 (default: 128)', wholeNumber('--persist-mask6'))
    .option(
      '--drain-persistence <how>',
      'keep, cut: whether a backend that is drained or of weight 0 keeps its clients (default: keep)',
      oneOf('--drain-persistence', DRAIN_PERSISTENCES),
    )
    .option('--group <name>', 'one persistence with the other services of this name')
    .option('--no-group', 'a persistence of its own (default)')
    .option('--name <name>', 'what people call it, and no other service')
    .option('--no-name', 'no name (default)')

const program = withGlobals(new Command('xlb'))
  .description('layer-4 load balancer: direct server return in XDP')
  .version('0.1.0')
  .showSuggestionAfterError()

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
  .action(async (name: string, _: unknown, command: Command) =>
    (await import('./commands/attach.ts')).runAttach(name, optionsOf(command)),
  )

verb(program, 'detach', 'take the program off an interface; with the last one, services end')
  .argument('[interface]')
  .option('--all', 'off every interface')
  .action(async (name: string | undefined, _: unknown, command: Command) =>
    (await import('./commands/attach.ts')).runDetach(name, optionsOf(command)),
  )

verb(program, 'upgrade', "replace the program of every attached interface by this build's, without a gap")
  .option('--check', 'say what would be replaced, and change nothing')
  .action(async (_: unknown, command: Command) =>
    (await import('./commands/upgrade.ts')).runUpgrade(optionsOf(command)),
  )

const service = program
  .command('service')
  .description(
    'add, set or remove a service: tcp://192.0.2.10:80, of a range :8000-8099, of every port :*, of a prefix 192.0.2.0/24',
  )
serviceOptions(verb(service, 'add', 'add a service'))
  .argument('<service>')
  .action(async (text: string, _: unknown, command: Command) =>
    (await import('./commands/service.ts')).runServiceAdd(text, optionsOf(command)),
  )
serviceOptions(verb(service, 'set', 'change a service; what is not named stays'))
  .argument('<service>')
  .action(async (text: string, _: unknown, command: Command) =>
    (await import('./commands/service.ts')).runServiceSet(text, optionsOf(command)),
  )
verb(service, 'rm', 'remove a service and its backends')
  .argument('<service>')
  .action(async (text: string, _: unknown, command: Command) =>
    (await import('./commands/service.ts')).runServiceRemove(text, optionsOf(command)),
  )

const backend = program
  .command('backend')
  .description('set, drain, take out or remove a backend (real server) of a service')
verb(backend, 'set', 'add a backend, change it, or take one back in that is drained or in maintenance')
  .argument('<service>')
  .argument('<address>')
  .option('--weight <n>', '0 to 65535 (default: 1, or as it was)', wholeNumber('--weight'))
  .option(
    '--vlan <id>',
    'its frames leave with this tag: 1 to 4094, none, or auto: by the route (default: auto, or as it was)',
  )
  .option(
    '--max-conns <upper[:lower]>',
    'full with so many connections, until it has fewer than lower (default: 3/4 of upper); none: no limit (default, or as it was)',
  )
  .option('--force', 'take it at weight 0 although it does not answer ARP or neighbour discovery')
  .action(async (text: string, address: string, _: unknown, command: Command) =>
    (await import('./commands/backend.ts')).runBackendSet(text, address, optionsOf(command)),
  )
verb(backend, 'drain', 'no new flows; established ones stay')
  .argument('<service>')
  .argument('<address>')
  .option('--deadline <time>', 'wait until none is left, so long at most: 90s, 10m, 1h30m', (text) =>
    parseDuration('--deadline', text),
  )
  .action(async (text: string, address: string, _: unknown, command: Command) =>
    (await import('./commands/backend.ts')).runBackendDrain(text, address, optionsOf(command)),
  )
verb(backend, 'maint', 'maintenance: no packets; flows that it has are scheduled anew')
  .argument('<service>')
  .argument('<address>')
  .action(async (text: string, address: string, _: unknown, command: Command) =>
    (await import('./commands/backend.ts')).runBackendMaint(text, address, optionsOf(command)),
  )
verb(backend, 'rm', 'remove a backend')
  .argument('<service>')
  .argument('<address>')
  .option(
    '--flows <fate>',
    'what becomes of its flows: keep (they stay until they end), cut (their packets are dropped), move (they are scheduled anew; default)',
    oneOf('--flows', FLOW_FATES),
  )
  .action(async (text: string, address: string, _: unknown, command: Command) =>
    (await import('./commands/backend.ts')).runBackendRemove(text, address, optionsOf(command)),
  )

const filter = program
  .command('filter')
  .description('allow and deny sources: of a service, or, where none is named, of all services')
verb(filter, 'add', 'allow or deny prefixes of sources; the longest that covers a source decides')
  .argument('<words...>', '[SERVICE] allow|deny PREFIX...')
  .action(async (words: string[], _: unknown, command: Command) =>
    (await import('./commands/filter.ts')).runFilterAdd(words, optionsOf(command)),
  )
verb(filter, 'rm', 'remove prefixes from the list')
  .argument('<words...>', '[SERVICE] PREFIX...')
  .action(async (words: string[], _: unknown, command: Command) =>
    (await import('./commands/filter.ts')).runFilterRemove(words, optionsOf(command)),
  )
verb(filter, 'default', 'say what becomes of sources that no prefix covers')
  .argument('<words...>', '[SERVICE] allow|deny')
  .action(async (words: string[], _: unknown, command: Command) =>
    (await import('./commands/filter.ts')).runFilterDefault(words, optionsOf(command)),
  )
verb(filter, 'load', 'replace the whole list by that of a file, at once')
  .argument('<words...>', '[SERVICE] FILE; - is standard input')
  .option('--as <verdict>', 'of lines with a prefix alone: allow, deny', oneOf('--as', ['allow', 'deny']))
  .action(async (words: string[], _: unknown, command: Command) =>
    (await import('./commands/filter.ts')).runFilterLoad(words, optionsOf(command)),
  )
verb(filter, 'list', 'print the list, as load reads it')
  .argument('[words...]', '[SERVICE]')
  .action(async (words: string[], _: unknown, command: Command) =>
    (await import('./commands/filter.ts')).runFilterList(words, optionsOf(command)),
  )
verb(filter, 'clear', 'empty the list, and allow everybody')
  .argument('[words...]', '[SERVICE]')
  .action(async (words: string[], _: unknown, command: Command) =>
    (await import('./commands/filter.ts')).runFilterClear(words, optionsOf(command)),
  )

verb(program, 'limits', 'show or set bounds that hold for all services')
  .option('--new-flows <n>', 'tracked flows that one CPU may record in a second', wholeNumber('--new-flows'))
  .action(async (_: unknown, command: Command) => (await import('./commands/limits.ts')).runLimits(optionsOf(command)))

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
  .action(async (_: unknown, command: Command) =>
    (await import('./commands/timeouts.ts')).runTimeouts(optionsOf(command)),
  )

verb(program, 'list', 'show interfaces, services and backends')
  .argument('[service]')
  .option('--stats', 'flows, packets and bytes so far, and why packets were passed or dropped')
  .option('--rate', 'the same, per second')
  .action(async (text: string | undefined, _: unknown, command: Command) =>
    (await import('./commands/list.ts')).runList(text, optionsOf(command)),
  )

verb(program, 'connections', 'list the flow table: connections of tracked services')
  .argument('[service]')
  .option('--backend <address>', 'of this backend alone')
  .option('--source <address[/prefix][:port]>', 'of these clients alone')
  .option('--state <state>', CONNECTION_STATES.join(', '), oneOf('--state', CONNECTION_STATES))
  .option('--format <format>', 'ipvsadm: as ipvsadm -Lcn prints it', oneOf('--format', ['ipvsadm']))
  .option('--persistence', 'which backend each client of a persistent service was given, instead')
  .action(async (text: string | undefined, _: unknown, command: Command) => {
    const options = optionsOf<ConnectionsOptions>(command)
    if (options.persistence === true) (await import('./commands/persistent.ts')).runPersistent(text, options)
    else await (await import('./commands/connections.ts')).runConnections(text, options)
  })

verb(program, 'trace', 'explain what would become of a packet, and change nothing')
  .argument('<protocol>', 'tcp or udp')
  .argument('<source:port>', 'where it comes from, such as 198.51.100.7:40000')
  .argument('<vip:port>', 'where it goes to, such as 192.0.2.10:80')
  .option('--syn', 'TCP: it opens a connection (default: it belongs to one)')
  .option('--interface <name>', 'where it comes in (default: the first that is attached)')
  .action(async (protocol: string, source: string, destination: string, _: unknown, command: Command) =>
    (await import('./commands/trace.ts')).runTrace(protocol, source, destination, optionsOf(command)),
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
  .action(async (_: unknown, command: Command) =>
    (await import('./commands/capture.ts')).runCapture(optionsOf(command)),
  )

verb(program, 'save', 'write services and backends as a file that restore reads')
  .option('-o, --output <file>', 'write there, whole or not at all (default: standard output)')
  .action(async (_: unknown, command: Command) => (await import('./commands/state.ts')).runSave(optionsOf(command)))

verb(program, 'restore', 'make services and backends what the file says, all at once')
  .argument('<file>', '- is standard input')
  .option('--force', 'take backends at weight 0 that do not answer ARP or neighbour discovery')
  .option('--attach', "attach the file's interfaces first, where they are not")
  .action(async (file: string, _: unknown, command: Command) =>
    (await import('./commands/state.ts')).runRestore(file, optionsOf(command)),
  )

const CONFIG_FILE = '/etc/xlb/xlb.yaml'

verb(program, 'check', 'say what is wrong with a configuration file: all of it, and where; needs no root')
  .option('-c, --config <file>', `the file; - is standard input (default: ${CONFIG_FILE})`, CONFIG_FILE)
  .action(async (_: unknown, command: Command) => (await import('./commands/check.ts')).runCheck(optionsOf(command)))

verb(program, 'diff', 'say what restore --attach would change, and change nothing')
  .option('-c, --config <file>', `the file; - is standard input (default: ${CONFIG_FILE})`, CONFIG_FILE)
  .action(async (_: unknown, command: Command) => (await import('./commands/diff.ts')).runDiff(optionsOf(command)))

verb(program, 'clear', 'remove all services; the program stays attached').action(async (_: unknown, command: Command) =>
  (await import('./commands/state.ts')).runClear(optionsOf(command)),
)

verb(program, 'bench', "measure the packet path on this machine; touches no instance's state")
  .option('--rounds <n>', 'interleaved rounds (default: 9)', wholeNumber('--rounds'))
  .option('--cpu <n>', 'the CPU to measure on (default: the last)', wholeNumber('--cpu'))
  .option('--no-veth', 'leave out the frames that travel over a veth pair')
  .action(async (_: unknown, command: Command) => (await import('./commands/bench.ts')).runBench(optionsOf(command)))

const quietly = (command: Command): void => {
  command.exitOverride()
  command.configureOutput({ writeErr: () => {} })
  for (const child of command.commands) quietly(child)
}

const wrongUse = (error: CommanderError): Refusal =>
  new Refusal(error.message.replace(/^error: /, '').replace(/\n/g, ' '), 'xlb --help, or xlb VERB --help', {
    usage: true,
  })

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
