// SPDX-License-Identifier: Apache-2.0
// What the schema says of a key to people: the reference page, editors and faults have their words from here.
import { z } from 'zod'

export interface Note {
  /** Markdown: which values it takes, and what they mean. */
  values: string
  /** Markdown; left out: the key is required. */
  fallback?: string
  /** Never shown. Its text may name variables of the environment. */
  isSecret?: true
}

const notes = z.registry<Note>()

/** A key's schema with its note. */
export const noted = <T extends z.ZodType>(schema: T, note: Note): T => {
  notes.add(schema, note)
  return schema
}

export const noteOf = (schema: z.core.$ZodType): Note | undefined => notes.get(schema)

/** Without Markdown: for a line of text. */
export const plainText = (markdown: string): string =>
  markdown.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/`/g, '')

/** What a schema is about, without `optional` and the like around it. */
export const innerSchema = (schema: z.core.$ZodType): z.core.$ZodType => {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault) return innerSchema(schema._zod.def.innerType)
  if (schema instanceof z.ZodPipe) return innerSchema(schema._zod.def.in)
  return schema
}

/** The schema of what stands at a path; undefined where nothing may. */
export const schemaAt = (schema: z.core.$ZodType, path: readonly (string | number)[]): z.core.$ZodType | undefined => {
  const [part, ...rest] = path
  if (part === undefined) return schema
  const inner = innerSchema(schema)
  if (inner instanceof z.ZodUnion) {
    for (const option of inner._zod.def.options) {
      const found = schemaAt(option, path)
      if (found !== undefined) return found
    }
    return undefined
  }
  if (inner instanceof z.ZodArray) return schemaAt(inner._zod.def.element, rest)
  if (inner instanceof z.ZodRecord) return schemaAt(inner._zod.def.valueType, rest)
  const isKey = inner instanceof z.ZodObject && Object.hasOwn(inner._zod.def.shape, part)
  const next = isKey ? inner._zod.def.shape[part] : undefined
  return next === undefined ? undefined : schemaAt(next, rest)
}
