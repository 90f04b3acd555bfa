// SPDX-License-Identifier: Apache-2.0
// `xlb doctor`: what is wrong with this director, its VIPs and its real servers, and how to mend it. It changes nothing.
import { parseService } from '../core/address.ts'
import { isIll, judge } from '../core/doctor/judge.ts'
import { setupLines } from '../core/doctor/setup.ts'
import { Refusal } from '../core/refusal.ts'
import { examine } from '../shell/doctor/examine.ts'
import { serversToSetUp } from '../shell/doctor/look.ts'
import { Turn } from '../shell/doctor/turn.ts'
import type { Context, GlobalOptions } from './context.ts'
import { reportText, setupText } from './doctor-text.ts'

export interface DoctorOptions extends GlobalOptions {
  setup?: boolean
  /** Seconds. */
  listen?: number
  /** By this process, though a daemon runs. */
  here?: boolean
}

const LISTEN_MAX_SECONDS = 3600

/**
 * @param serviceText of this service alone
 * @returns whether something is wrong, so that the command fails
 */
export const answerDoctor = async (
  context: Context,
  serviceText: string | undefined,
  { setup, listen }: Pick<DoctorOptions, 'setup' | 'listen'>,
): Promise<boolean> => {
  const { paths, answer, gone } = context
  const service = serviceText === undefined ? undefined : parseService(serviceText)
  if (listen !== undefined && (listen < 1 || listen > LISTEN_MAX_SECONDS)) {
    throw new Refusal(`--listen ${listen}s: is not from 1 s to 1 h`, 'choose a time such as 10s', { usage: true })
  }
  if (setup === true && listen !== undefined) {
    throw new Refusal('doctor: --setup and --listen exclude each other', 'choose one', { usage: true })
  }
  if (setup === true) {
    const found = await serversToSetUp(new Turn(gone), context, service)
    const servers = found.map(({ address, vips }) => ({ host: address, lines: setupLines(vips) }))
    answer({ instance: paths.name, servers }, setupText(servers))
    return false
  }
  const report = judge(
    await examine(context, {
      ...(service === undefined ? {} : { service }),
      ...(listen === undefined ? {} : { listenMs: 1000 * listen }),
      ...(gone === undefined ? {} : { gone }),
    }),
  )
  answer({ instance: paths.name, ...report }, reportText(report))
  return isIll(report)
}

export const runDoctor = async (
  context: Context,
  serviceText: string | undefined,
  options: DoctorOptions,
): Promise<void> => {
  if (await answerDoctor(context, serviceText, options)) process.exitCode = 1
}
