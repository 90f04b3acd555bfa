// SPDX-License-Identifier: Apache-2.0
// The verbs as requests: POST /v1/backend/set performs `xlb backend set`. Of each what it takes, by the names that the
// command line has for its words and options; the daemon's document of the API is made of it.
import { z } from 'zod'
import { runAttach, runDetach } from '../commands/attach.ts'
import { runBackendDrain, runBackendMaint, runBackendRemove, runBackendSet } from '../commands/backend.ts'
import { answerConnections } from '../commands/connections.ts'
import type { Context } from '../commands/context.ts'
import { answerDiff } from '../commands/diff.ts'
import { standing } from '../commands/drained.ts'
import {
  runFilterAdd,
  runFilterClear,
  runFilterDefault,
  runFilterList,
  runFilterLoad,
  runFilterRemove,
} from '../commands/filter.ts'
import { runLimits } from '../commands/limits.ts'
import { runList } from '../commands/list.ts'
import { runServiceAdd, runServiceRemove, runServiceSet } from '../commands/service.ts'
import { restore, runClear, savedText } from '../commands/state.ts'
import { runTimeouts } from '../commands/timeouts.ts'
import { runTrace } from '../commands/trace.ts'
import { configOfValues } from '../config/read.ts'
import { SEED_FORM } from '../config/schema.ts'
import { formatService, parseBackend, parseService } from '../core/address.ts'
import { CONNECTION_STATES } from '../core/connection-states.ts'
import { FORWARDS, HASH_INPUTS, SCHEDULERS } from '../core/desired.ts'
import { parseDuration } from '../core/duration.ts'
import { FLOW_FATES } from '../core/leaving.ts'
import { DRAIN_PERSISTENCES } from '../core/persistence.ts'
import { parseTimeout, type TimeoutName } from '../core/timeouts.ts'
import { doctorVerb } from './doctor.ts'

/** A value that is left out is not there, not undefined: options are merged by their keys. */
type Given<T> = { [Key in keyof T]: Exclude<T[Key], undefined> }

export interface ApiVerb {
  summary: string
  /** Does it leave everything as it is? Such ones need no token, unless there is another reason. */
  reads: boolean
  /** Why it needs the token though it only reads. Whole configurations are large: others may not send so much. */
  guarded?: 'tells secrets' | 'sends probes' | 'takes a whole configuration'
  input: z.ZodObject
  run: (context: Context, input: never) => void | Promise<void>
}

const apiVerb = <Shape extends z.ZodRawShape>(
  summary: string,
  shape: Shape,
  run: (context: Context, input: Given<z.output<z.ZodObject<Shape>>>) => void | Promise<void>,
  reads = false,
): ApiVerb => ({ summary, reads, input: z.strictObject(shape), run: run as ApiVerb['run'] })

const text = z.string().max(300)
const service = text.describe('tcp://192.0.2.10:80')
const address = text.describe("a backend's address, with the port or without")
const words = z.array(text).max(10_000)
const whole = z
  .int()
  .min(0)
  .max(2 ** 40)

/** A million of them would keep the daemon from its work: `xlb connections` reads the maps itself. */
const CONNECTIONS_MAX = 10_000
const CONNECTIONS_DEFAULT = 1000

const state = (option: string, name: TimeoutName) =>
  z
    .union([z.int().min(1), text])
    .optional()
    .meta({ description: '300s, 5m, 2h, 1d; or whole seconds' })
    .overwrite((value) => (value === undefined ? value : parseTimeout(option, String(value), name)))

const serviceOptions = {
  scheduler: z.enum(SCHEDULERS).optional(),
  forward: z.enum(FORWARDS).optional(),
  hash: z.enum(HASH_INPUTS).optional(),
  ringSize: whole.optional(),
  seed: z.string().regex(new RegExp(SEED_FORM)).optional(),
  ops: z.boolean().optional(),
  sourceRate: whole.optional(),
  sourceBurst: whole.optional(),
  sourcePrefix: whole.optional(),
  persist: z.union([z.literal(false), z.int().min(0), text]).optional(),
  persistMask: whole.optional(),
  persistMask6: whole.optional(),
  drainPersistence: z.enum(DRAIN_PERSISTENCES).optional(),
  group: z.union([z.literal(false), text]).optional(),
  name: z.union([z.literal(false), text]).optional(),
}

type ServiceInput = Given<z.output<z.ZodObject<typeof serviceOptions>>>

/** As the command line's options have them once they are parsed. */
const parsed = ({ seed, persist, ...rest }: ServiceInput) => ({
  ...rest,
  ...(seed === undefined ? {} : { seed: BigInt(seed) }),
  ...(persist === undefined
    ? {}
    : { persist: typeof persist === 'string' ? parseDuration('persist', persist) : persist }),
})

const capacity = {
  services: whole.optional(),
  backends: whole.optional(),
  flows: whole.optional(),
  flows6: whole.optional(),
  prefixFlows6: whole.optional(),
  prefixes: whole.optional(),
  clients: whole.optional(),
  destinations: whole.optional(),
  newFlows: whole.optional(),
}

const READS = true

/** Files as whoever asks has read them: the daemon may not read what that one may. */
const configuration = {
  file: text.describe('for messages alone'),
  values: z
    .array(z.strictObject({ file: text, value: z.unknown() }))
    .min(1)
    .max(1000),
}

/** By the verb's words: `backend set` is POST /v1/backend/set. */
export const API_VERBS: Readonly<Record<string, ApiVerb>> = {
  attach: apiVerb(
    'load the program onto an interface',
    { interface: text, mode: z.enum(['auto', 'native', 'generic']).default('auto'), ...capacity },
    (context, { interface: name, ...options }) => runAttach(context, name, options),
  ),
  detach: apiVerb(
    'take the program off an interface',
    { interface: text.optional(), all: z.boolean().optional() },
    (context, { interface: name, ...options }) => runDetach(context, name, options),
  ),
  'service add': apiVerb('add a service', { service, ...serviceOptions }, (context, { service, ...options }) =>
    runServiceAdd(context, service, parsed(options)),
  ),
  'service set': apiVerb(
    'change a service; what is not named stays',
    { service, ...serviceOptions },
    (context, { service, ...options }) => runServiceSet(context, service, parsed(options)),
  ),
  'service rm': apiVerb('remove a service and its backends', { service }, (context, { service }) =>
    runServiceRemove(context, service),
  ),
  'backend set': apiVerb(
    'add a backend, change it, or take a drained one back in',
    {
      service,
      address,
      weight: whole.optional(),
      vlan: z.union([z.int().transform(String), text]).optional(),
      maxConns: z.union([z.int().transform(String), text]).optional(),
      force: z.boolean().optional(),
    },
    (context, { service, address, ...options }) => runBackendSet(context, service, address, options),
  ),
  'backend drain': apiVerb('no new flows; established ones stay', { service, address }, (context, input) =>
    runBackendDrain(context, input.service, input.address, {}),
  ),
  'backend maint': apiVerb('no packets; flows that it has are scheduled anew', { service, address }, (context, input) =>
    runBackendMaint(context, input.service, input.address),
  ),
  'backend remaining': apiVerb(
    'how many flows of a drained backend remain',
    { service, address },
    (context, input) => {
      const parsedService = parseService(input.service)
      const backend = parseBackend(input.address, parsedService).address
      context.answer(standing(context, { service: formatService(parsedService), backend }), '')
    },
    READS,
  ),
  'backend rm': apiVerb(
    'remove a backend',
    { service, address, flows: z.enum(FLOW_FATES).optional() },
    (context, { service, address, ...options }) => runBackendRemove(context, service, address, options),
  ),
  'filter add': apiVerb('allow or deny prefixes: [SERVICE] allow|deny PREFIX...', { words }, (context, input) =>
    runFilterAdd(context, input.words),
  ),
  'filter rm': apiVerb('remove prefixes: [SERVICE] PREFIX...', { words }, (context, input) =>
    runFilterRemove(context, input.words),
  ),
  'filter default': apiVerb(
    'what becomes of sources that no prefix covers: [SERVICE] allow|deny',
    { words },
    (context, input) => runFilterDefault(context, input.words),
  ),
  'filter load': apiVerb(
    'replace the whole list by a text: [SERVICE] NAME, where the name is for messages alone',
    { words, text: z.string(), as: z.enum(['allow', 'deny']).optional() },
    (context, { words, ...options }) => runFilterLoad(context, words, options),
  ),
  'filter list': apiVerb(
    'the list: [SERVICE]',
    { words },
    (context, input) => runFilterList(context, input.words),
    READS,
  ),
  'filter clear': apiVerb('empty the list, and allow everybody: [SERVICE]', { words }, (context, input) =>
    runFilterClear(context, input.words),
  ),
  limits: apiVerb('show or set bounds that hold for all services', { newFlows: whole.optional() }, (context, options) =>
    runLimits(context, options),
  ),
  timeouts: apiVerb(
    'show or set how long flow entries last without a packet',
    {
      established: state('established', 'established'),
      closing: state('closing', 'closing'),
      closed: state('closed', 'closed'),
      halfOpen: state('halfOpen', 'half-open'),
      adopted: state('adopted', 'adopted'),
      udp: state('udp', 'udp'),
      udpOnce: state('udpOnce', 'udp-once'),
      destination: state('destination', 'destination'),
    },
    (context, options) => runTimeouts(context, options as never),
  ),
  list: apiVerb(
    'interfaces, services and backends',
    {
      service: text.optional(),
      stats: z.boolean().optional(),
      rate: z.boolean().optional(),
      format: z.enum(['ipvsadm']).optional().describe('of the text'),
    },
    (context, { service, ...options }) => runList(context, service, options),
    READS,
  ),
  trace: apiVerb(
    'explain what would become of a packet, and change nothing',
    {
      protocol: z.enum(['tcp', 'udp']),
      source: text.describe('ADDRESS:PORT'),
      destination: text.describe('VIP:PORT'),
      syn: z.boolean().optional(),
      interface: text.optional(),
    },
    (context, { protocol, source, destination, ...options }) =>
      runTrace(context, protocol, source, destination, options),
    READS,
  ),
  connections: {
    ...apiVerb(
      'connections of tracked services, so many at most, with the addresses of clients',
      {
        service: text.optional(),
        backend: text.optional(),
        source: text.optional().describe('ADDRESS, ADDRESS:PORT or a prefix'),
        state: z.enum(CONNECTION_STATES).optional(),
        limit: z.int().min(1).max(CONNECTIONS_MAX).default(CONNECTIONS_DEFAULT),
      },
      (context, { service, limit, ...options }) => answerConnections(context, service, limit, options),
      READS,
    ),
    guarded: 'tells secrets',
  },
  save: {
    ...apiVerb(
      'services and backends as a configuration file, with the seeds, which are secret',
      { json: z.boolean().optional() },
      (context, { json }) => context.answer(undefined, savedText(context, json === true ? 'json' : 'yaml')),
      READS,
    ),
    guarded: 'tells secrets',
  },
  restore: apiVerb(
    'make services and backends what these files say, all at once',
    { ...configuration, force: z.boolean().optional(), attach: z.boolean().optional() },
    (context, { file, values, ...options }) => restore(context, file, configOfValues(values), options),
  ),
  diff: {
    ...apiVerb(
      'what restore with attach would change of these files, and change nothing',
      configuration,
      (context, { values }) => answerDiff(context, configOfValues(values)),
      READS,
    ),
    guarded: 'takes a whole configuration',
  },
  doctor: doctorVerb(),
  clear: apiVerb('remove all services; the program stays attached', {}, (context) => runClear(context)),
}
