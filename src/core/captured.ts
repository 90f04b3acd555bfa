// SPDX-License-Identifier: Apache-2.0
// A captured packet, and how it is told: as a pcapng comment, as a line, as JSON.
import { type FrameWords, readFrame } from './frame-words.ts'

/** enum xdp_action, by its numbers. */
export const VERDICTS = ['aborted', 'drop', 'pass', 'tx', 'redirect'] as const
export type Verdict = (typeof VERDICTS)[number]

export interface Captured {
  /** Nanoseconds since 1970, at the verdict. */
  timeNs: bigint
  interface: string
  verdict: Verdict
  /** Lower case, as `xlb list --stats` has them. Undefined: none is counted for such a frame. */
  reason: string | undefined
  /** What became of its flow: flow_inserted, ... */
  flow: readonly string[]
  /** As `xlb list` has it. Undefined: the packet came to none; so too of the backend. */
  service: string | undefined
  backend: string | undefined
  frameLength: number
  /** The frame as it came, or the start of it. */
  frame: Uint8Array
}

/** `xlb: tx, tx_forwarded, backend 192.0.2.21 of tcp://192.0.2.10:80, flow_inserted` */
export const commentOf = ({ verdict, reason, flow, service, backend }: Captured): string => {
  const whose = backend === undefined ? service : `backend ${backend}${service === undefined ? '' : ` of ${service}`}`
  return `xlb: ${[verdict, reason, whose, ...flow].filter((part) => part !== undefined).join(', ')}`
}

const BILLION = 1_000_000_000n

const digits = (value: bigint | number, count: number): string => value.toString().padStart(count, '0')

/** Time of day in UTC, to the microsecond: 15:04:05.123456. */
export const timeOfDay = (timeNs: bigint): string => {
  const seconds = Number((timeNs / BILLION) % 86_400n)
  const micros = (timeNs % BILLION) / 1000n
  return `${digits(Math.floor(seconds / 3600), 2)}:${digits(Math.floor(seconds / 60) % 60, 2)}:${digits(seconds % 60, 2)}.${digits(micros, 6)}`
}

const packetText = ({ vlans, protocol, source, destination, flags, fragment }: FrameWords, length: number): string => {
  const what = [
    ...vlans.map((vlan) => `vlan ${vlan}`),
    source === undefined ? protocol : `${protocol} ${source} > ${destination}`,
    ...(flags === undefined ? [] : [`[${flags}]`]),
    ...(fragment ? ['fragment'] : []),
    `${length} octets`,
  ]
  return what.join(' ')
}

/** `15:04:05.123456 eth0 tcp 203.0.113.5:40000 > 192.0.2.10:80 [S] 74 octets: tx, tx_forwarded, backend ...` */
export const lineOf = (captured: Captured): string =>
  `${timeOfDay(captured.timeNs)} ${captured.interface} ${packetText(readFrame(captured.frame), captured.frameLength)}: ${commentOf(captured).slice('xlb: '.length)}`

/** One object of a line of JSON. The time is text: a number of JavaScript does not hold nanoseconds. */
export const objectOf = (captured: Captured): Record<string, unknown> => {
  const { vlans, protocol, source, destination, flags } = readFrame(captured.frame)
  return {
    timeNs: captured.timeNs.toString(),
    interface: captured.interface,
    protocol,
    source: source ?? null,
    destination: destination ?? null,
    flags: flags ?? null,
    vlans,
    bytes: captured.frameLength,
    verdict: captured.verdict,
    reason: captured.reason ?? null,
    flow: captured.flow,
    service: captured.service ?? null,
    backend: captured.backend ?? null,
  }
}
