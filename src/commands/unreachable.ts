// SPDX-License-Identifier: Apache-2.0
// What is told where the daemon does not answer a command: why, and what to do.
import { readFileSync, statSync } from 'node:fs'
import { Refusal } from '../core/refusal.ts'

const LOOK = 'systemctl status xlb; journalctl -u xlb -n 50'

const codeOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return 'code' in error ? String(error.code) : error.message
}

/** Was the daemon killed, or has it ended? */
export const isNobodyThere = (error: unknown): boolean => ['ECONNREFUSED', 'ENOENT'].includes(codeOf(error))

/** May this user not use the socket? */
export const isShut = (error: unknown): boolean => ['EACCES', 'EPERM'].includes(codeOf(error))

/** Of a file; undefined: root's, or one without a name. */
const groupOf = (path: string): string | undefined => {
  const { gid } = statSync(path)
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((each) => each.split(':')[2] === String(gid))
  return gid === 0 ? undefined : line?.split(':')[0]
}

const howToBeLetIn = (socket: string): string => {
  try {
    const group = groupOf(socket)
    if (group === undefined) return 'run it with sudo, or have `api.group` name a group that you are in'
    return `run it with sudo, or join the socket's group and log in again: sudo usermod -aG ${group} $USER`
  } catch {
    return 'run it with sudo, or join the group that `api.group` names'
  }
}

export const otherVersion = (what: string): Refusal =>
  new Refusal(
    `the daemon that runs does not know ${what}: it may be of another version`,
    'once both are the same: systemctl restart xlb, which no packet notices',
  )

export const unreachable = (socket: string, error: unknown): Refusal => {
  if (isShut(error)) {
    return new Refusal(`you may not ask the daemon of xlb: ${socket} is not open to you`, howToBeLetIn(socket))
  }
  const code = codeOf(error)
  if (code === 'ECONNRESET' || code === 'EPIPE') {
    return new Refusal(
      `${socket}: the daemon of xlb has ended before it answered; what was asked is done whole, or not at all`,
      `packets do not need it; which of the two: xlb list; why it has ended: ${LOOK}`,
    )
  }
  return new Refusal(
    `${socket}: the daemon of xlb does not answer (${code})`,
    `packets do not need it; see why: ${LOOK}`,
  )
}
