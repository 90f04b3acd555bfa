// SPDX-License-Identifier: Apache-2.0
// Prefixes of addresses, each allowed or denied, as one array of numbers: a list may have a hundred thousand of them, and most
// verbs hand it on without a look into it.
import { AF, formatIpv4, formatIpv6, parseIpv4, parseIpv6 } from './ip.ts'
import { Refusal } from './refusal.ts'

export type Verdict = 'allow' | 'deny'

/** Of AF. */
export type FamilyNumber = (typeof AF)[keyof typeof AF]

/** Four words of 32 bits, the most significant first; an IPv4 address is the first of them. */
export interface Address {
  family: FamilyNumber
  words: readonly [number, number, number, number]
}

export interface Prefix extends Address {
  /** Its length. */
  bits: number
}

/**
 * struct filter_prefix of bpf/xlb.h, one after another: an address's words; then the length, the family and the verdict (1:
 * allow), an octet each. Sorted by family, address and length; each prefix is there once.
 */
export type Prefixes = Uint32Array

/** Of the prefixes that cover a source the longest decides; where none does, `fallback`. */
export interface Filter {
  fallback: Verdict
  prefixes: Prefixes
}

export const WORDS_PER_PREFIX = 5
export const NO_PREFIXES: Prefixes = new Uint32Array(0)

/** Hears everybody. */
export const OPEN: Filter = { fallback: 'allow', prefixes: NO_PREFIXES }

const usage = { usage: true }

export const bitsOf = (family: FamilyNumber): number => (family === AF.ipv4 ? 32 : 128)

/** The bits of word `i` that a prefix length covers. */
export const wordMask = (bits: number, i: number): number => {
  const own = Math.min(32, Math.max(0, bits - 32 * i))
  return own === 0 ? 0 : (-1 << (32 - own)) >>> 0
}

/** Undefined: it is no address. */
export const parseAddress = (text: string): Address | undefined => {
  if (!text.includes(':')) {
    const address = parseIpv4(text)
    return address === undefined ? undefined : { family: AF.ipv4, words: [address, 0, 0, 0] }
  }
  const groups = parseIpv6(text)
  if (groups === undefined) return undefined
  const word = (i: number): number => (groups[2 * i] ?? 0) * 65536 + (groups[2 * i + 1] ?? 0)
  return { family: AF.ipv6, words: [word(0), word(1), word(2), word(3)] }
}

const formatAddress = ({ family, words }: Address): string =>
  family === AF.ipv4 ? formatIpv4(words[0]) : formatIpv6(words.flatMap((word) => [word >>> 16, word & 0xffff]))

/** RFC 4291 section 2.5.5.2: no packet has such a source. */
const isMapped = ({ family, words }: Address): boolean =>
  family === AF.ipv6 && words[0] === 0 && words[1] === 0 && words[2] === 0xffff

export const formatPrefix = (prefix: Prefix): string => `${formatAddress(prefix)}/${prefix.bits}`

const masked = ({ words, bits }: Prefix): Address['words'] => [
  (words[0] & wordMask(bits, 0)) >>> 0,
  (words[1] & wordMask(bits, 1)) >>> 0,
  (words[2] & wordMask(bits, 2)) >>> 0,
  (words[3] & wordMask(bits, 3)) >>> 0,
]

/** `192.0.2.0/24`; an address by itself is a prefix of all its bits. @throws Refusal with what is wrong, and how it is right */
export const parsePrefix = (text: string): Prefix => {
  const slash = text.indexOf('/')
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash))
  if (address === undefined) {
    throw new Refusal(
      `prefix '${text}': is not of the form ADDRESS/LENGTH`,
      'write 192.0.2.0/24 or 2001:db8::/32, or an address by itself',
      usage,
    )
  }
  if (isMapped(address)) {
    const mapped = formatIpv4(address.words[3])
    throw new Refusal(`prefix '${text}': is an IPv4-mapped address, which no packet has`, `write ${mapped}`, usage)
  }
  const { family, words } = address
  const most = bitsOf(family)
  if (slash < 0) return { family, words, bits: most }
  const length = text.slice(slash + 1)
  const bits = Number(length)
  if (!/^[0-9]{1,3}$/.test(length) || bits > most) {
    throw new Refusal(`prefix '${text}': '${length}' is no prefix length`, `choose 0 to ${most}`, usage)
  }
  const prefix: Prefix = { family, words, bits }
  const right = masked(prefix)
  if (right.some((word, i) => word !== words[i])) {
    throw new Refusal(
      `prefix '${text}': its address has bits beyond its length of ${bits}`,
      `write ${formatPrefix({ family, words: right, bits })}, or ${formatAddress(address)} for that address alone`,
      usage,
    )
  }
  return prefix
}

const tag = ({ family, bits }: Prefix, verdict: Verdict): number =>
  bits | (family << 8) | (verdict === 'allow' ? 1 << 16 : 0)

export const prefixAt = (list: Prefixes, i: number): Prefix & { verdict: Verdict } => {
  const at = i * WORDS_PER_PREFIX
  const word = list[at + 4] ?? 0
  return {
    family: ((word >>> 8) & 0xff) === AF.ipv4 ? AF.ipv4 : AF.ipv6,
    words: [list[at] ?? 0, list[at + 1] ?? 0, list[at + 2] ?? 0, list[at + 3] ?? 0],
    bits: word & 0xff,
    verdict: word >>> 16 === 0 ? 'deny' : 'allow',
  }
}

export const prefixCount = (list: Prefixes): number => list.length / WORDS_PER_PREFIX

/** Order of two entries, whatever their verdicts: below 0, 0, above 0. */
const compare = (a: Prefixes, i: number, b: Prefixes, j: number): number => {
  const left = i * WORDS_PER_PREFIX
  const right = j * WORDS_PER_PREFIX
  const leftTag = a[left + 4] ?? 0
  const rightTag = b[right + 4] ?? 0
  const family = ((leftTag >>> 8) & 0xff) - ((rightTag >>> 8) & 0xff)
  if (family !== 0) return family
  for (let word = 0; word < 4; word++) {
    const difference = (a[left + word] ?? 0) - (b[right + word] ?? 0)
    if (difference !== 0) return difference
  }
  return (leftTag & 0xff) - (rightTag & 0xff)
}

/** Entries in any order, some of them several times. */
export class PrefixCollector {
  #words = new Uint32Array(64 * WORDS_PER_PREFIX)
  #length = 0

  get count(): number {
    return this.#length / WORDS_PER_PREFIX
  }

  add(prefix: Prefix, verdict: Verdict): void {
    const { words } = prefix
    this.#make(WORDS_PER_PREFIX)
    this.#words.set([words[0], words[1], words[2], words[3], tag(prefix, verdict)], this.#length)
    this.#length += WORDS_PER_PREFIX
  }

  addAll(list: Prefixes): void {
    this.#make(list.length)
    this.#words.set(list, this.#length)
    this.#length += list.length
  }

  /** Entry numbers (in the order of adding) of a prefix that is both allowed and denied; undefined: there is none. */
  contradiction(): [number, number] | undefined {
    const order = this.#order()
    for (let i = 1; i < order.length; i++) {
      const before = order[i - 1] ?? 0
      const here = order[i] ?? 0
      if (compare(this.#words, before, this.#words, here) !== 0) continue
      const at = (entry: number) => this.#words[entry * WORDS_PER_PREFIX + 4]
      if (at(before) !== at(here)) return before < here ? [before, here] : [here, before]
    }
    return undefined
  }

  /** Sorted, each once. Of several of one prefix the last one counts. */
  list(): Prefixes {
    const order = this.#order()
    const list = new Uint32Array(order.length * WORDS_PER_PREFIX)
    let length = 0
    for (const [i, entry] of order.entries()) {
      const next = order[i + 1]
      if (next !== undefined && compare(this.#words, entry, this.#words, next) === 0) continue
      const at = entry * WORDS_PER_PREFIX
      list.set(this.#words.subarray(at, at + WORDS_PER_PREFIX), length)
      length += WORDS_PER_PREFIX
    }
    return list.slice(0, length)
  }

  /** Entry numbers, sorted; equal ones in the order of adding. */
  #order(): Uint32Array {
    const order = Uint32Array.from({ length: this.count }, (_, i) => i)
    let sorted = true
    for (let i = 1; i < order.length && sorted; i++) sorted = compare(this.#words, i - 1, this.#words, i) <= 0
    return sorted ? order : order.sort((a, b) => compare(this.#words, a, this.#words, b) || a - b)
  }

  #make(room: number): void {
    if (this.#length + room <= this.#words.length) return
    const larger = new Uint32Array(2 * (this.#length + room))
    larger.set(this.#words.subarray(0, this.#length))
    this.#words = larger
  }
}

/** Where a prefix stands in a list; below 0: it does not. */
export const findPrefix = (list: Prefixes, prefix: Prefix): number => {
  const sought = new Uint32Array([...prefix.words, tag(prefix, 'deny')])
  let low = 0
  let high = prefixCount(list)
  while (low < high) {
    const middle = (low + high) >>> 1
    if (compare(list, middle, sought, 0) < 0) low = middle + 1
    else high = middle
  }
  return low < prefixCount(list) && compare(list, low, sought, 0) === 0 ? low : -1
}

export const samePrefixes = (a: Prefixes, b: Prefixes): boolean =>
  a.length === b.length && a.every((word, i) => word === b[i])

export const sameFilter = (a: Filter | undefined, b: Filter | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.fallback === b.fallback && samePrefixes(a.prefixes, b.prefixes))

/** How many are allowed and denied. */
export const countVerdicts = (list: Prefixes): { allow: number; deny: number } => {
  let allow = 0
  for (let at = WORDS_PER_PREFIX - 1; at < list.length; at += WORDS_PER_PREFIX) allow += (list[at] ?? 0) >>> 16
  return { allow, deny: prefixCount(list) - allow }
}

/** The longest prefix of a list that covers an address, by its number; below 0: none does. */
export const longestMatch = (list: Prefixes, { family, words }: Address): number => {
  let best = -1
  let bestBits = -1
  for (let i = 0; i < prefixCount(list); i++) {
    const at = i * WORDS_PER_PREFIX
    const word = list[at + 4] ?? 0
    const bits = word & 0xff
    if (((word >>> 8) & 0xff) !== family || bits <= bestBits) continue
    let covers = true
    for (let part = 0; part < 4 && covers; part++) {
      covers = (((words[part] ?? 0) ^ (list[at + part] ?? 0)) & wordMask(bits, part)) === 0
    }
    if (!covers) continue
    best = i
    bestBits = bits
  }
  return best
}
