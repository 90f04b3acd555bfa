// SPDX-License-Identifier: Apache-2.0
// What `xlb upgrade` replaces, what it leaves alone, and what is there when it fails or is killed.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { Refusal } from '../../src/core/refusal.ts'
import { nextClockPin, pathsOf } from '../../src/shell/instance.ts'
import { upgrade } from '../../src/shell/upgrade.ts'
import { hasRoot, Lab } from './lab.ts'
import { clockOf, native, pinned, programsOf, tablesOf, tagsOf, useVersion, withUpdates } from './program.ts'
import { compileVariant } from './variant.ts'
import { ask, attach, backends, list, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const fromRoot = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const PASS = fromRoot('build/bpf/pass.bpf.o')

const on = async (lab: Lab, host: string, command: string): Promise<string> => {
  const { code, stdout, stderr } = await lab.run(host, ['sh', '-ec', command])
  if (code !== 0) throw new Error(`${host}: ${command}: exit ${code}: ${stderr}`)
  return stdout
}

interface Row {
  name: string
  outcome: string
  loaded: { id: number; tag: string; secondsAgo: number } | null
  build: { id: number | null; tag: string } | null
  fault: string | null
  mend: string | null
}

const upgradeJson = async (
  lab: Lab,
  ...more: string[]
): Promise<{ check: boolean; interfaces: Row[]; clock: string }> =>
  JSON.parse(await xlb(lab, ['upgrade', '--json', ...more]))

const outcomes = (rows: readonly Row[]): string[] => rows.map(({ name, outcome }) => `${name} ${outcome}`)

/** A lab with a service, attached to eth0 (native) and eth1 (generic) with this build's program. */
const begin = async (t: ExecutionContext): Promise<Lab> => {
  const lab = await Lab.up(t, { servers: 2 })
  t.timeout(300_000)
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  await on(lab, 'director', 'ip link add name eth1 type veth peer name far; ip link set dev eth1 up')
  await xlb(lab, ['attach', 'eth1', '--mode', 'generic'])
  await restore(lab, [{ service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: backends(lab, 1, 1) }])
  return lab
}

const balances = async (t: ExecutionContext, lab: Lab): Promise<void> => {
  t.deepEqual([...(await ask(lab, 4))].sort(), ['rs1', 'rs1', 'rs2', 'rs2'])
}

/** The same build for the same slot and settings has the same tag: what was just attached needs no replacing. */
labTest('there is nothing to do where every interface has this build’s program, with or without --check', async (t) => {
  const lab = await begin(t)
  const before = programsOf(lab)
  t.not(before[0]?.tag, before[1]?.tag, 'each interface has a copy of its own')
  for (const more of [[], ['--check']]) {
    const { interfaces, clock } = await upgradeJson(lab, ...more)
    t.deepEqual(outcomes(interfaces), ['eth0 current', 'eth1 current'])
    t.deepEqual(
      interfaces.map(({ loaded, build }) => [loaded?.id, loaded?.tag, build?.id]),
      before.map((program) => [program?.id, program?.tag, null]),
    )
    t.is(clock, 'current')
    t.regex(await xlb(lab, ['upgrade', ...more]), /^eth0: has this build's program \d+ .*\n.*\nnothing to do\n$/)
  }
  t.deepEqual(programsOf(lab), before, 'not even loaded anew')
})

labTest('every interface gets this build’s program and its settings stay; --check only says so', async (t) => {
  const lab = await begin(t)
  const [ours, ourClock] = [tagsOf(lab), clockOf(lab).tag]
  useVersion(lab, compileVariant(1)).close()
  const [before, beforeClock, saved, tables, pins] = [
    programsOf(lab),
    clockOf(lab),
    await save(lab),
    tablesOf(lab),
    pinned(lab),
  ]
  t.notDeepEqual(tagsOf(lab), ours)
  await balances(t, lab)

  const checked = await upgradeJson(lab, '--check')
  t.deepEqual(outcomes(checked.interfaces), ['eth0 outdated', 'eth1 outdated'])
  t.deepEqual(
    checked.interfaces.map(({ loaded, build }) => [loaded?.id, loaded?.tag, build?.id, build?.tag]),
    before.map((program, i) => [program?.id, program?.tag, null, ours[i]]),
  )
  t.true(checked.interfaces.every(({ loaded }) => (loaded?.secondsAgo ?? -1) >= 0 && (loaded?.secondsAgo ?? 99) < 60))
  t.is(checked.clock, 'outdated')
  t.regex(
    await xlb(lab, ['upgrade', '--check']),
    /nothing was changed; xlb upgrade would replace 2 programs and the clock program\n$/,
  )
  t.deepEqual([programsOf(lab), clockOf(lab)], [before, beforeClock])

  const done = await upgradeJson(lab)
  t.deepEqual(outcomes(done.interfaces), ['eth0 replaced', 'eth1 replaced'])
  t.is(done.clock, 'replaced')
  t.deepEqual([tagsOf(lab), clockOf(lab).tag], [ours, ourClock])
  t.deepEqual(
    done.interfaces.map(({ build }) => build?.id),
    programsOf(lab).map((program) => program?.id),
  )
  t.deepEqual([await save(lab), tablesOf(lab), pinned(lab)], [saved, tables, pins])
  t.deepEqual(
    (await list(lab)).interfaces.map(({ name, mode, attached }) => [name, mode, attached]),
    [
      ['eth0', 'native', true],
      ['eth1', 'generic', true],
    ],
  )
  await balances(t, lab)
})

labTest('an interface that is gone or detached is named and skipped, with how to mend it', async (t) => {
  const lab = await begin(t)
  const [ours] = tagsOf(lab)
  useVersion(lab, compileVariant(1)).close()
  await on(lab, 'director', 'ip link del dev eth1')
  const { code, stdout, stderr } = await lab.xlb(['upgrade'])
  t.is(code, 0)
  t.regex(stdout, /^eth0: replaced program .*\nreplaced 1 program and the clock program; /)
  t.regex(stderr, /^warning: eth1: skipped: eth1 was deleted\n.*xlb attach eth1.*xlb detach eth1\n$/)
  t.deepEqual(tagsOf(lab), [ours, undefined])
  const folder = `/sys/fs/bpf/xlb/${lab.prefix}/links`
  await on(lab, 'director', `bpftool link detach pinned ${folder}/$(ls ${folder} | sort -n | head -n 1)`)
  const [eth0, eth1] = (await upgradeJson(lab)).interfaces
  t.deepEqual(
    [eth0?.outcome, eth0?.fault, eth0?.loaded, eth0?.build],
    ['skipped', 'its XDP link was detached', null, null],
  )
  t.is(eth1?.outcome, 'skipped')
  await xlb(lab, ['attach', 'eth0', '--mode', 'native'])
  await xlb(lab, ['detach', 'eth1'])
  t.deepEqual(tagsOf(lab), [ours])
  await balances(t, lab)
})

labTest('an interface that is deleted while the others are replaced is skipped too', async (t) => {
  const lab = await begin(t)
  const ours = tagsOf(lab)
  useVersion(lab, compileVariant(1)).close()
  const meanwhile = withUpdates(native, (update, nth) => {
    if (nth === 1) spawnSync('ip', ['-n', `${lab.prefix}-director`, 'link', 'del', 'dev', 'eth1'])
    update()
  })
  const { interfaces, clock } = upgrade(meanwhile, pathsOf(lab.instance()), { check: false })
  t.deepEqual(
    interfaces.map(({ name, outcome, fault }) => [name, outcome, fault]),
    [
      ['eth0', 'replaced', undefined],
      ['eth1', 'skipped', 'eth1 was deleted meanwhile'],
    ],
  )
  t.is(clock, 'replaced')
  t.deepEqual(tagsOf(lab), [ours[0], undefined])
  await balances(t, lab)
})

labTest('where a link update fails, those before it are put back, and all is as it was', async (t) => {
  const lab = await begin(t)
  useVersion(lab, compileVariant(1)).close()
  const [before, clock, pins] = [programsOf(lab), clockOf(lab), pinned(lab)]
  const failing = withUpdates(native, (update, nth) => {
    if (nth === 2) throw new Error('bpf_link_update eth1: ENOMEM')
    update()
  })
  const refused = t.throws(() => upgrade(failing, pathsOf(lab.instance()), { check: false }), { instanceOf: Refusal })
  t.regex(refused?.message ?? '', /^eth1: cannot be replaced: .*ENOMEM; every interface has the program that it had$/)
  t.deepEqual([programsOf(lab), clockOf(lab), pinned(lab)], [before, clock, pins])
  await balances(t, lab)
  const stuck = withUpdates(native, (update, nth) => {
    if (nth >= 2) throw new Error('bpf_link_update: ENOMEM')
    update()
  })
  const mixed = t.throws(() => upgrade(stuck, pathsOf(lab.instance()), { check: false }), { instanceOf: Refusal })
  t.regex(mixed?.message ?? '', /; eth0 kept the new program, all others .* balance packets alike$/)
  t.deepEqual([tagsOf(lab)[1], clockOf(lab)], [before[1]?.tag, clock])
  await balances(t, lab)
  t.deepEqual(outcomes((await upgradeJson(lab)).interfaces), ['eth0 current', 'eth1 replaced'])
  await balances(t, lab)
})

labTest('where a program cannot be loaded for every interface, none is replaced', async (t) => {
  const lab = await begin(t)
  useVersion(lab, compileVariant(1)).close()
  const [before, clock, pins] = [programsOf(lab), clockOf(lab), pinned(lab)]
  let opened = 0
  const second = {
    ...native,
    openObject: (file: string) => native.openObject(opened++ === 1 ? PASS : file),
  }
  const refused = t.throws(() => upgrade(second, pathsOf(lab.instance()), { check: false }), { instanceOf: Refusal })
  t.regex(refused?.message ?? '', /^eth1: this build's program cannot be loaded: .*; nothing was replaced$/)
  t.deepEqual([programsOf(lab), clockOf(lab), pinned(lab)], [before, clock, pins])
  await balances(t, lab)
})

labTest('without CAP_SYS_ADMIN it says that it needs that, and replaces nothing', async (t) => {
  const lab = await begin(t)
  useVersion(lab, compileVariant(1)).close()
  const before = [programsOf(lab), clockOf(lab), pinned(lab)]
  const bounded = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin']
  const argv = [...bounded, process.execPath, fromRoot('dist/xlb.cjs'), '--instance', lab.instance(), 'upgrade']
  const { code, stderr } = await lab.run('director', argv)
  t.is(code, 1)
  t.regex(stderr, /^xlb: .* takes CAP_SYS_ADMIN; nothing was replaced\n {5}run xlb upgrade as root/)
  t.deepEqual([programsOf(lab), clockOf(lab), pinned(lab)], before)
})

labTest(
  'killed around any link update, it leaves each interface a program, and the next upgrade finishes',
  async (t) => {
    const lab = await begin(t)
    const [ours, ourClock] = [tagsOf(lab), clockOf(lab).tag]
    const variant = compileVariant(1)
    for (const [moment, nth, replaced] of [
      ['before', 1, 0],
      ['after', 1, 1],
      ['before', 2, 1],
      ['after', 2, 2],
    ] as const) {
      const what = `${moment} update ${nth}`
      useVersion(lab, variant).close()
      const [old, oldClock] = [tagsOf(lab), clockOf(lab).tag]
      const argv = ['--import', 'tsx', fromRoot('test/lab/upgrade-killed.ts'), lab.instance(), moment, `${nth}`]
      t.is((await lab.run('director', [process.execPath, ...argv])).code, 137, what)
      t.deepEqual(
        tagsOf(lab),
        old.map((tag, i) => (i < replaced ? ours[i] : tag)),
        what,
      )
      t.is(clockOf(lab).tag, oldClock)
      t.true(existsSync(nextClockPin(pathsOf(lab.instance()).pins)))
      t.true(
        (await list(lab)).interfaces.every(({ attached }) => attached),
        'neither program is a stranger',
      )
      await balances(t, lab)
      await xlb(lab, ['upgrade'])
      t.deepEqual([tagsOf(lab), clockOf(lab).tag], [ours, ourClock], what)
      t.false(existsSync(nextClockPin(pathsOf(lab.instance()).pins)))
    }
    await balances(t, lab)
  },
)

labTest('killed at random times, it leaves each interface a program, and the next upgrade finishes', async (t) => {
  const lab = await begin(t)
  const ours = tagsOf(lab)
  const old = useVersion(lab, compileVariant(1))
  t.teardown(old.close)
  const theirs = tagsOf(lab)
  const started = performance.now()
  await xlb(lab, ['upgrade'])
  const meanMs = performance.now() - started
  let kills = 0
  for (let round = 0; round < 10; round++) {
    old.again()
    const child = lab.spawnXlb(['upgrade'])
    const timer = setTimeout(() => child.kill('SIGKILL'), Math.random() * 1.1 * meanMs)
    if ((await child.ended).code === 137) kills++
    clearTimeout(timer)
    for (const [i, tag] of tagsOf(lab).entries()) t.true(tag === ours[i] || tag === theirs[i], `${tag}`)
    await balances(t, lab)
  }
  await xlb(lab, ['upgrade'])
  t.deepEqual(tagsOf(lab), ours)
  await balances(t, lab)
  t.log(`${kills} of 10 were killed before their end`)
  t.true(kills > 0)
})
