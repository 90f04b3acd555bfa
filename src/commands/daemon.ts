// SPDX-License-Identifier: Apache-2.0
// Which verbs the daemon of an instance performs where one runs, and where it listens. Every verb loads this: nothing else of
// the daemon is known here.
import { existsSync } from 'node:fs'
import { instanceName, pathsOf } from '../shell/instance.ts'

/**
 * Those that change something, those of which it knows more than the maps do, and those that look into what is wrong, so that it takes
 * no root. The others read the maps themselves: what may be long (connections, capture) does not keep it from its work.
 */
export const DAEMON_VERBS: ReadonlySet<string> = new Set([
  'attach',
  'detach',
  'service add',
  'service set',
  'service rm',
  'backend set',
  'backend drain',
  'backend maint',
  'backend report',
  'backend rm',
  'filter add',
  'filter rm',
  'filter default',
  'filter load',
  'filter list',
  'filter clear',
  'limits',
  'timeouts',
  'list',
  'status',
  'save',
  'restore',
  'clear',
  'reload',
  'diff',
  'doctor',
])

/** The socket of an instance's daemon; undefined: none runs, or ever did since the host's start. */
export const daemonSocket = (instance: string | undefined): string | undefined => {
  const { socket } = pathsOf(instanceName(instance))
  return existsSync(socket) ? socket : undefined
}
