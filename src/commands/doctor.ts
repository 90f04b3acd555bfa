// SPDX-License-Identifier: Apache-2.0
// `xlb doctor`: what is wrong with this director, its VIPs and its real servers, and how to mend it. It changes nothing.
import { parseService } from '../core/address.ts'
import { isIll, judge } from '../core/doctor/judge.ts'
import { setupLines } from '../core/doctor/setup.ts'
import { Refusal } from '../core/refusal.ts'
import { examine } from '../shell/doctor/examine.ts'
import { serversToSetUp } from '../shell/doctor/look.ts'
import type { Context, GlobalOptions } from './context.ts'
import { reportText, setupText } from './doctor-text.ts'

export interface DoctorOptions extends GlobalOptions {
  setup?: boolean
  /** Seconds. */
  listen?: number
}

const LISTEN_MAX_SECONDS = 3600

export const runDoctor = async (
  { native, paths, answer }: Context,
  serviceText: string | undefined,
  options: DoctorOptions,
): Promise<void> => {
  const service = serviceText === undefined ? undefined : parseService(serviceText)
  const { listen } = options
  if (listen !== undefined && (listen < 1 || listen > LISTEN_MAX_SECONDS)) {
    throw new Refusal(`--listen ${listen}s: is not from 1 s to 1 h`, 'choose a time such as 10s', { usage: true })
  }
  if (options.setup === true && listen !== undefined) {
    throw new Refusal('doctor: --setup and --listen exclude each other', 'choose one', { usage: true })
  }
  if (options.setup === true) {
    const servers = serversToSetUp(native, paths, service).map(({ address, vips }) => ({
      host: address,
      lines: setupLines(vips),
    }))
    answer({ instance: paths.name, servers }, setupText(servers))
    return
  }
  const report = judge(
    await examine(native, paths, {
      ...(service === undefined ? {} : { service }),
      ...(listen === undefined ? {} : { listenMs: 1000 * listen }),
    }),
  )
  answer({ instance: paths.name, ...report }, reportText(report))
  if (isIll(report)) process.exitCode = 1
}
