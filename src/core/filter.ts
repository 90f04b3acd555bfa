// SPDX-License-Identifier: Apache-2.0
// Filters: which sources a service hears, or all services hear. Verbs are functions from one filter to the next.
import { formatService, type ServiceAddress } from './address.ts'
import type { DesiredState, Globals, Service } from './desired.ts'
import {
  countVerdicts,
  type Filter,
  findPrefix,
  formatPrefix,
  OPEN,
  type Prefix,
  PrefixCollector,
  parsePrefix,
  prefixAt,
  prefixCount,
  type Verdict,
  WORDS_PER_PREFIX,
} from './prefixes.ts'
import { Refusal } from './refusal.ts'
import { checkService } from './state-faults.ts'
import { ChangedState } from './state-map.ts'
import { existing } from './verbs.ts'

export const VERDICTS = ['allow', 'deny'] as const

/** Undefined where it hears everybody. */
const orNone = (filter: Filter): Filter | undefined =>
  filter.fallback === 'allow' && filter.prefixes.length === 0 ? undefined : filter

/** `xlb filter add`. @throws Refusal where one of them is there with the other verdict */
export const addPrefixes = (have: Filter | undefined, verdict: Verdict, prefixes: readonly Prefix[]): Filter => {
  const { fallback, prefixes: before } = have ?? OPEN
  const collector = new PrefixCollector()
  collector.addAll(before)
  for (const prefix of prefixes) {
    const at = findPrefix(before, prefix)
    if (at >= 0 && prefixAt(before, at).verdict !== verdict) {
      const text = formatPrefix(prefix)
      throw new Refusal(
        `prefix ${text}: is there already, to ${prefixAt(before, at).verdict}`,
        `remove it first: xlb filter rm ... ${text}`,
      )
    }
    collector.add(prefix, verdict)
  }
  return { fallback, prefixes: collector.list() }
}

/** `xlb filter rm`. @throws Refusal where one of them is not there */
export const removePrefixes = (have: Filter | undefined, prefixes: readonly Prefix[]): Filter => {
  const { fallback, prefixes: before } = have ?? OPEN
  const gone = new Set<number>()
  for (const prefix of prefixes) {
    const at = findPrefix(before, prefix)
    if (at < 0) {
      throw new Refusal(
        `prefix ${formatPrefix(prefix)}: is not in the list`,
        'see the list: xlb filter list; a prefix is removed as it was added, not by an address within it',
      )
    }
    gone.add(at)
  }
  const kept = new Uint32Array(before.length - gone.size * WORDS_PER_PREFIX)
  let length = 0
  for (let i = 0; i < prefixCount(before); i++) {
    if (gone.has(i)) continue
    kept.set(before.subarray(i * WORDS_PER_PREFIX, (i + 1) * WORDS_PER_PREFIX), length)
    length += WORDS_PER_PREFIX
  }
  return { fallback, prefixes: kept }
}

/** The state with another filter of one service. */
export const withFilter = (
  state: DesiredState,
  address: ServiceAddress,
  change: (have: Filter | undefined) => Filter,
) => {
  const { filter: have, ...service } = existing(state, address)
  const filter = orNone(change(have))
  const next: Service = filter === undefined ? service : { ...service, filter }
  checkService(next)
  return ChangedState.of(state, [[formatService(address), next]])
}

/** What holds for all services, with another filter. */
export const withGlobalFilter = (have: Globals, change: (have: Filter | undefined) => Filter): Globals => ({
  ...have,
  filter: orNone(change(have.filter)),
})

const FAULTS_SHOWN = 20

/**
 * A file of lines `deny 192.0.2.0/24`, `allow 192.0.2.7`, `default deny`; what follows # or ; is a comment. `bare` is the verdict
 * for lines of a prefix alone. @throws Refusal that names each line that is wrong
 */
export const parseFilterFile = (file: string, text: string, bare?: Verdict): Filter => {
  const collector = new PrefixCollector()
  const faults: string[] = []
  const lineOf: number[] = []
  let fallback: Verdict | undefined
  let number = 0
  for (const line of text.split('\n')) {
    number++
    const words = line.replace(/[#;].*/, '').trim()
    if (words === '') continue
    try {
      const read = readLine(words, bare)
      if (read.prefix === undefined) {
        if (fallback !== undefined) throw new Refusal('the default is there twice', 'keep one of them')
        fallback = read.verdict
        continue
      }
      collector.add(read.prefix, read.verdict)
      lineOf.push(number)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      if (faults.length < FAULTS_SHOWN) faults.push(`line ${number}: ${error.message}; ${error.mend}`)
      else if (faults.length === FAULTS_SHOWN) faults.push('and more')
    }
  }
  const contradiction = faults.length > 0 ? undefined : collector.contradiction()
  if (contradiction !== undefined) {
    const [first, second] = contradiction.map((entry) => lineOf[entry])
    faults.push(`line ${second}: says of a prefix the opposite of line ${first}; keep one of the two`)
  }
  if (faults.length > 0) {
    throw new Refusal(
      `${file}: nothing was changed${faults.map((fault) => `\n       ${fault}`).join('')}`,
      'mend these lines and load it again',
      { usage: false },
    )
  }
  return { fallback: fallback ?? 'allow', prefixes: collector.list() }
}

const readLine = (line: string, bare: Verdict | undefined): { verdict: Verdict; prefix: Prefix | undefined } => {
  const [word = '', rest, ...more] = line.split(/\s+/)
  if (rest === undefined && bare !== undefined) return { verdict: bare, prefix: parsePrefix(word) }
  const verdict = VERDICTS.find((each) => each === (word === 'default' ? rest : word))
  if (verdict === undefined || rest === undefined || more.length > 0) {
    throw new Refusal(
      `'${line.slice(0, 60)}' is not of the form allow|deny PREFIX`,
      'write deny 192.0.2.0/24, or say for prefixes alone: --as deny',
    )
  }
  return { verdict, prefix: word === 'default' ? undefined : parsePrefix(rest) }
}

/** `2 allow, 100000 deny, default allow`. */
export const filterText = ({ fallback, prefixes }: Filter): string => {
  const { allow, deny } = countVerdicts(prefixes)
  return `${allow} allow, ${deny} deny, default ${fallback}`
}
