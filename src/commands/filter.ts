// SPDX-License-Identifier: Apache-2.0
import { textOf } from '../config/text.ts'
import { formatService, parseService, type ServiceAddress } from '../core/address.ts'
import {
  addPrefixes,
  filterText,
  parseFilterFile,
  removePrefixes,
  VERDICTS,
  withFilter,
  withGlobalFilter,
} from '../core/filter.ts'
import { type Filter, formatPrefix, OPEN, parsePrefix, prefixAt, prefixCount, type Verdict } from '../core/prefixes.ts'
import { Refusal } from '../core/refusal.ts'
import { existing } from '../core/verbs.ts'
import { changeAll } from '../shell/session.ts'
import { type Context, type GlobalOptions, oneOf } from './context.ts'

/** Undefined: all services. */
type Scope = ServiceAddress | undefined

const nameOf = (scope: Scope): string => (scope === undefined ? 'all services' : formatService(scope))

/** `[SERVICE] WORD...`: no word of these verbs but a service has `://` in it. */
const takeScope = (words: readonly string[]): { scope: Scope; rest: string[] } => {
  const [first, ...rest] = words
  return first?.includes('://') === true ? { scope: parseService(first), rest } : { scope: undefined, rest: [...words] }
}

const demand = (words: readonly string[], what: string, example: string): void => {
  if (words.length === 0) throw new Refusal(`filter: ${what}`, example, { usage: true })
}

const change = (
  { session, answer }: Context,
  scope: Scope,
  done: string,
  apply: (have: Filter | undefined) => Filter,
): void => {
  const { changed, filter } = session((session) => {
    let filter: Filter = OPEN
    const noted = (have: Filter | undefined): Filter => {
      filter = apply(have)
      return filter
    }
    const { services, globals } = changeAll(
      session,
      scope === undefined
        ? { globals: (have) => withGlobalFilter(have, noted) }
        : { services: (state) => withFilter(state, scope, noted) },
    )
    return { changed: globals || services.length > 0, filter }
  })
  answer(
    { changed, service: scope === undefined ? null : formatService(scope), prefixes: prefixCount(filter.prefixes) },
    changed ? `${nameOf(scope)}: ${done}; now ${filterText(filter)}` : 'nothing to change',
  )
}

export const runFilterAdd = (context: Context, words: readonly string[]): void => {
  const { scope, rest } = takeScope(words)
  const [word = '', ...texts] = rest
  const example = 'xlb filter add [SERVICE] allow|deny PREFIX..., such as: xlb filter add deny 198.51.100.0/24'
  demand(rest, 'no verdict was given', example)
  const verdict = oneOf('verdict', VERDICTS)(word)
  demand(texts, 'no prefix was given', example)
  const prefixes = texts.map(parsePrefix)
  change(context, scope, `added ${texts.join(', ')}`, (have) => addPrefixes(have, verdict, prefixes))
}

export const runFilterRemove = (context: Context, words: readonly string[]): void => {
  const { scope, rest } = takeScope(words)
  demand(rest, 'no prefix was given', 'xlb filter rm [SERVICE] PREFIX...')
  const prefixes = rest.map(parsePrefix)
  change(context, scope, `removed ${rest.join(', ')}`, (have) => removePrefixes(have, prefixes))
}

export const runFilterDefault = (context: Context, words: readonly string[]): void => {
  const { scope, rest } = takeScope(words)
  const [word = '', ...more] = rest
  if (rest.length === 0 || more.length > 0) {
    throw new Refusal('filter: no verdict was given', 'xlb filter default [SERVICE] allow|deny', { usage: true })
  }
  const fallback = oneOf('verdict', VERDICTS)(word)
  change(context, scope, `default ${fallback}`, (have) => ({ ...(have ?? OPEN), fallback }))
}

export const readText = (file: string): string => {
  try {
    return textOf(file)
  } catch (error) {
    throw new Refusal(
      `${file}: cannot be read: ${error instanceof Error ? error.message : error}`,
      'name a file with lines such as: deny 198.51.100.0/24',
    )
  }
}

export const runFilterLoad = (
  context: Context,
  words: readonly string[],
  options: GlobalOptions & { as?: Verdict; text?: string },
): void => {
  const { scope, rest } = takeScope(words)
  const [file, ...more] = rest
  if (file === undefined || more.length > 0) {
    throw new Refusal('filter: no file was given', 'xlb filter load [SERVICE] FILE', { usage: true })
  }
  const filter = parseFilterFile(file, options.text ?? readText(file), options.as)
  change(context, scope, `loaded ${file}`, () => filter)
}

export const runFilterClear = (context: Context, words: readonly string[]): void => {
  const { scope, rest } = takeScope(words)
  if (rest.length > 0) {
    throw new Refusal(`filter: '${rest[0]}' is no service`, 'xlb filter clear [SERVICE]', { usage: true })
  }
  change(context, scope, 'cleared', () => OPEN)
}

/** In the form that `filter load` reads. */
const lines = ({ fallback, prefixes }: Filter): string[] => [
  `default ${fallback}`,
  ...Array.from({ length: prefixCount(prefixes) }, (_, i) => {
    const prefix = prefixAt(prefixes, i)
    return `${prefix.verdict} ${formatPrefix(prefix)}`
  }),
]

export const runFilterList = ({ session, answer }: Context, words: readonly string[]): void => {
  const { scope, rest } = takeScope(words)
  if (rest.length > 0) {
    throw new Refusal(`filter: '${rest[0]}' is no service`, 'xlb filter list [SERVICE]', { usage: true })
  }
  const filter =
    session(({ live }) => (scope === undefined ? live.globals.filter : existing(live.desired, scope).filter)) ?? OPEN
  const { fallback, prefixes } = filter
  answer(
    {
      service: scope === undefined ? null : formatService(scope),
      default: fallback,
      prefixes: Array.from({ length: prefixCount(prefixes) }, (_, i) => {
        const prefix = prefixAt(prefixes, i)
        return { prefix: formatPrefix(prefix), verdict: prefix.verdict }
      }),
    },
    lines(filter).join('\n'),
  )
}
