// SPDX-License-Identifier: Apache-2.0
// What zod finds, in words: what is wrong, and how to mend it.
import { z } from 'zod'
import { mostSimilar } from '../core/similar.ts'
import { PROBES } from './check-schema.ts'
import type { Document } from './document.ts'
import type { Faults, KeyPath } from './faults.ts'
import { innerSchema, noteOf, plainText, schemaAt } from './notes.ts'
import { NOT_YET } from './schema.ts'

type Issue = z.core.$ZodIssue

const SOON = new Map(Object.entries(NOT_YET))

/** What a key will be for that the schema does not have yet; its path without places in lists. */
const notYet = (path: KeyPath): string | undefined =>
  SOON.get(
    path
      .map((part) => (typeof part === 'number' ? '[]' : `.${part}`))
      .join('')
      .replace(/^\./, ''),
  )

const SHOWN = 60

/** A value as a person would name it. */
const named = (value: unknown): string => {
  if (typeof value === 'string') return `'${value.length > SHOWN ? `${value.slice(0, SHOWN)}...` : value}'`
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a mapping of keys'
  return String(value)
}

const wanted = (schema: z.core.$ZodType | undefined): string => {
  const inner = schema === undefined ? undefined : innerSchema(schema)
  if (inner instanceof z.ZodArray) return 'a list'
  if (inner instanceof z.ZodObject || inner instanceof z.ZodRecord) return 'a mapping of keys'
  if (inner instanceof z.ZodBoolean) return 'true or false'
  if (inner instanceof z.ZodNumber) return 'a whole number'
  if (inner instanceof z.ZodString || inner instanceof z.ZodEnum) return 'a text'
  return 'what it takes'
}

const valueAt = (value: unknown, path: KeyPath): unknown => {
  let at = value
  for (const part of path) {
    if (typeof at !== 'object' || at === null) return undefined
    at = (at as Record<string | number, unknown>)[part]
  }
  return at
}

/** What a key takes, by its note: of an entry of a list by the list's. */
const takes = (root: z.core.$ZodType, path: KeyPath): string | undefined => {
  const schema = schemaAt(root, path)
  const note = schema === undefined ? undefined : (noteOf(schema) ?? noteOf(innerSchema(schema)))
  if (note !== undefined) return plainText(note.values)
  return typeof path.at(-1) === 'number' ? takes(root, path.slice(0, -1)) : undefined
}

const isSecretAt = (root: z.core.$ZodType, path: KeyPath): boolean => {
  const schema = schemaAt(root, path)
  return schema !== undefined && noteOf(schema)?.isSecret === true
}

/** Keys that a mapping may have. */
const keysAt = (root: z.core.$ZodType, path: KeyPath): string[] => {
  const schema = schemaAt(root, path)
  const inner = schema === undefined ? undefined : innerSchema(schema)
  const options = inner instanceof z.ZodUnion ? inner._zod.def.options : [inner]
  return options.flatMap((each) => (each instanceof z.ZodObject ? Object.keys(each._zod.def.shape) : []))
}

/** Of what is wrong with each shape that a value may have: with the shape that was meant. */
const ofUnion = (issue: Extract<Issue, { code: 'invalid_union' }>): readonly Issue[] | undefined =>
  issue.errors.find(
    (issues) => issues.length > 0 && issues.every(({ path, code }) => path.length > 0 || code === 'unrecognized_keys'),
  )

/** The type of a check that xlb will make itself; undefined: that is no path of a check's, or it says something else. */
const probeAt = (value: unknown, [top, name]: KeyPath): string | undefined => {
  const type = top === 'checks' && name !== undefined ? valueAt(value, [top, name, 'type']) : undefined
  return typeof type === 'string' && PROBES.includes(type) ? type : undefined
}

const isNumber = (value: unknown): boolean => typeof value === 'number' || typeof value === 'boolean'

const isEmpty = (value: unknown): boolean => value === '' || (Array.isArray(value) && value.length === 0)

/** Writes what zod found in a document's value into `faults`. `root` is the schema of the whole. */
export class Issues {
  readonly #root: z.core.$ZodType
  readonly #document: Document
  readonly #faults: Faults

  constructor(root: z.core.$ZodType, document: Document, faults: Faults) {
    this.#root = root
    this.#document = document
    this.#faults = faults
  }

  add(issues: readonly Issue[], under: KeyPath = []): void {
    for (const issue of issues) {
      const path = [...under, ...issue.path.map((part) => (typeof part === 'number' ? part : String(part)))]
      if (issue.code === 'unrecognized_keys') for (const key of issue.keys) this.#unknownKey([...path, key])
      else if (issue.code === 'invalid_key') this.#wrongName(path)
      else {
        const inner = issue.code === 'invalid_union' ? ofUnion(issue) : undefined
        if (inner === undefined) this.#wrongValue(path, issue)
        else this.add(inner, path)
      }
    }
  }

  #wrongName(path: KeyPath): void {
    const what = `${named(path.at(-1))} is no name`
    const mend = 'choose up to 31 letters, digits, dots, dashes and underscores, a letter or digit first; but not none'
    this.#faults.addKey(this.#document, path, what, mend)
  }

  #unknownKey(path: KeyPath): void {
    const key = String(path.at(-1))
    // Its type is a fault already, and what it may have besides nobody knows yet.
    if (path.length > 2 && probeAt(this.#document.value, path) !== undefined) return
    const soon = notYet(path)
    if (soon !== undefined) {
      this.#faults.addKey(this.#document, path, `is for ${soon}, which xlb does not have yet`, 'leave it out')
      return
    }
    const known = keysAt(this.#root, path.slice(0, -1))
    const meant = mostSimilar(key, known)
    const mend = meant === undefined ? `the keys here are: ${known.join(', ')}` : `write ${meant}`
    this.#faults.addKey(this.#document, path, `key '${named(key).slice(1, -1)}' is not known`, mend)
  }

  #wrongValue(path: KeyPath, issue: Issue): void {
    const value = valueAt(this.#document.value, path)
    const schema = schemaAt(this.#root, path)
    const note = takes(this.#root, path)
    const takesNote = note === undefined ? `write ${wanted(schema)}` : `it takes ${note}`
    const shown = isSecretAt(this.#root, path) ? 'its value' : named(value)
    const add = (what: string, mend: string) => this.#faults.add(this.#document, path, what, mend)
    const probe = path.at(-1) === 'type' ? probeAt(this.#document.value, path) : undefined
    if (probe !== undefined) {
      add(
        `'${probe}' is a check of xlb's own, which it does not have yet`,
        'write type: report, and have whoever checks the backends tell it: xlb backend report',
      )
    } else if (value === undefined) add('is missing', takesNote)
    else if (value === null) add('has no value', takesNote)
    else if (issue.code === 'too_small' && isEmpty(value)) add('is empty', takesNote)
    else if (issue.code === 'too_big') add(`${shown} exceeds ${issue.maximum}`, takesNote)
    else if (issue.code === 'too_small') add(`${shown} is below ${issue.minimum}`, takesNote)
    else if (issue.code === 'invalid_value') add(`${shown} is not known`, takesNote)
    else if (issue.code === 'invalid_format' || issue.code === 'invalid_union') {
      add(`${shown} ${issue.code === 'invalid_union' ? 'is none of what it takes' : issue.message}`, takesNote)
    } else if (isNumber(value) && innerSchema(schema ?? z.unknown()) instanceof z.ZodString) {
      add(`${shown} is a ${typeof value}, and a text is wanted`, 'put it in quotes')
    } else add(`${shown} is not ${wanted(schema)}`, takesNote)
  }
}
