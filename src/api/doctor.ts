// SPDX-License-Identifier: Apache-2.0
// POST /v1/doctor: the examination, by the daemon and with its capabilities. One at a time: two would hear each other's answers.
import { z } from 'zod'
import type { Context } from '../commands/context.ts'
import { answerDoctor } from '../commands/doctor.ts'
import { parseDuration } from '../core/duration.ts'
import { Refusal } from '../core/refusal.ts'
import type { ApiVerb } from './verbs.ts'

/** An examination takes a second or some; only one that listens takes longer. */
const WAIT_MS = 20_000

const input = z.strictObject({
  service: z.string().max(300).optional().describe('this one and its backends alone'),
  setup: z.boolean().optional().describe('the commands that set up each real server; nothing is examined'),
  listen: z
    .union([z.int(), z.string().max(300)])
    .optional()
    .describe('so long packets are looked at for partial checksums: 10s, 1m, or whole seconds'),
})

type DoctorInput = z.output<typeof input>

export interface DoctorPorts {
  /** @returns whether something is wrong */
  answer: (
    context: Context,
    service: string | undefined,
    options: { setup?: boolean; listen?: number },
  ) => Promise<unknown>
  nowMs: () => number
  waitMs: number
}

/** One after the other, in the order of asking. */
class OneAtATime {
  readonly #nowMs: () => number
  readonly #waiting: (() => void)[] = []
  #sinceMs: number | undefined

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** How long the present one has run. */
  get #seconds(): number {
    return Math.round((this.#nowMs() - (this.#sinceMs ?? this.#nowMs())) / 1000)
  }

  /** @throws Refusal where others take longer than `waitMs`, or whoever asked has gone */
  async #turn(waitMs: number, gone: AbortSignal | undefined): Promise<void> {
    if (this.#sinceMs === undefined) return
    const why = await new Promise<'turn' | 'late' | 'gone'>((resolve) => {
      const turn = (): void => end('turn')
      const left = (): void => end('gone')
      const end = (how: 'turn' | 'late' | 'gone'): void => {
        clearTimeout(timer)
        gone?.removeEventListener('abort', left)
        const place = this.#waiting.indexOf(turn)
        if (place >= 0) this.#waiting.splice(place, 1)
        resolve(how)
      }
      const timer = setTimeout(() => end('late'), waitMs)
      gone?.addEventListener('abort', left)
      this.#waiting.push(turn)
      if (gone?.aborted === true) end('gone')
    })
    if (why === 'gone') throw new Refusal('doctor: whoever asked has gone', 'ask again')
    if (why === 'turn') return
    throw new Refusal(
      `the daemon has examined for somebody else for ${this.#seconds} s, and does so for one at a time`,
      'ask again when that one has ended (with --listen it may take long); or as root, beside the daemon: xlb doctor --here',
    )
  }

  async perform<T>(waitMs: number, gone: AbortSignal | undefined, action: () => Promise<T>): Promise<T> {
    await this.#turn(waitMs, gone)
    this.#sinceMs = this.#nowMs()
    try {
      return await action()
    } finally {
      const next = this.#waiting[0]
      // Whoever is next has it from now on: nobody comes in between.
      if (next === undefined) this.#sinceMs = undefined
      else next()
    }
  }
}

const secondsOf = (listen: DoctorInput['listen']): { listen?: number } => {
  if (listen === undefined) return {}
  return { listen: typeof listen === 'string' ? parseDuration('listen', listen) : listen }
}

/** All that are asked of one process take turns. */
export const doctorVerb = (ports: Partial<DoctorPorts> = {}): ApiVerb => {
  const { answer = answerDoctor, nowMs = Date.now, waitMs = WAIT_MS } = ports
  const examinations = new OneAtATime(nowMs)
  return {
    summary: 'what is wrong with this director, its VIPs and its real servers; it sends probes, and takes some seconds',
    reads: true,
    guarded: 'sends probes',
    input,
    run: async (context: Context, { service, setup, listen }: DoctorInput) => {
      const options = { ...(setup === undefined ? {} : { setup }), ...secondsOf(listen) }
      const perform = () => answer(context, service, options)
      // What only reads need not wait.
      await (setup === true ? perform() : examinations.perform(waitMs, context.gone, perform))
    },
  } as ApiVerb
}
