// SPDX-License-Identifier: Apache-2.0
// Facts of a sound director with one real server, and what tests change in them.
import type { AnswerFacts, BackendFacts, DoctorFacts, InterfaceFacts, VipFacts } from '../../src/core/doctor/facts.ts'
import type { Facts } from '../../src/core/preflight-facts.ts'
import { MACHINE, PEER, VETH } from './machine.ts'

export const SERVICE = 'tcp://10.89.0.100:80'
export const OWN = '02:00:00:00:00:02'
export const RS1 = '02:00:00:00:00:21'
export const RS2 = '02:00:00:00:00:22'

export const machine: Facts = {
  ...MACHINE,
  link: VETH,
  knownInterfaces: ['lo', 'eth0'],
  peer: PEER,
  features: { 'rx-vlan-hw-parse': true },
  receiveChannels: 1,
  cpus: 2,
}

export const eth0: InterfaceFacts = {
  name: 'eth0',
  mode: 'native',
  fault: undefined,
  foreignProgram: undefined,
  tags: [],
  machine,
  rpFilter: 0,
}

export const vip: VipFacts = {
  vip: '10.89.0.100',
  heldOn: ['eth0'],
  asked: ['eth0'],
  answers: [],
  isPrefix: false,
  onLink: true,
}

export const answer: AnswerFacts = {
  vip: '10.89.0.100',
  answered: true,
  returned: false,
  ports: [{ service: SERVICE, protocol: 'tcp', port: 80, state: 'open' }],
  elsewhere: [],
  mss: 1460,
}

export const link = { kind: 'link', mac: RS1, interface: 'eth0', ifindex: 2, vlan: undefined } as const

export const rs1: BackendFacts = {
  address: '10.89.0.21',
  active: [SERVICE],
  inactive: [],
  path: link,
  answering: [RS1],
  reachable: true,
  answers: [answer],
  mtu: { egress: 1500, ingress: 1500, sent: 1500, passed: 1500 },
  unasked: undefined,
}

/** A sound director with one real server, with what the test changes. */
export const given = (changes: Partial<DoctorFacts> = {}): DoctorFacts => ({
  instance: 'default',
  interfaces: [eth0],
  egress: [],
  own: [{ ifindex: 2, name: 'eth0', mac: OWN, loopback: false }],
  vips: [vip],
  backends: [rs1],
  flows: [],
  settled: 7,
  untracked: [],
  lookSeconds: 2,
  checksums: undefined,
  dropsToSender: 0,
  defaultRoutes: ['eth0'],
  unexamined: [],
  ...changes,
})

export const backend = (changes: Partial<BackendFacts>): DoctorFacts => given({ backends: [{ ...rs1, ...changes }] })
export const answering = (changes: Partial<AnswerFacts>): DoctorFacts =>
  backend({ answers: [{ ...answer, ...changes }] })
export const attached = (changes: Partial<InterfaceFacts>): DoctorFacts =>
  given({ interfaces: [{ ...eth0, ...changes }] })
export const onVip = (changes: Partial<VipFacts>): DoctorFacts => given({ vips: [{ ...vip, ...changes }] })
