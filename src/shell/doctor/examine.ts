// SPDX-License-Identifier: Apache-2.0
// The examination: a look at what the instance knows, questions to the segments, a second look, and what all of it says.
import { formatMac, type ServiceAddress } from '../../core/address.ts'
import { listed } from '../../core/doctor/diagnosis.ts'
import type { AnswerFacts, BackendFacts, DoctorFacts, VipFacts } from '../../core/doctor/facts.ts'
import { isPrefix } from '../../core/prefix.ts'
import { type AskedVip, Listener, TARGETS_AT_ONCE, type VipAnswers } from '../../core/probe/target.ts'
import type { Native } from '../../dataplane/native.ts'
import { missingCapabilities } from '../capabilities.ts'
import { demandPrivilege } from '../instance.ts'
import { lookAtChecksums } from './checksums.ts'
import { type Exchanged, exchange, type NeighbourQuestion } from './exchange.ts'
import { defaultRoutes, Host, interfaceFacts } from './host.ts'
import { byFlows, firstLook, type Instance, type Look, type SecondLook, secondLook } from './look.ts'
import { type Planned, planTargets, vipQuestions } from './targets.ts'
import { Turn } from './turn.ts'

export interface ExamineOptions {
  /** This service alone, with its backends. */
  service?: ServiceAddress
  /** For how long packets are looked at for partial checksums, whether or not connections are stuck. */
  listenMs?: number
  /** Aborted: whoever asked has gone, and it ends at once. */
  gone?: AbortSignal
}

/** What takes CAP_SYS_ADMIN, which the service leaves out. */
const AS_ROOT = 'that takes CAP_SYS_ADMIN, which this process runs without; as root: xlb doctor --here'

/** Pairs of backend and VIP that are asked in one run: some 10,000 frames. */
const PAIRS_MAX = 2000
/** VIPs that are asked for, each of everybody in every segment. */
const VIPS_MAX = 500
/** A handshake takes less. */
const LOOK_APART_MS = 2000
const LISTEN_MS = 4000

const nothing = (instance: string): DoctorFacts => ({
  instance,
  interfaces: undefined,
  egress: [],
  own: [],
  vips: [],
  backends: [],
  flows: [],
  settled: undefined,
  untracked: [],
  lookSeconds: 0,
  checksums: undefined,
  dropsToSender: 0,
  defaultRoutes: [],
  unexamined: [],
})

/**
 * The lock is held for looks alone, and the event loop for no longer than a look takes.
 * @throws Refusal for a service that does not exist, where what is pinned cannot be read, and where whoever asked has gone
 */
export const examine = async (instance: Instance, options: ExamineOptions): Promise<DoctorFacts> => {
  demandPrivilege()
  const { native, paths } = instance
  const turn = new Turn(options.gone)
  const first = await firstLook(turn, instance, options.service)
  if (first === undefined) return nothing(paths.name)
  const { look, halfOpen } = first
  const begun = Date.now()
  const asked = await ask(turn, native, look)
  const wait = halfOpen.size === 0 ? 0 : LOOK_APART_MS - (Date.now() - begun)
  if (wait > 0) await turn.rest(wait)
  const second = await secondLook(turn, instance, look, halfOpen)
  const interfaces = interfaceFacts(native, look)
  const { tracked, untracked } = byFlows(look)
  return {
    ...nothing(paths.name),
    interfaces,
    egress: look.egress.map(({ name, fault }) => ({ name, fault })),
    ...asked,
    unexamined: [...unnamedPrograms(look), ...asked.unexamined],
    flows: second?.stuck ?? [],
    settled: tracked.length === 0 ? undefined : second?.settled,
    untracked,
    lookSeconds: Math.round((Date.now() - begun) / 1000),
    checksums: await checksumsOf(turn, instance, look, second, options),
    dropsToSender: second === undefined ? 0 : second.dropsToSender - look.dropsToSender,
    defaultRoutes: defaultRoutes(),
  }
}

const unnamedPrograms = ({ interfaces }: Look): DoctorFacts['unexamined'] => {
  const names = interfaces.filter(({ attached, programName }) => attached && programName === null)
  if (names.length === 0) return []
  return [
    { what: `whether somebody has replaced xlb's program on ${listed(names.map(({ name }) => name))}`, why: AS_ROOT },
  ]
}

/**
 * Only a veth hands native XDP a checksum that is not finished. To look costs the program's being replaced for a moment: that is for
 * connections that are stuck, or who asks for it.
 */
const checksumsOf = async (
  turn: Turn,
  instance: Instance,
  look: Look,
  second: SecondLook | undefined,
  { listenMs }: ExamineOptions,
): Promise<DoctorFacts['checksums']> => {
  const kinds = new Map(instance.native.netlink.interfaces().map(({ name, kind }) => [name, kind]))
  const names = look.interfaces
    .filter(({ attached, mode, name }) => attached && mode === 'native' && kinds.get(name) === 'veth')
    .map(({ name }) => name)
  if (names.length === 0) {
    if (listenMs === undefined) return undefined
    return { unexamined: 'only a veth in native mode gets them, and xlb is attached to none' }
  }
  const isStuck = second !== undefined && second.stuck.length > 0
  if (isStuck || listenMs !== undefined) {
    if (missingCapabilities(['SYS_ADMIN']).length > 0) return { unexamined: AS_ROOT }
    return lookAtChecksums(turn, instance, names, listenMs ?? LISTEN_MS)
  }
  return { unexamined: 'no connection waits for its handshake; --listen 10s looks at packets all the same' }
}

/** Asks who has VIPs and backends' addresses, then backends themselves. */
const ask = async (
  turn: Turn,
  native: Native,
  look: Look,
): Promise<Pick<DoctorFacts, 'own' | 'vips' | 'backends' | 'unexamined'>> => {
  const names = new Set(look.services.map(({ service }) => service.vip))
  const host = new Host(native, names)
  const { planned, elsewhere, leftOut } = await planTargets(turn, look, host, PAIRS_MAX)
  const questions = vipQuestions(look, host, [...names].slice(0, VIPS_MAX))
  const all = [...[...questions.values()].flat(), ...planned.flatMap(({ question }) => question ?? [])]
  const { neighbours, outcomes } = await askAll(turn, native, look, planned, all)
  const backends: BackendFacts[] = []
  for (const each of planned) {
    backends.push(backendFacts(each, host, neighbours, outcomes.get(each), elsewhere))
    await turn.yield()
  }
  return {
    own: host.interfaces,
    vips: [...questions].map(([vip, asked]) => vipFacts(look, host, vip, asked, neighbours)),
    backends,
    unexamined: [
      ...tooMany(leftOut, look.backends.length, 'backends', `${PAIRS_MAX} pairs of backend and VIP`),
      ...tooMany(names.size - questions.size, names.size, 'VIPs, whether others have them', `${VIPS_MAX} VIPs`),
    ],
  }
}

const tooMany = (count: number, all: number, what: string, most: string): DoctorFacts['unexamined'] =>
  count === 0
    ? []
    : [
        {
          what: `${count === all ? 'all' : `${count} of`} ${all} ${what}`,
          why: `one run asks about ${most} at most; of one service by itself: xlb doctor SERVICE`,
        },
      ]

type Outcome = { listener: Listener; failed: string | undefined }

/** Neighbours are asked with the first backends. */
const askAll = async (
  turn: Turn,
  native: Native,
  look: Look,
  planned: readonly Planned[],
  questions: readonly NeighbourQuestion[],
): Promise<{ neighbours: Exchanged['neighbours']; outcomes: Map<Planned, Outcome> }> => {
  const strangers = new Set(look.backends.flatMap(({ path }) => (path.kind === 'link' ? [formatMac(path.mac)] : [])))
  const outcomes = new Map<Planned, Outcome>()
  const asked = planned.flatMap((each) => (each.target === undefined ? [] : [{ each, target: each.target }]))
  let neighbours: Exchanged['neighbours'] | undefined
  for (let from = 0; from < asked.length || neighbours === undefined; from += TARGETS_AT_ONCE) {
    const batch = asked.slice(from, from + TARGETS_AT_ONCE).map(({ each, target }, index) => ({
      each,
      listener: new Listener({ ...target, index }, (mac) => strangers.has(mac)),
    }))
    const listeners = batch.map(({ listener }) => listener)
    const exchanged = await exchange(turn, native, listeners, neighbours === undefined ? questions : [], strangers)
    neighbours ??= exchanged.neighbours
    for (const { each, listener } of batch) outcomes.set(each, { listener, failed: exchanged.failed.get(listener) })
  }
  return { neighbours, outcomes }
}

const vipFacts = (
  look: Look,
  host: Host,
  vip: string,
  asked: readonly NeighbourQuestion[],
  neighbours: Exchanged['neighbours'],
): VipFacts => {
  const answers = asked.flatMap((question) =>
    [...(neighbours.get(question) ?? [])]
      .filter((mac) => !host.hasMac(mac))
      .map((mac) => ({ interface: host.nameOf(question.heardOn[0] ?? question.ifindex), mac })),
  )
  const attached = look.interfaces.filter((each) => each.attached).map(({ ifindex }) => ifindex)
  return {
    vip,
    heldOn: host.holders(vip),
    asked: [...new Set(asked.map(({ heardOn, ifindex }) => host.nameOf(heardOn[0] ?? ifindex)))],
    answers,
    isPrefix: isPrefix({ vip }),
    onLink: !isPrefix({ vip }) && host.isOnLink(attached, vip),
  }
}

const pathFacts = ({ backend }: Planned, host: Host, question: NeighbourQuestion | undefined): BackendFacts['path'] => {
  const { path, services } = backend
  if (path.kind === 'unresolved') return path
  if (path.kind === 'link') {
    const ifindex = question?.heardOn[0] ?? 0
    const name = host.nameOf(ifindex)
    return { kind: 'link', mac: formatMac(path.mac), interface: name, ifindex, vlan: path.vlan }
  }
  const vips = [...new Set(services.map(({ vip }) => vip))].filter((vip) => !isPrefix({ vip }))
  const isHeld = (vip: string) => host.holders(vip).length > 0
  return { kind: 'local', held: vips.filter(isHeld), missing: vips.filter((vip) => !isHeld(vip)) }
}

const backendFacts = (
  planned: Planned,
  host: Host,
  neighbours: Exchanged['neighbours'],
  outcome: { listener: Listener; failed: string | undefined } | undefined,
  elsewhere: ReadonlyMap<string, number>,
): BackendFacts => {
  const { backend, question, unasked, mtu } = planned
  const answering = question === undefined ? [] : [...(neighbours.get(question) ?? [])]
  const answers = outcome?.listener.answers
  const target = outcome?.listener.target
  const isUnsent = outcome?.failed !== undefined && answers?.reachable !== true
  return {
    address: backend.address,
    active: backend.active,
    inactive: backend.inactive,
    path: pathFacts(planned, host, question),
    answering,
    reachable: answers?.reachable === true,
    answers:
      target === undefined || answers === undefined || isUnsent
        ? []
        : target.vips.flatMap((asked, i) => answerFacts(asked, answers.vips[i], host, elsewhere)),
    mtu:
      mtu === undefined || answers === undefined || answers.passed === 0
        ? undefined
        : { ...mtu, sent: target?.sizes[0] ?? 0, passed: answers.passed },
    unasked: isUnsent ? `nothing could be sent: ${outcome?.failed}` : unasked,
  }
}

const answerFacts = (
  { name, ports, sources }: AskedVip,
  answers: VipAnswers | undefined,
  host: Host,
  elsewhere: ReadonlyMap<string, number>,
): AnswerFacts[] => {
  if (answers === undefined) return []
  const { answered, returned, open, closed, heardAt, mss } = answers
  return [
    {
      vip: name,
      answered,
      returned,
      ports: ports.map((port, i) => ({ ...port, state: open.has(i) ? 'open' : closed.has(i) ? 'closed' : 'silent' })),
      elsewhere: sources.slice(1).map((address, i) => ({
        address,
        interface: host.nameOf(elsewhere.get(address) ?? 0),
        answered: heardAt.has(i + 1),
      })),
      mss,
    },
  ]
}
