// SPDX-License-Identifier: Apache-2.0
// A client behind two routers, whose link to each other is narrower than all else: neither the client nor a real server
// can know that, and each believes in an MTU of 1500.
//
//   switch ... eth0 router narrow ---- narrow edge eth0 ---- eth0 far
//        10.89.0.1       10.90.1.1    10.90.1.2  10.90.2.1   10.90.2.10
//        fd00:89::1      fd00:90:1::1  ...:1::2  ...:2::1    fd00:90:2::10   in a lab of IPv6
import type { Family, Lab } from './lab.ts'
import { Tracked } from './process.ts'

export const FAR = '10.90.2.10'
export const FAR6 = 'fd00:90:2::10'
/** The far client's address. */
export const farOf = (family: Family): string => (family === 'IPv6' ? FAR6 : FAR)

// Locally made packets must not carry partial checksums (as lab-net's client), and errors must not be too many to send.
const SCRIPT = `
inside() { host=$1; shift; nsenter --net="/run/netns/$prefix-$host" -- "$@"; }
sysctls() {
  inside "$1" sh -ec 'for path in "$@"
    do if [ -e "/proc/sys/\${path%=*}" ]; then echo "\${path#*=}" >"/proc/sys/\${path%=*}"; fi; done' - \
    net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/default/rp_filter=0 net/ipv4/icmp_ratelimit=0 \
    net/ipv4/ip_forward="$2" net/ipv6/conf/all/disable_ipv6="$without6" net/ipv6/conf/default/disable_ipv6="$without6" \
    net/ipv6/conf/all/accept_dad=0 net/ipv6/conf/default/accept_dad=0 net/ipv6/conf/all/forwarding="$2" \
    net/ipv6/conf/default/forwarding="$2" net/ipv6/icmp/ratelimit=0
}
for host in router edge far; do ip netns add "$prefix-$host"; done
sysctls router 1
sysctls edge 1
sysctls far 0
ip link add eth0 netns "$prefix-router" type veth peer name to-router netns "$prefix-switch"
ip link add narrow mtu "$mtu" netns "$prefix-router" type veth peer name narrow mtu "$mtu" netns "$prefix-edge"
ip link add eth0 netns "$prefix-edge" type veth peer name eth0 netns "$prefix-far"
ip -n "$prefix-switch" link set dev to-router master br0 up
up() { ip -n "$prefix-$1" link set dev "$2" up; ip -n "$prefix-$1" address add "$3" dev "$2"; }
up router eth0 10.89.0.1/24
up router narrow 10.90.1.1/24
up edge narrow 10.90.1.2/24
up edge eth0 10.90.2.1/24
up far eth0 ${FAR}/24
inside far ethtool -K eth0 tx off >/dev/null
ip -n "$prefix-router" route add 10.90.2.0/24 via 10.90.1.2
ip -n "$prefix-edge" route add default via 10.90.1.1
ip -n "$prefix-far" route add default via 10.90.2.1
for host in $inner; do ip -n "$prefix-$host" route add 10.90.0.0/16 via 10.89.0.1; done
if [ "$without6" = 0 ]; then
  up6() { ip -n "$prefix-$1" address add "$3" dev "$2" nodad; }
  up6 router eth0 fd00:89::1/64
  up6 router narrow fd00:90:1::1/64
  up6 edge narrow fd00:90:1::2/64
  up6 edge eth0 fd00:90:2::1/64
  up6 far eth0 ${FAR6}/64
  ip -n "$prefix-router" route add fd00:90:2::/64 via fd00:90:1::2
  ip -n "$prefix-edge" route add ::/0 via fd00:90:1::1
  ip -n "$prefix-far" route add ::/0 via fd00:90:2::1
  for host in $inner; do ip -n "$prefix-$host" route add fd00:90::/32 via fd00:89::1; done
fi
`

/**
 * Adds the hosts `router`, `edge` and `far` to the lab, and routes to them on `inner`. They go with the lab.
 * @param mtu of the link between the two routers
 */
export const addRouters = async (lab: Lab, mtu: number, inner: readonly string[]): Promise<void> => {
  const env = { prefix: lab.prefix, mtu: `${mtu}`, inner: inner.join(' '), without6: lab.family === 'IPv6' ? '0' : '1' }
  const { code, stderr } = await new Tracked(['sh', '-ec', SCRIPT], { env }).ended
  if (code !== 0) throw new Error(`routers: exit ${code}: ${stderr}`)
}
