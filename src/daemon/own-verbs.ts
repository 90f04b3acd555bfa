// SPDX-License-Identifier: Apache-2.0
// Verbs of which the daemon alone knows what they ask for.
import { z } from 'zod'
import type { ApiVerb } from '../api/verbs.ts'
import { runStatus } from '../commands/status.ts'
import { plural } from '../commands/text.ts'
import type { Controller } from './controller.ts'

const changedText = (file: string, { services, globals }: ReturnType<Controller['reload']>): string =>
  services.length === 0 && !globals
    ? `reloaded ${file}: nothing to change`
    : `reloaded ${file}: ${plural(services.length, 'service')}${globals ? ', and what holds for all,' : ''} changed`

export const ownVerbs = (controller: Pick<Controller, 'file' | 'reload'>): Record<'status' | 'reload', ApiVerb> => ({
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
      const changed = controller.reload()
      const { services, globals } = changed
      answer(
        { changed: services.map(({ kind, name }) => ({ kind, service: name })), changedForAll: globals },
        changedText(controller.file, changed),
      )
    },
  },
})
