// SPDX-License-Identifier: Apache-2.0
// What `xlb trace` says of a packet is what the program does with it: for each, the maps are explained, then the frame goes
// through the program. XLB_SEED=n repeats a run.
import test, { type ExecutionContext } from 'ava'
import { parseMac, parseService } from '../../src/core/address.ts'
import type { DesiredState, Scheduler } from '../../src/core/desired.ts'
import { withGlobalFilter } from '../../src/core/filter.ts'
import type { Family } from '../../src/core/ip.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { addService } from '../../src/core/verbs.ts'
import { budgetOf, type Explanation, explain } from '../../src/dataplane/explain.ts'
import { FLOW_TABLES } from '../../src/dataplane/flow-tables.ts'
import { Client, ClientState, ClientValue, Cpu, FlowState, FlowValue } from '../../src/dataplane/layout.gen.ts'
import type { TracedPacket } from '../../src/dataplane/way.ts'
import { FAMILIES, kitOf } from './families.ts'
import { TCP, VIP } from './frames.ts'
import { Balancer, backendMac, breathe, FAST_CLOCK, LOCAL, type Reasons, UNRESOLVED, VERDICT } from './plane.ts'
import { makeRandom, type Random } from './random.ts'
import { randomChange } from './random-changes.ts'
import { randomFilter } from './random-filter.ts'
import { VIPS, VIPS6 } from './random-frames.ts'

/** Those that services are made of; and others, some of them in prefixes. */
const TARGETS: Readonly<Record<Family, readonly (readonly string[])[]>> = {
  ipv4: [VIPS.slice(0, 3), [...VIPS, '192.0.2.77', '198.19.0.0']],
  ipv6: [VIPS6.slice(0, 3), [...VIPS6, '2001:db8::c', '2001:db8:7::9']],
}
const PORTS = [80, 81, 53]
const VERDICTS = { XDP_DROP: VERDICT.DROP, XDP_PASS: VERDICT.PASS, XDP_TX: VERDICT.TX, XDP_REDIRECT: VERDICT.REDIRECT }

interface Sample {
  packet: TracedPacket
  frame: Buffer
}

const sampleOf = (
  protocol: 'tcp' | 'udp',
  {
    source,
    sourcePort,
    vip,
    port,
    flags,
  }: { source: string; sourcePort: number; vip: string; port: number; flags: number },
): Sample => ({
  packet: {
    protocol,
    source,
    sourcePort,
    vip,
    port,
    opens: protocol === 'tcp' && (flags & (TCP.SYN | TCP.ACK)) === TCP.SYN,
  },
  frame: kitOf(vip)[protocol === 'tcp' ? 'tcpFrame' : 'udpFrame']({ source, sourcePort, vip, port, flags }),
})

const randomSource = (random: Random, family: Family): string =>
  family === 'ipv4'
    ? `10.0.${random.below(2)}.${random.below(24)}`
    : `2001:db8:cc:${random.below(2)}::${random.below(24).toString(16)}`

const randomSample = (random: Random, family: Family): Sample =>
  sampleOf(random.once(3) ? 'udp' : 'tcp', {
    source: randomSource(random, family),
    sourcePort: 1024 + random.below(12),
    vip: random.pick(TARGETS[family][random.once(12) ? 1 : 0] ?? []),
    port: random.once(20) ? random.below(65536) : random.pick(PORTS),
    flags: random.pick([TCP.SYN, TCP.SYN, TCP.ACK, TCP.ACK, TCP.FIN | TCP.ACK, TCP.RST, TCP.SYN | TCP.ACK]),
  })

/** What the program has to count for it. */
const reasonsOf = ({ reason, look }: Explanation): Reasons => ({
  [reason]: 1,
  ...(look?.recorded === undefined ? {} : { [look.recorded]: 1 }),
  ...(look?.noted === undefined ? {} : { [look.noted]: 1 }),
})

/** @returns what differs between what was said of a packet and what the program did; undefined: nothing */
const difference = (said: Explanation, balancer: Balancer, frame: Buffer): string | undefined => {
  const sent = balancer.send(Buffer.from(frame))
  const backend = said.verdict === 'XDP_TX' || said.verdict === 'XDP_REDIRECT' ? said.look?.backend : undefined
  const mac = sent.backend === undefined ? undefined : parseMac(backendMac(sent.backend))
  const reasons = Object.entries(reasonsOf(said)).sort().join()
  const same =
    sent.verdict === VERDICTS[said.verdict] &&
    Object.entries(sent.reasons).sort().join() === reasons &&
    mac === backend?.mac
  const shown = JSON.stringify(said, (_, value) => (typeof value === 'bigint' ? `${value}` : value))
  return same ? undefined : `${shown}; the program: ${sent.verdict} ${JSON.stringify(sent.reasons)} ${sent.backend}`
}

/** Gives some entries a random state, and an age from fresh to long past every timeout. */
const ageEntries = (random: Random, balancer: Balancer): void => {
  const now = balancer.plane.age()
  const keep = ~(BigInt(FlowValue.FLOW_AGE_MASK) << 32n) & ~(BigInt(FlowValue.FLOW_STATE_MASK) << 28n)
  for (const { name, words: length } of Object.values(FLOW_TABLES)) {
    const words = new BigUint64Array(balancer.plane.buffer(name))
    // The value is an entry's last word.
    for (let at = length / 2 - 1; at < words.length; at += length / 2) {
      const value = words[at] ?? 0n
      if (value === 0n || !random.once(3)) continue
      const wasUdp = Number((value >> 28n) & 15n) >= FlowState.FLOW_UDP_ONCE
      const state = wasUdp ? FlowState.FLOW_UDP_ONCE + random.below(2) : FlowState.FLOW_HALF_OPEN + random.below(5)
      const age = (now - random.below(random.once(2) ? 40 : 2000)) & FlowValue.FLOW_AGE_MASK
      words[at] = (value & keep) | (BigInt(age) << 32n) | (BigInt(state) << 28n)
    }
  }
}

/** Assures some notes, and ends a third, or lets them end soon. */
const ageNotes = (random: Random, balancer: Balancer): void => {
  const words = new BigUint64Array(balancer.plane.buffer('clients'))
  const shift = BigInt(ClientValue.CLIENT_AGE_SHIFT)
  for (let at = Client.offset.value / 8; at < words.length; at += Client.size / 8) {
    const value = words[at] ?? 0n
    if (value === 0n || !random.once(3)) continue
    const until = (balancer.plane.age() + random.below(3000) - 1500) & ClientValue.CLIENT_AGE_MASK
    const assured = random.once(2) ? BigInt(ClientState.CLIENT_ASSURED << ClientValue.CLIENT_STATE_SHIFT) : 0n
    words[at] = (value & ~(BigInt(ClientValue.CLIENT_AGE_MASK) << shift)) | (BigInt(until) << shift) | assured
  }
}

const tally = (seen: Map<string, number>, family: Family, said: Explanation): void => {
  const { look } = said
  const labels: (string | undefined)[] = [said.reason, look?.recorded, look?.noted, look?.flow?.lapse]
  if (look !== undefined) labels.push(`${look.tracked ? 'tracked' : 'hashed'} ${look.choice.by}`)
  for (const label of labels) {
    const of = `${family} ${label}`
    if (label !== undefined) seen.set(of, (seen.get(of) ?? 0) + 1)
  }
}

const change = (balancer: Balancer, next: (state: DesiredState) => DesiredState): void => {
  try {
    balancer.change(next)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
  }
}

const CHANGES = 600
const FRAMES_PER_CHANGE = 60
/** A unit of age is 8 ms here, and random changes are many: so timeouts and marks end in between. */
const TIMEOUTS = Array.from({ length: 16 }, (_, state) => (state === FlowState.FLOW_CLOSED ? 5 : 30 + 3 * state))

test.serial('what trace says is what the program does, through random changes, ages and states', async (t) => {
  t.timeout(120_000)
  const seed = Number(process.env.XLB_SEED ?? Date.now() % 2 ** 31)
  const random = makeRandom(seed)
  const balancer = new Balancer({
    capacity: { flows: 2 ** 13, flows6: 2 ** 13, clients: 32 },
    settings: { ageShift: FAST_CLOCK, timeout: TIMEOUTS },
  })
  t.teardown(() => balancer.close())
  const { plane } = balancer
  const seen = new Map<string, number>()
  // Local backends are rare among random ones.
  for (const { HOST } of FAMILIES) balancer.add(`tcp://${HOST}:80`, { scheduler: 'rr' }, { 1: { path: LOCAL } })
  for (let round = 0; round < CHANGES; round++) {
    await breathe()
    change(balancer, (state) => randomChange(random, state))
    if (random.once(12)) balancer.changeGlobals((globals) => withGlobalFilter(globals, () => randomFilter(random)))
    ageEntries(random, balancer)
    ageNotes(random, balancer)
    for (let i = 0; i < FRAMES_PER_CHANGE; i++) {
      const family = random.once(2) ? 'ipv4' : 'ipv6'
      const { packet, frame } = randomSample(random, family)
      const now = plane.age()
      const said = explain(plane, packet, { now, interfaceSlot: 0, budget: 'left' })
      const wrong = difference(said, balancer, frame)
      // The clock went on in between: what was said was of another moment.
      if (plane.age() !== now) continue
      if (wrong !== undefined) return t.fail(`XLB_SEED=${seed}, round ${round}: ${frame.toString('hex')}: ${wrong}`)
      tally(seen, family, said)
    }
  }
  t.log([...seen].map(([label, count]) => `${label} ${count}`).join(', '))
  const hasComeUp = (label: string, families: readonly Family[]): void =>
    void t.true(
      families.some((family) => (seen.get(`${family} ${label}`) ?? 0) > 0),
      `${label} has not come up: XLB_SEED=${seed}, ${families}`,
    )
  for (const label of [
    ...['PASS_NOT_VIP', 'PASS_NO_SERVICE', 'TX_FORWARDED', 'TX_REDIRECTED', 'DROP_DENIED_GLOBAL', 'FLOW_INSERTED'],
    ...['ended', 'expired', 'tracked entry', 'tracked schedule', 'tracked ring', 'tracked ring-before', 'hashed ring'],
  ]) {
    for (const { family } of FAMILIES) hasComeUp(label, [family])
  }
  for (const label of [
    ...['PASS_LOCAL', 'DROP_NO_BACKEND', 'DROP_DENIED', 'backend-down', 'hashed entry', 'hashed ring-before'],
    ...['tracked note', 'CLIENT_NOTED'],
  ]) {
    hasComeUp(label, ['ipv4', 'ipv6'])
  }
})

const SERVICE = `tcp://${VIP}:80`
const at = (balancer: Balancer, budget: 'left' | 'flooded' | 'spent' = 'left') => ({
  now: balancer.plane.age(),
  interfaceSlot: 0,
  budget,
})
const from = (sourcePort: number, flags: number, port = 80): Sample =>
  sampleOf('tcp', { source: '203.0.113.5', sourcePort, vip: VIP, port, flags })

const open = (t: ExecutionContext, scheduler: Scheduler, options = {}): Balancer => {
  const balancer = new Balancer(options)
  t.teardown(() => balancer.close())
  balancer.add(SERVICE, { scheduler }, 5)
  return balancer
}

/** Explains one packet, sends it, and holds the two against each other. */
const check = (t: ExecutionContext, balancer: Balancer, { packet, frame }: Sample, circumstances = at(balancer)) => {
  const said = explain(balancer.plane, packet, circumstances)
  t.is(difference(said, balancer, frame), undefined)
  return said
}

test.serial('explaining changes nothing: no turn is taken, no entry written', (t) => {
  const balancer = open(t, 'rr')
  const before = ['cursors', 'flows', 'cpus', 'counters', 'root'].map((name) =>
    Buffer.from(balancer.plane.buffer(name as 'flows')).toString('base64'),
  )
  for (let port = 1; port < 50; port++) explain(balancer.plane, from(port, TCP.SYN).packet, at(balancer))
  const after = ['cursors', 'flows', 'cpus', 'counters', 'root'].map((name) =>
    Buffer.from(balancer.plane.buffer(name as 'flows')).toString('base64'),
  )
  t.deepEqual(after, before)
})

test.serial('a service that its VIP’s bucket had no room for is found in the second table', (t) => {
  const balancer = open(t, 'mh')
  balancer.change((state) =>
    Array.from({ length: 30 }, (_, i) => parseService(`tcp://${VIP}:${1000 + i}`)).reduce(
      (next, address) => addService(next, address, { scheduler: 'mh' }, 1n),
      state,
    ),
  )
  for (let i = 0; i < 30; i++) t.is(check(t, balancer, from(5, TCP.SYN, 1000 + i)).reason, 'DROP_NO_BACKEND')
  t.is(check(t, balancer, from(5, TCP.SYN, 80)).reason, 'TX_FORWARDED')
  t.is(check(t, balancer, from(5, TCP.SYN, 999)).reason, 'PASS_NO_SERVICE')
})

test.serial('where both buckets are full of established flows, the ring decides, and trace says so', (t) => {
  const balancer = open(t, 'rr', { capacity: { flows: 8 } })
  let full = 0
  for (let port = 1; port < 60; port++) {
    if (check(t, balancer, from(port, TCP.SYN)).look?.recorded === 'FLOW_REFUSED_FULL') full++
    check(t, balancer, from(port, TCP.ACK))
  }
  t.true(full > 10, `${full}`)
  // Long idle ones give way.
  const words = new BigUint64Array(balancer.plane.buffer('flows'))
  for (let i = 1; i < words.length; i += 2) words[i] = (words[i] ?? 0n) ^ (2000n << 32n)
  for (let port = 100; port < 104; port++) {
    t.is(check(t, balancer, from(port, TCP.SYN)).look?.recorded, 'FLOW_INSERTED')
  }
})

test.serial('beyond the bound on new flows the ring decides, and for a time after', (t) => {
  const balancer = open(t, 'rr', { newFlows: 3 })
  t.teardown(() => balancer.native.system.pinToCpu(-1))
  balancer.native.system.pinToCpu(0)
  const budget = () => budgetOf(balancer.plane, 0, balancer.plane.age())
  t.is(budget(), 'left')
  for (let port = 1; port <= 3; port++) t.is(check(t, balancer, from(port, TCP.SYN)).look?.choice.by, 'schedule')
  t.is(budget(), 'spent')
  for (let port = 10; port <= 20; port++) {
    for (const flags of [TCP.SYN, TCP.ACK]) {
      const said = check(t, balancer, from(port, flags), at(balancer, budget()))
      t.is(said.look?.recorded, 'FLOW_REFUSED_BUDGET')
      t.is(said.look?.choice.by, 'ring')
    }
  }
  t.is(check(t, balancer, from(1, TCP.ACK), at(balancer, budget())).look?.choice.by, 'entry')
  // The next unit of age: the bound is not passed any more, but the flood was not long ago.
  const cpus = new DataView(balancer.plane.buffer('cpus'))
  cpus.setUint32(Cpu.offset.budgetUsed, 0, true)
  t.is(budget(), 'flooded')
  const said = check(t, balancer, from(30, TCP.SYN), at(balancer, budget()))
  t.is(said.look?.choice.by, 'ring')
  t.is(said.look?.recorded, 'FLOW_INSERTED')
})

test.serial('a backend that has no MAC, that is this host, or that is drained', (t) => {
  const balancer = open(t, 'mh')
  for (const path of [UNRESOLVED, LOCAL]) {
    for (let backend = 1; backend <= 5; backend++) balancer.setBackend(SERVICE, backend, { path })
    for (let port = 1; port < 40; port++) check(t, balancer, from(port, port % 2 === 0 ? TCP.SYN : TCP.ACK))
  }
  t.is(check(t, balancer, from(77, TCP.SYN)).reason, 'PASS_LOCAL')
  const tracked = open(t, 'rr')
  for (let port = 1; port <= 10; port++) check(t, tracked, from(port, TCP.SYN))
  tracked.drain(SERVICE, 1)
  for (let port = 1; port <= 10; port++) t.is(check(t, tracked, from(port, TCP.ACK)).look?.choice.by, 'entry')
  for (let port = 11; port <= 20; port++) {
    const { look } = check(t, tracked, from(port, TCP.SYN))
    t.is(look?.choice.by, 'schedule')
    t.not(look?.choice.backend, tracked.indexOf(SERVICE, 1))
  }
})

test.serial('a source that has opened too many connections, and one that may', (t) => {
  const balancer = new Balancer({ settings: { jiffiesPerSecond: 2 ** 31 } })
  t.teardown(() => balancer.close())
  balancer.add(SERVICE, { scheduler: 'rr', sourceRate: 5, sourcePrefix: 24 }, 2)
  const circumstances = () => ({ ...at(balancer), jiffies: balancer.plane.clock().jiffies })
  for (let port = 1; port <= 9; port++) {
    const said = check(t, balancer, from(port, TCP.SYN), circumstances())
    t.deepEqual(said.source?.rate, { rate: 5, burst: 5, allows: port <= 5 })
    t.is(said.reason, port <= 5 ? 'TX_FORWARDED' : 'DROP_RATE_LIMITED')
    t.is(check(t, balancer, from(port, TCP.ACK), circumstances()).source?.rate?.allows, undefined)
  }
})

test.serial('of two entries of one flow, the program goes by the fresh settled one, and trace says that one', (t) => {
  const balancer = open(t, 'rr')
  const sample = from(9, TCP.ACK)
  const { look } = explain(balancer.plane, sample.packet, at(balancer))
  const [first = 0, second = 0] = look?.flow?.buckets ?? []
  t.not(first, second)
  check(t, balancer, from(9, TCP.SYN))
  check(t, balancer, sample)
  // Another CPU's entry of the same flow, with another backend and half-open, stands where packets look first.
  const words = new BigUint64Array(balancer.plane.buffer('flows'))
  const own = [first, second]
    .flatMap((bucket) => [0, 1, 2, 3].map((i) => bucket * 8 + 2 * i))
    .find((i) => words[i] !== 0n)
  const key = words[own ?? 0] ?? 0n
  const value = words[(own ?? 0) + 1] ?? 0n
  const other = (value & ~(0xffffn << 16n)) | (3n << 16n) | (BigInt(FlowState.FLOW_HALF_OPEN) << 28n)
  for (const [bucket, entry] of [
    [first, other],
    [second, value],
  ] as const) {
    words.fill(0n, bucket * 8, bucket * 8 + 8)
    words[bucket * 8] = key
    words[bucket * 8 + 1] = entry
  }
  t.is(check(t, balancer, sample).look?.choice.backend, 0)
  t.is(check(t, balancer, from(9, TCP.SYN)).look?.choice.backend, 3)
})
