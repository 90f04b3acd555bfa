// SPDX-License-Identifier: Apache-2.0
// What a service's backends have counted together. A removed backend takes its counters along, and a counter that falls is to
// Prometheus one that has begun anew: the whole sum would be taken for what was counted since. So what was seen of a backend that
// is gone stays in the sum, as long as this process runs.
import type { AddressKey } from '../core/ip.ts'
import type { Samples, ServiceSample } from '../dataplane/samples.ts'

export interface Totals {
  packets: number
  bytes: number
  flows: number
}

const COUNTS = ['packets', 'bytes', 'flows'] as const
type Count = (typeof COUNTS)[number]

interface Seen {
  addresses: AddressKey[]
  /** At the same places. */
  counts: Record<Count, Float64Array>
  /** Of backends that are gone. */
  carried: Totals
}

const sumOf = (counts: Float64Array): number => {
  let sum = 0
  for (const count of counts) sum += count
  return sum
}

const sameAddresses = (a: readonly AddressKey[], b: readonly AddressKey[]): boolean => {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** What the backends seen before had counted, and what is not in the counters now: they went, or came anew. */
const lost = (before: Seen, addresses: AddressKey[], now: Record<Count, Float64Array>): Totals => {
  const totals: Totals = { packets: 0, bytes: 0, flows: 0 }
  const same = sameAddresses(before.addresses, addresses)
  const places = same ? undefined : new Map(addresses.map((address, i) => [address, i]))
  before.addresses.forEach((address, i) => {
    const place = places === undefined ? i : places.get(address)
    const isGone = place === undefined || (now.packets[place] ?? 0) < (before.counts.packets[i] ?? 0)
    if (isGone) for (const count of COUNTS) totals[count] += before.counts[count][i] ?? 0
  })
  return totals
}

export class ServiceTotals {
  readonly #seen = new Map<string, Seen>()

  /** By service. What a service that is gone had counted is forgotten. */
  update({ services, backends }: Samples): Map<string, Totals> {
    const totals = new Map<string, Totals>()
    const known = new Set<string>()
    for (const sample of services) {
      known.add(sample.service)
      totals.set(sample.service, this.#updateService(sample, backends))
    }
    for (const name of this.#seen.keys()) if (!known.has(name)) this.#seen.delete(name)
    return totals
  }

  #updateService({ service, first, end }: ServiceSample, backends: Samples['backends']): Totals {
    const addresses = backends.address.slice(first, end)
    // Views: each scrape has columns of its own.
    const counts = {
      packets: backends.packets.subarray(first, end),
      bytes: backends.bytes.subarray(first, end),
      flows: backends.flows.subarray(first, end),
    }
    const before = this.#seen.get(service)
    const carried: Totals = before?.carried ?? { packets: 0, bytes: 0, flows: 0 }
    if (before !== undefined) {
      const more = lost(before, addresses, counts)
      for (const count of COUNTS) carried[count] += more[count]
    }
    this.#seen.set(service, { addresses, counts, carried })
    return {
      packets: carried.packets + sumOf(counts.packets),
      bytes: carried.bytes + sumOf(counts.bytes),
      flows: carried.flows + sumOf(counts.flows),
    }
  }
}
