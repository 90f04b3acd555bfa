// SPDX-License-Identifier: Apache-2.0
// The table of docs/metrics.md, between `<!-- metrics -->` and `<!-- end of metrics -->`.
import { markdownTable } from '../core/markdown.ts'
import { FAMILIES } from './metric-families.ts'

const TABLE = /(<!-- metrics -->\n)[\s\S]*?(\n<!-- end of metrics -->)/

const code = (text: string): string => `\`${text}\``

const metricsTable = (): string =>
  markdownTable([
    ['metric', 'type', 'labels', 'what it tells'],
    ...FAMILIES.map(({ name, type, labels, help }) => [code(name), type, labels.map(code).join(', '), help]),
  ])

/** The page with its table made anew. @throws Error where it has no place for one */
export const withMetricsTable = (page: string): string => {
  if (!TABLE.test(page)) throw new Error('docs/metrics.md: there is no <!-- metrics --> ... <!-- end of metrics -->')
  return page.replace(TABLE, (_, before: string, after: string) => `${before}\n${metricsTable()}\n${after}`)
}
