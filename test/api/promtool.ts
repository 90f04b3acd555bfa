// SPDX-License-Identifier: Apache-2.0
// promtool, as scripts/setup puts it into build/tools, or as the PATH has it.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const OWN = fileURLToPath(new URL('../../build/tools/promtool', import.meta.url))

/** Undefined: it is nowhere, and `scripts/setup` would fetch it. */
export const promtool = [OWN, 'promtool'].find((path) => spawnSync(path, ['--version']).status === 0)

/** What promtool has against it; '': nothing. */
export const complaints = (argv: readonly string[], input?: string): string => {
  const { status, stdout, stderr } = spawnSync(promtool ?? '', argv, { input, encoding: 'utf8' })
  return status === 0 ? stderr : `exit ${status}: ${stderr}${stdout}`
}
