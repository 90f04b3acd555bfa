// SPDX-License-Identifier: Apache-2.0
// Can frames leave by an interface that xlb is not attached to? Facts in, a refusal out; src/shell/egress.ts gathers them.
import { Refusal } from './refusal.ts'

export interface EgressFacts {
  name: string
  /** '' where it has none. */
  mac: string
  loopback: boolean
  /** rtnl link kind: `veth`, `bridge`, ...; '' for hardware. */
  kind: string
  /** It takes frames that native XDP redirects to it; undefined: the kernel does not tell (before 6.3). */
  transmits: boolean | undefined
  /** Likewise those that take several buffers. */
  transmitsMultiBuffer: boolean | undefined
  /** Interfaces, others than this one, whose program runs in native mode. */
  native: readonly string[]
  /** Of these those that hand on frames of several buffers. */
  multiBuffer: readonly string[]
}

/** Kinds whose drivers never transmit what native XDP redirects: what an older kernel does not tell. */
const WITHOUT_TRANSMIT = new Set('bridge vlan dummy macvlan ipvlan vrf vxlan geneve ifb'.split(' '))

const jumboFault = (where: string, { multiBuffer }: EgressFacts): Refusal =>
  new Refusal(
    `${where}, whose driver takes no jumbo frames from native XDP (${multiBuffer.join(', ')} would redirect them there)`,
    `choose a smaller MTU for ${multiBuffer.join(', ')} and attach anew, or take generic mode there`,
  )

/** Why no frame could leave there; undefined: nothing known speaks against it. */
export const egressFault = (backend: string, facts: EgressFacts): Refusal | undefined => {
  const { name, native } = facts
  const where = `backend ${backend}: is reached through ${name}`
  if (facts.loopback || facts.mac === '') {
    return new Refusal(`${where}, which has no MAC addresses`, 'direct server return takes an Ethernet between the two')
  }
  if (native.length === 0) return undefined
  if (facts.transmits ?? !WITHOUT_TRANSMIT.has(facts.kind)) {
    return facts.multiBuffer.length > 0 && facts.transmitsMultiBuffer === false ? jumboFault(where, facts) : undefined
  }
  return new Refusal(
    `${where}, whose driver takes no frames from native XDP as it is (${native.join(', ')} would redirect them there)`,
    facts.kind === 'veth'
      ? 'give its far end an XDP program, or GRO: ethtool -K PEER gro on'
      : `most drivers do while they have a program themselves: xlb attach ${name}; or take generic mode on ${native.join(', ')}`,
  )
}
