// SPDX-License-Identifier: Apache-2.0
// The one schema of what `xlb save` writes and `xlb restore` reads.
import { z } from 'zod'
import { FORWARDS, HASH_INPUTS, SCHEDULERS, WEIGHT_MAX } from '../core/desired.ts'
import { VLAN_MAX, VLAN_MIN } from '../core/vlan.ts'

const backend = z.strictObject({
  address: z.string(),
  weight: z.int().min(0).max(WEIGHT_MAX).default(1),
  admin: z.enum(['up', 'drain']).default('up'),
  vlan: z
    .union([z.literal('none'), z.int().min(VLAN_MIN).max(VLAN_MAX)], `is neither none nor ${VLAN_MIN} to ${VLAN_MAX}`)
    .optional(),
})

const service = z.strictObject({
  service: z.string(),
  scheduler: z.enum(SCHEDULERS).optional(),
  forward: z.enum(FORWARDS).optional(),
  hash: z.enum(HASH_INPUTS).optional(),
  ops: z.boolean().optional(),
  'ring-size': z.int().min(0).optional(),
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
      'new-flows': z.int().optional(),
    })
    .default({}),
  services: z.array(service).default([]),
})

export type ConfigFile = z.output<typeof configSchema>
export type ServiceEntry = ConfigFile['services'][number]
