// SPDX-License-Identifier: Apache-2.0
// How a real server is set up: it has the VIPs, and is silent about them.
import { familyOf } from '../ip.ts'
import { isPrefix } from '../prefix.ts'

const SYSCTL_FILE = '/etc/sysctl.d/60-xlb.conf'

// arp_ignore: answer only for addresses of the interface that was asked at, and the VIP is on lo. arp_announce: ask with an address of
// the interface that asks, or others learn this server's MAC for the VIP. The kernel takes the larger of `all` and the interface's own.
const SILENCE = ['net.ipv4.conf.all.arp_ignore = 1', 'net.ipv4.conf.all.arp_announce = 2']

/** Before the VIP is added, or it is answered for meanwhile. IPv6 needs none: Linux answers only at the interface that has the address. */
export const silenceLines = (): string[] => [
  `printf '%s\\n' ${SILENCE.map((line) => `'${line}'`).join(' ')} > ${SYSCTL_FILE}`,
  `sysctl -p ${SYSCTL_FILE}`,
]

/** A prefix needs no addresses, but a route that makes all of them the host's own. A whole VIP's prefix on lo would do so with its network. */
export const holdLine = (vip: string): string => {
  if (isPrefix({ vip })) return `ip route replace local ${vip} dev lo`
  return familyOf(vip) === 'ipv4' ? `ip address replace ${vip}/32 dev lo` : `ip address replace ${vip}/128 dev lo nodad`
}

/** All commands for a real server of these VIPs, in the order in which they are to be run. May be repeated. */
export const setupLines = (vips: readonly string[]): string[] => [
  ...(vips.some((vip) => familyOf(vip) === 'ipv4') ? silenceLines() : []),
  ...vips.map(holdLine),
]
