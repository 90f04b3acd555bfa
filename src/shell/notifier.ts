// SPDX-License-Identifier: Apache-2.0
// Runs the configured command for what happens, one event after another in their order: a slow command makes others wait, and where too
// many wait the oldest are left out, and counted.
import type { Event } from '../core/backend-state.ts'
import { eventLine, eventVariables, type Notify } from '../core/notify.ts'
import type { Outcome, Unprivileged } from './unprivileged.ts'

export interface NotifierPorts {
  /** runUnprivileged */
  run: (asked: Unprivileged) => Promise<Outcome>
  /** Hears of each event for which the command did not do its work, in one line: why. */
  onFault: (event: Event, why: string) => void
}

export const WAITING_MAX = 100

const seconds = (milliseconds: number): string => `${milliseconds / 1000} s`

/** Undefined: all is well. */
const whyNot = ({ code, signal, timedOut, fault, stderr }: Outcome, { timeoutMs }: Notify): string | undefined => {
  if (fault !== undefined) return `could not be started: ${fault}`
  if (timedOut) return `took longer than ${seconds(timeoutMs)}, and was killed`
  if (code === 0) return undefined
  const said = stderr.trim().split('\n')[0] ?? ''
  return `${signal === undefined ? `ended with exit code ${code}` : `was ended by ${signal}`}${said === '' ? '' : `: ${said}`}`
}

export class Notifier {
  readonly #ports: NotifierPorts
  readonly #waiting: Event[] = []
  #notify: Notify | undefined
  #leftOut = 0
  #running: Promise<void> | undefined

  constructor(ports: NotifierPorts, notify: Notify | undefined) {
    this.#ports = ports
    this.#notify = notify
  }

  /** After a reload: for what happens from now on. */
  configure(notify: Notify | undefined): void {
    this.#notify = notify
    if (notify === undefined) this.#waiting.length = 0
  }

  tell(event: Event): void {
    if (this.#notify === undefined) return
    this.#waiting.push(event)
    if (this.#waiting.length > WAITING_MAX) {
      this.#waiting.shift()
      this.#leftOut++
    }
    this.#running ??= this.#work()
  }

  /** Resolves when nothing waits or runs any more. */
  async settled(): Promise<void> {
    await this.#running
  }

  async #work(): Promise<void> {
    for (let event = this.#waiting.shift(); event !== undefined; event = this.#waiting.shift()) {
      const notify = this.#notify
      if (notify === undefined) break
      const missed = this.#leftOut
      this.#leftOut = 0
      try {
        const outcome = await this.#ports.run({
          ...notify,
          environment: { ...eventVariables(event), ...(missed > 0 ? { XLB_LEFT_OUT: `${missed}` } : {}) },
          input: eventLine(event),
        })
        const why = whyNot(outcome, notify)
        if (why !== undefined) this.#ports.onFault(event, `${notify.command[0]} ${why}`)
      } catch (error) {
        this.#ports.onFault(event, error instanceof Error ? error.message : String(error))
      }
    }
    this.#running = undefined
  }
}
