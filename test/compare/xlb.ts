// SPDX-License-Identifier: Apache-2.0
// A case as xlb's packet path is given it.
import { makeAllOlder } from '../packet/flowtable.ts'
import { Balancer, backendOf, VERDICT } from '../packet/plane.ts'
import type { Answers } from './answers.ts'
import type { Case } from './cases.ts'
import type { Step } from './traffic.ts'

const sendTo = (balancer: Balancer, frame: Uint8Array): number | undefined => {
  const { returned, data } = balancer.run(frame)
  if (returned === VERDICT.TX) return backendOf(data)
  if (returned === VERDICT.DROP) return undefined
  throw new Error(`a frame has verdict ${returned}`)
}

/** Answers the server that got the frame, if the step is one. */
const take = (balancer: Balancer, service: string, step: Step): { server: number | undefined } | undefined => {
  switch (step.kind) {
    case 'frame':
      return { server: sendTo(balancer, step.frame) }
    case 'weight':
      balancer.setBackend(service, step.server, { weight: step.weight })
      return
    case 'remove':
      // IPVS drops what comes for a server that is gone (expire_nodest_conn is 0).
      balancer.removeBackend(service, step.server, 'cut')
      return
    case 'wait':
      // The clock stands still: a unit of age is about a second.
      makeAllOlder(balancer, step.seconds)
      balancer.sweep()
      return
    case 'pause':
      return
  }
}

export const runCase = ({ service, scheduler, hash, weights, maxConns, steps }: Case): Answers => {
  const balancer = new Balancer({ capacity: { destinations: 1024 } })
  try {
    const servers = Object.entries(weights).map(([server, weight]) => {
      const limit = maxConns[Number(server)]
      return [server, { weight, ...(limit === undefined ? {} : { maxConns: limit }) }] as const
    })
    const options = scheduler === 'sh' || scheduler === 'mh' ? { scheduler, hash } : { scheduler }
    balancer.add(service, options, Object.fromEntries(servers))
    const answers = steps.map((step) => take(balancer, service, step))
    const loads = servers.map(([server]) => [Number(server), balancer.connections(service, Number(server))] as const)
    return {
      servers: answers.filter((answer) => answer !== undefined).map(({ server }) => server),
      loads: new Map(loads),
    }
  } finally {
    balancer.close()
  }
}
