// SPDX-License-Identifier: Apache-2.0
// main.ts write DIR SEED: what IPVS is to do, for uml-init. main.ts compare DIR SEED: gives xlb the same, and compares.
import { readFileSync } from 'node:fs'
import { makeCases } from './cases.ts'
import { type Comparison, compareCase } from './compare.ts'
import { readAnswers, writeCase } from './ipvs.ts'
import { runCase } from './xlb.ts'

const DOCS = new URL('../../docs/ipvs.md', import.meta.url)

/** Cases that docs/ipvs.md explains: those that the first cell of a table's row names. */
const readExplained = (): Set<string> =>
  new Set(
    [...readFileSync(DOCS, 'utf8').matchAll(/^\| (`[^|]*)\|/gm)].flatMap(([, cell = '']) =>
      [...cell.matchAll(/`([a-z]+-[a-z]+)`/g)].map(([, name = '']) => name),
    ),
  )

/** The verdict, and whether it is as docs/ipvs.md has it. */
const judge = ({ faults }: Comparison, isExplained: boolean): { words: string; isWell: boolean } => {
  const differs = faults.length > 0
  if (!differs) return isExplained ? { words: 'same, but explained', isWell: false } : { words: 'same', isWell: true }
  return isExplained ? { words: 'differs, explained', isWell: true } : { words: 'DIFFERS', isWell: false }
}

const row = (...cells: (string | number)[]): string =>
  cells.map((cell, i) => (i > 1 && i < 5 ? String(cell).padStart(10) : String(cell).padEnd(17))).join(' ')

const compare = (folder: string, seed: number): boolean => {
  const explained = readExplained()
  const cases = makeCases(seed)
  let unexplained = 0
  console.log(row('case', 'compared', 'asked', 'same', 'differing', 'verdict'))
  for (const each of cases) {
    const comparison = compareCase(each, readAnswers(folder, each), runCase(each))
    const { of, differing, faults } = comparison
    const verdict = judge(comparison, explained.has(each.name))
    if (!verdict.isWell) unexplained++
    console.log(row(each.name, each.same, of, of - differing, differing, verdict.words))
    for (const fault of faults) console.log(`    ${fault}`)
  }
  console.log(`${cases.length} cases, ${unexplained} not as docs/ipvs.md has them`)
  return unexplained === 0
}

const [verb, folder = '', seed = '1'] = process.argv.slice(2)
if (verb === 'write') for (const each of makeCases(Number(seed))) writeCase(folder, each)
else process.exitCode = compare(folder, Number(seed)) ? 0 : 1
