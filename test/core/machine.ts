// SPDX-License-Identifier: Apache-2.0
// A sound machine, with eth0 of hardware; what tests of the pre-flight and of the doctor change in it, they say.
import type { Facts, LinkFacts } from '../../src/core/preflight-facts.ts'

export const HARDWARE: LinkFacts = {
  name: 'eth0',
  mtu: 1500,
  kind: '',
  up: true,
  loopback: false,
  rxQueues: 4,
  txQueues: 4,
}

/** A veth that comes from a switch. */
export const VETH: LinkFacts = { ...HARDWARE, kind: 'veth', rxQueues: 2, txQueues: 2 }

export const PEER = {
  state: 'seen',
  name: 'to-director',
  netnsId: 3,
  mtu: 1500,
  txQueues: 2,
  nativeProgram: true,
} as const satisfies Facts['peer']

export const MACHINE: Facts = {
  interfaceName: 'eth0',
  link: HARDWARE,
  knownInterfaces: ['lo', 'eth0', 'eth1'],
  master: undefined,
  vlanDevices: [],
  peer: undefined,
  program: undefined,
  features: { 'rx-gro': true, 'rx-lro': false, 'rx-gro-hw': false, 'rx-vlan-hw-parse': true },
  receiveChannels: 4,
  cpus: 4,
  pageSize: 4096,
  multiBuffer: false,
  kernelRelease: '6.1.0-18-amd64',
  btf: true,
  jit: true,
  capabilities: { bpf: true, netAdmin: true, perfmon: true },
  passObject: '/opt/xlb/build/bpf/pass.bpf.o',
}
