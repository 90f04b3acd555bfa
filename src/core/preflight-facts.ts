// SPDX-License-Identifier: Apache-2.0
// What the pre-flight looks at and what it answers.

export type AttachMode = 'auto' | 'native' | 'generic'

/** A machine's or an interface's trouble: what and where, why it matters, how to mend it; one sentence each. */
export interface Finding {
  name: FindingName
  /** An error forbids the attach; a warning goes with it. */
  severity: 'error' | 'warning'
  what: string
  why: string
  mend: string
}

export type FindingName =
  | 'capabilities'
  | 'perfmon'
  | 'kernel'
  | 'btf'
  | 'jit'
  | 'unknown-interface'
  | 'loopback'
  | 'down'
  | 'other-program'
  | 'no-native'
  | 'bond'
  | 'bond-port'
  | 'mtu'
  | 'lro'
  | 'gro-hw'
  | 'vlan-offload'
  | 'veth-peer'
  | 'veth-queues'
  | 'transmit-queues'
  | 'receive-queues'

export interface LinkFacts {
  name: string
  mtu: number
  /** `veth`, `vlan`, `bond`...; '' for hardware and loopback. */
  kind: string
  up: boolean
  loopback: boolean
  rxQueues: number
  txQueues: number
}

/** The far end of a veth; `unseen` where it cannot be looked into. */
export type PeerFacts =
  | {
      state: 'seen'
      name: string
      /** The namespace's id from here (`ip netns list-id`), -1: this one. */
      netnsId: number
      mtu: number
      txQueues: number
      /** It has a native XDP program; a generic one does not serve. */
      nativeProgram: boolean
    }
  | { state: 'unseen'; why: string }

export interface Facts {
  interfaceName: string
  /** Undefined: there is no such interface. */
  link: LinkFacts | undefined
  knownInterfaces: readonly string[]
  /** What it is a port of. */
  master: { name: string; kind: string } | undefined
  /** Names of VLAN devices on top of it. */
  vlanDevices: readonly string[]
  /** Undefined: it is no veth. */
  peer: PeerFacts | undefined
  /** Another's XDP program on the interface; an xlb's own of the same instance is none. */
  program: { id: number; name: string; mode: 'native' | 'generic' | 'offloaded' | 'multi' } | undefined
  /** ETHTOOL_GFEATURES by the kernel's names. */
  features: Readonly<Record<string, boolean>>
  /** Receive queues in use, 0 where the device does not say. */
  receiveChannels: number
  cpus: number
  pageSize: number
  /** Its driver hands frames of several buffers to native XDP; undefined: the kernel does not tell (before 6.3). */
  multiBuffer: boolean | undefined
  /** `uname -r`. */
  kernelRelease: string
  /** /sys/kernel/btf/vmlinux is there. */
  btf: boolean
  /** net.core.bpf_jit_enable; undefined where the namespace does not show it. */
  jit: boolean | undefined
  capabilities: { bpf: boolean; netAdmin: boolean; perfmon: boolean }
  /** Path of the object with xlb_pass, the program for a veth's far end. */
  passObject: string
}

export interface ModeChoice {
  mode: 'native' | 'generic'
  /** Why this one is tried at this place: a clause to follow the mode's name. */
  reason: string
}
