// SPDX-License-Identifier: Apache-2.0
// Run by metrics.test.ts in the director's namespace: what a scrape of an instance says.
import { MetricsExporter } from '../../src/api/metrics.ts'
import { loadNative } from '../../src/dataplane/native.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { withSession } from '../../src/shell/session.ts'

const [instance = ''] = process.argv.slice(2)
const exporter = new MetricsExporter({ version: '0.1.0' })
process.stdout.write(await withSession(loadNative(), pathsOf(instance), (session) => exporter.export(session)))
