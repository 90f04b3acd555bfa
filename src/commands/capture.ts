// SPDX-License-Identifier: Apache-2.0
// xlb capture: what tcpdump cannot see, until a count, a time or a signal ends it.

import { formatService, parseService, type ServiceAddress } from '../core/address.ts'
import { type Captured, VERDICTS, type Verdict } from '../core/captured.ts'
import { parseSource, type SourceRange } from '../core/endpoint.ts'
import { readFrame } from '../core/frame-words.ts'
import { Refusal } from '../core/refusal.ts'
import { type AddressRange, type CaptureWanted, REASONS } from '../dataplane/capture.ts'
import { CaptureLimit } from '../dataplane/layout.gen.ts'
import { Capture, type InterfaceSums } from '../shell/capture.ts'
import type { AttachedInterface } from '../shell/interfaces.ts'
import type { Session } from '../shell/session.ts'
import { type CaptureSink, demandWritable, openSink } from './capture-sink.ts'
import { type Context, type GlobalOptions, oneOf } from './context.ts'
import { backendWords, demandNamed } from './named.ts'
import { grouped, plural } from './text.ts'

export interface CaptureArguments extends GlobalOptions {
  service?: string
  verdict?: string
  reason?: string
  all?: boolean
  source?: string
  backend?: string
  interface?: string
  count?: number
  seconds?: number
  snaplen?: number
  buffer?: number
  write?: string
}

/** The words of the command, before anything is looked up. */
interface Words {
  service: ServiceAddress | undefined
  backend: string | undefined
  source: SourceRange | undefined
  verdicts: readonly Verdict[] | undefined
  reasons: readonly string[] | undefined
  all: boolean
  count: number
  milliseconds: number
  snapBytes: number
  ringBytes: number
}

const SNAP_MAX = CaptureLimit.CAPTURE_HEAD_BYTES + CaptureLimit.CAPTURE_REST_BYTES
const DEFAULT_BUFFER_MIB = 8
const BUFFER_MIB_MAX = 1024
/** setTimeout takes 31 bits of milliseconds. */
const SECONDS_MAX = 2_000_000

/** How long the loop waits where the ring was empty. */
const IDLE_MS = 20
const RENEW_MS = 1000

const wrong = (what: string, mend: string): Refusal => new Refusal(what, mend, { usage: true })

const listOf = <T extends string>(name: string, words: readonly T[], text: string | undefined): T[] | undefined =>
  text?.split(',').map((word) => oneOf(name, words)(word.trim().toLowerCase()))

const within = (name: string, value: number | undefined, absent: number, most: number): number => {
  if (value === undefined) return absent
  if (value < 1 || value > most) throw wrong(`${name} ${value}: is not from 1 to ${most}`, `choose 1 to ${most}`)
  return value
}

/** The smallest power of two that holds as many MiB, as a ring has to have. */
const ringBytesOf = (mebibytes: number): number => 2 ** (20 + Math.ceil(Math.log2(mebibytes)))

/** @throws Refusal for words that are wrong */
const wordsOf = (options: CaptureArguments): Words => {
  const service = options.service === undefined ? undefined : parseService(options.service)
  if (options.write === '-' && options.json === true) {
    throw wrong('capture: --json and -w - both write to standard output', 'choose one')
  }
  const source = options.source === undefined ? undefined : parseSource(options.source)
  if (service !== undefined && source !== undefined && vipOf(service).family !== source.family) {
    throw wrong(
      `capture: no packet of ${formatService(service)} comes from ${options.source}`,
      'name a source of the same family: IPv4 or IPv6',
    )
  }
  if (options.reason !== undefined && options.all === true) {
    throw wrong('capture: --reason and --all exclude each other', 'leave --all out: --reason takes what it names')
  }
  return {
    service,
    backend:
      options.backend === undefined
        ? undefined
        : backendWords('xlb capture --service SERVICE --backend ADDRESS', options.backend, service),
    source,
    verdicts: listOf('--verdict', VERDICTS, options.verdict),
    reasons: listOf('--reason', REASONS, options.reason),
    all: options.all === true,
    count: within('--count', options.count, Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER),
    milliseconds: 1000 * within('--seconds', options.seconds, Number.POSITIVE_INFINITY, SECONDS_MAX),
    snapBytes: within('--snaplen', options.snaplen, SNAP_MAX, SNAP_MAX),
    ringBytes: ringBytesOf(within('--buffer', options.buffer, DEFAULT_BUFFER_MIB, BUFFER_MIB_MAX)),
  }
}

/** A service's address, or all those of its prefix: both are written as sources are. */
const vipOf = ({ vip }: ServiceAddress): SourceRange => parseSource(vip)

const octetsOf = (words: readonly number[]): Uint8Array => {
  const octets = new Uint8Array(4 * words.length)
  for (const [i, word] of words.entries()) new DataView(octets.buffer).setUint32(4 * i, word, true)
  return octets
}

const rangeOf = ({ words, masks }: SourceRange): AddressRange => ({ octets: octetsOf(words), mask: octetsOf(masks) })

const wantedOf = (words: Words, { live }: Session): CaptureWanted => {
  const { service, source, verdicts, reasons, all, snapBytes } = words
  const id = service === undefined ? undefined : live.services.get(formatService(service))?.service.id
  return {
    all,
    snapBytes,
    ...(verdicts === undefined ? {} : { verdicts }),
    ...(reasons === undefined ? {} : { reasons }),
    ...(source === undefined ? {} : { source: rangeOf(source) }),
    ...(service === undefined || id === undefined ? {} : { service: { id, vip: rangeOf(vipOf(service)) } }),
  }
}

/** What of a packet the packet path is not asked about. */
const isWanted = ({ backend, source }: Words, packet: Captured): boolean => {
  if (backend !== undefined && packet.backend !== backend) return false
  return source?.port === undefined || readFrame(packet.frame).sourcePort === source.port
}

/** @throws Refusal where xlb is not attached there */
const interfacesOf = (session: Session, name: string | undefined, note: Context['note']): AttachedInterface[] => {
  const attached = session.interfaces.filter((each) => name === undefined || each.name === name)
  if (attached.length === 0) {
    throw new Refusal(
      `xlb is not attached to ${name}`,
      `it is attached to: ${session.interfaces.map((each) => each.name).join(', ')}`,
    )
  }
  for (const each of attached) {
    if (!each.attached) note(`warning: ${each.name} is NOT ATTACHED: ${each.fault}; no packet reaches xlb there`)
  }
  const live = attached.filter((each) => each.attached)
  if (live.length > 0) return live
  throw new Refusal('no packet reaches xlb: it is attached nowhere', 'xlb attach IFACE')
}

/** Why a capture ends; `failed`: not as it was asked for. */
interface End {
  why: string
  failed: boolean
}

/** Runs until its end, and tells what ended it. Packets go to the sink. */
class Run {
  readonly #capture: Capture
  readonly #sink: CaptureSink
  readonly #words: Words
  readonly #note: Context['note']
  readonly #gone = new Set<string>()
  #end: End | undefined
  #wake = (): void => {}
  taken = 0

  constructor(capture: Capture, sink: CaptureSink, words: Words, note: Context['note']) {
    this.#capture = capture
    this.#sink = sink
    this.#words = words
    this.#note = note
  }

  stop(why: string, failed = false): void {
    this.#end ??= { why, failed }
    this.#wake()
  }

  renew(): void {
    for (const { name } of this.#capture.renew()) {
      if (this.#gone.has(name)) continue
      this.#gone.add(name)
      this.#note(`${name} has another program now, by an upgrade or a detach: no more is captured there`)
    }
    if (this.#gone.size === this.#capture.interfaces.length) this.stop('no interface is left', true)
  }

  /** Hands on what the ring has. @returns false where it had nothing */
  drain(): boolean {
    const packets = this.#capture.read()
    const wanted = packets.filter((packet) => isWanted(this.#words, packet)).slice(0, this.#words.count - this.taken)
    if (wanted.length > 0 && !this.#sink.take(wanted)) this.stop('nobody reads any more')
    this.taken += wanted.length
    if (this.taken >= this.#words.count) this.stop('the count was reached')
    return packets.length > 0
  }

  async loop(): Promise<End> {
    while (this.#end === undefined) {
      const busy = this.drain()
      // Signals and timers have their turn.
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        if (busy) setImmediate(resolve)
        else setTimeout(resolve, IDLE_MS)
      })
    }
    return this.#end
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Lets a capture run to its end, with signals and timers. The ring is emptied after the programs are back. */
const runToEnd = async (capture: Capture, run: Run, milliseconds: number): Promise<End> => {
  const stop = (signal: NodeJS.Signals) => run.stop(signal)
  for (const signal of SIGNALS) process.on(signal, stop)
  const renewal = setInterval(() => run.renew(), RENEW_MS)
  const limit = Number.isFinite(milliseconds) ? setTimeout(() => run.stop('the time was up'), milliseconds) : undefined
  try {
    const end = await run.loop()
    capture.end()
    if (end.why !== 'nobody reads any more') while (run.drain());
    return end
  } finally {
    clearInterval(renewal)
    clearTimeout(limit)
    for (const signal of SIGNALS) process.off(signal, stop)
  }
}

const summary = (taken: number, sums: readonly InterfaceSums[]) => ({
  captured: taken,
  lost: Number(sums.reduce((sum, { lost }) => sum + lost, 0n)),
  seen: Number(sums.reduce((sum, { packets }) => sum + packets, 0n)),
})

export const runCapture = async (context: Context, options: CaptureArguments): Promise<void> => {
  const words = wordsOf(options)
  demandWritable(options.write)
  const { paths, answer, note, json } = context
  const capture = context.session((session) => {
    demandNamed(session, words.service, words.backend)
    const interfaces = interfacesOf(session, options.interface, note)
    return new Capture(session, interfaces, { ...words, wanted: wantedOf(words, session) })
  })
  const startNs = process.hrtime.bigint() + capture.offsetNs
  const interfaces = capture.interfaces.map(({ name }) => name)
  try {
    const sink = openSink({
      write: options.write,
      json,
      interfaces,
      snapLength: words.snapBytes,
      application: `xlb capture, instance ${paths.name}`,
    })
    const run = new Run(capture, sink, words, note)
    if (!json) note(`capturing on ${interfaces.join(', ')}; Ctrl-C ends it`)
    const end = await runToEnd(capture, run, words.milliseconds)
    const sums = capture.sums()
    sink.end(sums, startNs, process.hrtime.bigint() + capture.offsetNs)
    const { captured, lost, seen } = summary(run.taken, sums)
    if (options.write !== undefined) answer({ file: options.write, captured, lost, seen }, '')
    if (!json) note(`${plural(captured, 'packet')} captured, ${grouped(lost)} lost, of ${grouped(seen)} that came in`)
    if (end.failed) throw new Refusal(`capture: ${end.why}`, 'start it again')
  } finally {
    capture.close()
  }
}
