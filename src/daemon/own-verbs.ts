// SPDX-License-Identifier: Apache-2.0
// Verbs of which the daemon alone knows what they ask for.
import { z } from 'zod'
import type { ApiVerb } from '../api/verbs.ts'
import { runStatus } from '../commands/status.ts'
import { plural } from '../commands/text.ts'
import type { Changed } from '../shell/session.ts'
import type { Pending } from './pending.ts'

/** What a reload has changed, and what it leaves for later. */
export interface Reload extends Changed {
  pending: Pending[]
}

export interface Reloader {
  file: string
  /** @throws FaultyConfig, Refusal: nothing was changed then */
  reload: () => Reload
}

const changedText = (file: string, { services, globals }: Changed): string =>
  services.length === 0 && !globals
    ? `reloaded ${file}: nothing to change`
    : `reloaded ${file}: ${plural(services.length, 'service')}${globals ? ', and what holds for all,' : ''} changed`

const pendingText = (pending: readonly Pending[]): string =>
  pending.map(({ what, mend }) => `\n${what}\n     ${mend}`).join('')

export const ownVerbs = ({ file, reload }: Reloader): Record<'status' | 'reload', ApiVerb> => ({
  status: {
    summary: 'what is wrong, the worst first',
    reads: true,
    input: z.strictObject({}),
    run: (context) => runStatus(context),
  },
  reload: {
    summary: 'read the configuration again, and apply what differs',
    reads: false,
    input: z.strictObject({}),
    run: ({ answer }) => {
      const changed = reload()
      const { services, globals, pending } = changed
      answer(
        { changed: services.map(({ kind, name }) => ({ kind, service: name })), changedForAll: globals, pending },
        `${changedText(file, changed)}${pendingText(pending)}`,
      )
    },
  },
})
