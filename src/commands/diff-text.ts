// SPDX-License-Identifier: Apache-2.0
// What would change, as lines for a person: + comes, - goes, ~ changes.
import type { EntryChange, KeyChange, ServiceChange } from '../config/difference.ts'
import { plural } from './text.ts'

const SIGNS = { add: '+', change: '~', remove: '-' } as const
const SHOWN = 5

const some = (sign: string, entries: readonly string[]): string[] => {
  const more = entries.length - SHOWN
  return [...entries.slice(0, SHOWN).map((each) => `${sign}${each}`), ...(more > 0 ? [`${sign}${more} more`] : [])]
}

const valueText = (value: unknown): string => (value === undefined ? 'not said' : String(value))

const changeText = ({ key, have, want, added, removed, isSecret }: KeyChange): string => {
  if (isSecret === true) return `${key}: changes; it is secret`
  if (added !== undefined || removed !== undefined) {
    return `${key}: ${[...some('+', added ?? []), ...some('-', removed ?? [])].join(' ')}`
  }
  return `${key}: ${valueText(have)} -> ${valueText(want)}`
}

/** Of what comes: what it is. */
const saidText = ({ key, want, added }: KeyChange): string =>
  added === undefined ? `${key} ${valueText(want)}` : `${key} ${plural(added.length, 'entry', 'entries')}`

const joined = (name: string, texts: readonly string[]): string =>
  texts.length === 0 ? name : `${name}: ${texts.join(', ')}`

const backendLine = ({ kind, name, keys }: EntryChange): string => {
  const texts = kind === 'remove' ? [] : keys.map(kind === 'add' ? saidText : changeText)
  return `    ${SIGNS[kind]} backend ${joined(name, texts)}`
}

export const serviceLines = ({ kind, name, keys, backends }: ServiceChange): string[] => {
  const head = `${SIGNS[kind]} service ${name}`
  if (kind === 'remove') return [`${head}, with ${plural(backends.length, 'backend')}`]
  if (kind === 'add') return [joined(head, keys.map(saidText)), ...backends.map(backendLine)]
  return [head, ...keys.map((key) => `    ${changeText(key)}`), ...backends.map(backendLine)]
}

export const forAllLines = (keys: readonly KeyChange[]): string[] => keys.map((key) => `~ ${changeText(key)}`)
