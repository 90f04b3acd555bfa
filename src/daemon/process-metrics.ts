// SPDX-License-Identifier: Apache-2.0
// What Node tells of the daemon's own process.
import { collectDefaultMetrics, Registry } from 'prom-client'

/** Gauges that are named as if they were counters: promtool refuses them. Each has a sibling without the suffix. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** `process_*` and `nodejs_*`. Watches the loop from now on. */
export const processMetrics = (): Registry => {
  const register = new Registry()
  collectDefaultMetrics({ register })
  for (const name of MISNAMED) register.removeSingleMetric(name)
  return register
}
