// SPDX-License-Identifier: Apache-2.0
// What every verb shares: which instance, how to print, how to fail.
import type { Written } from '../config/write.ts'
import type { AttachMode, Finding } from '../core/preflight-facts.ts'
import { Refusal } from '../core/refusal.ts'
import type { Policies } from '../core/return-policy.ts'
import type { ReturnPolicy } from '../core/standing.ts'
import type { DaemonFacts } from '../core/status.ts'
import type { Told } from '../core/told.ts'
import type { Native } from '../dataplane/native.ts'
import type { InstancePaths } from '../shell/instance.ts'
import type { Session } from '../shell/session.ts'

export interface GlobalOptions {
  instance?: string
  json?: boolean
}

/** How a verb tells its result. */
export interface Output {
  json: boolean
  /** Prints the result: `value` where --json was given, else `text` (nothing where it is empty). */
  answer: (value: unknown, text: string) => void
  /** A line for a person beside the result, on stderr. */
  note: (text: string) => void
}

/** What a verb runs on: in a command's process that which is pinned; in the daemon what it has open. */
export interface Context extends Output {
  native: Native
  paths: InstancePaths
  /** withSession (src/shell/session.ts): while nobody else changes the instance. */
  session: <T>(action: (session: Session) => T) => T
  /** Aborted when whoever asked has gone: nobody waits for an answer. Absent: whoever asked is this process. */
  gone?: AbortSignal
  /** What only a daemon knows; absent: none performs this. */
  daemon?: {
    /** @param session of the instance, where one is attached; whoever asks holds its lock then */
    facts: (session: Session | undefined) => DaemonFacts
    /** Those that it keeps attached. */
    interfaces: () => readonly { name: string; mode: AttachMode }[]
    /** What the configuration says that no map holds. */
    written: () => Written | undefined
    /** Why an address cannot be reached; undefined: it can. */
    unreached: (address: string) => { why: string; sinceMs: number } | undefined
    /** What was told of a backend, and how those of its service come back. */
    told: (service: string, address: string) => { told: Told; policy: ReturnPolicy; seenMs: number }
    /** Of all services that say so. */
    policies: () => Policies
    /** An interface was attached, and shall be from now on; or no more. */
    attached: (name: string, mode: AttachMode) => void
    detached: (name: string) => void
  }
}

/** JSON has no 64-bit integers: counters that exceed 2^53 are no worry, seeds are text. */
export const plain = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value)

export const makeOutput = (options: GlobalOptions): Output => ({
  json: options.json === true,
  answer: (value, text) => {
    if (options.json === true) process.stdout.write(`${JSON.stringify(value, plain, 2)}\n`)
    else if (text !== '') process.stdout.write(`${text}\n`)
  },
  note: (text) => {
    process.stderr.write(`${text}\n`)
  },
})

/** What the pre-flight found that does not forbid the attach. */
export const printWarnings = (context: Context, findings: readonly Finding[]): void => {
  for (const { what, why, mend } of findings) context.note(`warning: ${what}: ${why}\n         ${mend}`)
}

/** Prints an error as --json or a person wants it. @returns the exit code: 1 failed, 2 wrongly used */
export const reportError = (error: unknown, json: boolean): number => {
  const what = error instanceof Error ? error.message : String(error)
  const mend = error instanceof Refusal ? error.mend : undefined
  const verifierLog =
    error instanceof Error && 'verifierLog' in error && typeof error.verifierLog === 'string'
      ? error.verifierLog
      : undefined
  const faults = error instanceof Error && 'faults' in error ? error.faults : undefined
  if (json) {
    process.stderr.write(`${JSON.stringify({ error: { what, mend, faults, verifierLog } }, null, 2)}\n`)
  } else {
    process.stderr.write(`xlb: ${what}\n`)
    if (mend !== undefined) process.stderr.write(`     ${mend}\n`)
    if (verifierLog !== undefined) process.stderr.write(`${verifierLog}\n`)
  }
  if (error instanceof Refusal) return error.usage ? 2 : 1
  if (process.env.XLB_DEBUG !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`)
  return 1
}

/** A whole number in an option's text. */
export const wholeNumber =
  (name: string) =>
  (text: string): number => {
    if (!/^[0-9]{1,15}$/.test(text)) {
      throw new Refusal(`${name} '${text}': is not a whole number`, `give ${name} a number such as 1`, { usage: true })
    }
    return Number(text)
  }

/** One of a list of words. */
export const oneOf =
  <T extends string>(name: string, words: readonly T[]) =>
  (text: string): T => {
    const found = words.find((word) => word === text)
    if (found === undefined) {
      throw new Refusal(`${name} '${text}': is not known`, `choose one of: ${words.join(', ')}`, { usage: true })
    }
    return found
  }

/** A ring's seed: 64 bits, decimal or 0x hexadecimal. */
export const seedNumber = (text: string): bigint => {
  if (!/^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})$/.test(text) || BigInt(text) >= 1n << 64n) {
    throw new Refusal(`--seed '${text}': is not a 64-bit number`, 'give 16 hexadecimal digits: 0x0123456789abcdef', {
      usage: true,
    })
  }
  return BigInt(text)
}

export const formatSeed = (seed: bigint): string => `0x${seed.toString(16).padStart(16, '0')}`
