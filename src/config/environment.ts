// SPDX-License-Identifier: Apache-2.0
// ${NAME} in the values that are secret, from the environment; $$ is a dollar. Nothing of such a value is ever shown.
import type { Document } from './document.ts'
import type { Faults, KeyPath } from './faults.ts'
import { noteOf, schemaAt } from './notes.ts'
import { configSchema } from './schema.ts'

export type Environment = Readonly<Record<string, string | undefined>>

const ANY = /\$\{[^}]*\}/
const PART = /\$\$|\$\{([^}]*)\}?/g
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

const isSecret = (path: KeyPath): boolean => {
  const schema = schemaAt(configSchema, path)
  return schema !== undefined && noteOf(schema)?.isSecret === true
}

/** Puts variables' values in their place, in the document's value. */
export const takeEnvironment = (document: Document, environment: Environment, faults: Faults): void => {
  if (!document.text.includes('$')) return
  // What an alias stands for is there once.
  const seen = new Set<object>()
  const textAt = (text: string, path: KeyPath): string | undefined => {
    if (isSecret(path)) {
      const value = substituted(text, environment, (what, mend) => faults.add(document, path, what, mend))
      if (value !== text) document.noteWritten(path, text)
      return value
    }
    if (ANY.test(text)) {
      faults.add(document, path, 'variables stand for secrets alone, and this is none', 'write the value itself')
    }
    return text
  }
  const visit = (holder: Record<string | number, unknown>, key: string | number, path: KeyPath): void => {
    const value = holder[key]
    if (typeof value === 'string') {
      holder[key] = textAt(value, path)
      return
    }
    if (typeof value !== 'object' || value === null || seen.has(value)) return
    seen.add(value)
    const inner = value as Record<string | number, unknown>
    if (Array.isArray(value)) for (const i of value.keys()) visit(inner, i, [...path, i])
    else for (const each of Object.keys(value)) visit(inner, each, [...path, each])
  }
  visit({ top: document.value }, 'top', [])
}

/** Undefined where a variable has no value. */
const substituted = (
  text: string,
  environment: Environment,
  fault: (what: string, mend: string) => void,
): string | undefined => {
  let isFaulty = false
  const refuse = (what: string, mend: string): string => {
    isFaulty = true
    fault(what, mend)
    return ''
  }
  const result = text.replace(PART, (part: string, name: string | undefined) => {
    if (part === '$$') return '$'
    if (name === undefined || !NAME.test(name) || !part.endsWith('}')) {
      return refuse(
        'has a $ and a brace that are no variable',
        `write \${NAME}, of letters, digits and underscores; $$ is a dollar`,
      )
    }
    const value = Object.hasOwn(environment, name) ? environment[name] : undefined
    if (value !== undefined && value !== '') return value
    return refuse(`variable ${name} is ${value === undefined ? 'not set' : 'empty'}`, `set ${name} in the environment`)
  })
  return isFaulty ? undefined : result
}
