// SPDX-License-Identifier: Apache-2.0
// scripts/differential FRAMES SEED: balancers one after the other, each with a seed of its own, until the frames are through.
import { differ, type Figures, formatFigures, sumFigures } from './differential.ts'

/** Of one balancer: tables do not fill, and what goes wrong is found again soon. */
const ROUND = 50_000

const [frames = 0, seed = 0] = process.argv.slice(2).map(Number)
const figures: Figures[] = []
try {
  for (let done = 0; done < frames; done += ROUND) {
    const round = await differ((seed + figures.length) % 2 ** 32, Math.min(ROUND, frames - done))
    figures.push(round)
    const [line] = formatFigures(round).split('\n')
    process.stdout.write(`XLB_SEED=${seed + figures.length - 1}: ${line}\n`)
  }
  process.stdout.write(`none differs: ${formatFigures(sumFigures(figures))}\n`)
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
