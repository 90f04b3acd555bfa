// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { type GlobalOptions, oneOf, seedNumber, wholeNumber } from '../commands/context.ts'
import { FORWARDS, HASH_INPUTS, SCHEDULERS } from '../core/desired.ts'
import { parseDuration } from '../core/duration.ts'
import { FLOW_FATES } from '../core/leaving.ts'
import { DRAIN_PERSISTENCES } from '../core/persistence.ts'
import { AGENT_STATES } from '../core/standing.ts'
import { CHECK_STATES, type ReportOptions, reportOf } from '../core/told.ts'
import { optionsOf, perform, verb } from './verb.ts'

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

export const addServiceVerbs = (program: Command): void => {
  const service = program
    .command('service')
    .description(
      'add, set or remove a service: tcp://192.0.2.10:80, of a range :8000-8099, of every port :*, of a prefix 192.0.2.0/24 or [2001:db8:5::/64]',
    )
  serviceOptions(verb(service, 'add', 'add a service'))
    .argument('<service>')
    .action((text: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/service.ts')).runServiceAdd(context, text, optionsOf(command)),
      ),
    )
  serviceOptions(verb(service, 'set', 'change a service; what is not named stays'))
    .argument('<service>')
    .action((text: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/service.ts')).runServiceSet(context, text, optionsOf(command)),
      ),
    )
  verb(service, 'rm', 'remove a service and its backends')
    .argument('<service>')
    .action((text: string, _: unknown, command: Command) =>
      perform(command, async (context) => (await import('../commands/service.ts')).runServiceRemove(context, text)),
    )

  const backend = program
    .command('backend')
    .description('set, drain, take out, report or remove a backend (real server) of a service')
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
    .action((text: string, address: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/backend.ts')).runBackendSet(context, text, address, optionsOf(command)),
      ),
    )
  verb(backend, 'drain', 'no new flows; established ones stay')
    .argument('<service>')
    .argument('<address>')
    .option('--deadline <time>', 'wait until none is left, so long at most: 90s, 10m, 1h30m', (text) =>
      parseDuration('--deadline', text),
    )
    .action((text: string, address: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/backend.ts')).runBackendDrain(context, text, address, optionsOf(command)),
      ),
    )
  verb(backend, 'maint', 'maintenance: no packets; flows that it has are scheduled anew')
    .argument('<service>')
    .argument('<address>')
    .action((text: string, address: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/backend.ts')).runBackendMaint(context, text, address),
      ),
    )
  verb(backend, 'report', 'tell the daemon how a backend is: what a check or an agent found')
    .argument('<service>')
    .argument('<address>')
    .option('--check <state>', CHECK_STATES.join(', '), oneOf('--check', CHECK_STATES))
    .option(
      '--agent <state>',
      `${AGENT_STATES.join(', ')}: what the backend says of itself`,
      oneOf('--agent', AGENT_STATES),
    )
    .option(
      '--percent <n>',
      'of --agent up: the share of its weight, 0 to 100 (default: 100)',
      wholeNumber('--percent'),
    )
    .option('--text <words>', 'why')
    .option('--forget', 'nothing was reported of it')
    .action((_service: string, _address: string, _: unknown, command: Command) =>
      perform(command, async () => {
        reportOf(optionsOf<GlobalOptions & ReportOptions>(command))
        ;(await import('../commands/backend.ts')).refuseReport()
      }),
    )
  verb(backend, 'rm', 'remove a backend')
    .argument('<service>')
    .argument('<address>')
    .option(
      '--flows <fate>',
      'what becomes of its flows: keep (they stay until they end), cut (their packets are dropped), move (they are scheduled anew; default)',
      oneOf('--flows', FLOW_FATES),
    )
    .action((text: string, address: string, _: unknown, command: Command) =>
      perform(command, async (context) =>
        (await import('../commands/backend.ts')).runBackendRemove(context, text, address, optionsOf(command)),
      ),
    )
}
