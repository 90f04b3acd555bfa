// SPDX-License-Identifier: Apache-2.0
// The one schema of what `xlb save` writes and `xlb restore` reads.
import { z } from 'zod'
import { CONNECTION_STATES } from '../core/connection-states.ts'
import { FORWARDS, HASH_INPUTS, SCHEDULERS, WEIGHT_MAX } from '../core/desired.ts'
import { DRAIN_PERSISTENCES } from '../core/persistence.ts'
import { RATE_MAX, SOURCE_BITS_MAX } from '../core/source-rate.ts'
import { VLAN_MAX, VLAN_MIN } from '../core/vlan.ts'

const backend = z.strictObject({
  address: z.string(),
  weight: z.int().min(0).max(WEIGHT_MAX).default(1),
  admin: z.enum(['up', 'drain']).default('up'),
  vlan: z
    .union([z.literal('none'), z.int().min(VLAN_MIN).max(VLAN_MAX)], `is neither none nor ${VLAN_MIN} to ${VLAN_MAX}`)
    .optional(),
  'max-conns': z.union([z.string(), z.int()]).transform(String).optional(),
})

const filter = z.strictObject({
  default: z.enum(['allow', 'deny']).default('allow'),
  allow: z.array(z.string()).default([]),
  deny: z.array(z.string()).default([]),
})

const sourceRate = z.strictObject({
  rate: z.int().min(1).max(RATE_MAX),
  burst: z.int().min(1).max(RATE_MAX).optional(),
  prefix: z.int().min(1).max(SOURCE_BITS_MAX).optional(),
})

const service = z.strictObject({
  service: z.string(),
  scheduler: z.enum(SCHEDULERS).optional(),
  forward: z.enum(FORWARDS).optional(),
  hash: z.enum(HASH_INPUTS).optional(),
  ops: z.boolean().optional(),
  persist: z.union([z.string(), z.int()]).optional(),
  'persist-mask': z.int().optional(),
  'persist-mask6': z.int().optional(),
  'drain-persistence': z.enum(DRAIN_PERSISTENCES).optional(),
  group: z.string().optional(),
  'ring-size': z.int().min(0).optional(),
  filter: filter.optional(),
  'source-rate': sourceRate.optional(),
  seed: z
    .string()
    .regex(/^0x[0-9a-fA-F]{1,16}$/, 'is not 1 to 16 hexadecimal digits after 0x')
    .optional(),
  backends: z.array(backend).default([]),
})

const attachment = z.union([
  z.string().transform((name) => ({ name, mode: 'auto' as const })),
  z.strictObject({ name: z.string(), mode: z.enum(['auto', 'native', 'generic']).default('auto') }),
])

export const configSchema = z.strictObject({
  interfaces: z.array(attachment).default([]),
  limits: z
    .strictObject({
      services: z.int().optional(),
      backends: z.int().optional(),
      flows: z.int().optional(),
      flows6: z.int().optional(),
      prefixes: z.int().optional(),
      clients: z.int().optional(),
      'new-flows': z.int().optional(),
    })
    .default({}),
  filter: filter.optional(),
  timeouts: z.partialRecord(z.enum(CONNECTION_STATES), z.union([z.string(), z.int()]).transform(String)).default({}),
  services: z.array(service).default([]),
})

export type ConfigFile = z.output<typeof configSchema>
export type ServiceEntry = ConfigFile['services'][number]
export type FilterEntry = NonNullable<ConfigFile['filter']>
