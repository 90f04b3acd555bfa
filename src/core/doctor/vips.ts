// SPDX-License-Identifier: Apache-2.0
// Who answers for the VIPs: one director of each segment, and nobody else.
import { familyOf } from '../ip.ts'
import { type Diagnosis, emptyPart, listed, type Part } from './diagnosis.ts'
import type { BackendFacts, DoctorFacts, VipFacts } from './facts.ts'
import { silenceLines } from './setup.ts'

const ARP = { ipv4: 'ARP', ipv6: 'neighbour solicitations' } as const
const HOST_BITS = { ipv4: 32, ipv6: 128 } as const

/** Backends by their MACs, as the maps have them and as they answer now. */
const backendsByMac = (backends: readonly BackendFacts[]): Map<string, string> => {
  const byMac = new Map<string, string>()
  for (const { address, path, answering } of backends) {
    for (const mac of answering) byMac.set(mac, address)
    if (path.kind === 'link') byMac.set(path.mac, address)
  }
  return byMac
}

export const judgeVips = (facts: DoctorFacts): Part => {
  const part = emptyPart()
  const byMac = backendsByMac(facts.backends)
  const talking = new Map<string, VipFacts[]>()
  for (const vip of facts.vips) {
    if (vip.isPrefix) continue
    for (const mac of new Set(vip.answers.map((answer) => answer.mac))) {
      const backend = byMac.get(mac)
      if (backend !== undefined) talking.set(backend, [...(talking.get(backend) ?? []), vip])
    }
    judgeVip(part, vip, byMac)
  }
  part.findings.unshift(...[...talking].map(([backend, vips]) => answered(backend, vips)))
  return part
}

const judgeVip = (part: Part, facts: VipFacts, backends: ReadonlyMap<string, string>): void => {
  const { vip, heldOn, asked, answers, onLink } = facts
  const macs = [...new Set(answers.map(({ mac }) => mac))]
  const others = macs.filter((mac) => !backends.has(mac))
  const by = ARP[familyOf(vip)]
  if (others.length + Math.min(1, heldOn.length) > 1) {
    part.findings.push(secondHolder(facts, others))
  } else if (others.length < macs.length) {
    // Backends answer for it, as is told of them.
  } else if (others.length === 1) {
    part.fine.push(`${vip}: is held by ${others[0]} on ${answers[0]?.interface}; this host stands by`)
  } else if (heldOn.length > 0) {
    const alone = asked.length === 0 ? '' : `; nobody else answers ${by} for it on ${listed(asked)}`
    part.fine.push(`${vip}: this host has it, on ${listed(heldOn)}${alone}`)
  } else if (!onLink) {
    part.fine.push(`${vip}: is in no network of this host, and has to be routed here`)
  } else if (asked.length > 0) {
    part.findings.push(unheld(facts))
  }
}

const unheld = ({ vip, asked }: VipFacts): Diagnosis => ({
  name: 'vip-unheld',
  severity: 'error',
  what: `nobody has the VIP ${vip}: neither this host, nor who would answer ${ARP[familyOf(vip)]} on ${listed(asked)}`,
  why: 'clients, or their router, cannot find out whom to send its packets',
  mend: `ip address add ${vip}/${HOST_BITS[familyOf(vip)]} dev ${asked[0]}${familyOf(vip) === 'ipv6' ? ' nodad' : ''}, on the director that is to be active`,
})

const secondHolder = ({ vip, heldOn, answers }: VipFacts, others: readonly string[]): Diagnosis => {
  const places = others.map((mac) => `${mac} on ${answers.find((each) => each.mac === mac)?.interface}`)
  const here = heldOn.length > 0
  return {
    name: 'second-holder',
    severity: 'error',
    what: here
      ? `this host has the VIP ${vip}, and so has ${listed(places)}`
      : `several hosts have the VIP ${vip}: ${listed(places)}`,
    why: 'clients learn now the one MAC, now the other, and their connections break where the two do not share flows',
    mend: `find it (bridge fdb, the switch's table of MACs) and take the address off: ip address del ${vip}/${HOST_BITS[familyOf(vip)]} dev IFACE. Two directors: one may be active`,
  }
}

/** Where it alone answers, it may be the active director, which serves as well. */
const answered = (backend: string, facts: readonly VipFacts[]): Diagnosis => {
  const isIpv4 = familyOf(backend) === 'ipv4'
  const vips = facts.map(({ vip }) => vip)
  const isAlone = facts.every(
    ({ heldOn, answers }) => heldOn.length === 0 && new Set(answers.map(({ mac }) => mac)).size === 1,
  )
  const removal = (vip: string) => `ip address del ${vip}/${HOST_BITS[familyOf(vip)]} dev IFACE`
  return {
    name: 'arp-answered',
    severity: isAlone ? 'warning' : 'error',
    what: `the real server ${backend} answers ${ARP[familyOf(backend)]} for ${listed(vips)}${isAlone ? ', and nobody else has it: all is well only if it is the active director too' : ''}`,
    why: 'who learns its MAC sends it all packets for the VIP, past the director and past the other backends',
    mend: isIpv4
      ? `there, have it silent about addresses that are on lo; if the VIP is on another interface, ${listed(vips.map(removal))}. Then on clients or their router: ip neighbour flush to ${vips[0]}`
      : `there, take the VIP off the interface of this segment, ${listed(vips.map(removal))}, and put it on lo. Then on clients or their router: ip neighbour flush to ${vips[0]}`,
    commands: {
      host: backend,
      lines: isIpv4 ? silenceLines() : vips.map((vip) => `ip address replace ${vip}/128 dev lo nodad`),
    },
  }
}
