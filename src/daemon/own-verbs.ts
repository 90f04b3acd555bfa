// SPDX-License-Identifier: Apache-2.0
// Verbs of which the daemon alone knows what they ask for.
import { z } from 'zod'
import type { ApiVerb } from '../api/verbs.ts'
import { runStatus } from '../commands/status.ts'
import { type BackendAddress, parseBackend, parseService, type ServiceAddress } from '../core/address.ts'
import { AGENT_STATES } from '../core/standing.ts'
import { CHECK_STATES, type Report, type ReportOptions, reportOf } from '../core/told.ts'
import type { Pending } from './pending.ts'
import { changedWords, type Reloading } from './reloading.ts'

/** What a reload has changed, and what it leaves for later. */
export interface Reload extends Reloading {
  pending: Pending[]
}

/** What they ask of the daemon. */
export interface Owner {
  file: string
  /** @throws FaultyConfig, Refusal: nothing was changed then */
  reload: () => Reload
  /** @returns what is so now */
  report: (service: ServiceAddress, backend: BackendAddress, report: Report) => string
}

const changedText = (file: string, reloading: Reloading): string => {
  const { services, globals, policies } = reloading
  const isNothing = services.length + policies.length === 0 && !globals
  return `reloaded ${file}: ${isNothing ? 'nothing to change' : changedWords(reloading)}`
}

const pendingText = (pending: readonly Pending[]): string =>
  pending.map(({ what, mend }) => `\n${what}\n     ${mend}`).join('')

const reportInput = z.strictObject({
  service: z.string().max(300).describe('tcp://192.0.2.10:80'),
  address: z.string().max(300).describe("a backend's address, with the port or without"),
  check: z.enum(CHECK_STATES).optional(),
  agent: z.enum(AGENT_STATES).optional(),
  percent: z.int().optional().describe('of agent up: the share of its weight'),
  text: z.string().max(10_000).optional().describe('why'),
  forget: z.boolean().optional(),
})

export const ownVerbs = (owner: Owner): Record<'status' | 'reload' | 'backend report', ApiVerb> => ({
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
      const changed = owner.reload()
      const { services, globals, policies, pending } = changed
      answer(
        {
          changed: services.map(({ kind, name }) => ({ kind, service: name })),
          changedForAll: globals,
          changedPolicies: policies,
          pending,
        },
        `${changedText(owner.file, changed)}${pendingText(pending)}`,
      )
    },
  },
  'backend report': {
    summary: 'how a backend is: what a check or an agent found; one of check, agent and forget',
    reads: false,
    input: reportInput,
    run: ({ answer }, { service: text, address, ...options }: z.output<typeof reportInput>) => {
      const report = reportOf(options as ReportOptions)
      const service = parseService(text)
      const now = owner.report(service, parseBackend(address, service), report)
      answer({ now }, now)
    },
  } as ApiVerb,
})
