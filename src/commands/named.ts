// SPDX-License-Identifier: Apache-2.0
// Services and backends that an option names, to choose by.
import { backendPort, EVERY_PORT, parseBackend, type ServiceAddress } from '../core/address.ts'
import { addressKey } from '../core/ip.ts'
import { Refusal } from '../core/refusal.ts'
import { existing, existingBackend } from '../core/verbs.ts'
import { scanBackends } from '../dataplane/backend-records.ts'
import type { Session } from '../shell/session.ts'

/** The address of `--backend`. @throws Refusal for words that are wrong */
export const backendWords = (verb: string, text: string, service: ServiceAddress | undefined): string => {
  if (text.includes(':') && service === undefined) {
    throw new Refusal(
      `backend '${text}': its port is its service's, and no service is named`,
      `leave the port out, or name the service: ${verb}`,
      { usage: true },
    )
  }
  return parseBackend(text, service ?? EVERY_PORT).address
}

/** @throws Refusal for a service that does not exist, or a backend that it, or no service at all, has */
export const demandNamed = (
  { plane, live }: Session,
  service: ServiceAddress | undefined,
  backend: string | undefined,
): void => {
  const named = service === undefined ? undefined : existing(live.desired, service)
  if (backend === undefined) return
  if (named !== undefined) {
    existingBackend(named, { address: backend, port: backendPort(named) })
    return
  }
  const address = addressKey(backend)
  let found = false
  scanBackends(plane, live, (scan) => {
    found ||= scan.address === address
  })
  if (!found) {
    throw new Refusal(`backend ${backend} does not exist in any service`, '`xlb list` shows the backends that do')
  }
}
