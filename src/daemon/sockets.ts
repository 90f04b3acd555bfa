// SPDX-License-Identifier: Apache-2.0
// Where the API listens: the Unix socket, whose mode and group say who may use it, and TCP where that is configured.
import { chmodSync, chownSync, readFileSync, rmSync, statSync } from 'node:fs'
import { userInfo } from 'node:os'
import { dirname } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { Refusal } from '../core/refusal.ts'
import { hasCode } from '../shell/programs.ts'

const MODE = 0o660
const FOLDER_MODE = 0o755
const DEFAULT_GROUP = 'xlb'

/** The number of a group of /etc/group; undefined: there is none of this name. */
const groupId = (name: string): number | undefined => {
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`${name}:`))
  const id = line?.split(':')[2]
  return id === undefined ? undefined : Number(id)
}

const ownName = (): string => {
  try {
    return userInfo().username
  } catch {
    return String(process.geteuid?.())
  }
}

/** @throws Refusal where the group was asked for, and this user may not give it anything */
const giveToGroup = (path: string, id: number, group: string | undefined): void => {
  try {
    chownSync(path, -1, id)
  } catch (error) {
    if (!hasCode(error, 'EPERM')) throw error
    if (group === undefined) return
    const user = ownName()
    throw new Refusal(
      `api.group: the daemon's user '${user}' is no member of '${group}', and so may not give it the socket`,
      `make it one: usermod --append --groups ${group} ${user}; then start the daemon again, which systemd does by itself`,
    )
  }
}

/** A service's umask may have kept others from entering it; the socket says by itself who may use it. */
const openFolder = (path: string): void => {
  if ((statSync(path).mode & FOLDER_MODE) !== FOLDER_MODE) chmodSync(path, FOLDER_MODE)
}

/**
 * @param group undefined: the default one, if there is such a group
 * @throws Refusal where it cannot be that group's
 */
export const listenOnSocket = async (
  server: FastifyInstance,
  path: string,
  group: string | undefined,
): Promise<void> => {
  const id = groupId(group ?? DEFAULT_GROUP)
  if (id === undefined && group !== undefined) {
    throw new Refusal(`api.group: there is no group '${group}'`, `make it: groupadd --system ${group}`)
  }
  // Whoever was killed has left it behind; that nobody listens there any more, the daemon's lock says.
  rmSync(path, { force: true })
  // Nobody may connect before mode and group are what they shall be.
  const before = process.umask(0o177)
  try {
    await server.listen({ path })
  } finally {
    process.umask(before)
  }
  if (id !== undefined && statSync(path).gid !== id) giveToGroup(path, id, group)
  openFolder(dirname(path))
  chmodSync(path, MODE)
}

/** At once, of an address: whoever reaches it may hold so many, and no more of the daemon's descriptors. */
export const TCP_CONNECTIONS_MAX = 256

/** @param address ADDRESS:PORT, an IPv6 address in brackets */
export const listenOnTcp = async (server: FastifyInstance, address: string): Promise<void> => {
  server.server.maxConnections = TCP_CONNECTIONS_MAX
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '')
  try {
    await server.listen({ host, port: Number(address.slice(colon + 1)) })
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Refusal(`api.listen: ${address}: ${why}`, 'name an address of this host, and a port that is free')
  }
}
