// SPDX-License-Identifier: Apache-2.0
// Before attach: what on this machine and interface would make xlb fail, or lose packets without a word. Facts in,
// findings out; src/shell/preflight.ts gathers the facts.

import type { AttachMode, Facts, Finding, LinkFacts, ModeChoice, PeerFacts } from './preflight-facts.ts'

const KERNEL_FLOOR = { major: 6, minor: 1 }

/** What an older kernel lacks, by the version that brought it. */
const KERNEL_FEATURES = [
  { major: 5, minor: 12, feature: 'atomic compare-and-exchange in BPF (5.12)' },
  { major: 5, minor: 15, feature: 'BPF timers (5.15)' },
  { major: 5, minor: 16, feature: 'neighbours that the kernel keeps resolved, NTF_EXT_MANAGED (5.16)' },
]

/** rtnl link kinds whose drivers have no ndo_bpf. */
const WITHOUT_NATIVE = new Set(
  'vlan bridge macvlan macvtap ipvlan ipvtap dummy ifb vrf vxlan geneve gre gretap ip6gre ip6gretap ipip ip6tnl sit vti wireguard team hsr macsec netkit'.split(
    ' ',
  ),
)

const XDP_HEADROOM = 256
const ETHERNET_HEADER = 14
/** SKB_DATA_ALIGN(sizeof(struct skb_shared_info)) with 64-byte cache lines. */
const SHARED_INFO = 320

/** The largest MTU whose frames fit one buffer: 3,506 with pages of 4 KiB, where veth draws the line to the byte. */
export const largestSingleBufferMtu = (pageSize: number): number =>
  pageSize - XDP_HEADROOM - ETHERNET_HEADER - SHARED_INFO

/** Everything amiss, errors first. An empty list: attach may go ahead. */
export const preflight = (mode: AttachMode, facts: Facts): Finding[] => {
  const findings = [...machineFindings(facts)]
  if (facts.link) findings.push(...interfaceFindings(mode, facts, facts.link))
  else findings.push(unknownInterface(facts))
  return [...findings.filter(isError), ...findings.filter((finding) => !isError(finding))]
}

/** The modes to try, in order, each with its reason. `auto` leaves native out where it cannot work or would lose frames. */
export const chooseModes = (mode: AttachMode, facts: Facts): ModeChoice[] => {
  if (mode !== 'auto') return [{ mode, reason: `as --mode ${mode} asks` }]
  const obstacle = facts.link && nativeObstacle(facts, facts.link)
  if (obstacle) return [{ mode: 'generic', reason: `since ${obstacle}` }]
  return [
    { mode: 'native', reason: 'as the faster' },
    { mode: 'generic', reason: `since the driver of ${facts.interfaceName} refused native XDP` },
  ]
}

const isError = (finding: Finding): boolean => finding.severity === 'error'

/** Why native XDP cannot work here, or would lose what it forwards; undefined: nothing known speaks against it. */
const nativeObstacle = (facts: Facts, link: LinkFacts): string | undefined => {
  if (WITHOUT_NATIVE.has(link.kind)) return `a ${link.kind} device has no native XDP`
  if (mtuTooLarge(facts, link)) return `the MTU is beyond ${largestSingleBufferMtu(facts.pageSize)}`
  if (facts.features['rx-lro']) return `large receive offload is on at ${link.name}`
  if (facts.peer?.state === 'unseen') return 'the veth peer cannot be looked into, and may have no XDP program'
  if (facts.peer && !facts.peer.nativeProgram) return `the veth peer ${facts.peer.name} has no XDP program`
  return undefined
}

function* machineFindings(facts: Facts): Generator<Finding> {
  const { bpf, netAdmin, perfmon } = facts.capabilities
  const missing = [...(bpf ? [] : ['CAP_BPF']), ...(netAdmin ? [] : ['CAP_NET_ADMIN'])]
  if (missing.length > 0)
    yield {
      name: 'capabilities',
      severity: 'error',
      what: `this process lacks ${missing.join(' and ')}`,
      why: 'the kernel lets nobody else load a BPF program or attach it to an interface',
      mend: `run it as root (sudo xlb attach ${facts.interfaceName}), or in a systemd unit with AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON`,
    }
  else if (!perfmon)
    yield {
      name: 'perfmon',
      severity: 'error',
      what: 'this process lacks CAP_PERFMON',
      why: 'the verifier then refuses the program, which compares and offsets pointers as only privileged programs may',
      mend: 'add CAP_PERFMON to the process, as root or by AmbientCapabilities= in its systemd unit',
    }
  yield* kernelFindings(facts)
}

function* kernelFindings(facts: Facts): Generator<Finding> {
  if (!isAtLeast(facts.kernelRelease, KERNEL_FLOOR)) {
    const lacks = KERNEL_FEATURES.filter((feature) => !isAtLeast(facts.kernelRelease, feature))
    yield {
      name: 'kernel',
      severity: 'error',
      what: `the kernel is ${facts.kernelRelease}, and xlb needs 6.1 or later`,
      why:
        lacks.length > 0
          ? `it lacks ${lacks.map(({ feature }) => feature).join(', ')}`
          : 'xlb is tested on no kernel before 6.1',
      mend: 'boot a kernel of 6.1 or later, such as that of Debian 12',
    }
  }
  if (!facts.btf)
    yield {
      name: 'btf',
      severity: 'error',
      what: 'the kernel gives no type information: /sys/kernel/btf/vmlinux is missing',
      why: 'the verifier then cannot tell that the functions of the packet path are given a packet, and refuses them',
      mend: "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are",
    }
  if (facts.jit === false)
    yield {
      name: 'jit',
      severity: 'warning',
      what: 'the BPF compiler is off: net.core.bpf_jit_enable is 0',
      why: 'the kernel then interprets the program, several times slower for every packet',
      mend: 'sysctl -w net.core.bpf_jit_enable=1, and the same in /etc/sysctl.d, before attaching',
    }
}

const isAtLeast = (release: string, floor: { major: number; minor: number }): boolean => {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release) ?? []
  return Number(major) > floor.major || (Number(major) === floor.major && Number(minor) >= floor.minor)
}

const unknownInterface = (facts: Facts): Finding => ({
  name: 'unknown-interface',
  severity: 'error',
  what: `there is no interface ${facts.interfaceName} in this network namespace`,
  why: 'XDP is attached to an interface by its name',
  mend:
    facts.knownInterfaces.length > 0
      ? `name one of: ${facts.knownInterfaces.join(', ')}`
      : 'run xlb in the network namespace that has the interface (nsenter --net=/run/netns/NAME xlb attach ...)',
})

function* interfaceFindings(mode: AttachMode, facts: Facts, link: LinkFacts): Generator<Finding> {
  if (link.loopback) {
    yield {
      name: 'loopback',
      severity: 'error',
      what: `${link.name} is the loopback`,
      why: "clients' packets do not come in there, and frames on it have no MAC address to forward by",
      mend: `name the interface that faces the clients: ${facts.knownInterfaces.filter((name) => name !== link.name).join(', ') || 'none is there yet'}`,
    }
    return
  }
  if (!link.up)
    yield {
      name: 'down',
      severity: 'warning',
      what: `${link.name} is down`,
      why: 'xlb attaches to it, but sees no packet until it is up',
      mend: `ip link set dev ${link.name} up`,
    }
  if (facts.program) yield otherProgram(link, facts.program)
  if (facts.master?.kind === 'bond') yield bondPort(link, facts.master.name)
  if (link.kind === '' && facts.receiveChannels === 1 && facts.cpus > 1) yield oneReceiveQueue(link, facts.cpus)
  if (mode === 'generic') return
  yield* nativeFindings(mode, facts, link)
  if (facts.peer) yield* vethFindings(mode, link, facts.peer, passProgram(facts, link))
}

const OFF: Readonly<Record<NonNullable<Facts['program']>['mode'], string>> = {
  native: 'xdpdrv off',
  generic: 'xdpgeneric off',
  offloaded: 'xdpoffload off',
  multi: 'xdpdrv off',
}

const otherProgram = (link: LinkFacts, program: NonNullable<Facts['program']>): Finding => ({
  name: 'other-program',
  severity: 'error',
  what: `${link.name} has another XDP program already: id ${program.id}, ${program.name || 'without a name'}, ${program.mode} mode`,
  why: 'an interface runs one XDP program, and xlb displaces none that it did not put there',
  mend:
    program.name === 'xdp_dispatcher'
      ? `xdp-loader unload ${link.name} --all, which ends what libxdp runs there`
      : `ip link set dev ${link.name} ${OFF[program.mode]}, or, where that says busy, end what holds its link (bpftool link show)`,
})

const bondPort = (link: LinkFacts, bond: string): Finding => ({
  name: 'bond-port',
  severity: 'warning',
  what: `${link.name} is a port of the bond ${bond}`,
  why: `xlb sees only what comes in by this port, and ${bond} itself refuses XDP while a port has a program`,
  mend: `xlb attach ${bond}`,
})

const oneReceiveQueue = (link: LinkFacts, cpus: number): Finding => ({
  name: 'receive-queues',
  severity: 'warning',
  what: `${link.name} has one receive queue for ${cpus} CPUs`,
  why: 'XDP runs on the CPU that serves the queue, so one CPU does all the work',
  mend: `ethtool -L ${link.name} combined ${cpus}, or as many as ethtool -l ${link.name} allows`,
})

/** Frames of this MTU take several buffers: the program has to be one that takes such. */
export const needsMultiBuffer = (facts: Facts): boolean => facts.link !== undefined && exceedsBuffer(facts, facts.link)

/** And the driver hands it none. Where the kernel does not tell, it is tried: a driver that has none refuses the program. */
const mtuTooLarge = (facts: Facts, link: LinkFacts): boolean =>
  facts.multiBuffer === false && exceedsBuffer(facts, link)

const exceedsBuffer = (facts: Facts, link: LinkFacts): boolean => {
  // What limits a veth is what its peer may send it; its own MTU does not count.
  if (link.kind === 'veth')
    return facts.peer?.state === 'seen' && facts.peer.mtu > largestSingleBufferMtu(facts.pageSize)
  return link.mtu > largestSingleBufferMtu(facts.pageSize)
}

function* nativeFindings(mode: 'auto' | 'native', facts: Facts, link: LinkFacts): Generator<Finding> {
  // What makes native impossible is an error where native was demanded; auto falls back to generic.
  const severity = mode === 'native' ? 'error' : 'warning'
  if (WITHOUT_NATIVE.has(link.kind)) yield noNative(severity, link)
  if (link.kind === 'bond')
    yield {
      name: 'bond',
      severity: 'warning',
      what: `${link.name} is a bond`,
      why: "native XDP on a bond needs it of every port's driver, and a bond mode that supports it (round robin, active-backup, xor or 802.3ad)",
      mend: `look at the ports with ethtool -i, or use xlb attach ${link.name} --mode generic`,
    }
  if (mtuTooLarge(facts, link)) yield mtu(severity, facts, link)
  if (facts.features['rx-lro'])
    yield {
      name: 'lro',
      severity,
      what: `large receive offload is on at ${link.name}`,
      why: 'drivers refuse native XDP with it, since merged segments are no frames that could be sent on',
      mend: `ethtool -K ${link.name} lro off`,
    }
  if (facts.features['rx-gro-hw'])
    yield {
      name: 'gro-hw',
      severity: 'warning',
      what: `hardware GRO is on at ${link.name}`,
      why: 'some drivers refuse native XDP with it, and others turn it off by themselves',
      mend: `ethtool -K ${link.name} rx-gro-hw off`,
    }
  if (facts.features['rx-vlan-hw-parse'] && facts.vlanDevices.length > 0)
    yield {
      name: 'vlan-offload',
      severity: 'warning',
      what: `${link.name} takes VLAN tags off in hardware (rx-vlan-hw-parse), and carries ${facts.vlanDevices.join(', ')}`,
      why: 'native XDP sees those frames as untagged and sends what it forwards untagged, into the wrong VLAN',
      mend: `ethtool -K ${link.name} rxvlan off`,
    }
  if (link.kind === '' && link.txQueues < facts.cpus)
    yield {
      name: 'transmit-queues',
      severity: 'warning',
      what: `${link.name} has ${link.txQueues} transmit queues for ${facts.cpus} CPUs`,
      why: 'for native XDP drivers want a transmit queue for each CPU: with fewer they refuse it, or share one under a lock',
      mend: `ethtool -L ${link.name} combined ${facts.cpus}, or as many as ethtool -l ${link.name} allows`,
    }
}

const noNative = (severity: Finding['severity'], link: LinkFacts): Finding => ({
  name: 'no-native',
  severity,
  what: `${link.name} is a ${link.kind} device, which has no native XDP`,
  why: 'only generic XDP works there, at a fraction of the speed',
  mend: `xlb attach ${link.name} --mode generic, or attach to the interface beneath it`,
})

const mtu = (severity: Finding['severity'], facts: Facts, link: LinkFacts): Finding => {
  const largest = largestSingleBufferMtu(facts.pageSize)
  const peer = facts.peer?.state === 'seen' ? facts.peer : undefined
  const [name, size, place] = peer
    ? [peer.name, peer.mtu, inNamespace(peer.netnsId)]
    : ([link.name, link.mtu, ''] as const)
  return {
    name: 'mtu',
    severity,
    what: `the MTU of ${name}${peer ? `, the peer of ${link.name},` : ''} is ${size}, beyond ${largest}`,
    why: `the driver hands native XDP a frame in one buffer, and a page of ${facts.pageSize} bytes holds no larger one`,
    mend: `${place}ip link set dev ${name} mtu ${Math.min(largest, 1500)}, or xlb attach ${link.name} --mode generic`,
  }
}

/** Where to run the command that follows. */
const inNamespace = (netnsId: number): string =>
  netnsId < 0 ? '' : `in the network namespace that ip netns list-id calls ${netnsId}: `

/** For a far end: what it may be sent are frames of this end's MTU. */
const passProgram = ({ passObject, pageSize }: Facts, link: LinkFacts): string =>
  `${passObject} sec ${link.mtu > largestSingleBufferMtu(pageSize) ? 'xdp.frags' : 'xdp'}`

function* vethFindings(mode: 'auto' | 'native', link: LinkFacts, peer: PeerFacts, program: string): Generator<Finding> {
  const instead = mode === 'auto' ? ', which is why auto takes generic here' : ''
  if (peer.state === 'unseen') {
    yield {
      name: 'veth-peer',
      severity: 'warning',
      what: `the peer of the veth ${link.name} cannot be looked into: ${peer.why}`,
      why: `if it has no native XDP program, every frame that xlb sends back by XDP_TX is lost${instead}`,
      mend: `in the peer's network namespace: ip link set dev PEER xdpdrv obj ${program}, then xlb attach ${link.name} --mode native`,
    }
    return
  }
  if (!peer.nativeProgram)
    yield {
      name: 'veth-peer',
      severity: 'warning',
      what: `${peer.name}, the peer of the veth ${link.name}, has no native XDP program`,
      why: `until it has one, every frame that xlb sends back by XDP_TX is lost${instead}`,
      mend: `${inNamespace(peer.netnsId)}ip link set dev ${peer.name} xdpdrv obj ${program}`,
    }
  if (link.rxQueues < peer.txQueues)
    yield {
      name: 'veth-queues',
      severity: 'warning',
      what: `the veth ${link.name} has ${link.rxQueues} receive queues, and its peer ${peer.name} up to ${peer.txQueues} transmit queues`,
      why: 'veth refuses native XDP where the peer transmits on more queues than it receives on',
      mend: `${inNamespace(peer.netnsId)}ethtool -L ${peer.name} tx ${link.rxQueues}`,
    }
}
