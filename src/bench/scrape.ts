// SPDX-License-Identifier: Apache-2.0
// What a scrape of the metrics costs the process that answers it.
import { MetricsExporter } from '../api/metrics.ts'
import type { Native } from '../dataplane/native.ts'
import { pathsOf } from '../shell/instance.ts'
import { withSession } from '../shell/session.ts'
import { median } from './harness.ts'

export interface ScrapeResult {
  /** Backends that get series of their own. */
  backendLimit: number
  series: number
  bytes: number
  /** Under the instance's lock, in one go: tables opened, read and closed. Median, highest. */
  lockedMs: number
  highestLockedMs: number
  /** Until the text is there. */
  ms: number
  highestMs: number
  runs: number
}

/** Of an instance that is attached. */
export const measureScrape = async (
  native: Native,
  instance: string,
  backendLimit: number,
  runs: number,
): Promise<ScrapeResult> => {
  const exporter = new MetricsExporter({ version: 'bench', backendLimit })
  const locked: number[] = []
  const whole: number[] = []
  let text = ''
  // The first, which compiles, is not counted.
  for (let run = -1; run < runs; run++) {
    const start = performance.now()
    const made = withSession(native, pathsOf(instance), (session) => exporter.export(session))
    const unlocked = performance.now()
    text = await made
    if (run < 0) continue
    locked.push(unlocked - start)
    whole.push(performance.now() - start)
  }
  const round = (milliseconds: number) => Math.round(milliseconds * 10) / 10
  return {
    backendLimit,
    series: text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length,
    bytes: Buffer.byteLength(text),
    lockedMs: round(median(locked)),
    highestLockedMs: round(Math.max(...locked)),
    ms: round(median(whole)),
    highestMs: round(Math.max(...whole)),
    runs,
  }
}
