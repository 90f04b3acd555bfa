// SPDX-License-Identifier: Apache-2.0
// What the doctor answers.
import type { FindingName } from '../preflight-facts.ts'

export type DiagnosisName =
  | FindingName
  | 'not-attached'
  | 'foreign-program'
  | 'egress-gone'
  | 'rp-filter'
  | 'partial-checksum'
  | 'vip-unheld'
  | 'second-holder'
  | 'arp-answered'
  | 'mac-unknown'
  | 'mac-shared'
  | 'mac-own'
  | 'mac-stale'
  | 'address-doubled'
  | 'backend-silent'
  | 'vip-missing'
  | 'loop'
  | 'not-listening'
  | 'path-mtu'
  | 'syn-recv'

/** What is wrong, why that matters, and how to mend it. */
export interface Diagnosis {
  name: DiagnosisName
  /** An error loses packets, or will; a warning may come to hurt. */
  severity: 'error' | 'warning'
  what: string
  why: string
  mend: string
  /** Commands for another host: on whom, and what. */
  commands?: { host: string; lines: readonly string[] }
}

export interface Unexamined {
  what: string
  why: string
}

export interface Report {
  /** Errors first. */
  findings: readonly Diagnosis[]
  unexamined: readonly Unexamined[]
  /** A line for each thing that was looked at and is well. */
  fine: readonly string[]
}

/** What a part of the judgement adds. */
export interface Part {
  findings: Diagnosis[]
  unexamined: Unexamined[]
  fine: string[]
}

export const emptyPart = (): Part => ({ findings: [], unexamined: [], fine: [] })

/** `a`, `a and b`, `a, b and c`; of more than `most` the first and how many there are. */
export const listed = (words: readonly string[], most = 4): string => {
  if (words.length > most) return `${words.slice(0, most - 1).join(', ')} and ${words.length - most + 1} more`
  if (words.length < 2) return words.join('')
  return `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}
