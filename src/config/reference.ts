// SPDX-License-Identifier: Apache-2.0
// The tables of docs/configuration.md: each between `<!-- keys: NAME -->` and `<!-- end of keys -->`.
import { markdownTable } from '../core/markdown.ts'
import { noteOf } from './notes.ts'
import { NOT_YET, sections } from './schema.ts'

const TABLE = /(<!-- keys: ([a-z-]+) -->\n)[\s\S]*?(\n<!-- end of keys -->)/g

const code = (text: string): string => `\`${text}\``

const keysTable = (name: string): string => {
  const section = Object.entries(sections).find(([each]) => each === name)?.[1]
  if (section === undefined) throw new Error(`docs/configuration.md: there is no table ${name}`)
  const rows = Object.entries(section.shape).map(([key, schema]) => {
    const note = noteOf(schema)
    if (note === undefined) throw new Error(`src/config/schema.ts: ${name}.${key} has no note`)
    return [code(key), note.values, note.fallback ?? 'required']
  })
  return markdownTable([['key', 'values', 'default'], ...rows])
}

const soonTable = (): string =>
  markdownTable([['key', 'for'], ...Object.entries(NOT_YET).map(([path, what]) => [code(path), what])])

/** The page with its tables made anew. @throws Error where one is unknown, or a section of the schema has none */
export const withTables = (page: string): string => {
  const made = new Set<string>()
  const result = page.replace(TABLE, (_, before: string, name: string, after: string) => {
    made.add(name)
    return `${before}\n${name === 'not-yet' ? soonTable() : keysTable(name)}\n${after}`
  })
  const missing = Object.keys(sections).filter((name) => !made.has(name))
  if (missing.length > 0) throw new Error(`docs/configuration.md: tables are missing: ${missing.join(', ')}`)
  return result
}
