// SPDX-License-Identifier: Apache-2.0
import { FLOOR_LRU } from '../bench/harness.ts'
import { measureLiveFrames, measurePacketPath } from '../bench/packet-path.ts'
import { cpuReport, vethReport } from '../bench/report.ts'
import { demandPrivilege } from '../shell/instance.ts'
import type { Context, GlobalOptions } from './context.ts'

export interface BenchOptions extends GlobalOptions {
  rounds?: number
  cpu?: number
  veth?: boolean
}

export const runBench = async ({ native, answer, note }: Context, options: BenchOptions): Promise<void> => {
  demandPrivilege()
  const packetPath = await measurePacketPath(native, {
    ...(options.rounds === undefined ? {} : { rounds: options.rounds }),
    ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
    onRound: (round, rounds) => note(`round ${round} of ${rounds}`),
  })
  const liveFrames = options.veth === false ? [] : await measureLiveFrames(native)
  const parts = [cpuReport(packetPath, FLOOR_LRU), ...(liveFrames.length > 0 ? ['', vethReport(liveFrames)] : [])]
  answer({ packetPath, liveFrames }, parts.join('\n'))
}
