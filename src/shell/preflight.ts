// SPDX-License-Identifier: Apache-2.0
// Gathers what src/core/preflight.ts judges.
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, release } from 'node:os'
import type { Facts, PeerFacts } from '../core/preflight-facts.ts'
import { type Interface, type Native, XdpFeature } from '../dataplane/native.ts'
import { missingCapabilities } from './capabilities.ts'

export interface PreflightOptions {
  /** The id of this instance's own program on the interface, 0 where it has none: it is then no stranger's. */
  ownProgramId: number
  /** Path of pass.bpf.o, for the commands that findings name. */
  passObject: string
}

/** Looks at the machine and at one interface; changes nothing. What cannot be read is left as not known. */
export const collectFacts = (native: Native, interfaceName: string, options: PreflightOptions): Facts => {
  const interfaces = native.netlink.interfaces()
  const link = interfaces.find((candidate) => candidate.name === interfaceName)
  const master = link && interfaces.find((candidate) => candidate.ifindex === link.master)
  return {
    interfaceName,
    link,
    knownInterfaces: interfaces.map((candidate) => candidate.name),
    master: master && { name: master.name, kind: master.kind },
    vlanDevices: link ? vlanDevicesOn(link, interfaces) : [],
    peer: link?.kind === 'veth' ? peerOf(native, link, interfaces) : undefined,
    program: link && programOn(native, link, options.ownProgramId),
    features: link ? attempt(() => native.system.deviceFeatures(link.name), {}) : {},
    receiveChannels: link ? attempt(() => native.system.deviceReceiveChannels(link.name), 0) : 0,
    cpus: availableParallelism(),
    pageSize: pageSize(),
    multiBuffer: link && multiBufferOf(native, link),
    kernelRelease: release(),
    btf: existsSync('/sys/kernel/btf/vmlinux'),
    jit: jitEnabled(),
    capabilities: capabilities(),
    passObject: options.passObject,
  }
}

/** A device that does not answer an ethtool question is no trouble: the question is then open. */
const attempt = <T>(ask: () => T, otherwise: T): T => {
  try {
    return ask()
  } catch {
    return otherwise
  }
}

const vlanDevicesOn = (link: Interface, interfaces: readonly Interface[]): string[] =>
  interfaces
    .filter(({ kind, link: parent, linkNetnsId }) => kind === 'vlan' && parent === link.ifindex && linkNetnsId < 0)
    .map(({ name }) => name)

const multiBufferOf = (native: Native, link: Interface): boolean | undefined => {
  const features = attempt(() => native.netlink.xdpFeatures(link.ifindex), undefined)
  return features === undefined ? undefined : (features & XdpFeature.MULTI_BUFFER) !== 0
}

const peerOf = (native: Native, link: Interface, interfaces: readonly Interface[]): PeerFacts => {
  let peer: Interface | undefined
  try {
    peer =
      link.linkNetnsId < 0
        ? interfaces.find((candidate) => candidate.ifindex === link.link)
        : native.netlink.interfaceByIndex(link.link, link.linkNetnsId)
  } catch (error) {
    return { state: 'unseen', why: error instanceof Error ? error.message : String(error) }
  }
  if (!peer) return { state: 'unseen', why: `interface ${link.link} of its network namespace does not answer` }
  return {
    state: 'seen',
    name: peer.name,
    netnsId: link.linkNetnsId,
    mtu: peer.mtu,
    txQueues: peer.txQueues,
    nativeProgram: peer.xdpMode === 'native' || peer.xdpMode === 'multi',
  }
}

const programOn = (native: Native, link: Interface, ownProgramId: number): Facts['program'] => {
  if (link.xdpMode === 'none' || (ownProgramId !== 0 && link.xdpProgramId === ownProgramId)) return undefined
  const info = attempt(() => native.programInfo(link.xdpProgramId), undefined)
  return { id: link.xdpProgramId, name: info?.name ?? '', mode: link.xdpMode }
}

/** Shown in the first network namespace only; elsewhere the file is missing. */
const jitEnabled = (): boolean | undefined =>
  attempt(() => readFileSync('/proc/sys/net/core/bpf_jit_enable', 'utf8').trim() !== '0', undefined)

const capabilities = (): Facts['capabilities'] => {
  const missing = missingCapabilities(['BPF', 'NET_ADMIN', 'PERFMON'])
  return {
    bpf: !missing.includes('BPF'),
    netAdmin: !missing.includes('NET_ADMIN'),
    perfmon: !missing.includes('PERFMON'),
  }
}

const AT_PAGESZ = 6n
const AUXV_ENTRY = 16

/** From the auxiliary vector (getauxval(3)): pairs of words, kind and value. 4,096 where it cannot be read. */
const pageSize = (): number =>
  attempt(() => {
    const auxv = readFileSync('/proc/self/auxv')
    for (let at = 0; at + AUXV_ENTRY <= auxv.length; at += AUXV_ENTRY)
      if (auxv.readBigUInt64LE(at) === AT_PAGESZ) return Number(auxv.readBigUInt64LE(at + 8))
    return 4096
  }, 4096)
