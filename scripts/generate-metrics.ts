// SPDX-License-Identifier: Apache-2.0
// Writes the table of docs/metrics.md from src/api/metric-families.ts and backend-metrics.ts. `npm run generate` after each change of a metric; CI demands
// that it changes nothing.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { withMetricsTable } from '../src/api/metrics-page.ts'

const page = join(import.meta.dirname, '..', 'docs/metrics.md')
writeFileSync(page, withMetricsTable(readFileSync(page, 'utf8')))
