// SPDX-License-Identifier: Apache-2.0
// Where the API listens: the Unix socket, whose mode and group say who may use it, and TCP where that is configured.
import { chmodSync, chownSync, readFileSync, rmSync, statSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { Refusal } from '../core/refusal.ts'

const MODE = 0o660
const DEFAULT_GROUP = 'xlb'

/** The number of a group of /etc/group; undefined: there is none of this name. */
const groupId = (name: string): number | undefined => {
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`${name}:`))
  const id = line?.split(':')[2]
  return id === undefined ? undefined : Number(id)
}

/** @param group undefined: the default one, if there is such a group */
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
  // A service of this group has made it the group's; and may not change owners.
  if (id !== undefined && statSync(path).gid !== id) chownSync(path, -1, id)
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
