// SPDX-License-Identifier: Apache-2.0
// `xlb events`: what the daemon tells of, as it happens.
import { get } from 'node:http'
import { createInterface } from 'node:readline'
import type { Event } from '../core/backend-state.ts'
import { Refusal } from '../core/refusal.ts'
import type { GlobalOptions } from './context.ts'
import { daemonSocket } from './daemon.ts'
import { isNobodyThere, isShut, unreachable } from './unreachable.ts'

export interface EventsOptions extends GlobalOptions {
  since?: number
  count?: number
}

const noDaemon = (): Refusal =>
  new Refusal('events: no daemon of this instance runs', 'start it: systemctl start xlb, or xlb run -c FILE')

const ended = (): Refusal => new Refusal('events: the daemon has ended', 'see: systemctl status xlb')

const lineOf = ({ time, kind, subject, backend, from, to, reason }: Event): string => {
  const what = backend === undefined ? `${kind} ${subject}` : `backend ${backend} of ${subject}`
  return `${time} ${what}: ${from === undefined ? '' : `${from} -> `}${to}: ${reason}`
}

/** Prints events until the daemon ends, so many came, or a signal. */
export const runEvents = (options: EventsOptions): Promise<void> => {
  const socketPath = daemonSocket(options.instance)
  if (socketPath === undefined) throw noDaemon()
  const path = options.since === undefined ? '/v1/events' : `/v1/events?since=${options.since}`
  return new Promise((resolve, reject) => {
    let left = options.count ?? Number.POSITIVE_INFINITY
    const gone = (error: Error): void => {
      if (left === 0) resolve()
      else if (isNobodyThere(error)) reject(noDaemon())
      else reject(isShut(error) ? unreachable(socketPath, error) : ended())
    }
    const asked = get({ socketPath, path }, (response) => {
      const lines = createInterface({ input: response })
      lines.on('line', (line) => {
        if (!line.startsWith('data: ') || left <= 0) return
        const event = JSON.parse(line.slice('data: '.length)) as Event
        process.stdout.write(`${options.json === true ? JSON.stringify(event) : lineOf(event)}\n`)
        left--
        if (left === 0) asked.destroy()
      })
      lines.on('close', () => resolve())
      lines.on('error', gone)
    })
    asked.on('error', gone)
  })
}
