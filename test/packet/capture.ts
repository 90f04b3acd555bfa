// SPDX-License-Identifier: Apache-2.0
// A balancer whose program is the capturing one, and the reading end of its ring.
import type { ExecutionContext } from 'ava'
import type { Captured } from '../../src/core/captured.ts'
import { CaptureNames, type CaptureWanted, capturedOf, filterBytes, recordsOf } from '../../src/dataplane/capture.ts'
import { CaptureCounts } from '../../src/dataplane/layout.gen.ts'
import type { BpfMap, BpfRing } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { CAPTURE_FILE, loadProgram } from '../../src/shell/load.ts'
import { Balancer, type BalancerOptions, backendAddress, VERDICT } from './plane.ts'

export const RING_BYTES = 1 << 20
export const SNAP_BYTES = 16_416

export class CapturingBalancer extends Balancer {
  readonly #ring: BpfRing
  readonly #lease: BpfMap
  readonly #counts: BpfMap

  /** Everything is wanted, unless it is said what. The lease lasts for ever. */
  constructor(wanted: Partial<CaptureWanted> = {}, options: BalancerOptions & { ringBytes?: number } = {}) {
    super({
      ...options,
      program: 'xlb_capture',
      load: (native, maps, slot, settings) =>
        loadProgram(native, maps, slot, settings, {
          programFile: CAPTURE_FILE,
          prepare: (object) => {
            object.setConstant('filter', filterBytes({ all: true, snapBytes: SNAP_BYTES, ...wanted }))
            object.setMaxEntries('capture_ring', options.ringBytes ?? RING_BYTES)
          },
        }),
    })
    this.#ring = this.native.openRing(this.object.map('capture_ring'))
    this.#lease = this.object.map('capture_lease')
    this.#counts = this.object.map('capture_counts')
    this.lease(2n ** 62n)
  }

  override close(): void {
    this.#ring.close()
    this.#lease.unmap()
    super.close()
  }

  /** Until when, in jiffies. */
  lease(until: bigint): void {
    new BigUint64Array(this.#lease.mmap())[0] = until
  }

  /** What the ring has; frames are copies. */
  captured(): Captured[] {
    const services = [...readLive(this.plane).services.values()]
    const names = new CaptureNames(new Map([[0, 'one']]), services, new Set(services.map(({ service }) => service.id)))
    const told: Captured[] = []
    for (let batch = this.#ring.read(1 << 16); batch.length > 0; batch = this.#ring.read(1 << 16)) {
      for (const record of recordsOf(batch)) told.push(capturedOf(record, names, 0n))
    }
    return told
  }

  /** Over all CPUs. */
  counts(): { packets: bigint; lost: bigint } {
    const values = this.#counts.lookup(new Uint8Array(4)) ?? Buffer.alloc(0)
    const view = new DataView(values.buffer, values.byteOffset, values.length)
    const sum = { packets: 0n, lost: 0n }
    for (let at = 0; at < values.length; at += CaptureCounts.size) {
      sum.packets += CaptureCounts.read(view, at).packets
      sum.lost += CaptureCounts.read(view, at).lost
    }
    return sum
  }
}

const NUMBERS: Readonly<Record<string, number>> = {
  drop: VERDICT.DROP,
  pass: VERDICT.PASS,
  tx: VERDICT.TX,
  redirect: VERDICT.REDIRECT,
}

export const openCapture = (
  t: ExecutionContext,
  wanted: Partial<CaptureWanted> = {},
  options: BalancerOptions & { ringBytes?: number } = {},
): CapturingBalancer => {
  const balancer = new CapturingBalancer(wanted, options)
  t.teardown(() => balancer.close())
  return balancer
}

/** The one packet that was captured of a frame, which was told as it came. */
export const captureOf = (t: ExecutionContext, balancer: CapturingBalancer, frame: Buffer): Captured | undefined => {
  const came = Buffer.from(frame)
  const sent = balancer.send(frame)
  const told = balancer.captured()
  t.true(told.length <= 1)
  const one = told[0]
  if (one === undefined) return undefined
  t.is(NUMBERS[one.verdict], sent.verdict)
  t.is(Buffer.from(one.frame).toString('hex'), came.toString('hex'))
  t.is(one.frameLength, came.length)
  const counted = Object.keys(sent.reasons).map((name) => name.toLowerCase())
  t.deepEqual([...(one.reason === undefined ? [] : [one.reason]), ...one.flow].sort(), counted.sort())
  if (sent.backend !== undefined) {
    const family = one.service?.includes('[') === true ? 'ipv6' : 'ipv4'
    t.is(one.backend, backendAddress(sent.backend, family))
  }
  return one
}
