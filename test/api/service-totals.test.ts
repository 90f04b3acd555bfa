// SPDX-License-Identifier: Apache-2.0
// Counters that are sums do not fall, from scrape to scrape, but where what they count has begun anew.
import test from 'ava'
import { MetricsExporter } from '../../src/api/metrics.ts'
import { clearCounts } from '../../src/dataplane/counters.ts'
import { Reason } from '../../src/dataplane/layout.gen.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { backend, type FakeSession, fakeSession, service } from './plane.ts'
import { ABSENT, busy, valuesOf, WEB } from './scrape.ts'

test("a service's sums do not fall when a backend goes, comes back, or counts anew", async (t) => {
  const fake = fakeSession()
  const exporter = new MetricsExporter(ABSENT)
  const sums = async () => valuesOf(await exporter.export(fake.session()), 'xlb_service_packets_total')
  const first = backend(1)
  const second = backend(2)
  const of = `{service="${WEB}"}`
  fake.set(service(1, 'wrr', [first, second]))
  fake.count(WEB, first.address, 100)
  fake.count(WEB, second.address, 10)
  t.is((await sums())[of], 110)
  fake.set(service(1, 'wrr', [second]))
  t.is((await sums())[of], 110)
  fake.count(WEB, second.address, 1)
  t.is((await sums())[of], 111)
  fake.set(service(1, 'wrr', [first, second]))
  fake.count(WEB, first.address, 5)
  t.is((await sums())[of], 116)
  const counters =
    readLive(fake.plane.memory)
      .services.get(WEB)
      ?.backends.map(({ counter }) => counter) ?? []
  clearCounts(fake.plane.memory, counters)
  t.is((await sums())[of], 116)
  fake.count(WEB, second.address, 2)
  t.is((await sums())[of], 118)
  fake.set()
  t.deepEqual(await sums(), {})
  fake.set(service(1, 'wrr', [first]))
  t.is((await sums())[of], 0)
})

test('packets forwarded do not fall by what is read a moment later, but begin anew with new tables', async (t) => {
  const exporter = new MetricsExporter(ABSENT)
  const forwarded = async (fake: FakeSession) =>
    valuesOf(await exporter.export(fake.session()), 'xlb_packets_total')['{verdict="forward",reason="tx_forwarded"}']
  const fake = busy()
  t.is(await forwarded(fake), 15)
  fake.reason(Reason.TX_REDIRECTED, 2) // counted, and its backend's counter not yet read
  t.is(await forwarded(fake), 15)
  fake.count(WEB, '198.51.100.1', 4)
  t.is(await forwarded(fake), 17)
  t.is(await forwarded(fakeSession()), 0)
})
