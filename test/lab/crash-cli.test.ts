// SPDX-License-Identifier: Apache-2.0
// The commands themselves, killed with SIGKILL at random times: attach, detach, restore, clear and others.
import { existsSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { loadNative } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'
import { planeFaults } from './crash-plane.ts'
import { hasRoot, Lab } from './lab.ts'
import { backends, until, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const ROUNDS = 7

const native = hasRoot() ? loadNative() : undefined

/** What is pinned, as text that does not depend on the order of services; `detached` where nothing is. */
const stateOf = (lab: Lab): string => {
  const paths = pathsOf(lab.instance())
  if (native === undefined || !existsSync(paths.pins)) return 'detached'
  const plane = openPlaneAt(native, paths.pins)
  try {
    const live = readLive(plane)
    const services = [...live.desired].sort(([a], [b]) => (a < b ? -1 : 1))
    const { newFlows, filter } = live.globals
    return JSON.stringify([services, newFlows, filter, planeFaults(plane, live)], (_, value) =>
      typeof value === 'bigint' ? `${value}` : value,
    )
  } finally {
    plane.close()
  }
}

const hasLeftovers = (lab: Lab): boolean => {
  const { building, leaving } = pathsOf(lab.instance())
  return existsSync(building) || existsSync(leaving)
}

const hasXdp = async (lab: Lab): Promise<boolean> =>
  /\bxdp\b|prog\/xdp/.test((await lab.run('director', ['ip', 'link', 'show', 'dev', 'eth0'])).stdout)

interface Verb {
  argv: string[]
  input?: string
}

/** Kills the verb at a random time. @returns false where it had ended before */
const killed = async (lab: Lab, verb: Verb, meanMs: number): Promise<boolean> => {
  const child = lab.spawnXlb(verb.argv, verb.input === undefined ? {} : { input: verb.input })
  const timer = setTimeout(() => child.kill('SIGKILL'), Math.random() * 1.2 * meanMs)
  const { code } = await child.ended
  clearTimeout(timer)
  return code === 137
}

/** 3,000 of them, in the form that `filter load` reads. */
const prefixes = (first: number): string =>
  Array.from({ length: 3000 }, (_, i) => `deny ${first}.${i >> 8}.${i & 255}.0/24`).join('\n')

/** A round of verbs, each of which finds the state that the one before has made. */
const verbsOf = (lab: Lab): Verb[] => {
  const [rs1 = { address: '' }] = backends(lab, 1)
  const service = (port: number) => `tcp://${lab.vip}:${port}`
  const services = [80, 81].map((port) => ({
    service: service(port),
    scheduler: 'mh',
    seed: '0x0123456789abcdef',
    backends: backends(lab, 1, 2, 3),
  }))
  return [
    { argv: ['attach', 'eth0', '--flows', '65536'] },
    { argv: ['restore', '-'], input: JSON.stringify({ services }) },
    { argv: ['service', 'add', service(82), '--seed', '7'] },
    { argv: ['backend', 'set', service(82), rs1.address] },
    { argv: ['filter', 'load', '-'], input: prefixes(10) },
    { argv: ['filter', 'load', service(80), '-'], input: prefixes(11) },
    { argv: ['limits', '--new-flows', '1000'] },
    { argv: ['filter', 'load', '-'], input: prefixes(12) },
    { argv: ['clear'] },
    { argv: ['detach', '--all'] },
  ]
}

const oneRound = async (
  t: ExecutionContext,
  lab: Lab,
  meansMs: number[],
): Promise<{ kills: number; after: number }> => {
  let kills = 0
  let after = 0
  for (const [i, verb] of verbsOf(lab).entries()) {
    const what = verb.argv.slice(0, 2).join(' ')
    const before = stateOf(lab)
    const wasKilled = await killed(lab, verb, meansMs[i] ?? 0)
    const now = stateOf(lab)
    // Pins that a killed attach or detach has left aside hold the link until the next verb clears them away.
    if (!hasLeftovers(lab)) {
      t.is(now === 'detached', !(await attachedNow(lab, now)), `${what}: XDP is on eth0 as long as something is pinned`)
    }
    if (wasKilled) kills++
    if (wasKilled && now !== before) after++
    // Again, to its end: from the state before it does its work, from the state after it finds it done.
    const again = await xlbAgain(lab, verb)
    const reached = stateOf(lab)
    t.not(reached, before, `${what}: it has done its work: ${again}`)
    if (now !== before) t.is(now, reached, `${what}: neither the state before nor the state after`)
    if (wasKilled) continue
    t.is(now, reached, `${what}: it was not killed, and its work is done`)
  }
  return { kills, after }
}

/** The kernel takes a dead process's XDP link off a moment after the process. */
const attachedNow = async (lab: Lab, state: string): Promise<boolean> => {
  if (state === 'detached') await until('eth0 has no XDP program', async () => !(await hasXdp(lab)))
  return hasXdp(lab)
}

/** Runs a verb that may have been done already. */
const xlbAgain = async (lab: Lab, verb: Verb): Promise<string> => {
  const { code, stdout, stderr } = await lab.xlb(verb.argv, verb.input === undefined ? {} : { input: verb.input })
  if (code === 0) return stdout
  if (code === 1 && /already|exists already|is not attached/.test(stderr)) return stderr
  throw new Error(`xlb ${verb.argv.join(' ')}: exit ${code}: ${stderr}`)
}

labTest('a command killed at any time leaves the state before or after it, and can be given again', async (t) => {
  const lab = await Lab.up(t)
  t.timeout(300_000)
  // What each verb takes here and now.
  const meansMs: number[] = []
  for (const verb of verbsOf(lab)) {
    const started = performance.now()
    await xlb(lab, verb.argv, verb.input === undefined ? {} : { input: verb.input })
    meansMs.push(performance.now() - started)
  }
  const total = { kills: 0, after: 0 }
  for (let round = 0; round < ROUNDS; round++) {
    const { kills, after } = await oneRound(t, lab, meansMs)
    total.kills += kills
    total.after += after
  }
  t.log(`${total.kills} of ${ROUNDS * meansMs.length} commands were killed; ${total.after} had committed by then`)
  t.true(total.kills >= ROUNDS, 'hardly any was killed before its end')
  t.false(existsSync(`/sys/fs/bpf/xlb/${lab.prefix}`))
  t.false(existsSync(`/sys/fs/bpf/xlb/${lab.prefix}~building`))
  t.false(existsSync(`/sys/fs/bpf/xlb/${lab.prefix}~leaving`))
})
