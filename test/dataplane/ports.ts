// SPDX-License-Identifier: Apache-2.0
// Which service a port is of, naively: every service of the VIP is asked.
import { parseService } from '../../src/core/address.ts'
import type { To } from './directory.ts'

/** The name of the service that a packet finds: of its port alone, else of a range, else of every port. */
export const naivelyFound = (names: Iterable<string>, to: To): string | undefined => {
  const services = [...names].map((name) => ({ name, ...parseService(name) }))
  const holding = services
    .filter(
      ({ vip, protocol, port, lastPort }) =>
        vip === to.vip && protocol === to.protocol && port <= to.port && to.port <= lastPort,
    )
    .toSorted((a, b) => a.lastPort - a.port - (b.lastPort - b.port))
  return (holding.find(({ port, lastPort }) => port === lastPort) ?? holding.find(({ port }) => port > 0) ?? holding[0])
    ?.name
}
