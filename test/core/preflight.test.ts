// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { chooseModes, largestSingleBufferMtu, needsMultiBuffer, preflight } from '../../src/core/preflight.ts'
import type { AttachMode, Facts, Finding, FindingName, PeerFacts } from '../../src/core/preflight-facts.ts'
import { HARDWARE, MACHINE, PEER, VETH } from './machine.ts'

/** A sound machine and interface, with what the test changes. */
const given = (changes: Partial<Facts> = {}): Facts => ({ ...MACHINE, ...changes })

const onVeth = (changes: Partial<PeerFacts & { state: 'seen' }> = {}): Facts =>
  given({ link: VETH, peer: { ...PEER, ...changes }, receiveChannels: 1 })

const names = (mode: AttachMode, facts: Facts): FindingName[] => preflight(mode, facts).map(({ name }) => name)

const severities = (facts: Facts, name: FindingName): (Finding['severity'] | undefined)[] =>
  (['auto', 'native', 'generic'] as const).map(
    (mode) => preflight(mode, facts).find((finding) => finding.name === name)?.severity,
  )

const find = (mode: AttachMode, facts: Facts, name: FindingName): Finding => {
  const found = preflight(mode, facts).find((finding) => finding.name === name)
  if (!found) throw new Error(`no finding ${name}`)
  return found
}

test('a sound machine and interface give no finding, in any mode', (t) => {
  for (const mode of ['auto', 'native', 'generic'] as const) {
    t.deepEqual(preflight(mode, given()), [])
    t.deepEqual(preflight(mode, onVeth()), [])
  }
})

test('errors stand before warnings', (t) => {
  const facts = given({
    jit: false,
    link: { ...HARDWARE, up: false },
    program: { id: 7, name: 'other', mode: 'native' },
  })
  t.deepEqual(names('auto', facts), ['other-program', 'jit', 'down'])
})

test('an unknown interface is an error that lists the known ones, and hides nothing about the machine', (t) => {
  const facts = given({ interfaceName: 'eht0', link: undefined, jit: false })
  t.deepEqual(names('auto', facts), ['unknown-interface', 'jit'])
  const finding = find('auto', facts, 'unknown-interface')
  t.regex(finding.what, /eht0/)
  t.regex(finding.mend, /lo, eth0, eth1/)
})

test('the loopback is an error that names the other interfaces', (t) => {
  const facts = given({ link: { ...HARDWARE, name: 'lo', loopback: true } })
  t.deepEqual(severities(facts, 'loopback'), ['error', 'error', 'error'])
  t.regex(find('auto', facts, 'loopback').mend, /: eth0, eth1$/)
})

test('an interface that is down is a warning with the command that brings it up', (t) => {
  const facts = given({ link: { ...HARDWARE, up: false } })
  t.deepEqual(severities(facts, 'down'), ['warning', 'warning', 'warning'])
  t.is(find('auto', facts, 'down').mend, 'ip link set dev eth0 up')
})

test('a kernel before 6.1 is an error that names each feature it lacks', (t) => {
  t.deepEqual(names('auto', given({ kernelRelease: '6.1' })), [])
  t.deepEqual(names('auto', given({ kernelRelease: '7.0.0-rc1' })), [])
  const { why } = find('auto', given({ kernelRelease: '5.10.0-28-amd64' }), 'kernel')
  for (const feature of [/5\.12/, /5\.15/, /NTF_EXT_MANAGED \(5\.16\)/]) t.regex(why, feature)
  t.notRegex(find('auto', given({ kernelRelease: '5.15.3' }), 'kernel').why, /timers/)
  t.regex(find('auto', given({ kernelRelease: '6.0.9' }), 'kernel').why, /tested/)
})

test('a kernel without type information refuses the program', (t) => {
  t.is(find('auto', given({ btf: false }), 'btf').severity, 'error')
})

test('a BPF compiler that is off is a warning; one that the namespace does not show is none', (t) => {
  t.regex(find('auto', given({ jit: false }), 'jit').mend, /net\.core\.bpf_jit_enable=1/)
  t.deepEqual(names('auto', given({ jit: undefined })), [])
})

test('missing capabilities are an error that names those and no others', (t) => {
  const facts = given({ capabilities: { bpf: false, netAdmin: true, perfmon: false } })
  t.deepEqual(names('auto', facts), ['capabilities'])
  t.regex(find('auto', facts, 'capabilities').what, /lacks CAP_BPF$/)
  t.regex(find('auto', facts, 'capabilities').mend, /sudo xlb attach eth0/)
})

test('CAP_PERFMON alone missing is a warning', (t) => {
  const facts = given({ capabilities: { bpf: true, netAdmin: true, perfmon: false } })
  t.is(find('auto', facts, 'perfmon').severity, 'error')
})

test("another's XDP program is an error with its id, name and mode, and the command for that mode", (t) => {
  const facts = given({ program: { id: 42, name: 'firewall', mode: 'generic' } })
  t.deepEqual(severities(facts, 'other-program'), ['error', 'error', 'error'])
  const { what, mend } = find('auto', facts, 'other-program')
  t.regex(what, /id 42, firewall, generic mode/)
  t.regex(mend, /ip link set dev eth0 xdpgeneric off/)
})

test("libxdp's dispatcher is ended by xdp-loader", (t) => {
  const facts = given({ program: { id: 42, name: 'xdp_dispatcher', mode: 'native' } })
  t.regex(find('auto', facts, 'other-program').mend, /^xdp-loader unload eth0 --all/)
})

test('a veth whose peer has no native program is a warning with the command, the place and the loss', (t) => {
  const facts = onVeth({ nativeProgram: false })
  t.deepEqual(severities(facts, 'veth-peer'), ['warning', 'warning', undefined])
  const { what, why, mend } = find('native', facts, 'veth-peer')
  t.regex(what, /to-director/)
  t.regex(why, /XDP_TX is lost$/)
  t.is(
    mend,
    'in the network namespace that ip netns list-id calls 3: ip link set dev to-director xdpdrv obj /opt/xlb/build/bpf/pass.bpf.o sec xdp',
  )
  const here = find('native', onVeth({ nativeProgram: false, netnsId: -1 }), 'veth-peer')
  t.regex(here.mend, /^ip link set dev to-director/)
})

test('a veth whose peer cannot be looked into is a warning that says so', (t) => {
  const facts = given({ link: VETH, peer: { state: 'unseen', why: 'EPERM' } })
  t.regex(find('auto', facts, 'veth-peer').what, /cannot be looked into: EPERM/)
  t.regex(find('auto', facts, 'veth-peer').why, /auto takes generic/)
})

test('a veth with fewer receive queues than its peer has transmit queues is a warning', (t) => {
  const facts = onVeth({ txQueues: 8 })
  t.deepEqual(severities(facts, 'veth-queues'), ['warning', 'warning', undefined])
  t.regex(find('native', facts, 'veth-queues').mend, /ethtool -L to-director tx 2$/)
})

test('the largest MTU of one buffer is 3,506 with pages of 4 KiB', (t) => {
  t.is(largestSingleBufferMtu(4096), 3506)
})

test('an MTU beyond one buffer is an error for native, a warning for auto, nothing for generic', (t) => {
  const facts = given({ link: { ...HARDWARE, mtu: 3507 } })
  t.deepEqual(severities(facts, 'mtu'), ['warning', 'error', undefined])
  t.deepEqual(names('native', given({ link: { ...HARDWARE, mtu: 3506 } })), [])
})

test("on a veth the peer's MTU counts, and not its own", (t) => {
  t.regex(find('native', onVeth({ mtu: 9000 }), 'mtu').what, /MTU of to-director, the peer of eth0, is 9000/)
  t.deepEqual(names('native', { ...onVeth(), link: { ...VETH, mtu: 9000 } }), [])
})

test('an MTU of any size suits larger pages or a program for frames of several buffers', (t) => {
  const link = { ...HARDWARE, mtu: 9000 }
  t.deepEqual(names('native', given({ link, pageSize: 65_536 })), [])
  t.deepEqual(names('native', given({ link, multiBuffer: true })), [])
  t.deepEqual(names('native', given({ link, multiBuffer: undefined })), [])
})

test('the program is one for frames of several buffers where the MTU needs it', (t) => {
  t.false(needsMultiBuffer(given({ link: { ...HARDWARE, mtu: 3506 } })))
  t.true(needsMultiBuffer(given({ link: { ...HARDWARE, mtu: 3507 } })))
  t.false(needsMultiBuffer(given({ link: { ...HARDWARE, mtu: 9000 }, pageSize: 65_536 })))
  t.false(needsMultiBuffer(given({ link: undefined })))
})

test('where the driver has no such frames, a large MTU takes generic mode', (t) => {
  const link = { ...HARDWARE, mtu: 9000 }
  t.deepEqual(
    chooseModes('auto', given({ link, multiBuffer: false })).map(({ mode }) => mode),
    ['generic'],
  )
  t.deepEqual(
    chooseModes('auto', given({ link, multiBuffer: true })).map(({ mode }) => mode),
    ['native', 'generic'],
  )
})

test('large receive offload is an error for native, a warning for auto, nothing for generic', (t) => {
  const facts = given({ features: { 'rx-lro': true } })
  t.deepEqual(severities(facts, 'lro'), ['warning', 'error', undefined])
  t.is(find('native', facts, 'lro').mend, 'ethtool -K eth0 lro off')
})

test('HARDWARE GRO is a warning outside generic mode', (t) => {
  t.deepEqual(severities(given({ features: { 'rx-gro-hw': true } }), 'gro-hw'), ['warning', 'warning', undefined])
})

test('VLAN tags taken off in HARDWARE are a warning where the interface carries VLANs', (t) => {
  const facts = given({ vlanDevices: ['eth0.10', 'eth0.20'] })
  t.deepEqual(severities(facts, 'vlan-offload'), ['warning', 'warning', undefined])
  t.regex(find('native', facts, 'vlan-offload').what, /eth0\.10, eth0\.20/)
  t.deepEqual(names('native', given({ vlanDevices: ['eth0.10'], features: { 'rx-vlan-hw-parse': false } })), [])
})

test('a device without native XDP is an error for native, a warning for auto, nothing for generic', (t) => {
  for (const kind of ['vlan', 'bridge', 'macvlan', 'vxlan', 'dummy'])
    t.deepEqual(severities(given({ link: { ...HARDWARE, kind } }), 'no-native'), ['warning', 'error', undefined], kind)
})

test('a bond is a warning outside generic mode, since its ports decide', (t) => {
  t.deepEqual(severities(given({ link: { ...HARDWARE, kind: 'bond' } }), 'bond'), ['warning', 'warning', undefined])
})

test('a port of a bond is a warning that names the bond; a port of a bridge is none', (t) => {
  const facts = given({ master: { name: 'bond0', kind: 'bond' } })
  t.is(find('auto', facts, 'bond-port').mend, 'xlb attach bond0')
  t.deepEqual(names('auto', given({ master: { name: 'br0', kind: 'bridge' } })), [])
})

test('fewer transmit queues than CPUs are a warning for native on hardware', (t) => {
  const facts = given({ cpus: 8 })
  t.deepEqual(severities(facts, 'transmit-queues'), ['warning', 'warning', undefined])
  t.deepEqual(names('native', { ...onVeth(), cpus: 8 }), [])
})

test('one receive queue for several CPUs is a warning in every mode', (t) => {
  const facts = given({ receiveChannels: 1 })
  t.deepEqual(severities(facts, 'receive-queues'), ['warning', 'warning', 'warning'])
  t.deepEqual(names('auto', given({ receiveChannels: 1, cpus: 1 })), [])
  t.deepEqual(names('auto', given({ receiveChannels: 0 })), [])
})

test('each finding is three single sentences: no line break, no full stop at the end', (t) => {
  const all = given({
    link: { ...HARDWARE, up: false, mtu: 9000 },
    features: { 'rx-lro': true, 'rx-gro-hw': true, 'rx-vlan-hw-parse': true },
    vlanDevices: ['eth0.1'],
    program: { id: 1, name: '', mode: 'multi' },
    master: { name: 'bond0', kind: 'bond' },
    receiveChannels: 1,
    cpus: 64,
    kernelRelease: '5.4.0',
    btf: false,
    jit: false,
    capabilities: { bpf: false, netAdmin: false, perfmon: false },
  })
  const findings = preflight('auto', all)
  t.is(findings.length, 13)
  for (const { what, why, mend } of findings)
    for (const sentence of [what, why, mend]) t.regex(sentence, /^[^\n]+[^.\s]$/)
})

test('a demanded mode is tried alone', (t) => {
  for (const mode of ['native', 'generic'] as const)
    t.deepEqual(
      chooseModes(mode, given()).map((choice) => choice.mode),
      [mode],
    )
})

test('auto tries native, then generic with the reason', (t) => {
  const [first, second] = chooseModes('auto', given())
  t.is(first?.mode, 'native')
  t.deepEqual(second, { mode: 'generic', reason: 'since the driver of eth0 refused native XDP' })
})

test('auto goes to generic at once where native cannot work or would lose frames, and says why', (t) => {
  const cases: [Facts, RegExp][] = [
    [given({ link: { ...HARDWARE, kind: 'vlan' } }), /vlan device/],
    [given({ link: { ...HARDWARE, mtu: 9000 } }), /MTU/],
    [given({ features: { 'rx-lro': true } }), /large receive offload/],
    [onVeth({ nativeProgram: false }), /to-director has no XDP program/],
    [given({ link: VETH, peer: { state: 'unseen', why: 'EPERM' } }), /cannot be looked into/],
  ]
  for (const [facts, reason] of cases) {
    const choices = chooseModes('auto', facts)
    t.deepEqual(
      choices.map((choice) => choice.mode),
      ['generic'],
    )
    t.regex(choices[0]?.reason ?? '', reason)
  }
})
