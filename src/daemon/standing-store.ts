// SPDX-License-Identifier: Apache-2.0
// What was told of backends, beyond the daemon's life: a line of JSON for each change, the last one of a backend counts. A line is written
// before the maps follow, so that a daemon that is killed knows of whatever packets go by; to write all of it anew at each of many
// reports would take longer than the reports.
import { closeSync, fdatasyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { AGENT_STATES } from '../core/standing.ts'
import { CHECK_STATES, type Told } from '../core/told.ts'
import { writeDurably } from './state-store.ts'

/** What is told of one backend; undefined: nothing any more. */
export interface Entry {
  service: string
  backend: string
  told: Told | undefined
}

/** Of the lines so many more than there are backends to tell of: then it is written anew. */
const SPARE_LINES = 1000

/** Lines of so long a time are made durable at once. */
const SYNC_AFTER_MS = 20

const since = <States extends readonly [string, ...string[]]>(states: States) => ({
  state: z.enum(states),
  before: z.enum(states).optional(),
  sinceMs: z.number(),
  text: z.string().optional(),
})

const line = z.strictObject({
  service: z.string(),
  backend: z.string(),
  told: z
    .strictObject({
      check: z.strictObject(since(CHECK_STATES)).optional(),
      agent: z.strictObject({ ...since(AGENT_STATES), percent: z.int().min(0).max(100) }).optional(),
      silent: z.strictObject({ check: z.string(), sinceMs: z.number() }).optional(),
      admin: z.strictObject({ state: z.literal('up'), before: z.literal('maint'), sinceMs: z.number() }).optional(),
      neighbour: z.strictObject(since(['resolved', 'unresolved'])).optional(),
    })
    .optional(),
})

const parsed = (text: string): Entry | undefined => {
  try {
    const { service, backend, told } = line.parse(JSON.parse(text))
    return { service, backend, told: told as Told | undefined }
  } catch {
    return undefined
  }
}

const textOf = ({ service, backend, told }: Entry): string => `${JSON.stringify({ service, backend, told })}\n`

export class StandingStore {
  readonly file: string
  #descriptor: number | undefined
  #lines = 0
  /** The last line has no end: the host fell while it was written. */
  #isTorn = false
  #syncing: NodeJS.Timeout | undefined

  /** @param folder is there */
  constructor(folder: string) {
    this.file = join(folder, 'standings.jsonl')
  }

  /** In the order of their last change. What is no entry is left out, and counted: a line that was being written when the host fell. */
  read(): { entries: Entry[]; broken: number } {
    const found = new Map<string, Entry>()
    let broken = 0
    this.#lines = 0
    const all = this.#text()
    this.#isTorn = all !== '' && !all.endsWith('\n')
    for (const text of all.split('\n')) {
      if (text === '') continue
      this.#lines++
      const entry = parsed(text)
      if (entry === undefined) {
        broken++
        continue
      }
      const key = `${entry.service} ${entry.backend}`
      found.delete(key)
      if (entry.told !== undefined) found.set(key, entry)
    }
    return { entries: [...found.values()], broken }
  }

  #text(): string {
    try {
      return readFileSync(this.file, 'utf8')
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
      throw error
    }
  }

  /** In one write each: a kill leaves a line there or not. */
  append(entry: Entry): void {
    this.#descriptor ??= openSync(this.file, 'a', 0o600)
    writeSync(this.#descriptor, `${this.#isTorn ? '\n' : ''}${textOf(entry)}`)
    this.#isTorn = false
    this.#lines++
    this.#syncing ??= setTimeout(() => this.#sync(), SYNC_AFTER_MS)
  }

  /** Is it time to write it anew? */
  isLong(entries: number): boolean {
    return this.#lines > 2 * entries + SPARE_LINES
  }

  /** A kill takes nothing back that was written; the host's fall does not from now on. */
  #sync(): void {
    clearTimeout(this.#syncing)
    this.#syncing = undefined
    if (this.#descriptor !== undefined) fdatasyncSync(this.#descriptor)
  }

  /** These, and nothing of before. */
  rewrite(entries: Iterable<Entry>): void {
    const lines = [...entries].map(textOf)
    this.close()
    writeDurably(this.file, lines.join(''))
    this.#lines = lines.length
    this.#isTorn = false
  }

  close(): void {
    this.#sync()
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
  }
}
