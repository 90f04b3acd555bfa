// SPDX-License-Identifier: Apache-2.0
// Waiting for a drained backend's flows to end, and saying meanwhile how many there are. The instance's lock is held only while
// they are counted.
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Admin } from '../core/desired.ts'
import { formatDuration } from '../core/duration.ts'
import { Refusal } from '../core/refusal.ts'
import { remainingFlows, unseenSeconds } from '../dataplane/remaining.ts'
import type { Context, Output } from './context.ts'
import { plural } from './text.ts'

export interface Drained {
  /** formatService's text. */
  service: string
  /** Its address. */
  backend: string
}

/** Where the wait stands. */
export interface Standing {
  /** What another command has made of the backend meanwhile. */
  became: 'drained' | 'removed' | 'taken-back'
  /** Connections under way that the flow table knows of. */
  remaining: number
  /** Seconds in which flows may show up that are recorded nowhere. */
  unseenSeconds: number
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const
const COUNT_EVERY_MS = 1000
/** Where nobody watches a line that changes in place. */
const TELL_EVERY_MS = 10_000
/** Counting takes no more than this part of the time. */
const COUNTING_SHARE = 10

/** In maintenance its flows go to others with their next packets, whoever waits for their end. */
const BECAME: Readonly<Record<Admin, Standing['became']>> = {
  up: 'taken-back',
  drain: 'drained',
  maint: 'drained',
  leaving: 'removed',
  cut: 'removed',
}

const NOTHING_LEFT: Standing = { became: 'removed', remaining: 0, unseenSeconds: 0 }

/** What is left of a drained backend's flows now. */
export const standing = (context: Pick<Context, 'session'>, { service: name, backend: address }: Drained): Standing =>
  context.session(({ plane, live }) => {
    const service = live.services.get(name)
    const backend = service?.backends.find(({ want }) => want.address === address)
    // Cut: nothing of its flows reaches it any more.
    if (service === undefined || backend === undefined || backend.want.admin === 'cut') return NOTHING_LEFT
    const { underWay } = remainingFlows(plane, service.service.id, backend.index)
    return {
      became: BECAME[backend.want.admin],
      remaining: service.want.ops ? 0 : underWay,
      unseenSeconds: service.want.ops ? 0 : unseenSeconds(plane, service, backend.index),
    }
  })

const remainText = ({ remaining, unseenSeconds }: Standing): string => {
  if (remaining > 0) return `${plural(remaining, 'flow')} ${remaining === 1 ? 'remains' : 'remain'}`
  return unseenSeconds > 0
    ? `no flow is known (in a hashed service, silent ones show within ${formatDuration(unseenSeconds)})`
    : 'no flow remains'
}

/** Says how the wait goes: one line in place on a terminal; elsewhere a line now and then; as JSON a line each time. */
class Telling {
  readonly #context: Output
  readonly #drained: Drained
  readonly #live = process.stdout.isTTY === true
  #told: { atMs: number; text: string } | undefined

  constructor(context: Output, drained: Drained) {
    this.#context = context
    this.#drained = drained
  }

  tell(now: Standing, leftMs: number, done = false): void {
    const secondsLeft = Math.max(0, Math.ceil(leftMs / 1000))
    if (this.#context.json) {
      const { remaining, unseenSeconds } = now
      process.stdout.write(`${JSON.stringify({ ...this.#drained, remaining, unseenSeconds, secondsLeft, done })}\n`)
      return
    }
    const text = `${remainText(now)}, ${formatDuration(secondsLeft)} left`
    if (this.#live) {
      process.stdout.write(`\r\x1b[K${text}`)
      return
    }
    const atMs = performance.now()
    if (this.#told !== undefined && atMs - this.#told.atMs < TELL_EVERY_MS) return
    this.#told = { atMs, text }
    process.stdout.write(`${text}\n`)
  }

  /** The line that stands at the end, on its own. */
  end(text: string): void {
    if (!this.#context.json) process.stdout.write(this.#live ? `\r\x1b[K${text}\n` : `${text}\n`)
  }

  /** Leaves the line that changed in place as it was last. */
  leave(): void {
    if (this.#live && !this.#context.json) process.stdout.write('\n')
  }
}

const isUdp = ({ service }: Drained): boolean => service.startsWith('udp')

/**
 * How a wait ended: nothing is left, or it was given up. A silent TCP flow of a hashed service cannot be seen, and nobody can wait for
 * it longer than the deadline says; but datagrams of one are known to go there until the time is over.
 * @returns undefined: it goes on
 */
const outcome = (
  drained: Drained,
  now: Standing,
  leftMs: number,
): { done: string } | { failed: Refusal } | undefined => {
  const { service, backend } = drained
  const name = `${backend} of ${service}`
  if (now.became === 'taken-back') {
    return { failed: new Refusal(`${name} was taken back in by another command`, 'drain it again') }
  }
  if (now.remaining === 0 && now.unseenSeconds === 0) {
    return { done: now.became === 'removed' ? `${name} was removed: no flow remains` : `${name}: no flow remains` }
  }
  if (leftMs > 0) return undefined
  if (now.remaining > 0) {
    const mend = `wait on: the same command; or remove it: xlb backend rm ${service} ${backend} --flows keep|cut|move`
    return { failed: new Refusal(`deadline: ${name}: ${remainText(now)}; it stays drained`, mend) }
  }
  if (!isUdp(drained)) {
    return {
      done: `${name}: no flow is known to remain. A hashed service sees a flow when it sends something: one that was silent since the drain may be left`,
    }
  }
  const left = formatDuration(now.unseenSeconds)
  return {
    failed: new Refusal(
      `deadline: ${name}: datagrams may go there for ${left} more, as a hashed service does not know older flows from new ones; it stays drained`,
      `give a --deadline of ${left} or more`,
    ),
  }
}

/**
 * Waits until no flow of a drained backend remains.
 *
 * @param look counts what is left: where it is asked of a daemon, it answers later
 * @throws Refusal where some do at the deadline, which leaves them and the backend as they are
 */
export const awaitDrained = async (
  context: Output,
  drained: Drained,
  deadlineSeconds: number,
  look: () => Standing | Promise<Standing>,
): Promise<void> => {
  const telling = new Telling(context, drained)
  const end = performance.now() + deadlineSeconds * 1000
  const interrupted = new AbortController()
  let last: Standing | undefined
  for (const [signal, code] of Object.entries(SIGNALS)) {
    void once(process, signal, { signal: interrupted.signal }).then(
      () => {
        telling.leave()
        const known = last === undefined ? '' : `; ${remainText(last)}`
        context.note(`stopped waiting: ${drained.backend} of ${drained.service} stays drained${known}`)
        process.exit(code)
      },
      () => {},
    )
  }
  try {
    for (;;) {
      const begun = performance.now()
      last = await look()
      const now = performance.now()
      const ended = outcome(drained, last, end - now)
      if (ended !== undefined) {
        if (context.json || 'failed' in ended) telling.tell(last, end - now, 'done' in ended)
        if ('done' in ended) return telling.end(ended.done)
        telling.leave()
        throw ended.failed
      }
      telling.tell(last, end - now)
      const pause = Math.max(COUNT_EVERY_MS, COUNTING_SHARE * (now - begun))
      await sleep(Math.min(pause, Math.max(1, end - now)))
    }
  } finally {
    interrupted.abort()
  }
}
