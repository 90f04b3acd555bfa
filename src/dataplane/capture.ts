// SPDX-License-Identifier: Apache-2.0
// What bpf/capture.bpf.c is asked for and what it tells, in the words of people.
import { type Captured, VERDICTS, type Verdict } from '../core/captured.ts'
import { CaptureEvent, CaptureFilter, CaptureNote, Reason } from './layout.gen.ts'
import type { LiveService } from './reader.ts'

type ReasonName = Exclude<keyof typeof Reason, 'REASONS'>

const REASON_NAMES = (Object.entries(Reason) as [keyof typeof Reason, number][])
  .filter((entry): entry is [ReasonName, number] => entry[0] !== 'REASONS')
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name.toLowerCase())

const isFlow = (name: string): boolean => name.startsWith('flow_')

/** What a packet can be asked for by: the reasons of verdicts, and what becomes of flows. */
export const REASONS: readonly string[] = REASON_NAMES

/** What is for no VIP: left out of a capture unless it is asked for. */
const FOR_NO_VIP: readonly string[] = REASON_NAMES.filter((name) => /^pass_(other_mac|not_ip.*|not_vip)$/.test(name))

const ALL_BITS = 0xffff_ffff_ffff_ffffn

const bitsOf = (names: readonly string[]): bigint =>
  names.reduce((bits, name) => bits | (1n << BigInt(REASON_NAMES.indexOf(name))), 0n)

/** An address, and how many of its bits count; 4 or 16 octets. */
export interface AddressRange {
  octets: Uint8Array
  mask: Uint8Array
}

/** Which packets are wanted; what is undefined may be anything. */
export interface CaptureWanted {
  verdicts?: readonly Verdict[]
  /** Any of these. */
  reasons?: readonly string[]
  /** Those too that are for no VIP. */
  all?: boolean
  source?: AddressRange
  /** Its VIP, and the id under which the packet path knows it. */
  service?: { id: number; vip: AddressRange }
  snapBytes: number
}

const addressOf = (range: AddressRange | undefined): CaptureFilter['source'] => ({
  address: range?.octets ?? new Uint8Array(0),
  mask: range?.mask ?? new Uint8Array(0),
})

/** struct capture_filter, as the program has it in .rodata. */
export const filterBytes = (wanted: CaptureWanted): Uint8Array => {
  const range = wanted.source ?? wanted.service?.vip
  const asked = wanted.reasons === undefined ? undefined : bitsOf(wanted.reasons)
  const bytes = new Uint8Array(CaptureFilter.size)
  CaptureFilter.write(new DataView(bytes.buffer), 0, {
    reasons:
      asked ?? (wanted.all === true ? ALL_BITS : bitsOf(REASON_NAMES.filter((name) => !FOR_NO_VIP.includes(name)))),
    verdicts: (wanted.verdicts ?? VERDICTS).reduce((bits, verdict) => bits | (1 << VERDICTS.indexOf(verdict)), 0),
    snapBytes: wanted.snapBytes,
    family: range === undefined ? 0 : range.octets.length === 4 ? 2 : 10,
    service: wanted.service?.id ?? CaptureNote.CAPTURE_NONE,
    source: addressOf(wanted.source),
    destination: addressOf(wanted.service?.vip),
  })
  return bytes
}

/** One record of the ring. `frame` is a view of the batch that it came in. */
export interface CaptureRecord {
  event: CaptureEvent
  frame: Uint8Array
}

/** The records of a batch, as BpfRing.read packs them. */
export function* recordsOf(batch: Uint8Array): Generator<CaptureRecord> {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.length)
  for (let at = 0; at < batch.length; ) {
    const length = Number(view.getBigUint64(at, true))
    const event = CaptureEvent.read(view, at + 8)
    const from = at + 8 + CaptureEvent.size
    yield { event, frame: batch.subarray(from, from + event.capturedBytes) }
    at += 8 + ((length + 7) & ~7)
  }
}

/** Names of what events have numbers for: interfaces, services, and the backends of some services. */
export class CaptureNames {
  readonly #interfaces: ReadonlyMap<number, string>
  readonly #services = new Map<number, string>()
  readonly #backends = new Map<number, Map<number, string>>()

  /** @param withBackends ids of the services whose backends are read too */
  constructor(
    interfaces: ReadonlyMap<number, string>,
    services: Iterable<LiveService>,
    withBackends: ReadonlySet<number>,
  ) {
    this.#interfaces = interfaces
    for (const live of services) {
      const { id } = live.service
      this.#services.set(id, live.name)
      if (!withBackends.has(id)) continue
      this.#backends.set(id, new Map(live.backends.map(({ counter, want }) => [counter, want.address])))
    }
  }

  interface(slot: number): string {
    return this.#interfaces.get(slot) ?? `interface ${slot}`
  }

  service(id: number): string | undefined {
    return this.#services.get(id)
  }

  /** Address of a service's backend, by its counter. */
  backend(service: number, counter: number): string | undefined {
    return this.#backends.get(service)?.get(counter)
  }

  /** Has what the event names a name? What was removed meanwhile has none any more. */
  knows({ service, counter }: CaptureEvent): boolean {
    if (service === CaptureNote.CAPTURE_NONE) return true
    return counter === CaptureNote.CAPTURE_NONE
      ? this.#services.has(service)
      : this.backend(service, counter) !== undefined
  }
}

/** @param offsetNs what is added to the kernel's clock to make it Unix time */
export const capturedOf = ({ event, frame }: CaptureRecord, names: CaptureNames, offsetNs: bigint): Captured => {
  const told = REASON_NAMES.filter((_, reason) => ((event.reasons >> BigInt(reason)) & 1n) === 1n)
  return {
    timeNs: event.timeNs + offsetNs,
    interface: names.interface(event.slot),
    verdict: VERDICTS[event.verdict] ?? 'aborted',
    reason: told.find((name) => !isFlow(name)),
    flow: told.filter(isFlow),
    service: names.service(event.service),
    backend: names.backend(event.service, event.counter),
    frameLength: event.frameBytes,
    frame,
  }
}
