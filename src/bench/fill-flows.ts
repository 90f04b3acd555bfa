// SPDX-License-Identifier: Apache-2.0
// Entries in the flow table without a packet: so many connections of one service, as packets would have recorded them.
import { swap16, swap32 } from '../core/address.ts'
import { parseIpv4 } from '../core/ip.ts'
import { locateFlow } from '../dataplane/flow-entry.ts'
import { FlowLimit, FlowState, FlowValue, Settings } from '../dataplane/layout.gen.ts'
import type { PlaneMemory } from '../dataplane/memory.ts'
import { readLive } from '../dataplane/reader.ts'
import { viewOf } from '../dataplane/views.ts'

const { FLOWS_PER_BUCKET } = FlowLimit
/** Clients: addresses of RFC 6598, of 16 ports each. */
const FIRST_CLIENT = parseIpv4('100.64.0.0') ?? 0
const PORTS_PER_CLIENT = 16
const FIRST_PORT = 1024

/** Established connections to the first three backends of an IPv4 service, all refreshed just now; no backend counts them. */
export const fillFlows = (plane: PlaneMemory, service: string, count: number): void => {
  const found = readLive(plane).services.get(service)
  if (found === undefined) throw new Error(`no ${service}`)
  const settings = Settings.read(viewOf(plane, 'settings'), 0)
  const words = new BigUint64Array(plane.buffer('flows'))
  const age = BigInt(plane.age() & FlowValue.FLOW_AGE_MASK)
  const portBe = swap16(found.want.port)
  const established =
    (BigInt(FlowState.FLOW_ESTABLISHED) << BigInt(FlowValue.FLOW_STATE_SHIFT)) |
    (age << BigInt(FlowValue.FLOW_AGE_SHIFT))
  for (let i = 0, written = 0; written < count; i++) {
    const client = FIRST_CLIENT + Math.floor(i / PORTS_PER_CLIENT)
    const port = FIRST_PORT + (i % PORTS_PER_CLIENT)
    const { key, match, buckets } = locateFlow(plane, settings, {
      ofPrefix: false,
      source: { address6: undefined, word: BigInt(swap32(client)) | (BigInt(swap16(port)) << 32n) },
      portBe,
      service: found.service.id,
    })
    // As packets do: in the emptier of the two buckets.
    const [place] = buckets
      .map((bucket) =>
        Array.from({ length: FLOWS_PER_BUCKET }, (_, n) => 2 * (bucket * FLOWS_PER_BUCKET + n)).filter(
          (at) => words[at + 1] === 0n,
        ),
      )
      .sort((a, b) => b.length - a.length)
      .flat()
    // A few of a million find both buckets full.
    if (place === undefined) continue
    written++
    words[place] = key
    words[place + 1] = match | (BigInt(i % 3) << BigInt(FlowValue.FLOW_BACKEND_SHIFT)) | established
  }
}
