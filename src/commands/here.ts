// SPDX-License-Identifier: Apache-2.0
// A verb that runs in the command's own process, on what is pinned.
import { Refusal } from '../core/refusal.ts'
import { loadNative, type Native } from '../dataplane/native.ts'
import { instanceName, pathsOf } from '../shell/instance.ts'
import { withSession } from '../shell/session.ts'
import { type Context, type GlobalOptions, makeOutput } from './context.ts'

const nativeOrRefusal = (): Native => {
  try {
    return loadNative()
  } catch (error) {
    throw new Refusal(
      `the native addon cannot be loaded: ${error instanceof Error ? error.message.split('\n')[0] : error}`,
      'build it: scripts/setup',
    )
  }
}

export const makeContext = (options: GlobalOptions): Context => {
  const native = nativeOrRefusal()
  const paths = pathsOf(instanceName(options.instance))
  return { native, paths, session: (action) => withSession(native, paths, action), ...makeOutput(options) }
}
