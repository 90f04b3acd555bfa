// SPDX-License-Identifier: Apache-2.0
// The one schema of the configuration file: of what `xlb save` writes, and of what a person writes beyond it. The JSON Schema for
// editors and the tables of docs/configuration.md are made of it (scripts/generate-config.ts).
import { z } from 'zod'
import { CAPACITY, NEW_FLOWS, type Range } from '../core/capacity.ts'
import {
  BACKENDS_PER_SERVICE_MAX,
  FORWARDS,
  HASH_INPUTS,
  RING_SIZE_MAX,
  SCHEDULERS,
  WEIGHT_MAX,
} from '../core/desired.ts'
import { formatDuration } from '../core/duration.ts'
import { NOTIFY_SECONDS_MAX } from '../core/notify.ts'
import { DEFAULT_PREFIX, DEFAULT_PREFIX6, DRAIN_PERSISTENCES } from '../core/persistence.ts'
import { HOLD_MAX_SECONDS, SLOW_START_MAX_SECONDS } from '../core/return-policy.ts'
import { RATE_MAX, SOURCE_BITS_MAX } from '../core/source-rate.ts'
import { AT_ONCE } from '../core/standing.ts'
import {
  DEFAULT_TIMEOUTS,
  DESTINATION_TIMEOUT_MAX_SECONDS,
  TIMEOUT_MAX_SECONDS,
  TIMEOUT_NAMES,
  type TimeoutName,
} from '../core/timeouts.ts'
import { VLAN_MAX, VLAN_MIN } from '../core/vlan.ts'
import { check, checkDefaults, checkKey, checks, duration } from './check-schema.ts'
import { noted } from './notes.ts'

const code = (words: readonly string[]): string => words.map((word) => `\`${word}\``).join(', ')

const backend = noted(
  z.strictObject({
    address: noted(z.string(), {
      values:
        "an address of the VIP's family, in the layer-2 network of one of the director's interfaces, or this host itself; no VIP; each once a service; `ADDRESS:PORT` if the port is the service's only one",
    }),
    weight: noted(z.int().min(0).max(WEIGHT_MAX).default(1), {
      values: `0 to ${WEIGHT_MAX}; 0: no new flows`,
      fallback: '1',
    }),
    admin: noted(z.enum(['up', 'drain', 'maint']).default('up'), {
      values:
        '`up`, `drain` (no new flows), `maint` (no packets: its flows go to others); the weight is kept for later',
      fallback: '`up`',
    }),
    vlan: noted(z.union([z.literal('none'), z.int().min(VLAN_MIN).max(VLAN_MAX)]).optional(), {
      values: `${VLAN_MIN} to ${VLAN_MAX}: its frames leave with this tag; \`none\`: untagged. As [\`--vlan\`](cli.md#backend-set-backend-drain-backend-rm)`,
      fallback: 'by route',
    }),
    'max-conns': noted(z.union([z.string(), z.int()]).transform(String).optional(), {
      values:
        'UPPER or UPPER:LOWER: full with so many connections. As [`--max-conns`](cli.md#how-many-connections-a-backend-takes)',
      fallback: 'no limit',
    }),
  }),
  { values: 'keys, such as `{ address: 192.0.2.21, weight: 2 }`' },
)

const filter = z.strictObject({
  default: noted(z.enum(['allow', 'deny']).default('allow'), {
    values: '`allow`, `deny`: what becomes of a source that no prefix covers',
    fallback: '`allow`',
  }),
  allow: noted(z.array(z.string()).default([]), {
    values: 'a list of prefixes, such as `203.0.113.0/24`, `2001:db8::/32`',
    fallback: 'none',
  }),
  deny: noted(z.array(z.string()).default([]), {
    values: 'likewise; of those that cover a source the longest decides',
    fallback: 'none',
  }),
})

const sourceRate = z.strictObject({
  rate: noted(z.int().min(1).max(RATE_MAX), { values: `1 to ${RATE_MAX} connections a second` }),
  burst: noted(z.int().min(1).max(RATE_MAX).optional(), {
    values: `1 to ${RATE_MAX}: how many may come at once, after a time without any`,
    fallback: '`rate`',
  }),
  prefix: noted(z.int().min(1).max(SOURCE_BITS_MAX).optional(), {
    values: `1 to 32, of IPv6 to ${SOURCE_BITS_MAX}: leading bits of an address that make a source`,
    fallback: '32, of IPv6 64',
  }),
})

/** What a service may say and `defaults` may say for it. */
const shared = {
  scheduler: noted(z.enum(SCHEDULERS).optional(), {
    values: `${code(SCHEDULERS)} (\`dh\`, \`lblc\`, \`lblcr\` of a prefix alone)`,
    fallback: '`wrr`',
  }),
  forward: noted(z.enum(FORWARDS).optional(), { values: code(FORWARDS), fallback: '`dsr`' }),
  hash: noted(z.enum(HASH_INPUTS).optional(), {
    values: `${code(HASH_INPUTS)} (the last of \`dh\`, \`lblc\`, \`lblcr\` alone): what the ring's hash takes in`,
    fallback: '`source` for `sh`, `destination` for `dh`, `lblc`, `lblcr`, else `source-port`',
  }),
  persist: noted(z.union([z.string(), z.int()]).transform(String).optional(), {
    values:
      "how long a client's server is kept after its last connection: `300s`, `5m`, `2h`, `1d`, at most 31 days; or `none`",
    fallback: '`none`: each connection by itself',
  }),
  'persist-mask': noted(z.int().min(1).max(DEFAULT_PREFIX).optional(), {
    values: `1 to ${DEFAULT_PREFIX}: leading bits of an IPv4 address by which clients are told apart`,
    fallback: `${DEFAULT_PREFIX}`,
  }),
  'persist-mask6': noted(z.int().min(1).max(DEFAULT_PREFIX6).optional(), {
    values: `1 to ${DEFAULT_PREFIX6}: the same of IPv6`,
    fallback: `${DEFAULT_PREFIX6}`,
  }),
  'drain-persistence': noted(z.enum(DRAIN_PERSISTENCES).optional(), {
    values: `${code(DRAIN_PERSISTENCES)}: does a backend that is drained, or of weight 0, keep its clients?`,
    fallback: '`keep`',
  }),
  'rejoin-hold': noted(duration.optional(), {
    values: `0s to ${formatDuration(HOLD_MAX_SECONDS)}: so long a backend is held out after its check came up again. [Of the daemon](daemon.md#how-a-backend-stands)`,
    fallback: '0s',
  }),
  'slow-start': noted(duration.optional(), {
    values: `0s to ${formatDuration(SLOW_START_MAX_SECONDS)}: so long the share of its weight grows that a backend has after it was out. Likewise`,
    fallback: '0s: all of it at once',
  }),
  'slow-start-from': noted(z.int().min(1).max(100).optional(), {
    values: '1 to 100: the share that it begins with, in percent',
    fallback: `${AT_ONCE.slowStartPercent}`,
  }),
  check: checkKey,
}

export const SEED_FORM = '^0x[0-9a-fA-F]{1,16}$'

const service = noted(
  z.strictObject({
    service: noted(z.string(), {
      values:
        '`tcp://VIP:PORTS` or `udp://VIP:PORTS`; VIP is an IPv4 address, an IPv6 one in brackets, or a prefix (`192.0.2.0/24`, `[2001:db8:5::/64]`); PORTS is `80`, `8000-8099` or `*`; each once',
    }),
    name: noted(z.string().optional(), {
      values:
        'what people call it: up to 31 letters, digits, dots, dashes and underscores, a letter or digit first; no two services have one name',
      fallback: 'none',
    }),
    ...shared,
    group: noted(z.string().optional(), {
      values: 'a name: one persistence with the other services of this name, which all say the same of it',
      fallback: 'none',
    }),
    'ring-size': noted(z.int().min(0).optional(), {
      values: `a prime from the number of backends to ${RING_SIZE_MAX}; 0: the first listed prime at or above 100 x backends`,
      fallback: '0',
    }),
    seed: noted(z.string().regex(new RegExp(SEED_FORM), 'is not 1 to 16 hexadecimal digits after 0x').optional(), {
      values: 'text: `0x` and 1 to 16 hexadecimal digits; or a [variable](#variables)',
      fallback: 'that of the same service if it is there already, else drawn',
      isSecret: true,
    }),
    ops: noted(z.boolean().optional(), {
      values: '`true`: one-packet scheduling, for UDP; `false`',
      fallback: '`false`',
    }),
    filter: noted(filter.optional(), { values: 'keys of [filter](#filter)', fallback: 'none' }),
    'source-rate': noted(sourceRate.optional(), {
      values:
        '`{ rate, burst, prefix }`: connections that one source may open, [filters.md](filters.md#connections-of-one-source)',
      fallback: 'no bound',
    }),
    backends: noted(z.array(backend).default([]), {
      values: `a list of [backends](#backends), at most ${BACKENDS_PER_SERVICE_MAX}`,
      fallback: 'none',
    }),
  }),
  { values: 'keys, such as `{ service: tcp://192.0.2.10:80, backends: [] }`' },
)

/** A name that Linux takes for an interface (net/core/dev.c, dev_valid_name; IFNAMSIZ is 16). */
const interfaceName = z.string().regex(/^(?!\.{1,2}$)[^/:\s]{1,15}$/, 'is no name of an interface')

const namedInterface = z.strictObject({
  name: noted(interfaceName, { values: "an interface's name, of 1 to 15 characters" }),
  mode: noted(z.enum(['auto', 'native', 'generic']).default('auto'), {
    values: '`auto`, `native`, `generic`',
    fallback: '`auto`',
  }),
})

const attachment = noted(
  z.union([interfaceName.transform((name) => ({ name, mode: 'auto' as const })), namedInterface]),
  { values: 'a name, or `{ name: eth0, mode: native }`' },
)

const size = ({ least, most, fallback }: Range, words: string) =>
  noted(z.int().min(least).max(most).optional(), {
    values: `${least} to ${most}${words}`,
    fallback: `${fallback}`,
  })

const limits = z.strictObject({
  services: size(CAPACITY.services, ', rounded up to a power of two'),
  backends: size(CAPACITY.backends, ', over all services, rounded up likewise'),
  flows: size(CAPACITY.flows, ', rounded up likewise; 16 bytes each'),
  flows6: size(CAPACITY.flows6, ', the same of IPv6; 32 bytes each'),
  'prefix-flows6': size(CAPACITY.prefixFlows6, ', the same of prefixes of IPv6; 48 bytes each'),
  prefixes: size(CAPACITY.prefixes, ', over all filters, rounded up likewise; 104 bytes each'),
  clients: size(CAPACITY.clients, ', of persistent services, rounded up likewise; 32 bytes each'),
  destinations: size(CAPACITY.destinations, ', that `lblc` and `lblcr` remember, rounded up likewise; 32 bytes each'),
  'new-flows': size(NEW_FLOWS, ': tracked flows that one CPU may record in a second; each `restore` sets it'),
})

const TIMEOUT_WORDS: Record<TimeoutName, string> = {
  'half-open': 'TCP, after the SYN',
  adopted: 'TCP, first seen in mid-flow',
  established: 'TCP, after the handshake',
  closing: 'TCP, after a FIN',
  closed: 'TCP, after a reset',
  'udp-once': 'UDP, seen once',
  udp: 'UDP, seen again',
  destination: 'no flow: what `lblc` and `lblcr` [remember](cli.md#locality)',
}

const timeout = (state: TimeoutName) =>
  noted(duration.optional(), {
    values: `1s to ${formatDuration(state === 'destination' ? DESTINATION_TIMEOUT_MAX_SECONDS : TIMEOUT_MAX_SECONDS)}: ${TIMEOUT_WORDS[state]}`,
    fallback: formatDuration(DEFAULT_TIMEOUTS[state]),
  })

type TimeoutShape = Record<TimeoutName, ReturnType<typeof timeout>>
const timeouts = z.strictObject(
  Object.fromEntries(TIMEOUT_NAMES.map((state) => [state, timeout(state)])) as TimeoutShape,
)

const notify = z.strictObject({
  command: noted(z.array(z.string().min(1)).min(1), {
    values: 'a list: the program, and its arguments; no shell takes part. [What it is told](#notify)',
  }),
  user: noted(z.string().default('nobody'), {
    values:
      "whom it runs as: a user of `/etc/passwd`, not root; where xlb is not root itself, as xlb's own user, without its capabilities",
    fallback: '`nobody`',
  }),
  timeout: noted(duration.default('10s'), {
    values: `1s to ${formatDuration(NOTIFY_SECONDS_MAX)}: it is then killed`,
    fallback: '`10s`',
  }),
})

const defaults = z.strictObject({ ...shared, ...checkDefaults })

/** Where TCP is listened on: an IPv4 address, or an IPv6 one in brackets, and a port. */
const LISTEN_FORM = /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}$/

const api = z.strictObject({
  group: noted(z.string().optional(), {
    values: 'the group that may use the Unix socket `/run/xlb/INSTANCE/api.sock`, whose mode is 0660',
    fallback: '`xlb` if there is one, else root',
  }),
  listen: noted(z.array(z.string().regex(LISTEN_FORM, 'is no ADDRESS:PORT, such as 127.0.0.1:9618')).default([]), {
    values:
      'a list of `ADDRESS:PORT` to listen on by TCP beside it, such as `127.0.0.1:9618`; read-only without `token`',
    fallback: 'none',
  }),
  token: noted(
    z
      .string()
      .regex(/^.{16,}$/s, 'is shorter than 16 characters')
      .optional(),
    {
      values:
        'text of 16 characters or more, or a [variable](#variables): whoever sends it over TCP may change something',
      fallback: 'none',
      isSecret: true,
    },
  ),
})

export const configSchema = noted(
  z.strictObject({
    include: noted(z.array(z.string()).default([]), {
      values: 'a list of further files: [include](#include)',
      fallback: 'none',
    }),
    interfaces: noted(z.array(attachment).default([]), {
      values: 'a list of [interfaces](#interfaces): names, or `{ name, mode }`',
      fallback: 'none',
    }),
    limits: noted(limits.default({}), { values: 'keys of [limits](#limits)', fallback: 'none' }),
    defaults: noted(defaults.default({}), { values: 'keys of [defaults](#defaults)', fallback: 'none' }),
    checks: noted(checks.optional(), {
      values: 'a mapping of names to [checks](#checks), which services name',
      fallback: 'none',
    }),
    filter: noted(filter.optional(), { values: 'keys of [filter](#filter), for all services', fallback: 'none' }),
    notify: noted(notify.optional(), { values: 'keys of [notify](#notify)', fallback: 'none' }),
    timeouts: noted(timeouts.default({}), { values: 'keys of [timeouts](#timeouts)', fallback: 'none' }),
    api: noted(api.default({ listen: [] }), { values: 'keys of [api](#api), of the daemon', fallback: 'none' }),
    services: noted(z.array(service).default([]), { values: 'a list of [services](#services)', fallback: 'none' }),
  }),
  { values: 'keys, such as `interfaces:` and `services:`' },
)

/** The reference page's sections, each with a table of its keys. */
export const sections = {
  top: configSchema,
  interfaces: namedInterface,
  limits,
  defaults,
  checks: check,
  timeouts,
  notify,
  services: service,
  filter,
  'source-rate': sourceRate,
  backends: backend,
  api,
} satisfies Record<string, z.ZodObject>

/**
 * Keys that the file will have, and what they are for, by path: until then they are refused, as whoever writes one counts on
 * what it says.
 */
export const NOT_YET: Record<string, string> = {
  'services[].sorry': 'a server for when no backend is left',
  'defaults.interval': 'checks of its own',
  'defaults.timeout': 'checks of its own',
  vrrp: 'VRRP',
}

export type ConfigFile = z.output<typeof configSchema>
export type ServiceEntry = ConfigFile['services'][number]
export type FilterEntry = NonNullable<ConfigFile['filter']>
export type Defaults = ConfigFile['defaults']
export type NotifyEntry = NonNullable<ConfigFile['notify']>
