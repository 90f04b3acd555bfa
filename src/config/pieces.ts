// SPDX-License-Identifier: Apache-2.0
// A YAML text in pieces: its services, each by itself, and the rest. Of a file of thousands of services that somebody has edited, all
// but one are the text that they were, and need not be parsed again (docs/decisions/0019-what-a-reload-reads.md).

/** Pieces that say together what the text says, where each of them is YAML by itself; where one is not, only the whole tells. */
export interface Pieces {
  /** The text with `services: []`. */
  rest: string
  /** Lists of one service each, in their order. */
  services: string[]
}

/** What may stand before the first key: then the text is a mapping whose keys begin their lines. */
const BEGINS_WITH_KEY = /^(?:[ ]*(?:#.*)?\n)*[A-Za-z]/
const SERVICES = /^services:(?: +#.*| *)\n/m
/** The first line that is no comment. */
const FIRST_ENTRY = /^(?:[ ]*(?:#.*)?\n)*( *)- /
/** Line breaks that do not end a line here, and what indents and is no space. */
const FOREIGN = ['\r', '\t', '\u0085', '\u2028', '\u2029']

const NEWLINE = '\n'.charCodeAt(0)
const SPACE = ' '.charCodeAt(0)
const COMMENT = '#'.charCodeAt(0)

/** What a list has to it: how far it goes, and where its entries begin. */
interface List {
  end: number
  starts: number[]
}

/** Of entries that are indented by so many spaces; undefined: something in it is indented less, and it is no such list. */
const listOf = (text: string, indent: number): List | undefined => {
  const starts: number[] = []
  for (let at = 0; at < text.length; at = after(text, at)) {
    let first = at
    while (first < at + indent && text.charCodeAt(first) === SPACE) first++
    const code = text.charCodeAt(first)
    if (code === NEWLINE || code === COMMENT || Number.isNaN(code)) continue
    if (first === at + indent) {
      // Deeper, and so of the entry before; or an entry itself.
      if (code === SPACE) continue
      if (text.startsWith('- ', first)) {
        starts.push(at)
        continue
      }
    }
    return first === at ? { end: at, starts } : undefined
  }
  return { end: text.length, starts }
}

/** Where the next line begins. */
const after = (text: string, at: number): number => {
  const end = text.indexOf('\n', at)
  return end < 0 ? text.length : end + 1
}

/** Undefined: it is not written so that it could be cut. */
export const piecesOf = (text: string): Pieces | undefined => {
  if (!BEGINS_WITH_KEY.test(text) || FOREIGN.some((each) => text.includes(each))) return undefined
  const key = SERVICES.exec(text)
  if (key === null) return undefined
  const below = text.slice(key.index + key[0].length)
  const indent = FIRST_ENTRY.exec(below)?.[1]?.length
  const list = indent === undefined ? undefined : listOf(below, indent)
  if (list === undefined) return undefined
  const { end, starts } = list
  return {
    rest: `${text.slice(0, key.index)}services: []\n${below.slice(end)}`,
    services: starts.map((start, i) => below.slice(start, starts[i + 1] ?? end)),
  }
}
