// SPDX-License-Identifier: Apache-2.0
// Scrapes of a director whose tables are this process's memory, and what they say.
import { type DaemonFacts, type ExporterOptions, MetricsExporter } from '../../src/api/metrics.ts'
import { FlowState, Reason } from '../../src/dataplane/layout.gen.ts'
import type { Native } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { fill } from '../dataplane/flow-entries.ts'
import { backend, type FakeSession, fakeSession, service } from './plane.ts'

export const WEB = 'tcp://192.0.2.1:80'
export const VERSION = { version: '0.1.0' }
export const ABSENT = { ...VERSION, statsFile: '/nonexistent' }

/** The values of a metric by its labels. */
export const valuesOf = (text: string, name: string): Record<string, number> =>
  Object.fromEntries(
    text
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .map((line) => {
        const at = line.lastIndexOf(' ')
        return [line.slice(name.length, at), Number(line.slice(at + 1))]
      }),
  )

export const scrape = (
  fake: FakeSession,
  options: Partial<ExporterOptions> = {},
  facts: DaemonFacts = {},
): Promise<string> => new MetricsExporter({ ...ABSENT, ...options }).export(fake.session(), facts)

/** Three services: one whose flows are recorded, one that is hashed, one without backends. */
export const busy = (native?: Partial<Native>): FakeSession => {
  const fake = fakeSession(native)
  fake.set(
    service(1, 'wrr', [backend(1, { weight: 3 }), backend(2, { admin: 'drain' })], 'we"b'),
    service(2, 'mh', [
      backend(3),
      backend(4, { weight: 0 }),
      backend(5, { path: { kind: 'unresolved', why: 'silent' } }),
      backend(6, { path: { kind: 'local' } }),
    ]),
    service(3, 'rr', []),
  )
  fake.count(WEB, '198.51.100.1', 10, 1000, 2)
  fake.count(WEB, '198.51.100.2', 5, 2 ** 40, 1)
  fake.reason(Reason.DROP_NO_BACKEND, 7)
  fake.reason(Reason.FLOW_REFUSED_FULL, 3)
  const id = readLive(fake.plane.memory).services.get(WEB)?.service.id ?? 0
  const { age } = fake.plane
  const flow = { source: 1, sourcePort: 1, service: id, port: 80, backend: 0, state: 0, age, check: 1 }
  const { FLOW_ESTABLISHED, FLOW_CLOSING } = FlowState
  fill(fake.plane.memory, [
    { ...flow, state: FLOW_ESTABLISHED },
    { ...flow, state: FLOW_ESTABLISHED },
    { ...flow, state: FLOW_CLOSING },
    { ...flow, state: FLOW_ESTABLISHED, age: age - 200 },
  ])
  return fake
}
