// SPDX-License-Identifier: Apache-2.0
// From facts to what is wrong: each fault by its name, and nothing where nothing is wrong.
import test from 'ava'
import type { Diagnosis, DiagnosisName } from '../../src/core/doctor/diagnosis.ts'
import type { DoctorFacts } from '../../src/core/doctor/facts.ts'
import { isIll, judge } from '../../src/core/doctor/judge.ts'
import { setupLines } from '../../src/core/doctor/setup.ts'
import type { Facts } from '../../src/core/preflight-facts.ts'
import {
  answer,
  answering,
  attached,
  backend,
  eth0,
  given,
  link,
  machine,
  OWN,
  onVip,
  RS1,
  RS2,
  rs1,
  SERVICE,
} from './doctor-facts.ts'

const names = (facts: DoctorFacts): string[] => judge(facts).findings.map(({ name, severity }) => `${severity} ${name}`)

const find = (facts: DoctorFacts, name: DiagnosisName): Diagnosis => {
  const found = judge(facts).findings.find((finding) => finding.name === name)
  if (found === undefined) throw new Error(`no finding ${name}, but ${names(facts).join(', ')}`)
  return found
}

test('where nothing is wrong, nothing is found, and each thing has a line', (t) => {
  const report = judge(given())
  t.deepEqual(report.findings, [])
  t.deepEqual(report.unexamined, [])
  t.false(isIll(report))
  t.deepEqual(report.fine, [
    'eth0: xlb is attached, native mode',
    '10.89.0.100: this host has it, on eth0; nobody else answers ARP for it on eth0',
    '10.89.0.21: answers for 10.89.0.100, at port 80; packets of 1500 octets arrive',
    'connections: 7 are past their handshake, none waits for it in vain',
  ])
})

const peer = { ...machine, peer: { ...machine.peer, nativeProgram: false } as Facts['peer'] }
const unseen: Facts = { ...machine, peer: { state: 'unseen', why: 'no id of its namespace' } }
const down: Facts = { ...machine, link: { ...machine.link, up: false } as Facts['link'] }
const other: Facts = { ...machine, program: { id: 7, name: 'xdp_dispatcher', mode: 'native' } }
const local = (missing: string[]) =>
  backend({ path: { kind: 'local', held: ['10.89.0.99'], missing }, answering: [], answers: [], mtu: undefined })
const closed = { service: SERVICE, protocol: 'tcp', port: 80, state: 'closed' } as const
const udp = [{ service: 'udp://10.89.0.100:53', protocol: 'udp', port: 53, state: 'silent' }] as const
const stuckFlow = { service: SERVICE, backend: '10.89.0.21', stuck: 3, settled: 0, example: '10.89.0.10:40000' }
const source = { address: '10.89.0.10', mac: '02:00:00:00:00:10' }

/** What is wrong, and what is found then. */
const CASES: readonly (readonly [what: string, facts: DoctorFacts, found: readonly string[]])[] = [
  ['attached nowhere', given({ interfaces: undefined }), ['error not-attached']],
  ['an interface that lost its link', attached({ fault: 'its XDP link was detached' }), ['error not-attached']],
  [
    'another program there instead',
    attached({ fault: 'its XDP link was detached', machine: other }),
    ['error not-attached', 'error other-program'],
  ],
  ["another program in xlb's link", attached({ foreignProgram: 'stranger' }), ['error foreign-program']],
  ['an interface that is down', attached({ machine: down }), ['error down']],
  ['a veth peer without XDP', attached({ machine: peer }), ['error veth-peer']],
  ['a veth peer without XDP in generic mode', attached({ machine: peer, mode: 'generic' }), []],
  ['rxvlan, with VLAN devices', attached({ machine: { ...machine, vlanDevices: ['eth0.5'] } }), ['error vlan-offload']],
  ['rxvlan, with backends in VLANs', attached({ tags: [5] }), ['error vlan-offload']],
  ['rxvlan off', attached({ tags: [5], machine: { ...machine, features: {} } }), []],
  ['an egress that is gone', given({ egress: [{ name: 'eth1', fault: 'eth1 was deleted' }] }), ['error egress-gone']],
  ['the BPF compiler off', attached({ machine: { ...machine, jit: false } }), ['warning jit']],
  [
    'rp_filter, default route elsewhere',
    given({ interfaces: [{ ...eth0, rpFilter: 1 }], defaultRoutes: ['eth1'] }),
    ['warning rp-filter'],
  ],
  [
    'rp_filter at a director that serves itself',
    given({ ...local([]), interfaces: [{ ...eth0, rpFilter: 1 }], defaultRoutes: ['eth1'] }),
    ['error rp-filter'],
  ],
  ['strict rp_filter where the default route is', attached({ rpFilter: 1 }), []],
  ['loose rp_filter', given({ interfaces: [{ ...eth0, rpFilter: 2 }], defaultRoutes: ['eth1'] }), []],
  ['nobody has the VIP', onVip({ heldOn: [] }), ['error vip-unheld']],
  ['nobody has a VIP that is routed', onVip({ heldOn: [], onLink: false }), []],
  ['another director has the VIP', onVip({ heldOn: [], answers: [{ interface: 'eth0', mac: RS2 }] }), []],
  ['a second holder', onVip({ answers: [{ interface: 'eth0', mac: RS2 }] }), ['error second-holder']],
  [
    'two holders elsewhere',
    onVip({ heldOn: [], answers: [RS2, '02:00:00:00:00:03'].map((mac) => ({ interface: 'eth0', mac })) }),
    ['error second-holder'],
  ],
  ['a backend answers ARP', onVip({ answers: [{ interface: 'eth0', mac: RS1 }] }), ['error arp-answered']],
  [
    'a backend that may be the active director',
    onVip({ heldOn: [], answers: [{ interface: 'eth0', mac: RS1 }] }),
    ['warning arp-answered'],
  ],
  ['a prefix that nobody has', onVip({ vip: '192.0.2.0/24', isPrefix: true, heldOn: [] }), []],
  ['the VIP missing', answering({ answered: false }), ['error vip-missing']],
  [
    'the VIP missing at a drained backend',
    { ...backend({ active: [], inactive: [SERVICE], answers: [{ ...answer, answered: false }] }) },
    ['warning vip-missing'],
  ],
  ['this host without its VIP', local(['10.89.0.100']), ['error vip-missing']],
  ['this host with its VIP', local([]), []],
  ['a backend that routes back', answering({ answered: false, returned: true }), ['error loop']],
  ['packets that came back', given({ dropsToSender: 5 }), ['error loop']],
  [
    'a silent backend',
    backend({ reachable: false, answering: [], mtu: undefined, answers: [{ ...answer, answered: false }] }),
    ['error backend-silent'],
  ],
  [
    'a backend that answers ARP alone',
    backend({ reachable: false, mtu: undefined, answers: [{ ...answer, answered: false }] }),
    ['error backend-silent'],
  ],
  ['a backend that is not pinged and serves', backend({ reachable: false, mtu: undefined }), []],
  [
    'nobody listening',
    answering({ ports: [{ service: SERVICE, protocol: 'tcp', port: 80, state: 'closed' }] }),
    ['error not-listening'],
  ],
  [
    'a silent port',
    answering({ ports: [{ service: SERVICE, protocol: 'tcp', port: 80, state: 'silent' }] }),
    ['error not-listening'],
  ],
  ['a silent server of UDP', answering({ ports: udp }), []],
  ['UDP refused', answering({ ports: [{ ...udp[0], state: 'closed' }] }), ['warning not-listening']],
  [
    'rp_filter at a real server',
    answering({ elsewhere: [{ address: '192.0.2.2', interface: 'eth1', answered: false }] }),
    ['error rp-filter'],
  ],
  ['no rp_filter there', answering({ elsewhere: [{ address: '192.0.2.2', interface: 'eth1', answered: true }] }), []],
  [
    'an unknown MAC',
    backend({ path: { kind: 'unresolved', why: 'it is silent' }, answering: [] }),
    ['error mac-unknown'],
  ],
  ['a stale MAC', backend({ answering: [RS2] }), ['error mac-stale']],
  ['two hosts of one address', backend({ answering: [RS1, RS2] }), ['error address-doubled']],
  ["this host's own MAC", backend({ path: { ...link, mac: OWN }, answering: [OWN] }), ['error mac-own']],
  ['a shared MAC', given({ backends: [rs1, { ...rs1, address: '10.89.0.31' }] }), ['error mac-shared']],
  [
    'one host of two services under two addresses',
    given({ backends: [rs1, { ...rs1, address: '10.89.0.31', active: ['tcp://10.89.0.100:81'] }] }),
    [],
  ],
  ['a narrow way', backend({ mtu: { egress: 1500, ingress: 1500, sent: 1500, passed: 1450 } }), ['error path-mtu']],
  [
    'a real server with a smaller MTU',
    backend({ mtu: { egress: 1500, ingress: 1500, sent: 1500, passed: 1400 }, answers: [{ ...answer, mss: 1360 }] }),
    ['warning path-mtu'],
  ],
  [
    'one that serves UDP',
    backend({
      mtu: { egress: 1500, ingress: 1500, sent: 1500, passed: 1400 },
      answers: [{ ...answer, mss: 1360, ports: [...answer.ports, ...udp] }],
    }),
    ['error path-mtu'],
  ],
  ['a smaller egress', backend({ mtu: { egress: 1400, ingress: 1500, sent: 1400, passed: 1400 } }), ['error path-mtu']],
  ['stuck connections', given({ flows: [stuckFlow] }), ['error syn-recv']],
  ['one that is stuck', given({ flows: [{ ...stuckFlow, stuck: 1 }] }), ['warning syn-recv']],
  ['few stuck among many', given({ flows: [{ ...stuckFlow, settled: 40 }] }), []],
  ['more stuck than not', given({ flows: [{ ...stuckFlow, stuck: 50, settled: 40 }] }), ['warning syn-recv']],
  [
    'partial checksums',
    given({ checksums: { packets: 4, partial: 3, sources: [source] } }),
    ['error partial-checksum'],
  ],
  ['right checksums', given({ checksums: { packets: 4, partial: 0, sources: [] } }), []],
]

for (const [what, facts, found] of CASES) {
  test(`${what}: ${found.join(', ') || 'nothing is wrong'}`, (t) => {
    t.deepEqual(names(facts), found)
    t.is(
      isIll(judge(facts)),
      found.some((each) => each.startsWith('error')),
    )
    for (const { what: words, why, mend } of judge(facts).findings) {
      for (const text of [words, why, mend]) t.true(text !== '' && !/undefined|NaN|\[object/.test(text), text)
    }
  })
}

test('what could not be examined is told with its reason', (t) => {
  const whys = (facts: DoctorFacts) => judge(facts).unexamined.map(({ what, why }) => `${what}: ${why}`)
  t.deepEqual(whys(backend({ unasked: 'the interface is down', answers: [] })), [
    'whether 10.89.0.21 takes what is for its VIPs: the interface is down',
  ])
  t.deepEqual(whys(backend({ mtu: undefined })), ['the path MTU to 10.89.0.21: it answers no ping'])
  t.regex(whys(attached({ machine: unseen }))[0] ?? '', /peer of the veth eth0 cannot be looked into/)
  t.deepEqual(names(attached({ machine: unseen })), [])
  t.deepEqual(whys(given({ untracked: [SERVICE] })), [
    'connections of tcp://10.89.0.100:80 that wait for their handshake: hashed services keep no flows',
  ])
  t.regex(whys(given({ checksums: { unexamined: 'why' } }))[0] ?? '', /^partial checksums .*: why$/)
  t.regex(whys(given({ checksums: { packets: 0, partial: 0, sources: [] } }))[0] ?? '', /no packet/)
})

test('errors stand before warnings', (t) => {
  const facts = given({ ...attached({ machine: { ...machine, jit: false } }), dropsToSender: 1 })
  t.deepEqual(names(facts), ['error loop', 'warning jit'])
})

test('what is true of the machine is told once, however many interfaces there are', (t) => {
  const slow = { ...eth0, machine: { ...machine, jit: false } }
  t.deepEqual(names(given({ interfaces: [slow, { ...slow, name: 'eth1' }] })), ['warning jit'])
})

test('a narrow way names what it may be', (t) => {
  const mtu = { egress: 1500, ingress: 1500, sent: 1500, passed: 1450 }
  t.regex(find(backend({ mtu }), 'path-mtu').what, /1450 octets arrive, and those of 1500 do not: as VXLAN/)
})

test('stuck connections say whether the backend answers the director', (t) => {
  t.regex(find(given({ flows: [stuckFlow] }), 'syn-recv').why, /answers this director/)
  const missing = { ...answering({ answered: false }), flows: [stuckFlow] }
  t.regex(find(missing, 'syn-recv').why, /does not answer/)
})

test('ports that are closed alike are told once', (t) => {
  const ports = [80, 81, 82, 83, 84].map((port) => ({ ...closed, service: `tcp://10.89.0.100:${port}`, port }))
  const facts = answering({ ports: [...ports, { ...closed, port: 90, state: 'silent' }] })
  t.deepEqual(
    judge(facts).findings.map(({ what }) => what),
    [
      'nothing listens on tcp ports 80, 81, 82 and 2 more of 10.89.0.100 at backend 10.89.0.21',
      'backend 10.89.0.21 has 10.89.0.100, but is silent at tcp port 90',
    ],
  )
})

test('many backends that are well have one line', (t) => {
  const backends = Array.from({ length: 30 }, (_, i) => {
    const mac = `02:00:00:00:01:${(i + 16).toString(16)}`
    return { ...rs1, address: `10.89.1.${i}`, answering: [mac], path: { ...link, mac } }
  })
  t.true(judge(given({ backends })).fine.includes('30 backends take and answer what is for their VIPs'))
})

test('a real server is set up silent first, then with its VIPs', (t) => {
  t.deepEqual(setupLines(['10.89.0.100', 'fd00:89::100', '192.0.2.0/24']), [
    "printf '%s\\n' 'net.ipv4.conf.all.arp_ignore = 1' 'net.ipv4.conf.all.arp_announce = 2' > /etc/sysctl.d/60-xlb.conf",
    'sysctl -p /etc/sysctl.d/60-xlb.conf',
    'ip address replace 10.89.0.100/32 dev lo',
    'ip address replace fd00:89::100/128 dev lo nodad',
    'ip route replace local 192.0.2.0/24 dev lo',
  ])
  t.deepEqual(setupLines(['fd00:89::100']), ['ip address replace fd00:89::100/128 dev lo nodad'])
})
