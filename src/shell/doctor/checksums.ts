// SPDX-License-Identifier: Apache-2.0
// Looks at packets of clients as they come in, by a capture, for checksums that nobody has finished.
import type { ChecksumFacts } from '../../core/doctor/facts.ts'
import { sumUp } from '../../core/probe/checksum.ts'
import { CaptureLimit } from '../../dataplane/layout.gen.ts'
import { Capture } from '../capture.ts'
import type { Instance } from './look.ts'
import type { Turn } from './turn.ts'

const RING_BYTES = 1 << 20
const POLL_MS = 50
const RENEW_MS = 1000
/** So many partial ones say enough. */
const ENOUGH = 5
const SOURCES_MAX = 8

/**
 * @param names interfaces to look at
 * @returns what came, or why packets could not be looked at
 */
export const lookAtChecksums = async (
  turn: Turn,
  { session: withSession }: Instance,
  names: readonly string[],
  milliseconds: number,
): Promise<ChecksumFacts | { unexamined: string }> => {
  let capture: Capture
  try {
    capture = withSession((session) => {
      const interfaces = session.interfaces.filter(({ name, attached }) => attached && names.includes(name))
      const snapBytes = CaptureLimit.CAPTURE_HEAD_BYTES + CaptureLimit.CAPTURE_REST_BYTES
      return new Capture(session, interfaces, { wanted: { snapBytes }, ringBytes: RING_BYTES })
    })
  } catch (error) {
    return { unexamined: `packets cannot be captured: ${error instanceof Error ? error.message : error}` }
  }
  try {
    return await count(turn, capture, milliseconds)
  } finally {
    capture.close()
  }
}

const count = async (turn: Turn, capture: Capture, milliseconds: number): Promise<ChecksumFacts> => {
  const sources = new Map<string, { address: string; mac: string }>()
  const end = Date.now() + milliseconds
  let [packets, partial, renewed] = [0, 0, Date.now()]
  while (Date.now() < end && partial < ENOUGH) {
    for (const { frame } of capture.read()) {
      const summed = sumUp(frame)
      if (summed === undefined) continue
      packets++
      if (!summed.isPartial) continue
      partial++
      const { source: address, mac } = summed
      if (sources.size < SOURCES_MAX) sources.set(`${address} ${mac}`, { address, mac })
    }
    if (Date.now() - renewed > RENEW_MS) {
      capture.renew()
      renewed = Date.now()
    }
    await turn.rest(POLL_MS)
  }
  return { packets, partial, sources: [...sources.values()] }
}
