// SPDX-License-Identifier: Apache-2.0
// The way to a backend, and what fits through it. Frames that do not are lost without a word: no router is there to tell.
import { familyOf } from '../ip.ts'
import type { Part } from './diagnosis.ts'
import type { BackendFacts, MtuFacts } from './facts.ts'

/** IP and TCP headers without options: what a maximum segment size leaves out (RFC 6691). */
const HEADERS = { ipv4: 40, ipv6: 60 } as const

/** What stands around a packet, by how much it takes. */
const KNOWN_HEADERS: Readonly<Record<number, string>> = {
  4: 'a VLAN tag',
  8: 'PPPoE, or two VLAN tags',
  20: 'an IP-in-IP tunnel',
  24: 'a GRE tunnel',
  28: 'a GRE tunnel with a key',
  40: 'an IPv6 tunnel',
  50: 'VXLAN',
  54: 'VXLAN with a VLAN tag',
  58: 'Geneve',
  70: 'VXLAN over IPv6',
}

export const judgeMtu = (part: Part, backend: BackendFacts): void => {
  const { address, path, mtu } = backend
  if (path.kind !== 'link') return
  if (mtu === undefined) {
    const isUp = backend.answers.some(({ answered }) => answered)
    if (isUp) part.unexamined.push({ what: `the path MTU to ${address}`, why: 'it answers no ping' })
    return
  }
  if (mtu.egress < mtu.ingress) {
    part.findings.push({
      name: 'path-mtu',
      severity: 'error',
      what: `the MTU of ${path.interface}, which leads to ${address}, is ${mtu.egress}, and clients' packets may have ${mtu.ingress} octets`,
      why: 'what is larger is counted as redirected, and dropped by the kernel',
      mend: `ip link set dev ${path.interface} mtu ${mtu.ingress}, or a smaller MTU where clients come in`,
    })
  }
  if (mtu.passed < mtu.sent) narrow(part, backend, mtu)
}

/** What the real servers say themselves keeps TCP's segments small enough; datagrams heed nobody. */
const isNegotiated = ({ address, answers }: BackendFacts, { passed }: MtuFacts): boolean =>
  answers.length > 0 &&
  answers.every(
    ({ mss, ports }) =>
      mss !== undefined &&
      mss + HEADERS[familyOf(address)] <= passed &&
      ports.every(({ protocol }) => protocol === 'tcp'),
  )

const narrow = (part: Part, backend: BackendFacts, mtu: MtuFacts): void => {
  const { address } = backend
  const { sent, passed } = mtu
  const around = KNOWN_HEADERS[sent - passed]
  const fits = isNegotiated(backend, mtu)
  part.findings.push({
    name: 'path-mtu',
    severity: fits ? 'warning' : 'error',
    what: `of packets to ${address} those of ${passed} octets arrive, and those of ${sent} do not${around === undefined ? '' : `: as ${around} on the way would have it`}`,
    why: fits
      ? `its own MTU says so to clients of TCP, whose segments fit; datagrams that are larger are lost`
      : 'larger ones are lost without a word: small requests work, and large ones hang',
    mend: `raise the MTU on the way (switch ports, tunnels, bridges), or there lower it for clients too: ip route replace default ... advmss ${passed - HEADERS[familyOf(address)]}`,
  })
}
