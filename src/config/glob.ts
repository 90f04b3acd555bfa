// SPDX-License-Identifier: Apache-2.0
// conf.d/*.yaml -> the files that are there.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

export const isGlob = (pattern: string): boolean => /[*?[]/.test(pattern)

/** As glob(7): * and ? and [a-z], within one name; a leading dot is named by a dot alone. */
const matcher = (pattern: string): ((name: string) => boolean) => {
  const text = pattern.replace(
    /\[([!^]?)(\]?[^\]]*)\]|[\s\S]/gu,
    (part, not: string | undefined, set: string | undefined) => {
      if (part === '*') return '.*'
      if (part === '?') return '.'
      if (set === undefined) return part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
      return `[${not === '' ? '' : '^'}${set.replace(/[\\\]^[]/g, '\\$&')}]`
    },
  )
  const shape = new RegExp(`^${text}$`, 'su')
  return (name) => shape.test(name) && (pattern.startsWith('.') || !name.startsWith('.'))
}

const namesIn = (folder: string): string[] => {
  try {
    return readdirSync(folder).sort()
  } catch {
    return []
  }
}

/**
 * Paths that match, in the order of their names.
 * @throws SyntaxError for a set that is none, such as [z-a]
 */
export const expandGlob = (pattern: string): string[] => {
  let found = [pattern.startsWith('/') ? '/' : '.']
  for (const part of pattern.split('/').filter((each) => each !== '')) {
    if (!isGlob(part)) found = found.map((folder) => join(folder, part))
    else {
      const matches = matcher(part)
      found = found.flatMap((folder) =>
        namesIn(folder)
          .filter(matches)
          .map((name) => join(folder, name)),
      )
    }
  }
  return found
}
