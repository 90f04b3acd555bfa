// SPDX-License-Identifier: Apache-2.0
// The schema as editors read it: packaging/xlb.schema.json.
import { z } from 'zod'
import { noteOf, plainText } from './notes.ts'
import { configSchema } from './schema.ts'

const describe = (schema: z.core.$ZodType, json: z.core.JSONSchema.BaseSchema): void => {
  const note = noteOf(schema)
  if (note === undefined) return
  const fallback = note.fallback === undefined ? '' : `. Default: ${plainText(note.fallback)}`
  json.description = `${plainText(note.values)}${fallback}`
  if (note.isSecret !== true || json.pattern === undefined) return
  // What a variable holds is known to xlb check alone.
  json.anyOf = [{ pattern: json.pattern }, { pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}' }]
  delete json.pattern
}

/** In draft 7, which editors know best. */
export const jsonSchema = (): object => ({
  title: 'The configuration file of xlb',
  ...z.toJSONSchema(configSchema, {
    target: 'draft-7',
    io: 'input',
    override: ({ zodSchema, jsonSchema: json }) => describe(zodSchema, json),
  }),
})
